"""Command templates: matching, filling and what is refused when a world declares one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.templates import Template, first_word, fold


def match(template: str, text: str) -> dict[str, str] | None:
    return Template(template).match(text, fold(text))


def test_a_template_without_slots_matches_its_own_text_only() -> None:
    assert match("look", "LOOK") == {}
    assert match("look", "look around") is None


def test_slots_take_the_text_between_the_literals() -> None:
    assert match("take {object} from {receptacle}", "take mug 1 from desk 2") == {
        "object": "mug 1",
        "receptacle": "desk 2",
    }


def test_literals_ignore_case_and_slots_keep_it() -> None:
    assert match("Search[{query}]", "sEARCH[Red Shoes]") == {"query": "Red Shoes"}


def test_earlier_slots_are_as_short_as_possible() -> None:
    assert match("take {a} from {b}", "take x from y from z") == {"a": "x", "b": "y from z"}


def test_brackets_inside_a_bracketed_slot_belong_to_it() -> None:
    assert match("search[{query}]", "search[a[0] of b]") == {"query": "a[0] of b"}


@pytest.mark.parametrize("text", ["take", "take ", "take x", "take from y", "take x from", "retake x from y"])
def test_incomplete_commands_do_not_match(text: str) -> None:
    assert match("take {a} from {b}", text) is None


def test_a_blank_slot_does_not_match() -> None:
    assert match("search[{query}]", "search[ ]") is None
    assert match("search[{query}]", "search[]") is None


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "begin with a word"),
        ("{object}", "begin with a word"),
        ("take{object}", "begin with a word"),
        ("[{object}]", "begin with a word"),
        ("put {object}{receptacle}", "two slots in a row"),
        ("put {x} on {x}", "uses a slot twice"),
        ("put {} on {x}", "other braces"),
        ("put {x on y", "other braces"),
        ("put {1x} on y", "other braces"),
    ],
)
def test_malformed_templates_are_refused(template: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Template(template)


def test_fold_keeps_positions_where_lowering_would_move_them() -> None:
    text = "İTAKE X"
    assert len(text.lower()) != len(text)
    assert fold(text) == "İtake x"
    assert match("go {place}", "GO İstanbul") == {"place": "İstanbul"}


def test_first_word() -> None:
    assert first_word("search[x]") == "search"
    assert first_word("go to") == "go"
    assert first_word("> go") == ""


words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(words, words, words)
def test_what_is_filled_is_matched(a: str, b: str, c: str) -> None:
    template = Template("move {a} from {b} to {c}")
    values = {"a": a, "b": b, "c": c}
    filled = template.fill(values)
    assert template.match(filled, fold(filled)) == values


@given(st.text(max_size=80))
def test_matching_never_raises_and_never_invents_text(text: str) -> None:
    values = match("move {a} from {b} to {c}", text)
    if values is not None:
        assert all(value and value in text for value in values.values())
