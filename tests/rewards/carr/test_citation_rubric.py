from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import Trajectory, to_json
from turnwise.rewards import RewardTree, load_rewards
from turnwise.rewards.citation_rubric import CitationRubric
from turnwise.rewards.compose import WeightedReward

SIX = ["<E0> a.", "<E0> b <E1> <E2>.", "<E1> c <E0>.", "<E1> d.", "<E3> e <E0>.", "<E4> f <E5>."]
NAMES = {f"E{n}": f"N{n}" for n in range(6)}
SUPPORTED = {0: True, 1: True, 2: False, 3: True, 4: False, 5: True}
PAGES = [f"https://w.example/P{n}" for n in range(6)]
CITES = "so " + " ".join(f"[[{n}]({url})]" for n, url in enumerate(PAGES))
Episode = Callable[..., Trajectory]
Page = Callable[..., dict[str, Any]]


@pytest.fixture
def six(search_episode: Episode, page: Page) -> Trajectory:
    """Page P0 came at turn 0, P1 at 1 (as a snippet; opened at 3), P3 at 2, the answer at 4."""
    return search_episode(
        [
            ("search", "zero", [page("P0")]),
            ("search", "one", [page("P1", "snippet", kind="search")]),
            ("search", "three", [page("P3"), page("P0", "more of P0")]),
            ("open", "P1", [page("P1", "the passage")]),
            ("answer", CITES),
        ],
        data={"rubrics": SIX, "answer": "N0", "question": "Which?"},
    )


def judge_of(scripted: Any, **options: Any) -> Any:
    passages = {0: [(PAGES[0], "")], 1: [(PAGES[1], "the passage")], 3: [(PAGES[3], ""), (PAGES[0], "")]}
    return scripted(**{"names": NAMES, "verdicts": SUPPORTED, "passages": passages, **options})


def test_the_worked_example_is_one_half(six: Trajectory, scripted: Any) -> None:
    values = CitationRubric(judge=judge_of(scripted)).score(six)
    assert [value.value for value in values] == [0.0, 0.0, 0.0, 0.0, 0.5]
    evidence = values[-1].evidence
    statuses = [rubric["status"] for rubric in evidence["rubrics"]]
    assert statuses == ["satisfied", "satisfied", "unsupported", "satisfied", "unsupported", "unconnected"]
    assert evidence["rubrics"][1]["filled"] == "N0 b N1 N2."
    assert evidence["rubrics"][1]["passages"] == [{"url": PAGES[1], "quote": "the passage", "found": True}]
    assert evidence["pages"] == [PAGES[0], PAGES[1], PAGES[3]]
    assert evidence["cited_but_never_shown"] == [PAGES[2], PAGES[4], PAGES[5]]


def test_without_connectivity_four_count(six: Trajectory, scripted: Any) -> None:
    value = CitationRubric(judge=judge_of(scripted), connectivity=False).score(six)[-1]
    assert value.value == pytest.approx(4 / 6)


@pytest.mark.parametrize(("credit_turn", "placed"), [("page", [1, 1, 1, 0, 0]), ("passage", [1, 0, 1, 1, 0])])
def test_per_turn_a_rubric_counts_where_its_page_came_first(
    six: Trajectory, scripted: Any, credit_turn: Any, placed: list[int]
) -> None:
    values = CitationRubric(judge=judge_of(scripted), placement="turn", credit_turn=credit_turn).score(six)
    assert [value.value for value in values] == pytest.approx([count / 6 for count in placed])
    assert [rubric["index"] for rubric in values[0].evidence["rubrics"]] == [0]
    # Rubric 3 needs both pages, so it counts where the later one came.
    assert [rubric["index"] for rubric in values[2].evidence["rubrics"]] == [3]
    assert values[-1].evidence["episode"]["rubric_share"] == 0.5


@given(
    supported=st.lists(st.sampled_from([True, False]), min_size=6, max_size=6),
    turns=st.lists(st.integers(0, 5), min_size=6, max_size=6),
    ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    correct=st.booleans(),
)
def test_placement_never_changes_the_value_of_the_trajectory(
    scripted: Any,
    search_episode: Episode,
    page: Page,
    supported: list[bool],
    turns: list[int],
    ratio: float,
    correct: bool,
) -> None:
    moves = [("search", str(t), [page(f"P{n}") for n in range(6) if turns[n] == t]) for t in range(5)]
    episode = search_episode([*moves, ("answer", CITES)], data={"rubrics": SIX, "answer": "x"})
    totals = []
    for placement in ("last_turn", "turn"):
        judge = scripted(
            names=NAMES,
            verdicts=dict(enumerate(supported)),
            passages={n: [(PAGES[n], "")] for n in range(6)},
            correct=correct,
        )
        reward = CitationRubric(judge=judge, ratio=ratio, placement=placement)
        tree = RewardTree([WeightedReward(reward)])
        totals.append(tree.totals(episode)["citation_rubric"])
        assert all(0.0 <= (value.value or 0.0) <= 1.0 for value in reward.score(episode))
    assert totals[0].value == pytest.approx(totals[1].value, abs=1e-12)
    if ratio == 1.0:
        assert totals[0].evidence["rubrics"] == totals[1].evidence["rubrics"]


