"""Wall time of ``make demo`` as a stranger has it: a fresh clone, an empty home, no virtual environment.

Usage: ``python benchmarks/demo_time.py`` in a git checkout. Installing and running are timed apart; a
second run in the same clone shows what is paid only once. The raw output is kept beside the figures.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "demo_time.json"


def timed(target: str, *, cwd: Path, env: dict[str, str]) -> tuple[float, str]:
    """Run a make target; returns its wall time in seconds and what it printed."""
    begin = time.perf_counter()
    done = subprocess.run(["make", target], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"make {target} failed:\n{done.stdout}\n{done.stderr}")
    return seconds, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, project = Path(folder, "home"), Path(folder, "project")
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        env = {k: v for k, v in os.environ.items() if k not in dropped} | {"HOME": str(home)}
        install_s, _ = timed(".venv/demo", cwd=project, env=env)
        run_s, printed = timed("demo", cwd=project, env=env)
        again_s, _ = timed("demo", cwd=project, env=env)
        size = subprocess.run(["du", "-sm", ".venv"], cwd=project, capture_output=True, text=True, check=True).stdout
    figures = {
        "install_s": round(install_s, 1),
        "run_s": round(run_s, 1),
        "run_again_s": round(again_s, 1),
        "venv_mb": int(re.match(r"\d+", size)[0]),  # type: ignore[index]
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "revision": subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "printed": printed.splitlines(),
    }
    RESULT.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(f"install {install_s:.1f} s, first run {run_s:.1f} s, second run {again_s:.1f} s -> {RESULT}")


if __name__ == "__main__":
    main()
