"""Reading and writing PDDL problems."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.envs.household.pddl import MAX_DEPTH, parse_problem, parse_sexpr, write_problem, write_sexpr
from turnwise.envs.household.problem import Problem
from turnwise.errors import ConfigError

WORDS = st.text("abcxyz_?-.0123456789", min_size=1, max_size=8)
SEXPRS = st.recursive(WORDS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=30)


@given(SEXPRS)
def test_expressions_survive_writing_and_reading(expression: object) -> None:
    assert parse_sexpr(write_sexpr(expression)) == expression


def test_case_comments_and_blanks_do_not_matter() -> None:
    assert parse_sexpr("(And ; ignored (\n (isHot ?O)\t(Opened\n Fridge_1))") == (
        "and",
        ("ishot", "?o"),
        ("opened", "fridge_1"),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(a", "still open"),
        ("a)", "without its"),
        ("a b", "one PDDL expression"),
        ("", "one PDDL expression"),
        ("(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1), "deep"),
    ],
)
def test_damaged_expressions_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_sexpr(text)


def test_nesting_up_to_the_bound_is_read() -> None:
    assert parse_sexpr("(" * MAX_DEPTH + ")" * MAX_DEPTH) is not None


@pytest.mark.parametrize("name", ["", "a b", "a)", "(", "a;b"])
def test_names_that_pddl_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="PDDL name"):
        write_sexpr(("holds", name))


def test_a_problem_survives_writing_and_reading(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    again = parse_problem(write_problem(problem, "again"), instruction=problem.instruction, dialect=problem.dialect)
    assert again == problem


def test_a_problem_is_in_lower_case_without_costs_and_repeats(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(add="(OPENED Fridge_bar_1) (opened fridge_bar_1)")
    assert problem.facts.count(("opened", "fridge_bar_1")) == 1
    assert ("potato_bar_1", "object") in problem.objects
    assert not [fact for fact in problem.facts if fact[0] == "="]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(x)", "begins with"),
        ("(define (domain alfred))", "not the domain"),
        ("(define (problem p) (:objects) (:init))", "no :goal"),
        ("(define (problem p) (:objects) (:init) (:goal (a) (b)))", "one condition"),
        ("(define (problem p) (:objects a - x A - y) (:init) (:goal ()))", "twice"),
        ("(define (problem p) (:objects a -) (:init) (:goal ()))", "type name"),
        ("(define (problem p) (:objects a - (either x y)) (:init) (:goal ()))", "type name"),
        ("(define (problem p) (:objects) (:init (opened fridge)) (:goal ()))", "'fridge'"),
        ("(define (problem p) (:objects) (:init opened) (:goal ()))", "expected a fact"),
        ("(define (problem p) (:objects) (:init) (:init) (:goal ()))", "appears twice"),
        ("(define (problem p) what (:goal ()))", "PDDL section"),
    ],
)
def test_what_is_no_problem_is_refused_in_words(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_problem(text, instruction="")


@given(st.text("()ab :-;\n", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_problem(text, instruction="")
