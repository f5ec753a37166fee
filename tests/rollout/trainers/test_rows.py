"""Episodes as rows: the same numbers for every trainer."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import (
    Ending,
    Failure,
    Outcome,
    RewardValue,
    Task,
    TokenSequence,
    Trajectory,
    Turn,
    TurnTokens,
)
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.rows import make_rows

FAILED = Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="it hung", turn=1))


def played(
    turns: list[tuple[list[int], list[int], RewardValue]], *, sample: int = 0, task: str = "t", **changes: Any
) -> Trajectory:
    """A trajectory of turns, each its prompt ids, sampled ids and reward."""
    ids: list[int] = []
    mask: list[int] = []
    made = []
    for index, (prompt, sampled, value) in enumerate(turns):
        start = len(ids) + len(prompt)
        ids += prompt + sampled
        mask += [0] * len(prompt) + [1] * len(sampled)
        tokens = TurnTokens(prompt_ids=tuple(prompt), completion_ids=tuple(sampled), logprobs=(-0.5,) * len(sampled))
        span = (start, len(ids))
        rewards = {"reward": value}
        made.append(Turn(index=index, observation="", action_text="", tokens=tokens, token_span=span, rewards=rewards))
    values = [value.value for _, _, value in turns]
    whole = RewardValue(invalid="a turn is invalid")
    if all(value is not None for value in values):
        total = math.fsum(value for value in values if value is not None)
        whole = RewardValue(value=total, evidence={"parts": {"outcome": total}})
    logprobs = tuple(-0.5 if m else 0.0 for m in mask)
    options: dict[str, Any] = {
        "id": f"{task}#{sample}",
        "env_id": "x",
        "task": Task(id=task, split="train", instruction="?"),
        "seed": 0,
        "sample": sample,
        "agent": "transformers:x",
        "ending": Ending(kind="terminated"),
        "turns": tuple(made),
        "outcome": Outcome(success=True, env_return=1.0),
        "rewards": {"reward": whole},
        "tokens": TokenSequence(ids=tuple(ids), loss_mask=tuple(mask), logprobs=logprobs),
        "policy_version": "3",
    }
    return Trajectory(**{**options, **changes})


def value(number: float) -> RewardValue:
    return RewardValue(value=number)


def test_a_row_begins_its_response_with_the_first_sampled_token() -> None:
    (row,) = make_rows([played([([1, 2], [3, 4], value(0.25)), ([5], [6], value(1.0))])])
    assert row.prompt_ids == (1, 2)
    assert row.response_ids == (3, 4, 5, 6)
    assert row.response_mask == row.loss_mask == (1, 1, 0, 1)
    assert row.logprobs == (-0.5, -0.5, 0.0, -0.5)
    assert row.turn_spans == ((0, 2), (3, 4))
    assert row.token_rewards == (0.0, 0.25, 0.0, 1.0)
    assert row.reward == 1.25
    assert row.components == {"outcome": 1.25}
    assert (row.outcome, row.valid, row.policy_version) == (1.0, True, "3")


def test_an_invalid_turn_is_masked_and_never_a_zero() -> None:
    turns = [([1], [3, 4], value(0.5)), ([5], [6], RewardValue(invalid="judge: down"))]
    (row,) = make_rows([played(turns)])
    assert row.response_mask == (1, 1, 0, 1)
    assert row.loss_mask == (1, 1, 0, 0)
    assert row.turn_rewards == (0.5, None)
    assert row.reward is None
    assert (row.valid, row.why) == (False, "a turn is invalid")


def test_a_failed_episode_is_masked_as_a_whole() -> None:
    turns = [([1], [3], value(0.5)), ([5], [6], value(0.5))]
    (row,) = make_rows([played(turns, ending=FAILED, outcome=None)])
    assert row.loss_mask == (0, 0, 0)
    assert row.token_rewards == (0.0, 0.0, 0.0)
    assert (row.valid, row.why, row.outcome) == (False, "env: it hung", None)


def test_an_episode_that_failed_before_it_began_is_an_empty_row() -> None:
    (row,) = make_rows([played([], ending=FAILED, outcome=None, tokens=None, rewards={})])
    assert row.response_ids == ()
    assert (row.valid, row.why) == (False, "env: it hung")


def test_advantages_stand_on_the_tokens_of_their_turn() -> None:
    one = played([([1], [3, 4], value(0.0)), ([5], [6], value(1.0))], sample=0)
    other = played([([1], [3], value(0.0)), ([5], [6, 7], value(0.0))], sample=1)
    rows = make_rows([one, other], credit=GroupCredit(estimator="dr_grpo", level="turn"))
    assert rows[0].advantages == (0.5, 0.5, 0.0, 0.5)
    assert rows[1].advantages == (-0.5, 0.0, -0.5, -0.5)


def test_groups_do_not_mix() -> None:
    rows = make_rows(
        [
            played([([1], [3], value(float(number)))], sample=sample, task=task)
            for task, sample, number in (("a", 0, 1), ("b", 0, 5), ("a", 1, 3), ("b", 1, 5))
        ],
        credit=GroupCredit(estimator="dr_grpo"),
    )
    assert [row.advantages for row in rows] == [(-1.0,), (0.0,), (1.0,), (0.0,)]


def test_mistakes_are_named() -> None:
    plain = played([([1], [3], value(1.0))])
    with pytest.raises(ConfigError, match="two trajectories have the id 't#0'"):
        make_rows([plain, plain])
    with pytest.raises(ConfigError, match=r"unknown reward of 't#0' 'rewrd'. Did you mean 'reward'"):
        make_rows([plain], reward="rewrd")
    with pytest.raises(ConfigError, match="has no token ids: its agent 'expert' records none"):
        make_rows([played([([1], [3], value(1.0))], tokens=None, agent="expert")])


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), max_size=3),
            st.lists(st.integers(0, 9), min_size=1, max_size=4),
            st.one_of(st.floats(-2, 2), st.none()),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_row_fits_together(turns: list[tuple[list[int], list[int], float | None]]) -> None:
    trajectory = played([(p, s, RewardValue(invalid="?") if v is None else value(v)) for p, s, v in turns])
    (row,) = make_rows([trajectory])
    assert trajectory.tokens is not None
    assert row.prompt_ids + row.response_ids == trajectory.tokens.ids
    length = len(row.response_ids)
    assert len(row.response_mask) == len(row.loss_mask) == len(row.logprobs) == len(row.token_rewards) == length
    assert all(loss <= sampled for loss, sampled in zip(row.loss_mask, row.response_mask, strict=True))
    for (start, end), (_, sampled, reward) in zip(row.turn_spans, turns, strict=True):
        assert row.response_ids[start:end] == tuple(sampled)
        assert all(row.response_mask[start:end])
        assert row.token_rewards[end - 1] == pytest.approx(0.0 if reward is None else reward)
        assert set(row.loss_mask[start:end]) == {int(reward is not None)}
