from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from turnwise.protocols import Verdict
from turnwise.records import Trajectory
from turnwise.rewards import load_rewards
from turnwise.rewards.redundant_search import RedundantSearch
from turnwise.rewards.retrieval_recall import RetrievalRecall
from turnwise.rewards.useful_search import ReSeekJudge, SearchR2

Episode = Callable[..., Trajectory]
Page = Callable[..., dict[str, Any]]
GOLD = {"supporting_facts": [["A", 0], ["B", 2], ["A", 1], ["C", 0], ["D", 0]]}


def values(reward: Any, episode: Trajectory) -> list[float | None]:
    return [value.value for value in reward.score(episode)]


@pytest.fixture
def hunt(search_episode: Episode, page: Page) -> Trajectory:
    listed = {"kind": "search"}
    return search_episode(
        [
            ("search", "first things", [page("A", **listed), page("X", **listed), page("B", **listed)]),
            ("open", "A", [page("A", kind="open")]),
            ("search", "Things FIRST", [page("A", **listed)]),
            ("search", "other words", [page("X", **listed), page("B", **listed)]),
            ("search", "nothing there", []),
            ("search", "titles", [page("Z9", title="C", **listed)]),
            ("answer", "x"),
        ],
        data=GOLD,
    )


def test_recall_counts_each_supporting_document_once(hunt: Trajectory) -> None:
    assert values(RetrievalRecall(), hunt) == [0.5, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0]
    assert values(RetrievalRecall(count="read"), hunt) == [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert RetrievalRecall().score(hunt)[0].evidence == {"new": ["A", "B"], "of": 4}


def test_recall_of_unknown_documents_is_invalid(search_episode: Episode) -> None:
    (value,) = RetrievalRecall().score(search_episode([("answer", "x")]))
    assert "no 'supporting_facts'" in (value.invalid or "")


def test_redundant_are_the_same_query_and_nothing_new(hunt: Trajectory) -> None:
    reward = RedundantSearch(penalty=0.5)
    scored = reward.score(hunt)
    assert [value.value for value in scored] == [0.0, 0.0, -0.5, -0.5, 0.0, 0.0, 0.0]
    assert scored[2].evidence == {"because": "same query", "repeats_turn": 0}
    assert scored[3].evidence == {"because": "nothing new", "documents": 2}
    assert values(RedundantSearch(same_results=False), hunt) == [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]


def searches(search_episode: Episode, page: Page, count: int, success: bool) -> Trajectory:
    moves = [("search", f"q{n}", [page(f"P{n}")]) for n in range(count)]
    return search_episode([*moves, ("answer", "x")], success=success)


@pytest.mark.parametrize(
    ("success", "useful", "count", "expected"),
    [(True, 1, 1, 2.0), (True, 1, 5, 1.2), (False, 5, 5, 0.0), (True, 0, 0, 1.0), (False, 0, 0, 0.0)],
)
@pytest.mark.parametrize("placement", ["last_turn", "turn"])
def test_search_r2_worked_examples(
    search_episode: Episode,
    page: Page,
    scripted: Any,
    success: bool,
    useful: int,
    count: int,
    expected: float,
    placement: Any,
) -> None:
    episode = searches(search_episode, page, count, success)
    judge = scripted(useful=[True] * useful + [False] * (count - useful))
    scored = values(SearchR2(judge=judge, placement=placement), episode)
    assert sum(scored) == pytest.approx(expected)  # type: ignore[arg-type]
    assert (placement == "turn" and useful and success) == bool(any(scored[:-1]))
    assert judge.asked == (["useful"] * count if success else [])


def test_search_r2_with_a_search_that_nobody_could_judge(search_episode: Episode, page: Page, scripted: Any) -> None:
    reward = SearchR2(judge=scripted(useful=[True, None]))
    assert values(reward, searches(search_episode, page, 2, True)) == [None] * 3


def test_search_r2_by_rule_wants_new_supporting_documents(hunt: Trajectory) -> None:
    (*_, last) = SearchR2().score(hunt)
    assert last.evidence["useful_turns"] == [0, 5]
    assert last.value == pytest.approx(1 + 2 / 5)


def test_a_remote_judge_is_asked_about_several_searches_at_once(
    search_episode: Episode, page: Page, scripted: Any
) -> None:
    both = threading.Barrier(2, timeout=10)

    class Remote(scripted):  # type: ignore[misc]
        remote = True

        def useful(self, case: Any, query: str, found: Any, earlier: Any) -> Any:
            both.wait()
            return Verdict(holds=query == "q1", reason=str(len(earlier)))

    (*_, last) = SearchR2(judge=Remote()).score(searches(search_episode, page, 2, True))
    assert (last.value, last.evidence["useful_turns"]) == (1.5, [1])


def test_reseek_worked_example_with_the_outcome(search_episode: Episode, page: Page, scripted: Any) -> None:
    episode = search_episode(
        [
            ("search", "a", [page("A")]),
            ("search", "b", [page("B")], "<judge>Yes</judge> search[b]"),
            ("search", "c", [page("C")], "JUDGE: Yes\nAction: search[c]"),
            ("answer", "x", [], "**JUDGE:** no, useless. answer[x]"),
        ]
    )
    reward = ReSeekJudge(judge=scripted(useful=[True, False, False]))
    assert values(reward, episode) == pytest.approx([0.0, 0.3, -0.6, 0.3])
    config = {"version": 1, "rewards": [{"name": "outcome"}, {"name": "reseek_judge"}]}
    tree = load_rewards(config)
    tree.rewards[1].reward.judge = scripted(useful=[True, False, False])  # type: ignore[attr-defined]
    assert tree.totals(episode)["reward"].value == pytest.approx(1.0)


def test_reseek_rejecting_what_is_useful_and_saying_nothing(search_episode: Episode, page: Page, scripted: Any) -> None:
    moves = [
        ("say", "judge: yes"),  # there was no search yet
        ("search", "a", [page("A")]),
        ("say", "JUDGE No"),
        ("say", "JUDGE No"),  # once is enough
        ("search", "b", [page("B")]),
        ("search", "c", [page("C")]),
    ]
    judge = scripted(useful=[True])
    assert values(ReSeekJudge(judge=judge), search_episode(moves)) == pytest.approx([0, 0, -0.3, 0, 0, 0])
    assert judge.asked == ["useful"]  # only what the agent judged


def test_reseek_with_a_judge_that_is_down_loses_that_turn_only(
    search_episode: Episode, page: Page, scripted: Any
) -> None:
    moves = [("search", "a", [page("A")]), ("say", "JUDGE: yes"), ("answer", "x")]
    assert values(ReSeekJudge(judge=scripted(failing=["useful"])), search_episode(moves)) == [0.0, None, 0.0]
