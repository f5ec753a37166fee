"""The probability of an answer to a question over a graph, given the facts of the graph that were read.

The model: a relation leads from an entity to any of its candidates with equal probability, independently of
everything else, until a sentence that says where was read. A fact counts from when the entity it is about has been
named, by the question or by facts that count. Before, it says next to nothing (1/n of what it will say, with n
candidates for that entity), and is taken to say nothing; so is everything that was read about other entities.

Questions are the forms of the embedded search world (``["hop", relation, form]`` and so on).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from turnwise.errors import JudgeError
from turnwise.records import Json

Answer = str | int | None  # an entity's id, a number, or None: it is not recorded
Chance = Callable[[Answer], float]


@dataclass(frozen=True)
class Knowledge:
    """What a reader reckons with.

    Attributes:
        objects: Relation to how many entities it may lead to.
        subjects: Relation to how many entities may have it, for forms that go along it backwards.
        years: Relation to the first and the last year that it may lead to.
        unrecorded: Relations that may not be recorded, which is one candidate more.
        read: Subject and relation to the object that was read; None for one that is not recorded.
        terms: Organisation to the terms of its directors that were read: first year, last year, director.
    """

    objects: Mapping[str, int]
    subjects: Mapping[str, int]
    years: Mapping[str, tuple[int, int]]
    unrecorded: frozenset[str]
    read: Mapping[tuple[Answer, str], Answer] = field(default_factory=dict)
    terms: Mapping[Answer, tuple[tuple[int, int, str], ...]] = field(default_factory=dict)

    def size(self, relation: str) -> int:
        """Return the number of things that a relation may lead to."""
        if relation in self.years:
            first, last = self.years[relation]
            return last - first + 1
        return self.objects[relation]


@dataclass(frozen=True)
class _End:
    """Where a chain of relations leads: ``value`` once no relation is left ``open``."""

    value: Answer
    open: tuple[str, ...] = ()

    @property
    def year(self) -> int:
        if not isinstance(self.value, int):
            raise JudgeError(f"the facts lead to {self.value!r} where the question needs a year")
        return self.value


def posterior(known: Knowledge, form: Json) -> Chance:
    """Return the probability of each answer.

    * A chain that was read to its end has one answer. With relations still open, each of the last one's ``n``
      candidates has ``r / n`` and "not recorded" has ``1 - r``, where ``r`` is the product of ``1 - 1 / (n_i + 1)``
      over the open relations that may not be recorded.
    * ``during``: with the organisation but not the year known, the directors whose terms were read have their share
      of the years, and all candidates alike the rest.
    * ``earlier``: an end of a chain not yet read is any of the ``n`` candidates but the other end; two unknown years
      are in either order with 1/2, against a known one the other is any year but that.
    * ``and``: exactly one subject fits, none that the question names, so its odds are ``s / (1 - s)`` with ``s`` the
      product of its relations' probabilities to lead to where they must.
    * ``count``: the subjects that were read and fit, plus a binomial number among those read in part, plus one among
      those not read; "none" is an answer, too.
    * ``difference``: both years uniform over their ranges; positive, as the question takes for granted.

    Args:
        known: What was read, and how much there is.
        form: The question.

    Returns:
        Answer to probability; over all candidates they add up to 1.

    Raises:
        JudgeError: There is no such form, or the numbers for it are missing.
    """
    try:
        return _OPERATORS[form[0]](known, *form[1:])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise JudgeError(f"no exact beliefs for the form {form!r}: {error!r}") from error


def _follow(known: Knowledge, form: Json) -> _End:
    """Go along a chain as far as it was read."""
    if form[0] == "entity":
        return _End(form[1])
    _, relation, inner = form
    start = _follow(known, inner)
    if start.open:
        return _End(None, (*start.open, relation))
    if start.value is None:  # of what is not recorded, nothing is
        return start
    if (start.value, relation) not in known.read:
        return _End(None, (relation,))
    return _End(known.read[start.value, relation])


def _certain(value: Answer) -> Chance:
    return lambda answer: float(answer == value)


def _hop(known: Knowledge, relation: str, inner: Json) -> Chance:
    end = _follow(known, ["hop", relation, inner])
    if not end.open:
        return _certain(end.value)
    recorded = math.prod(1.0 - 1.0 / (known.size(r) + 1) for r in end.open if r in known.unrecorded)
    each = recorded / known.size(relation)
    return lambda answer: 1.0 - recorded if answer is None else each


def _during(known: Knowledge, organisation: Json, years: Json) -> Chance:
    end, when = _follow(known, organisation), _follow(known, years)
    first, last = (when.year, when.year) if not when.open else known.years[when.open[-1]]
    shares: dict[Answer, float] = {}
    for since, until, person in () if end.open else known.terms.get(end.value, ()):
        overlap = max(0, min(until, last) - max(since, first) + 1)
        shares[person] = shares.get(person, 0.0) + overlap / (last - first + 1)
    rest = (1.0 - math.fsum(shares.values())) / known.size("directed_by")
    return lambda answer: shares.get(answer, 0.0) + rest


def _earlier(known: Knowledge, relation: str, one: Json, other: Json) -> Chance:
    ends = _follow(known, one), _follow(known, other)
    candidates = known.size(one[1])
    if all(end.open for end in ends):
        return lambda answer: 1.0 / candidates
    years = [None if end.open else known.read.get((end.value, relation)) for end in ends]
    first = _before(years[0], years[1], known.years[relation])

    def chance(answer: Answer) -> float:
        unknown = 0.0 if any(answer == end.value for end in ends if not end.open) else 1.0 / (candidates - 1)
        here, there = (unknown if end.open else float(answer == end.value) for end in ends)
        return here * first + there * (1.0 - first)

    return chance


def _before(one: Answer, other: Answer, span: tuple[int, int]) -> float:
    """Return the probability that one of two different years is the smaller one."""
    first, last = span
    if isinstance(one, int) and isinstance(other, int):
        return float(one < other)
    if isinstance(one, int):
        return (last - one) / (last - first)
    return (other - first) / (last - first) if isinstance(other, int) else 0.5


def _and(known: Knowledge, *arms: Json) -> Chance:
    ends = [(relation, _follow(known, inner)) for _, relation, inner in arms]

    def fits(subject: Answer) -> float:
        share = 1.0
        for relation, end in ends:
            if end.open or (subject, relation) not in known.read:
                share /= known.size(relation)
            else:
                share *= float(known.read[subject, relation] == end.value)
        return share

    relations = {relation for relation, _ in ends}
    named = set(_named(arms))
    touched = {subject for subject, relation in known.read if relation in relations} - named
    shares = {subject: fits(subject) for subject in sorted(touched, key=str)}
    for subject, share in shares.items():
        if share == 1.0:
            return _certain(subject)
    odds = {subject: share / (1.0 - share) for subject, share in shares.items()}
    share = math.prod(1.0 / known.size(relation) for relation, _ in ends)
    each = share / (1.0 - share)
    others = min(known.subjects[relation] for relation in relations) - len(odds)
    total = math.fsum(odds.values()) + others * each
    return lambda answer: odds.get(answer, each) / total


def _named(form: Json) -> Iterator[Answer]:
    """Yield the entities that a question names; it does not ask for one of them."""
    if isinstance(form, (list, tuple)):
        if len(form) == 2 and form[0] == "entity":
            yield form[1]
        for part in form:
            yield from _named(part)


def _count(known: Knowledge, counted: Json) -> Chance:
    early, span, before = 1.0, "", 0
    if counted[0] == "before":
        _, span, counted, before = counted
        first, last = known.years[span]
        early = (before - first) / (last - first + 1)
    _, relation, inner = counted
    end = _follow(known, inner)
    found = [s for (s, r), o in known.read.items() if r == relation and not end.open and o == end.value]
    dated = [known.read.get((subject, span)) for subject in found]
    fitting = sum(not span or (isinstance(year, int) and year < before) for year in dated)
    undated = sum(year is None for year in dated) if span else 0
    rest, share = known.subjects[relation] - len(found), early / known.size(relation)

    def exactly(number: int) -> float:
        return math.fsum(
            _binomial(more, undated, early) * _binomial(number - fitting - more, rest, share)
            for more in range(undated + 1)
        )

    return lambda answer: exactly(answer) if isinstance(answer, int) else 0.0


def _binomial(successes: int, trials: int, share: float) -> float:
    if not 0 <= successes <= trials:
        return 0.0
    if share >= 1.0:
        return float(successes == trials)
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways + successes * math.log(share) + (trials - successes) * math.log1p(-share))


def _difference(known: Knowledge, later: Json, earlier: Json) -> Chance:
    spans = []
    for form in (later, earlier):
        end = _follow(known, form)
        spans.append(known.years[form[1]] if end.open else (end.year, end.year))
    (low, high), (first, last) = spans

    def pairs(years: int) -> int:
        return max(0, min(high, last + years) - max(low, first + years) + 1) if years > 0 else 0

    total = sum(pairs(years) for years in range(1, high - first + 1))
    return lambda answer: pairs(answer) / total if isinstance(answer, int) else 0.0


_OPERATORS: dict[str, Callable[..., Chance]] = {
    "hop": _hop,
    "during": _during,
    "earlier": _earlier,
    "and": _and,
    "count": _count,
    "difference": _difference,
}
