"""Questions as expressions over the graph, and what they denote: the proof that an answer is the only one.

A form is JSON: ``["entity", id]``, ``["hop", relation, form]`` (the objects of), ``["inverse", relation, form]`` (the
subjects with), ``["and", form, form]``, ``["during", form, years]`` (who directed an organisation in a year),
``["earlier", relation, form, form]`` (which of two has the smaller year), ``["count", form]``, ``["before", relation,
form, year]`` (those whose year is smaller) and ``["difference", years, years]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnwise.envs.searchqa.schema import DIRECTED_BY
from turnwise.records import Json

if TYPE_CHECKING:
    import networkx

Value = str | int
Values = frozenset[Value]


class Facts:
    """The edges of a graph by subject and by object, for many look-ups."""

    def __init__(self, graph: networkx.MultiDiGraph[Any]) -> None:
        """Index a graph of :func:`~turnwise.envs.searchqa.graph.make_graph`."""
        self.graph = graph
        self._forward: dict[tuple[Value, str], list[Value]] = {}
        self._backward: dict[tuple[Value, str], list[Value]] = {}
        self._terms: dict[Value, list[tuple[int, int, Value]]] = {}
        self._sentences: dict[tuple[Value, str, Value, int], int] = {}
        for subject, target, data in graph.edges(data=True):
            relation = data["relation"]
            self._sentences[subject, relation, target, data["since"]] = data["sentence"]
            if relation == DIRECTED_BY:
                self._terms.setdefault(subject, []).append((data["since"], data["until"], target))
            self._forward.setdefault((subject, relation), []).append(target)
            self._backward.setdefault((target, relation), []).append(subject)

    def objects(self, subject: Value, relation: str) -> list[Value]:
        """Return what a subject is related to."""
        return self._forward.get((subject, relation), [])

    def subjects(self, target: Value, relation: str) -> list[Value]:
        """Return what is related to an object."""
        return self._backward.get((target, relation), [])

    def terms(self, organisation: Value) -> list[tuple[int, int, Value]]:
        """Return first year, last year and director of each term."""
        return self._terms.get(organisation, [])

    def directors(self, organisation: Value, year: int) -> list[tuple[int, int, Value]]:
        """Return the terms that a year falls into."""
        return [term for term in self.terms(organisation) if term[0] <= year <= term[1]]

    def sentence(self, subject: Value, relation: str, target: Value, since: int = 0) -> int:
        """Return the index of the sentence that states a fact."""
        return self._sentences[subject, relation, target, since]

    def name(self, value: Value) -> str:
        """Return the name of an entity, or a year's digits."""
        return str(value) if isinstance(value, int) else str(self.graph.nodes[value]["name"])


def evaluate(facts: Facts, form: Json) -> Values:
    """Return everything that a form denotes.

    Args:
        facts: The world.
        form: An expression; see the module's description.

    Raises:
        KeyError: The form uses an operator that does not exist.
    """
    return _OPERATORS[form[0]](facts, *form[1:])


def _entity(facts: Facts, node: Value) -> Values:
    return frozenset([node])


def _hop(facts: Facts, relation: str, form: Json) -> Values:
    return frozenset(target for node in evaluate(facts, form) for target in facts.objects(node, relation))


def _inverse(facts: Facts, relation: str, form: Json) -> Values:
    return frozenset(subject for node in evaluate(facts, form) for subject in facts.subjects(node, relation))


def _and(facts: Facts, *forms: Json) -> Values:
    return frozenset.intersection(*(evaluate(facts, form) for form in forms))


def _during(facts: Facts, form: Json, years: Json) -> Values:
    when = [year for year in evaluate(facts, years) if isinstance(year, int)]
    nodes = evaluate(facts, form)
    return frozenset(person for node in nodes for year in when for *_, person in facts.directors(node, year))


def _earlier(facts: Facts, relation: str, *forms: Json) -> Values:
    dated = [(year, node) for form in forms for node in evaluate(facts, form) for year in facts.objects(node, relation)]
    years = sorted(year for year, _ in dated if isinstance(year, int))
    return frozenset(node for year, node in dated if years and year == years[0])


def _count(facts: Facts, form: Json) -> Values:
    return frozenset([len(evaluate(facts, form))])


def _before(facts: Facts, relation: str, form: Json, year: int) -> Values:
    nodes = evaluate(facts, form)
    return frozenset(n for n in nodes if any(isinstance(y, int) and y < year for y in facts.objects(n, relation)))


def _difference(facts: Facts, later: Json, earlier: Json) -> Values:
    minuends, subtrahends = evaluate(facts, later), evaluate(facts, earlier)
    return frozenset(
        one - other for one in minuends for other in subtrahends if isinstance(one, int) and isinstance(other, int)
    )


_OPERATORS: dict[str, Callable[..., Values]] = {
    "entity": _entity,
    "hop": _hop,
    "inverse": _inverse,
    "and": _and,
    "during": _during,
    "earlier": _earlier,
    "count": _count,
    "before": _before,
    "difference": _difference,
}
