"""CONTRIBUTING.md's worked examples, installed as a third-party package and run exactly as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def printed_files() -> dict[str, str]:
    """File name to text, from code blocks whose first line is ``# path``; equal paths are joined."""
    files: dict[str, str] = {}
    for _, body in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text()):
        first, _, rest = body.partition("\n")
        if first.startswith("# ") and "." in first:
            name = first.removeprefix("# ").strip()
            files[name] = files.get(name, "") + rest
    return files


def printed_commands() -> list[str]:
    blocks = [body for language, body in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text()) if language == "bash"]
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The examples installed beside this environment; returns the environment variables to run with."""
    tree = tmp_path_factory.mktemp("acme")
    for name, text in printed_files().items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    (tree / "acme" / "__init__.py").write_text("")
    head = '[project]\nname = "acme"\nversion = "0"\n[tool.setuptools]\npackages = ["acme"]\n'
    (tree / "pyproject.toml").write_text(head + (tree / "pyproject.toml").read_text())
    site = tree / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(tree)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(site), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(command: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(["bash", "-c", command], env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_guide_prints_a_world_a_reward_and_an_adapter() -> None:
    assert {"acme/vault.py", "acme/brevity.py", "acme/rows.py", "rewards.yaml", "train.py"} <= set(printed_files())


@pytest.mark.slow
def test_every_printed_command_runs(acme: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rewards.yaml").write_text(printed_files()["rewards.yaml"])
    commands = printed_commands()
    assert len(commands) >= 3
    output = {command: run(command, acme, tmp_path) for command in commands}
    scored = next(text for command, text in output.items() if " score " in command)
    assert "brevity" in scored


@pytest.mark.slow
def test_the_adapter_example_makes_rows(acme: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(printed_files()["train.py"])
    printed = run(f"{sys.executable} train.py", acme, tmp_path)
    turns, usable = map(int, re.findall(r"\d+", printed.splitlines()[-1]))
    assert turns == usable > 16
