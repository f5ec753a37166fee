"""The taskset without verifiers: what can be said of it, and credit on nodes."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import TurnCredit, make_world, play_script

from turnwise.errors import ConfigError
from turnwise.records import to_json
from turnwise.rollout.trainers import verifiers
from turnwise.rollout.trainers.install import MissingTrainerError


def trace(script: list[str], nodes: list[list[int]], masks: list[list[bool]]) -> Any:
    world = make_world()
    played = play_script(world, world.tasks[0], script)
    info = {"turnwise": {"trajectory": to_json(played).decode(), "nodes": nodes}}
    made = [SimpleNamespace(mask=mask, advantages=None, loss_weights=None) for mask in masks]
    return SimpleNamespace(id="x", info=info, nodes=made)


def test_every_sampled_token_gets_its_turns_advantage() -> None:
    one = trace(["look", "inventory"], [[1], [3, 4]], [[False], [False, True, True], [False], [True], [True, True]])
    verifiers.assign_advantages([one], credit=TurnCredit())
    assert [node.advantages for node in one.nodes] == [None, [1.0, 1.0], None, [2.0], [2.0, 2.0]]
    assert one.nodes[1].loss_weights == {"turnwise": [0.0, 1.0, 1.0]}


def test_traces_of_a_task_are_compared_with_each_other() -> None:
    good = trace(["look", "look"], [[0], [1]], [[True], [True]])
    bad = trace(["look", "nonsense"], [[0], [1]], [[True], [True]])
    verifiers.assign_advantages([good, bad])
    assert good.nodes[1].advantages[0] > 0.0 > bad.nodes[1].advantages[0]
    assert good.nodes[1].advantages[0] == pytest.approx(-bad.nodes[1].advantages[0])


def test_a_trace_of_something_else_is_named() -> None:
    with pytest.raises(ConfigError, match="the trace y is no episode of turnwise"):
        verifiers.trajectory_of(SimpleNamespace(id="y", info={}))


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    monkeypatch.delitem(sys.modules, "turnwise.rollout.trainers.verifiers.world", raising=False)
    with pytest.raises(MissingTrainerError, match=r"pip install 'verifiers>=0.4'"):
        _ = verifiers.WorldTaskset
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = verifiers.Nothing
