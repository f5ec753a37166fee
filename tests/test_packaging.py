"""The package installs: the wheel into an empty environment, ``pip install .`` and ``pip install -e .``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"core": "turnwise"} | {name: f"turnwise.{name}" for name in ("envs", "rewards", "agents", "rollout")}

IMPORT_ALL = """
import importlib, pkgutil, sys, turnwise
names = [m.name for m in pkgutil.walk_packages(turnwise.__path__, "turnwise.")]
# Modules that nothing imports before it has found their extra installed.
torch = ["likelihood.passes"]
torch += [f"transformers_policy.{m}" for m in ("cache", "dialogue", "engine", "loop", "runner", "sampling", "weights")]
behind = {f"turnwise.agents.{name}": "torch" for name in torch}
behind["turnwise.rollout.trainers.verifiers.world"] = "verifiers"
failed = []
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if behind.get(name) != error.name:
            failed.append(f"{name}: {error}")
print(turnwise.__file__)
print(len(names))
sys.exit("\\n".join(failed) or 0)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the checkout with a clean Python environment; fail with its output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that building leaves nothing behind in the real one."""
    copy = tmp_path_factory.mktemp("checkout") / "turnwise"
    ignore = shutil.ignore_patterns(".git", ".venv*", ".cache", "build", "*.egg-info", "runs", "__pycache__", "results")
    shutil.copytree(ROOT, copy, ignore=ignore)
    return copy


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            relative = init.parent.relative_to(ROOT / folder)
            found.add(".".join([package, *relative.parts]))
    return found


def pyproject_packages() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("packages = [", 1)[1].split("]", 1)[0]
    return set(yaml.safe_load(f"[{block}]"))


def test_the_packages_list_in_pyproject_is_complete() -> None:
    assert pyproject_packages() == packages_on_disk()


def make_venv(path: Path, python: str = sys.executable) -> Path:
    run(python, "-m", "venv", path, cwd=path.parent)
    return path / "bin" / "python"


def borrow_dependencies(python: Path) -> None:
    """Let an environment see this one's third-party packages, but not this one's turnwise."""
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=python.parent).strip()
    ours = [p for p in sys.path if p.endswith("site-packages")]
    # A path added by a .pth file is searched last and its own .pth files (editable installs) are not read.
    Path(site, "borrowed.pth").write_text("\n".join(ours) + "\n")


@pytest.mark.slow
def test_the_wheel_imports_in_an_empty_environment(checkout: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, checkout, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    python = make_venv(tmp_path / "empty")
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    where, count = run(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert str(tmp_path / "empty") in where
    assert int(count) >= 40
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    assert not {"ray", "torch", "docker", "playwright"} & {line.split("==")[0] for line in installed.split()}
    run(tmp_path / "empty" / "bin" / "turnwise", "--help", cwd=tmp_path)
    play = "import gymnasium, turnwise; e = gymnasium.make('turnwise/Household-v0'); print(e.reset(seed=0)[0])"
    assert "Your task is to" in run(python, "-c", play, cwd=tmp_path)
    missing = "from turnwise.rollout import Rollout; list(Rollout(tasks='train:1', workers=1))"
    failed = subprocess.run([str(python), "-c", missing], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "pip install 'turnwise[ray]'" in failed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [["."], ["--editable", "."]], ids=["install", "editable"])
def test_pip_install_from_the_tree(how: list[str], checkout: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    borrow_dependencies(python)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *how, cwd=checkout)
    where, count = run(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
    expected = checkout / "core" if "--editable" in how else tmp_path / "venv"
    assert where.startswith(str(expected))
    # Editable installs find subpackages by name, not by walking folders, so only the wheel counts them.
    if "--editable" not in how:
        assert int(count) >= 40
    run(python, "-c", "import turnwise.envs.household, turnwise.rewards.credit, turnwise.rollout.store", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_supported_python_imports_and_plays(version: str, checkout: Path, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine; the others are tested")
    own = make_venv(tmp_path / "venv", python)
    run(own, "-m", "pip", "install", "--quiet", ".", cwd=checkout)
    run(own, "-c", IMPORT_ALL, cwd=tmp_path)
    run(tmp_path / "venv/bin/turnwise", "rollout", "--tasks", "train:2", "--workers", "0", "--out", "run", cwd=tmp_path)


def interpreter(version: str) -> str | None:
    """Find an interpreter of a version on PATH that really starts (a pyenv shim may not)."""
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    candidates += [str(p) for p in Path("/root/.pyenv/versions").glob(f"{version}.*/bin/python")]
    for candidate in filter(None, candidates):
        probe = subprocess.run([candidate, "-c", "import venv"], capture_output=True, timeout=60)
        if probe.returncode == 0:
            return candidate
    return None


def test_every_core_module_is_held_to_the_import_rule() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(yaml.safe_load("[" + text.split("source_modules = [", 1)[1].split("]", 1)[0] + "]"))
    modules = {f"turnwise.{path.stem}" for path in (ROOT / "core").glob("*.py") if path.stem != "__init__"}
    assert listed == modules
