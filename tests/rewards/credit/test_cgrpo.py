from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import Ending, Failure, Outcome, RewardValue, Task, Trajectory, Turn
from turnwise.rewards.credit import CGRPO, grpo, mix_rewards

OUT, RUB = [1.0, 1.0, 0.0, 1.0], [0.5, 0.25, 0.75, 0.0]
NAN = float("nan")


def episode(
    sample: int, outcome: list[float | None], rubric: list[float | None], *, failed: bool = False
) -> Trajectory:
    def reward(value: float | None) -> RewardValue:
        return RewardValue(invalid="judge down") if value is None else RewardValue(value=value)

    turns = tuple(
        Turn(
            index=i,
            observation="",
            action_text="a",
            rewards={"outcome": reward(o), "citation_rubric": reward(r)},
        )
        for i, (o, r) in enumerate(zip(outcome, rubric, strict=True))
    )
    failure = Failure(boundary="env", kind="exit", message="died")
    return Trajectory(
        id=f"q#{sample}",
        env_id="e",
        task=Task(id="q", split="train", instruction=""),
        sample=sample,
        seed=0,
        agent="t",
        turns=turns,
        ending=Ending(kind="failed", failure=failure) if failed else Ending(kind="terminated"),
        outcome=None if failed else Outcome(success=True, env_return=1.0),
    )


def group(out: list[Any] = OUT, rub: list[Any] = RUB) -> list[Trajectory]:
    """Outcome on the last of two turns; the rubric reward split over both."""
    pairs = enumerate(zip(out, rub, strict=True))
    return [
        episode(i, [0.0, o], [None if r is None else 0.4 * r, None if r is None else 0.6 * r]) for i, (o, r) in pairs
    ]


def test_the_papers_form_is_the_default_and_gives_the_worked_numbers() -> None:
    mixed = mix_rewards(OUT, RUB)
    assert mixed == pytest.approx([0.90, 0.80, 0.0, 0.7])
    assert grpo(mixed) == pytest.approx([0.7348, 0.4899, -1.4697, 0.2449], abs=1e-4)


def test_the_released_form_gives_the_worked_numbers() -> None:
    mixed = mix_rewards(OUT, RUB, form="released")
    assert mixed == pytest.approx([0.85, 0.775, 0.0, 0.7])
    assert grpo(mixed) == pytest.approx([0.6850, 0.4939, -1.4816, 0.3027], abs=1e-4)


def test_the_other_forms() -> None:
    assert mix_rewards(OUT, RUB, form="mixed") == pytest.approx([0.9, 0.8, 0.3, 0.7])
    assert mix_rewards(OUT, RUB, form="negative_only") == pytest.approx([1.0, 1.0, 0.3, 1.0])
    assert mix_rewards(OUT, RUB, maximum="correct") == pytest.approx([1.0, 0.85, 0.0, 0.7])


def test_a_group_without_rubric_rewards_keeps_its_outcomes() -> None:
    assert mix_rewards([1.0, 0.0], [0.0, 0.0]) == pytest.approx([0.7, 0.0])
    assert mix_rewards([0.0, 0.0], [0.5, 1.0], maximum="correct", form="mixed") == pytest.approx([0.15, 0.3])


@pytest.mark.parametrize(
    ("form", "expected"),
    [("outcome_gated", [0.7348, 0.4899, -1.4697, 0.2449]), ("released", [0.6850, 0.4939, -1.4816, 0.3027])],
)
def test_trajectories_get_the_worked_advantages_on_every_turn(form: Any, expected: list[float]) -> None:
    for given_, advantage in zip(CGRPO(form=form).assign(group()), expected, strict=True):
        assert given_.advantages == pytest.approx((advantage, advantage), abs=1e-4)
        assert given_.mask == (True, True)


def test_the_mixture_stays_on_the_turns_of_the_rubrics() -> None:
    mixed = CGRPO().mix(group())
    assert mixed[0] == pytest.approx([0.2 * 0.4, 0.7 + 0.2 * 0.6])
    assert mixed[2] == [0.0, 0.0]
    per_turn = CGRPO(level="turn", estimator="dr_grpo").assign(group())
    assert per_turn[0].advantages[0] == pytest.approx(0.9 - 0.6)  # returns-to-go .9, .8, 0, .7


def test_an_unknown_rubric_of_a_wrong_answer_does_not_matter() -> None:
    assert mix_rewards([1.0, 0.0], [0.5, NAN]) == pytest.approx([1.0, 0.0])
    assert mix_rewards([1.0, 0.0], [0.5, NAN], form="released") == pytest.approx([0.85, 0.0])
    assert np.isnan(mix_rewards([1.0, 0.0], [0.5, NAN], form="mixed")).tolist() == [False, True]
    assert np.isnan(mix_rewards([1.0, 1.0, NAN], [0.5, NAN, 0.2])).tolist() == [False, True, True]
    assert np.isnan(mix_rewards([1.0, NAN], [0.5, 0.5], form="negative_only")).tolist() == [False, True]
    masks = [given_.mask for given_ in CGRPO().assign(group([1.0, 1.0, 0.0, None], [0.5, None, None, 0.25]))]
    assert masks == [(True, True), (False, False), (True, True), (False, False)]


def test_failed_trajectories_have_no_part_in_the_maximum() -> None:
    died = episode(9, [0.0, 0.0], [0.5, 0.5], failed=True)
    with_failed = CGRPO().assign([*group(), died])
    assert [a.advantages for a in with_failed[:4]] == [a.advantages for a in CGRPO().assign(group())]
    assert with_failed[4].mask == (False, False)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 10).map(lambda n: n / 10)), min_size=1, max_size=8),
    st.sampled_from(["outcome_gated", "released", "mixed", "negative_only"]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_mixtures_stay_in_range_and_equal_their_formula(
    pairs: list[tuple[float, float]], form: Any, ratio: float
) -> None:
    out, rub = zip(*pairs, strict=True)
    highest = max(rub) or 1.0
    formulas = {
        "outcome_gated": lambda o, r: (1 - ratio) * o + ratio * o * r / highest,
        "released": lambda o, r: o if o == 0 else (1 - ratio) * o + ratio * r,
        "mixed": lambda o, r: (1 - ratio) * o + ratio * r / highest,
        "negative_only": lambda o, r: o if o > 0 else ratio * r / highest,
    }
    mixed = mix_rewards(out, rub, form=form, ratio=ratio)
    assert mixed == pytest.approx([formulas[form](o, r) for o, r in pairs], abs=1e-12)
    assert ((mixed >= 0.0) & (mixed <= 1.0 + 1e-12)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.2}, "ratio"),
        ({"form": "outcome"}, "unknown form"),
        ({"maximum": "best"}, "unknown maximum"),
        ({"estimator": "ppo"}, "estimator"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CGRPO(**options)


def test_bad_arrays_and_missing_rewards_are_named() -> None:
    with pytest.raises(ConfigError, match="both be"):
        mix_rewards([1.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="finite"):
        mix_rewards([1.0], [float("inf")])
    with pytest.raises(ConfigError, match="no reward 'rubrics'"):
        CGRPO(rubric="rubrics").assign(group())
