"""Trajectories for reward and credit tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from turnwise.records import (
    Action,
    Ending,
    Failure,
    Outcome,
    RewardValue,
    Task,
    TokenSequence,
    Trajectory,
    Turn,
)

LEVELS = ("untouched", "acted", "treated", "won")
ENDINGS = {
    "won": Ending(kind="terminated"),
    "turns": Ending(kind="truncated", cause="turns"),
    "tokens": Ending(kind="truncated", cause="tokens"),
    "context": Ending(kind="truncated", cause="context"),
    "time": Ending(
        kind="truncated", cause="time", failure=Failure(boundary="env", kind="hang", message="step took 30 s", turn=2)
    ),
    "failed": Ending(
        kind="failed", failure=Failure(boundary="sandbox", kind="exit", message="the container died", turn=3)
    ),
}


def action(command: str) -> Action:
    return Action(name=command.split()[0], arguments={}, command=command)


def make_turn(index: int, **fields: Any) -> Turn:
    command = fields.pop("command", f"go to desk {index}")
    defaults: dict[str, Any] = {
        "observation": f"You see thing {index}.",
        "action_text": command,
        "action": action(command),
    }
    return Turn(index=index, **{**defaults, **fields})


def make_episode(
    turns: int | Sequence[dict[str, Any]] = 3,
    *,
    ending: str = "won",
    level: str | None = None,
    levels: tuple[str, ...] = LEVELS,
    success: bool | None = None,
    sample: int = 0,
    task: str = "task-1",
    **fields: Any,
) -> Trajectory:
    """An episode; ``turns`` is a number or the fields of each turn; ``level`` names the outcome."""
    specs: Sequence[dict[str, Any]] = [{}] * turns if isinstance(turns, int) else turns
    level = levels[-1] if level is None and levels else level
    solved = (level == levels[-1] if levels else False) if success is None else success
    outcome = Outcome(success=solved, env_return=float(solved), level=level, levels=levels)
    return Trajectory(
        id=f"{task}#{sample}",
        env_id="turnwise/Test-v0",
        task=Task(id=task, split="train", instruction="do it"),
        sample=sample,
        seed=0,
        agent="test",
        ending=ENDINGS[ending],
        outcome=None if ending == "failed" else outcome,
        turns=tuple(make_turn(i, **spec) for i, spec in enumerate(specs)),
        **fields,
    )


def make_rewarded(rewards: Sequence[float | None], *, name: str = "reward", **fields: Any) -> Trajectory:
    """An episode whose turns carry these rewards; None is an invalid one."""
    values = [RewardValue(invalid="judge down") if r is None else RewardValue(value=r) for r in rewards]
    return make_episode([{"rewards": {name: value}} for value in values], **fields)


def make_tokens(spans: Sequence[tuple[int, int] | None], total: int, **fields: Any) -> Trajectory:
    """An episode with tokens, sampled exactly inside ``spans``."""
    mask = [0] * total
    for start, end in filter(None, spans):
        mask[start:end] = [1] * (end - start)
    tokens = TokenSequence(ids=tuple(range(total)), loss_mask=tuple(mask))
    return make_episode([{"token_span": span} for span in spans], tokens=tokens, **fields)


@pytest.fixture(scope="session")
def episode() -> Callable[..., Trajectory]:
    return make_episode


@pytest.fixture(scope="session")
def rewarded() -> Callable[..., Trajectory]:
    return make_rewarded


@pytest.fixture(scope="session")
def tokenised() -> Callable[..., Trajectory]:
    return make_tokens


@pytest.fixture(scope="session")
def search_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The embedded search world is made once for the whole test session, in a cache of its own."""
    before = os.environ.get("TURNWISE_CACHE")
    os.environ["TURNWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TURNWISE_CACHE"]
    else:
        os.environ["TURNWISE_CACHE"] = before
