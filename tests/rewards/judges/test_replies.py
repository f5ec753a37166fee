from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.protocols import JudgePage
from turnwise.rewards.judges.replies import (
    ReplyError,
    read_answer,
    read_entities,
    read_object,
    read_support,
    read_useful,
)

PAGES = [JudgePage(url="https://a"), JudgePage(url="https://b")]


def block(value: Any) -> str:
    return f"I thought about it.\n```json\n{json.dumps(value)}\n```"


def test_the_json_block_may_come_after_thoughts_or_be_all_there_is() -> None:
    assert read_object(block({"a": 1})) == {"a": 1}
    assert read_object(' {"a": 1}\n') == {"a": 1}
    assert read_object('<think>```json\n{"b": 2}\n```</think>\n```\n{"a": 1}\n```') == {"a": 1}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "yes",
        '```json\n{"a": 1}',
        block({"a": 1}) + block({"a": 2}),
        block([1]),
        '{"a": 1} trailing',
        '{"a": 1, "a": 2}',
    ],
)
def test_anything_else_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError):
        read_object(reply)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for reply in (text, f"```json\n{text}\n```"):
        try:
            read_object(reply)
        except ReplyError:
            continue


def test_answers() -> None:
    verdict = read_answer(block({"final_answer": "x", "correct": True, "reason": "same"}))
    assert (verdict.holds, verdict.passages[0].quote, verdict.reason) == (True, "x", "same")
    assert read_answer(block({"final_answer": None, "correct": False, "reason": ""})).holds is False


@pytest.mark.parametrize(
    "value",
    [
        {"correct": True, "reason": ""},
        {"final_answer": "x", "correct": "yes", "reason": ""},
        {"final_answer": "x", "correct": 1, "reason": ""},
        {"final_answer": None, "correct": True, "reason": ""},
        {"final_answer": "x", "correct": True, "reason": "", "score": 1},
        {"final_answer": 3, "correct": True, "reason": ""},
    ],
)
def test_answers_of_another_form_are_refused(value: Any) -> None:
    with pytest.raises(ReplyError):
        read_answer(block(value))


def test_entities_have_exactly_the_ids_asked_for() -> None:
    assert read_entities(block({"E1": None, "E0": " A "}), ("E0", "E1")) == {"E0": "A", "E1": None}
    for value in ({"E0": "A"}, {"E0": "A", "E1": None, "E2": None}, {"E0": "null", "E1": None}, {"E0": "", "E1": "b"}):
        with pytest.raises(ReplyError):
            read_entities(block(value), ("E0", "E1"))


def entry(**fields: Any) -> dict[str, Any]:
    return {"supported": True, "passages": [{"page": 2, "quote": "q"}], "reason": "r", **fields}


def test_support_maps_labels_to_rubrics_and_numbers_to_pages() -> None:
    reply = block({"S2": entry(supported=False, passages=[]), "S1": entry()})
    verdicts = read_support(reply, [3, 7], PAGES)
    assert {index: verdict.holds for index, verdict in verdicts.items()} == {3: True, 7: False}
    assert (verdicts[3].passages[0].url, verdicts[3].passages[0].quote) == ("https://b", "q")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"S1": entry(), "S2": entry()},
        {"S1": True},
        {"S1": entry(supported="true")},
        {"S1": entry(passages=[])},
        {"S1": entry(passages=[{"page": 3, "quote": "q"}])},
        {"S1": entry(passages=[{"page": 0, "quote": "q"}])},
        {"S1": entry(passages=[{"page": True, "quote": "q"}])},
        {"S1": entry(passages=[{"page": 1}])},
        {"S1": entry(passages=[3])},
        {"S1": entry(reason=None)},
    ],
)
def test_support_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(ReplyError):
        read_support(block(value), [5], PAGES)


def test_usefulness() -> None:
    assert read_useful(block({"useful": False, "reason": "old"})).holds is False
    with pytest.raises(ReplyError):
        read_useful(block({"useful": "no", "reason": "old"}))