def test_a_missing_name_is_never_judged(six: Trajectory, scripted: Any) -> None:
    judge = judge_of(scripted, names={**NAMES, "E1": None})
    value = CitationRubric(judge=judge).score(six)[-1]
    assert set(judge.statements) == {0, 4, 5}
    assert [rubric["status"] for rubric in value.evidence["rubrics"]][1:4] == ["unidentified"] * 3
    assert value.value == pytest.approx(1 / 6)


def test_with_no_name_or_no_page_support_is_not_asked(search_episode: Episode, six: Trajectory, scripted: Any) -> None:
    nameless = judge_of(scripted, names=dict.fromkeys(NAMES))
    assert CitationRubric(judge=nameless).score(six)[-1].value == 0.0
    assert nameless.asked == ["entities"]
    uncited = judge_of(scripted)
    episode = search_episode([("answer", CITES)], data={"rubrics": SIX})
    assert CitationRubric(judge=uncited).score(episode)[-1].value == 0.0
    assert uncited.asked == ["entities"]


def test_at_most_so_many_pages_are_read(search_episode: Episode, page: Page, scripted: Any) -> None:
    cites = " ".join(f"[[{n}](https://w.example/P{n})]" for n in range(30))
    pages = [page(f"P{n}") for n in range(5, 30)]
    episode = search_episode([("search", "q", pages), ("answer", cites)], data={"rubrics": SIX})
    judge = judge_of(scripted)
    CitationRubric(judge=judge).score(episode)
    assert [page.id for page in judge.pages] == [f"P{n}" for n in range(5, 25)]  # shown ones only
    CitationRubric(judge=judge, max_pages=2).score(episode)
    assert len(judge.pages) == 2


def test_the_judge_does_not_see_the_references(search_episode: Episode, page: Page, scripted: Any, report: str) -> None:
    shown = [page("Mira_Tolen"), page("Oskar_Bay"), page("X")]
    judge = judge_of(scripted)
    CitationRubric(judge=judge).score(
        search_episode([("search", "q", shown), ("answer", report)], data={"rubrics": SIX})
    )
    assert [page.id for page in judge.pages] == ["Mira_Tolen", "Oskar_Bay"]
    assert "References" not in judge.cases[0].report


# -- a judge that fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["entities", "support", "answer"])
@pytest.mark.parametrize("placement", ["last_turn", "turn"])
def test_a_judge_that_fails_is_invalid_and_not_zero(
    six: Trajectory, scripted: Any, failing: str, placement: Any
) -> None:
    reward = CitationRubric(judge=judge_of(scripted, failing=[failing]), ratio=0.5, placement=placement)
    values = reward.score(six)
    assert [value.value for value in values] == [None] * 5
    assert all("the judge is down" in (value.invalid or "") for value in values)
    tree = RewardTree([WeightedReward(reward)])
    assert tree.totals(six)["reward"].value is None


def test_judged_false_and_not_judged_stay_apart(six: Trajectory, scripted: Any) -> None:
    values = CitationRubric(judge=judge_of(scripted, verdicts={**SUPPORTED, 4: None})).score(six)
    assert values[-1].value is None
    assert "1 of 6 rubrics could not be judged" in (values[-1].invalid or "")
    rubrics = values[-1].evidence["rubrics"]
    assert (rubrics[2]["status"], rubrics[2]["supported"], rubrics[2]["score"]) == ("unsupported", False, 0.0)
    assert (rubrics[4]["status"], rubrics[4]["supported"], rubrics[4]["score"]) == ("unknown", None, None)
    assert values[-1].evidence["rubric_share"] is None


def test_what_the_judge_leaves_out_is_a_failure(six: Trajectory, scripted: Any) -> None:
    value = CitationRubric(judge=judge_of(scripted, names={"E0": "N0"})).score(six)[-1]
    assert "said nothing about the entities" in (value.invalid or "")


# -- how episodes end --------------------------------------------------------------------------------


def test_without_a_report_it_is_zero_and_nobody_is_asked(search_episode: Episode, page: Page, scripted: Any) -> None:
    judge = judge_of(scripted)
    episode = search_episode([("search", "q", [page("P0")])], data={"rubrics": SIX}, ending="turns", success=False)
    value = CitationRubric(judge=judge, ratio=0.5).score(episode)[-1]
    assert (value.value, judge.asked) == (0.0, [])
    assert "no final report" in value.evidence["because"]


@pytest.mark.parametrize("ending", ["failed", "time"])
def test_failures_of_the_episode_are_invalid(search_episode: Episode, scripted: Any, ending: str) -> None:
    judge = judge_of(scripted)
    episode = search_episode([("search", "q")] * 2, data={"rubrics": SIX}, ending=ending)
    assert [v.value for v in CitationRubric(judge=judge).score(episode)] == [None, None]
    assert judge.asked == []


