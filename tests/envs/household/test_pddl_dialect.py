"""The words of a game, read from its grammar without evaluating it."""

from __future__ import annotations

import pytest

from turnwise.envs.household.problem import OLD_DIALECT, Dialect, read_dialect, read_instruction
from turnwise.errors import ConfigError

OLD = (
    ("move {o} to {r}", "put {o} in/on {r}"),
    ("You arrive at {r.name}.", "You arrive at {lend.name}."),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
)


def test_the_current_words(grammar: str) -> None:
    assert read_dialect(grammar) == Dialect()
    assert read_instruction(grammar) == "heat some potato and put it in sinkbasin"


def test_the_old_words(grammar: str) -> None:
    for new, old in OLD:
        assert new in grammar
        grammar = grammar.replace(new, old)
    assert read_dialect(grammar) == OLD_DIALECT


def test_an_annotators_task_may_hold_any_plain_sentence(grammar: str) -> None:
    told = grammar.replace("heat some potato and put it in sinkbasin", 'Cook the \\"big\\" one, then rinse it.')
    assert read_instruction(told) == 'Cook the "big" one, then rinse it.'


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("You close the {r.name}.", "You close {__import__('os').name}.", "plain sentence"),
        ("You close the {r.name}.", "You close the {r.name.__class__}.", "plain sentence"),
        ("You close the {r.name}.", "You close the {o.name}.", "plain sentence"),
        ("You close the {r.name}.", "You close it. #look.feedback#", "plain sentence"),
        ('template :: "open {r}"', 'template :: "unlock {r}"', "unlock"),
        ('template :: "move {o} to {r}"', 'template :: "drop {o} at {r}"', "'move' or 'put'"),
        ("action HeatObject", "action BurnObject", "HeatObject"),
        ('"heatObject.feedback"', '"burnObject.feedback"', "heatObject.feedback"),
        ("You open the {r.name}. #examineReceptacle.feedback#", "You open the {r.name}.", "must end in"),
    ],
)
def test_other_grammars_are_refused_in_words(grammar: str, old: str, new: str, complaint: str) -> None:
    assert old in grammar
    with pytest.raises(ConfigError, match=complaint):
        read_dialect(grammar.replace(old, new))


@pytest.mark.parametrize("task", ["Go! ", "Your task is to: {o.name}.", "Your task is to: #look#."])
def test_a_task_that_is_no_plain_sentence_is_refused(grammar: str, task: str) -> None:
    with pytest.raises(ConfigError, match="task rule"):
        read_instruction(grammar.replace("Your task is to: heat some potato and put it in sinkbasin.", task))
