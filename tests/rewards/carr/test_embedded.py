"""Rule-judged rubrics of the embedded search world, on episodes that were really played."""

from __future__ import annotations

from collections import Counter

import pytest

from turnwise.rollout import Rollout

REWARDS = {"version": 1, "rewards": [{"name": "citation_rubric", "options": {"placement": "turn", "ratio": 0.5}}]}

pytestmark = pytest.mark.usefixtures("search_cache")


def test_the_expert_satisfies_every_rubric_of_every_kind_of_question() -> None:
    played: Counter[str] = Counter()
    run = Rollout("turnwise/SearchQA-v0", tasks="train:400", agent="expert", workers=0, rewards=REWARDS)
    for trajectory in run:
        played[trajectory.task.type] += 1
        values = [turn.rewards["citation_rubric"] for turn in trajectory.turns]
        rubrics = [rubric for value in values for rubric in value.evidence.get("rubrics", ())]
        assert len(rubrics) == len(trajectory.task.data["rubrics"]), trajectory.id
        assert {rubric["status"] for rubric in rubrics} == {"satisfied"}
        assert sum(value.value or 0.0 for value in values) == pytest.approx(1.0)
    assert min(played.values()) >= 15, played
    assert set(played) == {"bridge", "comparison", "intersection", "count", "temporal", "unanswerable"}


def test_the_expert_in_tags_cites_nothing_and_satisfies_none() -> None:
    run = Rollout("turnwise/SearchQA-v0", tasks="train:30", agent="expert:tags", workers=0, rewards=REWARDS)
    for trajectory in run:
        values = [turn.rewards["citation_rubric"] for turn in trajectory.turns]
        assert [value.value for value in values] == [0.0] * (len(values) - 1) + [0.5]  # right, but with no source