def test_an_episode_without_turns_has_no_values(search_episode: Episode, scripted: Any) -> None:
    assert CitationRubric(judge=judge_of(scripted)).score(search_episode([], data={"rubrics": SIX})) == ()


def test_a_task_without_rubrics_is_none_of_its_business(search_episode: Episode, scripted: Any) -> None:
    episode = search_episode([("search", "q"), ("answer", "x")], data={})
    judge = judge_of(scripted)
    for placement in ("turn", "last_turn"):
        values = CitationRubric(judge=judge, placement=placement).score(episode)
        assert [value.value for value in values] == [None, None]
        assert {value.invalid for value in values} == {
            "does not apply: the task has no rubrics to hold a report against"
        }
    assert judge.asked == []
    with pytest.raises(ConfigError, match=r"task 'q': rubrics .* its data have none"):
        CitationRubric(judge=judge).check_task(episode.task)


@pytest.mark.parametrize("data", [{"rubrics": None}, {"rubrics": ["no slot"]}, {"rubrics": []}])
def test_bad_rubrics_are_an_error_that_a_tree_turns_into_invalid(
    search_episode: Episode, scripted: Any, data: dict[str, Any]
) -> None:
    reward = CitationRubric(judge=judge_of(scripted))
    episode = search_episode([("answer", "x")], data=data)
    with pytest.raises(ConfigError, match=r"task 'q': rubrics"):
        reward.check_task(episode.task)
    (value,) = RewardTree([WeightedReward(reward)]).score(episode)["citation_rubric"]
    assert "config" in (value.invalid or "")


# -- outcome and rubrics side by side ------------------------------------------------------------------


def test_a_remote_judge_is_asked_for_both_at_once(six: Trajectory, scripted: Any) -> None:
    both = threading.Barrier(2, timeout=10)

    class Remote(scripted):  # type: ignore[misc]
        remote = True

        def answer(self, case: Any) -> Any:
            both.wait()  # passes only while the other question is under way
            return super().answer(case)

        def entities(self, case: Any) -> Any:
            both.wait()
            return super().entities(case)

    judge = Remote(names=NAMES, verdicts=SUPPORTED)
    assert CitationRubric(judge=judge, ratio=0.5).score(six)[-1].value == pytest.approx(0.75)


def test_threads_end_with_the_score(six: Trajectory, scripted: Any) -> None:
    class Remote(scripted):  # type: ignore[misc]
        remote = True

        def answer(self, case: Any) -> Any:
            time.sleep(0.05)
            return super().answer(case)

    before = threading.active_count()
    CitationRubric(judge=Remote(names=NAMES, verdicts=SUPPORTED, failing=["entities"]), ratio=0.5).score(six)
    assert threading.active_count() == before


# -- configuration ---------------------------------------------------------------------------------------


def test_a_configuration_makes_it_and_it_describes_itself_back() -> None:
    judge = {"use": "llm", "base_url": "http://127.0.0.1:1/v1", "model": "m", "max_concurrency": 2}
    config = {
        "version": 1,
        "rewards": [{"name": "citation_rubric", "options": {"judge": judge, "ratio": 0.5, "placement": "turn"}}],
    }
    tree = load_rewards(config)
    described = tree.describe()
    assert load_rewards(described).describe() == described
    options = described["rewards"][0]["options"]
    assert (options["judge"]["model"], options["ratio"]) == ("m", 0.5)
    reward = pickle.loads(pickle.dumps(tree.rewards[0].reward))
    assert reward.describe() == options
    to_json(RewardTree([WeightedReward(CitationRubric(judge="rule"), name="x")]).attach(_empty()).task)


def _empty() -> Trajectory:
    from turnwise.records import Ending, Task

    return Trajectory(
        id="a#0",
        env_id="e",
        task=Task(id="a", split="", instruction=""),
        seed=0,
        agent="t",
        ending=Ending(kind="terminated"),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "rules"}, "unknown judge 'rules'.*'rule'"),
        ({"judge": {"use": "llm", "model": "m"}}, "needs the option 'base_url'"),
        ({"judge": {"use": "llm", "base_url": "ftp://x", "model": "m"}}, "judge.base_url"),
        ({"judge": {"use": "llm", "base_url": "http://x", "model": "m", "modle": 1}}, "judge.modle.*'model'"),
        ({"judge": {"model": "m"}}, "'rule' or a mapping"),
        ({"judge": "turnwise.rewards.format:Format"}, "is no judge: it lacks"),
        ({"judge": "turnwise.rewards.nothing:X"}, "cannot import"),
        ({"ratio": 1.5}, r"\[0, 1\]"),
        ({"placement": "first"}, "placement"),
        ({"citation_labels": "none"}, "citation_labels"),
        ({"max_pages": 0}, "max_pages"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_rewards({"version": 1, "rewards": [{"name": "citation_rubric", "options": options}]})
