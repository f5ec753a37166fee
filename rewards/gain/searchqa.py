"""Exact beliefs in the embedded search world: what do the facts read so far say about the answer?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnwise.errors import JudgeError
from turnwise.protocols import Belief, BeliefRequest
from turnwise.records import Json, Task, Turn
from turnwise.rewards.gain.posterior import Answer, Knowledge, posterior
from turnwise.rewards.validity import cut

_DIRECTED_BY = "directed_by"  # the only relation with several objects, one per term


@dataclass(frozen=True)
class _Fact:
    """A fact, and the sentence that states it."""

    document: str
    sentence: int
    text: str
    relation: str
    object: Answer
    since: int
    until: int
    needed: bool


@dataclass(frozen=True)
class _Question:
    """What ``task.data`` says of a question."""

    form: Json
    answer: Answer
    name: str
    facts: tuple[_Fact, ...]
    nothing: Knowledge

    def knowledge(self, read: Iterable[_Fact]) -> Knowledge:
        """Return what a reader of some facts knows."""
        objects: dict[tuple[Answer, str], Answer] = {}
        terms: dict[Answer, tuple[tuple[int, int, str], ...]] = {}
        for fact in read:
            if fact.relation == _DIRECTED_BY:
                terms[fact.document] = (*terms.get(fact.document, ()), (fact.since, fact.until, str(fact.object)))
            else:
                objects[fact.document, fact.relation] = fact.object
        return replace(self.nothing, read=objects, terms=terms)


class SearchBeliefs:
    """The posterior over the answers of a question, in closed form (keeps the BeliefScorer protocol).

    The probability of the right answer is that of :func:`turnwise.rewards.gain.posterior.posterior` given the facts
    whose sentences the observations showed whole, in a list of results, a page or a match. The task's data hold the
    facts and the numbers of candidates, so no world is needed, and no model.

    Before anything was read, an answer at the end of one relation has 1 / (number of candidates). In a chain the hops
    before the last one found tell nothing by themselves: who wrote a book says nothing of where the author was born,
    so the gain is where the chain closes. Once all supporting facts were read the belief is 1, except for a count:
    that no further book exists can be read nowhere, so it ends at ``(1 - p) ** n`` for ``n`` books not read, of which
    each counts with probability ``p`` (about 0.57 in the embedded world).

    The belief never falls in a chain to an answer (bridge), nor in a count of all books. Elsewhere a true fact may
    speak for a wrong answer for a while: of a chain that ends with nothing recorded, each hop that is recorded says
    otherwise; a comparison's loser may become known first or have an early year; an entity on the way may fit one
    half of an intersection; the first of two years may leave more spans open than most would; a book may be too late
    to count, or its year not read yet; and of the directors read before the year is known, the one in question may
    have had the shorter term.
    """

    def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
        """Return the belief before the first turn and after each of ``request.turns``.

        Raises:
            JudgeError: The task is not one of the embedded world's, or a turn does not tell what it showed.
        """
        question = _question(request.trajectory.task)
        read: dict[_Fact, None] = {}
        beliefs = [_belief(question, read, ())]
        for turn in request.trajectory.turns[: request.turns]:
            new = [fact for fact in question.facts if fact not in read and _shows(turn, fact)]
            read.update(dict.fromkeys(new))
            beliefs.append(_belief(question, read, new))
        return tuple(beliefs)

    def describe(self) -> dict[str, Json]:
        """Return the options; there are none."""
        return {}


def _question(task: Task) -> _Question:
    told = task.data.get("beliefs")
    if not isinstance(told, Mapping):
        raise JudgeError(
            f"task {task.id!r} has no exact beliefs: its data have no 'beliefs', as only the questions of the embedded "
            "world do. Set 'scorer' to a model's, such as 'turnwise.rewards.gain.model:ModelBeliefs'"
        )
    try:
        return _Question(
            form=task.data["form"],
            answer=told["answer"],
            name=str(task.data["answer"]),
            facts=tuple(_Fact(**fact) for fact in told["facts"]),
            nothing=Knowledge(
                objects=told["objects"],
                subjects=told["subjects"],
                years={relation: (first, last) for relation, (first, last) in told["years"].items()},
                unrecorded=frozenset(told["unrecorded"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JudgeError(
            f"task {task.id!r}: its 'beliefs' are not as the embedded world writes them: {error!r}"
        ) from error


def _belief(question: _Question, read: Iterable[_Fact], new: Iterable[_Fact]) -> Belief:
    probability = posterior(question.knowledge(read), question.form)(question.answer)
    if not probability > 0.0:
        raise JudgeError(f"the facts that were read rule out the answer {question.name!r}: they contradict the task")
    evidence: dict[str, Json] = {
        "facts_read": sum(fact.needed for fact in read),
        "facts": sum(fact.needed for fact in question.facts),
    }
    found = [f"{fact.document}: {cut(fact.text)}" for fact in new if fact.needed]
    if found:
        evidence["new_facts"] = found
    return Belief(probability=probability, logprob=math.log(probability), answer=question.name, evidence=evidence)


def _shows(turn: Turn, fact: _Fact) -> bool:
    return any(
        fact.sentence in piece.get("sentences", ()) or fact.text in str(piece.get("text", ""))
        for piece in _pieces(turn)
        if piece.get("id") == fact.document
    )


def _pieces(turn: Turn) -> Iterator[Mapping[str, Any]]:
    shown = turn.info.get("shown")
    if not isinstance(shown, list):
        raise JudgeError(f"turn {turn.index} does not tell what it showed: its info has no list 'shown'")
    return (piece for piece in shown if isinstance(piece, Mapping))
