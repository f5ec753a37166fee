"""Run the tests against real trainers, each in a virtual environment with that trainer's own versions.

    python tests/rollout/trainers/real/run.py            # all that need nothing beyond PyPI, one after another
    python tests/rollout/trainers/real/run.py trl verl   # some

``NAME/requirements.txt`` says what an environment holds besides turnwise. A line ``# extras: torch,serve`` in it
names the extras of turnwise; ``# python: 3.12`` the version that a trainer insists on, which must then be on the
PATH; ``# on demand: WHY`` leaves it out unless it is named. Environments stand in ``.venv-trainers/`` and are made
again only when their requirements change.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
VENVS = ROOT / ".venv-trainers"
INSTALL_S = 1800
TEST_S = 1200


def names() -> list[str]:
    """Return the trainers that have tests."""
    return sorted(path.parent.name for path in HERE.glob("*/requirements.txt"))


def ordinary(known: list[str]) -> list[str]:
    """Return those that any machine can test, and say why the others are left out."""
    chosen = []
    for name in known:
        why = re.search(r"^# on demand: (.+)$", (HERE / name / "requirements.txt").read_text(), re.MULTILINE)
        if why:
            print(f"-- left out: {name} ({why[1]})", flush=True)
        else:
            chosen.append(name)
    return chosen


def make(name: str) -> Path:
    """Make a trainer's environment, unless it is there already, and return its Python."""
    requirements = HERE / name / "requirements.txt"
    text = requirements.read_text()
    wanted = hashlib.sha256((text + (ROOT / "pyproject.toml").read_text()).encode()).hexdigest()
    venv = VENVS / name
    python, stamp = venv / "bin" / "python", venv / "made"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"-- making the environment of {name} in {venv}", flush=True)
    version = re.search(r"^# python: ([0-9.]+)$", text, re.MULTILINE)
    base = f"python{version[1]}" if version else sys.executable
    subprocess.run([base, "-m", "venv", "--clear", str(venv)], check=True, timeout=INSTALL_S)
    found = re.search(r"^# extras: (.+)$", text, re.MULTILINE)
    extras = f"[{found[1].strip()}]" if found else ""
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pinned = ["--constraint", str(HERE / "constraints.txt")]
    packages = ["--requirement", str(requirements), "--editable", f"{ROOT}{extras}", "pytest>=8", "pytest-timeout>=2.3"]
    subprocess.run([*pip, *pinned, *packages], check=True, timeout=INSTALL_S, cwd=ROOT)
    later = HERE / name / "requirements-no-deps.txt"
    if later.exists():
        subprocess.run([*pip, "--no-deps", "--requirement", str(later)], check=True, timeout=INSTALL_S, cwd=ROOT)
    stamp.write_text(wanted)
    return python


def test(name: str) -> int:
    """Run a trainer's tests and return pytest's exit status."""
    python = make(name)
    print(f"-- testing against {name}", flush=True)
    environment = {
        **os.environ,
        "TURNWISE_TRAINER": name,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [str(python), "-m", "pytest", str(HERE / name), "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=TEST_S, check=False).returncode


def main(arguments: list[str]) -> int:
    """Run the tests of the named trainers, or of all."""
    known = names()
    unknown = [name for name in arguments if name not in known]
    if unknown:
        print(f"no tests for {', '.join(unknown)}; there are some for {', '.join(known)}", file=sys.stderr)
        return 2
    failed = [name for name in arguments or ordinary(known) if test(name) != 0]
    if failed:
        print(f"failed against: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
