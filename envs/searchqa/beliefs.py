"""What a question tells an exact belief scorer: facts with the sentences that state them, and numbers of candidates.

It travels in ``task.data["beliefs"]``, so that whoever scores a trajectory needs no world, only the trajectory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from turnwise.envs.retrieval.interface import Document
from turnwise.envs.searchqa.drafts import Draft, Step
from turnwise.envs.searchqa.forms import Facts, Value
from turnwise.envs.searchqa.schema import BY_NAME, DIRECTED_BY
from turnwise.records import Json


class Populations:
    """How many entities and years of each kind a reader of the whole collection has to reckon with."""

    def __init__(self, facts: Facts) -> None:
        """Count a world; near-duplicates count too, since nothing tells a reader that they are none."""
        nodes = facts.graph.nodes
        self._kind = {node: str(data["kind"]) for node, data in nodes(data=True)}
        self._size = Counter(self._kind.values())
        self._years: dict[str, list[int]] = {}
        for _, target, data in facts.graph.edges(data=True):
            if isinstance(target, int):
                span = self._years.setdefault(data["relation"], [target, target])
                span[:] = min(span[0], target), max(span[1], target)

    def objects(self, relation: str) -> int:
        """Return how many entities a relation may lead to."""
        return self._size["person" if relation == DIRECTED_BY else BY_NAME[relation].object]

    def subjects(self, relation: str, named: Sequence[str]) -> int:
        """Return how many entities may have a relation, without those that a question names."""
        kinds = BY_NAME[relation].subjects
        return sum(self._size[kind] for kind in kinds) - sum(self._kind[node] in kinds for node in named)

    def years(self, relation: str) -> list[int] | None:
        """Return the first and the last year that a relation leads to; None for one that leads to entities."""
        return self._years.get(relation)


def belief_data(
    draft: Draft,
    answer: Value | None,
    *,
    facts: Facts,
    populations: Populations,
    documents: Mapping[str, Document],
    sentence: Callable[[Step], int],
) -> dict[str, Json]:
    """Return what the scorer is told about a question.

    Args:
        draft: The question.
        answer: Its answer, None where nobody knows.
        facts: The world.
        populations: Its numbers.
        documents: Its pages by id.
        sentence: Index of the sentence that states a step's fact.

    Returns:
        ``answer`` (an id, a number or None); ``facts``, each with ``document``, ``sentence``, ``text``, ``relation``,
        ``object`` (None: not recorded), ``since`` and ``until`` of a director's term, and ``needed`` (whether the
        answer rests on it); and by relation ``objects`` and ``subjects`` (numbers of candidates), ``years`` (first
        and last) and ``unrecorded`` (those that a page may call unknown).
    """
    steps = dict.fromkeys(draft.steps, True)
    for step in draft.steps:
        if step.relation == DIRECTED_BY:  # whoever opens the page reads of the other directors, too
            others = (Step(step.subject, DIRECTED_BY, p, step.depth, a, b) for a, b, p in facts.terms(step.subject))
            steps |= {other: False for other in others if other not in steps}
    relations = list(dict.fromkeys(step.relation for step in steps))
    subjects = [name for name in _inverted(draft.form) if name in relations]
    return {
        "answer": answer,
        "facts": [
            {
                "document": step.subject,
                "sentence": sentence(step),
                "text": documents[step.subject].sentences[sentence(step)],
                "relation": step.relation,
                "object": step.object,
                "since": step.since,
                "until": step.until,
                "needed": needed,
            }
            for step, needed in steps.items()
        ],
        "objects": {name: populations.objects(name) for name in relations if populations.years(name) is None},
        "subjects": {name: populations.subjects(name, draft.starts) for name in subjects},
        "years": {name: span for name in relations if (span := populations.years(name)) is not None},
        "unrecorded": [name for name in relations if name in BY_NAME and BY_NAME[name].missing is not None],
    }


def _inverted(form: Json) -> Iterator[str]:
    """Yield the relations that a form goes along backwards."""
    if isinstance(form, list):
        if form and form[0] == "inverse":
            yield form[1]
        for part in form:
            yield from _inverted(part)
