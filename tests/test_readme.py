"""The README's Python examples run as printed, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.rollout.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


def run_example(text: str, tmp_path: Path) -> str:
    script = tmp_path / "example.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stepping_example_runs(tmp_path: Path) -> None:
    printed = run_example(EXAMPLES[0], tmp_path)
    assert "Your task is to" in printed
    assert printed.splitlines()[-1].startswith("True won 1.0")


@pytest.mark.ray
def test_the_rollout_example_runs(tmp_path: Path) -> None:
    printed = run_example(EXAMPLES[1], tmp_path)
    assert len(re.findall(r"^train/\S+#\d \w+", printed, re.MULTILINE)) == 16


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {match for line in COMMANDS for match in re.findall(r"^make (\w+)", line)}
    assert {"demo", "test"} <= used <= targets


def test_every_command_and_option_exists() -> None:
    import typer

    group = typer.main.get_command(app)
    lines = [line.split("#")[0] for line in COMMANDS if line.startswith("turnwise ")]
    assert len(lines) >= 5
    for line in lines:
        command = group.commands[line.split()[1]]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", line)) <= known, line
