"""The pages under docs/: their commands exist, their Python examples run as printed, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.rollout.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_exists(page: Path) -> None:
    import typer

    group = typer.main.get_command(app)
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.split("  #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        if line.startswith("turnwise "):
            command = group.commands[line.split()[1]]  # type: ignore[attr-defined]
            known = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"\s(--[\w-]+)", line)) <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.ray
@pytest.mark.slow
def test_the_example_of_new_weights_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra torch")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "agents.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(
        example + "            print(step, {t.policy_version for t in trajectories})\n"
    )
    make = [sys.executable, "-c", "from turnwise.rollout.cli import main; main()", "tiny-model", "models/tiny"]
    for command in (make, [sys.executable, "example.py"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 {'0'}", "2 {'step-1'}", "3 {'step-2'}"]
