"""Rewards need core, numpy and yaml, and nothing else."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import turnwise
before = set(sys.modules)
import turnwise.rewards
for module in pkgutil.walk_packages(turnwise.rewards.__path__, "turnwise.rewards."):
    importlib.import_module(module.name)
for name in sorted(set(sys.modules) - before):
    print(name)
"""


def test_no_reward_imports_more_than_core_numpy_and_yaml() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    names = done.stdout.split()
    assert "turnwise.rewards.gated" in names
    assert "turnwise.rewards.credit.group" in names
    ours = [name for name in names if name.startswith("turnwise")]
    assert not [name for name in ours if name.startswith(("turnwise.envs", "turnwise.agents", "turnwise.rollout"))]
    # PyYAML's C part registers Cython's own runtime module.
    others = {name.partition(".")[0] for name in names if not name.startswith("_cython")}
    assert not others - {"turnwise", "numpy", "yaml", "_yaml"} - set(sys.stdlib_module_names)
