"""CaRR's published example: everything but the judge's verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from turnwise.errors import ConfigError
from turnwise.records import Trajectory, from_json, to_json
from turnwise.rewards.carr import citations, read_history, read_session, without_references
from turnwise.rewards.citation_rubric import CitationRubric

RUBRICS = [
    "<E0> is an MMA event that occurred before 2022.",
    "<E0> featured a featherweight bout between <E1> and <E2>.",
    "<E1> was the loser of the featherweight bout in <E0>.",
    "<E1> landed 14 significant strikes out of 83 attempted in <E0>, resulting in a 16.87% significant strikes "
    "percentage.",
    "<E1> failed to land any takedowns out of 4 attempts in <E0>.",
    "Both <E1> and <E2> were under 35 years old at the time of <E0>.",
    "<E1> and <E2> shared the same nationality.",
    'The nickname of <E1> is a synonym for "swordsman".',
    "<E3> was the referee who officiated the featherweight bout in <E0>.",
    "<E3> worked his first event for the same MMA promotion as <E0> in 1994.",
]
UFC_219 = "https://en.wikipedia.org/wiki/UFC_219"
STATS = "https://sports-statistics.com/ufc/ufc-fight-statistics/ufc-219-cyborg-vs-holm/myles-jury-v-ricky-glenn"
CITED = (
    UFC_219,
    STATS,
    "https://en.wikipedia.org/wiki/Myles_Jury",
    "https://www.wordhippo.com/what-is/another-word-for/gladiator.html",
    "https://en.wikipedia.org/wiki/John_McCarthy_(referee)",
)
NAMES = {"E0": "UFC 219: Cyborg vs. Holm", "E1": "Ricky Glenn", "E2": None, "E3": "John McCarthy"}


@pytest.fixture(scope="module")
def record(shared_data: Path) -> dict[str, Any]:
    (record,) = json.loads((shared_data / "carr" / "example.json").read_text())
    return {"history": record["history"][0], "label": record["label"][0]}


@pytest.fixture(scope="module")
def example(record: dict[str, Any]) -> Trajectory:
    return read_history(record["history"], rubrics=RUBRICS, label=record["label"])


def test_the_example_has_45_tool_calls_and_an_answer(example: Trajectory) -> None:
    names = [turn.action.name for turn in example.turns if turn.action is not None]
    assert len(names) == 46
    assert (names.count("browser.search"), names.count("browser.open"), names.count("browser.find")) == (31, 10, 4)
    assert names[-1] == "answer"
    assert from_json(to_json(example)) == example


def test_its_report_cites_five_pages_that_all_were_shown(example: Trajectory) -> None:
    session = read_session(example)
    report = without_references(session.report or "")
    assert "## References" not in report
    assert citations(report) == citations(report, "number") == CITED
    assert all(url in session.of_page for url in CITED)
    assert "https://en.wikipedia.org/wiki/Ricky_Glenn" not in citations(report)  # only among the references


def test_its_pages_hold_snippets_opened_text_and_matches(example: Trajectory) -> None:
    session = read_session(example)
    assert "| 14 of 83 |" in session.page(STATS).text
    ufc = session.of_page[UFC_219]
    assert [(piece.turn, piece.kind) for piece in ufc[:1]] == [(24, 1)]  # opened by its address
    assert {piece.turn for piece in ufc if piece.kind == 2} == {30, 32}  # then searched inside
    assert session.page(CITED[2]).text.count("\n\n") == len({p.text for p in session.of_page[CITED[2]]}) - 1
    assert session.first_turn(STATS, "14 of 83") == 4


def published(scripted: Any) -> Any:
    """Verdicts with the published count: three rubrics lack E2's name, one is not supported, six count."""
    verdicts = {0: True, 2: True, 3: True, 4: True, 7: False, 8: True, 9: True}
    passages = {0: [(UFC_219, "")], 3: [(STATS, "14 of 83")], 8: [(STATS, "John McCarthy")], 9: [(CITED[4], "")]}
    return scripted(names=NAMES, verdicts=verdicts, passages=passages)


def test_the_published_reward_is_reproduced(example: Trajectory, scripted: Any) -> None:
    judge = published(scripted)
    value = CitationRubric(judge=judge, ratio=0.5).score(example)[-1]
    assert value.evidence["rubric_share"] == pytest.approx(0.6)
    assert value.evidence["outcome"]["correct"] is True
    assert value.value == pytest.approx(0.8)
    assert tuple(page.url for page in judge.pages) == CITED
    assert judge.statements[9] == (
        "John McCarthy worked his first event for the same MMA promotion as UFC 219: Cyborg vs. Holm in 1994."
    )
    assert set(judge.statements) == {0, 2, 3, 4, 7, 8, 9}
    assert CitationRubric(judge=published(scripted)).score(example)[-1].value == pytest.approx(0.6)


def test_per_turn_its_value_is_the_same(example: Trajectory, scripted: Any) -> None:
    values = CitationRubric(judge=published(scripted), ratio=0.5, placement="turn").score(example)
    placed = {turn: value.value for turn, value in enumerate(values) if value.value}
    # The page with the statistics came with the search of turn 3; what quotes nothing stays on the answer.
    assert placed == pytest.approx({3: 0.1, 23: 0.05, 24: 0.05, 45: 0.5 + 0.1})
    assert sum(value.value or 0.0 for value in values) == pytest.approx(0.8)


def test_an_unfinished_episode_has_no_report(record: dict[str, Any], scripted: Any) -> None:
    judge = published(scripted)
    cut = read_history(record["history"], rubrics=RUBRICS, label=record["label"], task_unfinished=True)
    assert CitationRubric(judge=judge, ratio=0.5).score(cut)[-1].value == 0.0
    tool_last = read_history(record["history"][:-1], rubrics=RUBRICS, label=record["label"])
    assert CitationRubric(judge=judge, ratio=0.5).score(tool_last)[-1].value == 0.0
    assert judge.asked == []


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "list of messages"),
        ([{"content": "x"}], r"history\[0\] must be a message"),
        ([3], r"history\[0\] must be a message"),
        ([{"role": "tool", "content": [3]}], "tool_call_id"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "tool_calls"),
    ],
)
def test_a_malformed_history_is_named(history: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_history(history, rubrics=RUBRICS, label="x")


def test_a_rubric_without_placeholders_is_an_error_at_load_time() -> None:
    with pytest.raises(ConfigError, match="no placeholder"):
        read_history([{"role": "user", "content": "q"}], rubrics=["<E0> is.", "It is."], label="x")


def test_garbled_arguments_do_not_break_the_reader() -> None:
    call = {"tool_call_id": "1", "name": "browser.search", "arguments": "{'query"}
    history = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}]
    (turn,) = read_history(history, rubrics=["<E0> is."], label="x").turns
    assert turn.action is not None
    assert turn.action.arguments == {}
