"""What ``import turnwise`` costs: counted in modules, which machines agree on, not in seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "docker",
    "fastapi",
    "httpx",
    "jinja2",
    "pandas",
    "playwright",
    "psutil",
    "pyarrow",
    "pydantic",
    "ray",
    "rich",
    "scipy",
    "torch",
    "transformers",
    "typer",
    "uvicorn",
}
CODE = """
import json, sys
import gymnasium
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def newly_imported(module: str) -> list[str]:
    """Modules that an import adds to those of ``import gymnasium``, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return names


def third_party(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)


def test_import_turnwise_adds_msgspec_and_nothing_else() -> None:
    assert third_party(newly_imported("turnwise")) == {"turnwise", "msgspec"}


def test_import_turnwise_loads_the_core_only() -> None:
    modules = [name for name in newly_imported("turnwise") if name.startswith("turnwise.")]
    packages = {name.split(".")[1] for name in modules}
    assert not packages & {"envs", "rewards", "agents", "rollout"}
    assert len(modules) <= 12


@pytest.mark.parametrize(
    "module",
    ["turnwise", "turnwise.envs", "turnwise.envs.conformance", "turnwise.envs.household", "turnwise.rewards"],
)
def test_text_worlds_and_rewards_load_nothing_heavy(module: str) -> None:
    assert not third_party(newly_imported(module)) & HEAVY
