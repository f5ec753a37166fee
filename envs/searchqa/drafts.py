"""Walks on the graph that become questions: one function per question type.

A draft names only its start entities; everything else has to be found, hop by hop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from turnwise.envs.searchqa.documents import shown_name
from turnwise.envs.searchqa.forms import Facts, Value
from turnwise.envs.searchqa.names import Draws
from turnwise.envs.searchqa.schema import BY_NAME, DIRECTED_BY, OF_KIND, YEAR_RELATION, Relation
from turnwise.records import Json

UNANSWERABLE = "unanswerable"
MAX_COUNT = 7


@dataclass(frozen=True)
class Step:
    """One fact to be read.

    Attributes:
        subject: Whose document states it.
        relation: Which relation.
        object: The other end; None where the document says that it is not known.
        depth: 1 for facts of the start entities, 2 for facts of what these name, and so on.
        since: First year of a director's term, else 0.
        until: Last year of a director's term, else 0.
    """

    subject: str
    relation: str
    object: Value | None
    depth: int
    since: int = 0
    until: int = 0


@dataclass(frozen=True)
class Draft:
    """A question before it is checked.

    Attributes:
        type: ``bridge``, ``comparison``, ``intersection``, ``count``, ``temporal`` or ``unanswerable``.
        text: The question.
        form: What it denotes.
        starts: The entities that the question names.
        steps: The facts that the answer rests on, in the order in which they can be found.
        conclusion: A rubric that joins facts, with ``{E0}`` for the answer and ``{<node>}`` for what it joins; or None.
        joined: The steps that the conclusion rests on.
    """

    type: str
    text: str
    form: Json
    starts: tuple[str, ...]
    steps: tuple[Step, ...]
    conclusion: str | None = None
    joined: tuple[Step, ...] = ()


@dataclass
class Chain:
    """A phrase such as "the teacher of the author of X", with the facts behind it."""

    node: Value
    phrase: str
    form: Json
    steps: list[Step] = field(default_factory=list)


class Walker:
    """Random walks over the entities of one split; near-duplicates are never part of them."""

    def __init__(self, facts: Facts, split: str, draws: Draws) -> None:
        """Prepare the walks of a split."""
        self.facts, self.draws = facts, draws
        self.of_kind: dict[str, list[str]] = {}
        nodes = facts.graph.nodes
        for node, data in nodes(data=True):
            if data["kind"] != "year" and data["split"] == split and data["duplicate_of"] is None:
                self.of_kind.setdefault(data["kind"], []).append(node)

    def kind(self, node: Value) -> str:
        """Return the kind of a node."""
        return str(self.facts.graph.nodes[node]["kind"])

    def start(self, kinds: tuple[str, ...] = ("work", "event", "institute", "press", "society", "person")) -> Chain:
        """Begin at a random entity of one of the kinds."""
        node = self.draws.pick(self.of_kind[self.draws.pick(kinds)])
        return Chain(node, shown_name(self.kind(node), self.facts.name(node)), ["entity", node])

    def follow(self, chain: Chain, relation: Relation) -> Chain | None:
        """Go along a relation, or return None where there is nothing or the walk has been there."""
        targets = self.facts.objects(chain.node, relation.name)
        seen = {step.subject for step in chain.steps} | {chain.node}
        if len(targets) != 1 or targets[0] in seen:
            return None
        step = Step(str(chain.node), relation.name, targets[0], len(chain.steps) + 1)
        phrase = relation.phrase.format(x=chain.phrase)
        return Chain(targets[0], phrase, ["hop", relation.name, chain.form], [*chain.steps, step])

    def extend(self, chain: Chain, hops: int) -> Chain | None:
        """Follow random relations between entities."""
        for _ in range(hops):
            relations = [r for r in OF_KIND[self.kind(chain.node)] if r.object != "year"]
            following = self.follow(chain, self.draws.pick(relations))
            if following is None:
                return None
            chain = following
        return chain

    def chain_to(self, kinds: tuple[str, ...], hops: int) -> Chain | None:
        """Walk some hops from a random start and end at an entity of one of the kinds, or return None."""
        chain = self.extend(self.start(), hops)
        return chain if chain is not None and self.kind(chain.node) in kinds else None

    def leading_to(self, node: Value, *, without: tuple[str, ...] = ()) -> Chain | None:
        """Return a one-hop chain that ends at a node, or None."""
        kind = self.kind(node)
        relations = [r for r in BY_NAME.values() if r.object == kind and r.name not in without]
        if not relations:
            return None
        relation = self.draws.pick(relations)
        nodes = self.facts.graph.nodes
        subjects = [s for s in self.facts.subjects(node, relation.name) if nodes[s]["duplicate_of"] is None]
        if not subjects:
            return None
        subject = self.draws.pick(subjects)
        first = Chain(subject, shown_name(self.kind(subject), self.facts.name(subject)), ["entity", subject])
        return self.follow(first, relation)


def _start_of(chain: Chain) -> str:
    return chain.steps[0].subject


def bridge(walker: Walker, hops: int) -> Draft | None:
    """Ask for the end of a chain: "In which city was the author of X born?"."""
    chain = walker.extend(walker.start(), hops - 1)
    if chain is None:
        return None
    relation = walker.draws.pick(OF_KIND[walker.kind(chain.node)])
    end = walker.follow(chain, relation)
    if end is None:
        return None
    text = walker.draws.pick(relation.questions).format(x=chain.phrase)
    return Draft("bridge", text, end.form, (_start_of(end),), tuple(end.steps))


_EARLIER = {
    "city": "Which city received its charter earlier: {a} or {b}?",
    "person": "Who was born earlier: {a} or {b}?",
    "institute": "Which institute was established earlier: {a} or {b}?",
    "press": "Which press was established earlier: {a} or {b}?",
    "society": "Which society was established earlier: {a} or {b}?",
}


def comparison(walker: Walker, hops: int) -> Draft | None:
    """Compare the years of two things that the question describes but does not name."""
    kind = walker.draws.pick(tuple(_EARLIER))
    relation = BY_NAME[YEAR_RELATION[kind]]
    one, other = walker.chain_to((kind,), hops - 1), walker.chain_to((kind,), 1)
    if one is None or other is None or one.node == other.node:
        return None
    dated, other_dated = walker.follow(one, relation), walker.follow(other, relation)
    if dated is None or other_dated is None or dated.node == other_dated.node:
        return None
    text = _EARLIER[kind].format(a=one.phrase, b=other.phrase)
    form = ["earlier", relation.name, one.form, other.form]
    steps = _in_order([*dated.steps, *other_dated.steps])
    joined = (dated.steps[-1], other_dated.steps[-1])
    first, last = sorted(joined, key=lambda step: int(step.object or 0))
    conclusion = (
        f"{{E0}} has the earlier year of the two, {{{first.object}}}; {{{last.subject}}} has {{{last.object}}}."
    )
    return Draft("comparison", text, form, (_start_of(one), _start_of(other)), steps, conclusion, joined)


def _in_order(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(sorted(dict.fromkeys(steps), key=lambda step: step.depth))


def intersection(walker: Walker, hops: int) -> Draft | None:
    """Ask for the one thing that two descriptions fit: born in this city and a student of that institute."""
    draws, facts = walker.draws, walker.facts
    kind, one, other, text = draws.pick(
        (
            ("person", "born_in", "studied_at", "Who was born in {a} and studied at {b}?"),
            ("person", "taught_by", "born_in", "Which pupil of {a} was born in {b}?"),
            ("work", "author", "published_by", "Which book by {a} was published by {b}?"),
            ("work", "author", "set_in", "Which book by {a} is set in {b}?"),
            ("event", "held_in", "organised_by", "Which event in {a} was organised by {b}?"),
        )
    )
    answer = draws.pick(walker.of_kind[kind])
    objects = facts.objects(answer, one), facts.objects(answer, other)
    if not (objects[0] and objects[1]):
        return None
    side = walker.leading_to(objects[0][0], without=(one,))
    other_side = walker.leading_to(objects[1][0])
    if side is None or other_side is None:
        return None
    if hops > 2:
        longer = walker.leading_to(_start_of(side))
        side = None if longer is None else walker.follow(longer, BY_NAME[side.steps[0].relation])
        if side is None:
            return None
    depth = max(len(side.steps), len(other_side.steps)) + 1
    last = [Step(answer, one, objects[0][0], depth), Step(answer, other, objects[1][0], depth)]
    form = ["and", ["inverse", one, side.form], ["inverse", other, other_side.form]]
    steps = _in_order([*side.steps, *other_side.steps, *last])
    filled = text.format(a=side.phrase, b=other_side.phrase)
    return Draft("intersection", filled, form, (_start_of(side), _start_of(other_side)), steps)


def count(walker: Walker, hops: int) -> Draft | None:
    """Count the books of somebody whom the question only describes, all of them or those before a year."""
    draws, facts = walker.draws, walker.facts
    if hops == 2:
        author = facts.objects(draws.pick(walker.of_kind["work"]), "author")[0]
        chain = walker.leading_to(author, without=("author",))
    else:
        chain = walker.chain_to(("person",), hops - 1)
    works = [] if chain is None else [str(work) for work in facts.subjects(chain.node, "author")]
    if chain is None or not 2 <= len(works) <= MAX_COUNT or set(works) & {step.subject for step in chain.steps}:
        return None
    form: Json = ["inverse", "author", chain.form]
    depth = len(chain.steps) + 1
    last = [Step(work, "author", chain.node, depth) for work in works]
    text, condition = f"How many books did {chain.phrase} write?", ""
    if draws.chance(0.5):
        years = sorted(int(facts.objects(work, "work_year")[0]) for work in works)
        year = draws.pick(years[1:])
        form, condition = ["before", "work_year", form, year], f" before {year}"
        last += [Step(work, "work_year", facts.objects(work, "work_year")[0], depth) for work in works]
        text = f"How many books did {chain.phrase} publish before {year}?"
    conclusion = f"{{{chain.node}}} wrote {{E0}} books{condition}."
    steps = (*chain.steps, *last)
    return Draft("count", text, ["count", form], (_start_of(chain),), steps, conclusion, tuple(last))


def temporal(walker: Walker, hops: int) -> Draft | None:
    """Ask for a director at the time of an event, or for a span of years."""
    if hops == 2 and walker.draws.chance(0.5):
        return _director_at(walker)
    book = walker.start(("work",))
    appeared = walker.follow(book, BY_NAME["work_year"])
    if appeared is None:
        return None
    target = walker.follow(book, BY_NAME[walker.draws.pick(("author", "published_by", "set_in"))])
    if target is not None and hops > 2:
        target = walker.extend(target, hops - 2)
    if target is None or walker.kind(target.node) not in ("person", "city", "institute", "press", "society"):
        return None
    relation = BY_NAME[YEAR_RELATION[walker.kind(target.node)]]
    dated = walker.follow(target, relation)
    if dated is None or not int(appeared.node) > int(dated.node):
        return None
    verb = {"person": "was {x} born", "city": "did {x} receive its charter"}.get(
        walker.kind(target.node), "was {x} established"
    )
    text = f"How many years before {book.phrase} appeared {verb.format(x=target.phrase)}?"
    steps = _in_order([*appeared.steps, *dated.steps])
    joined = (appeared.steps[-1], dated.steps[-1])
    conclusion = f"{{E0}} years lie between {{{dated.node}}} and {{{appeared.node}}}."
    form = ["difference", appeared.form, dated.form]
    return Draft("temporal", text, form, (str(book.node),), steps, conclusion, joined)


def _director_at(walker: Walker) -> Draft | None:
    event = walker.start(("event",))
    held, organiser = (walker.follow(event, BY_NAME[name]) for name in ("event_year", "organised_by"))
    if held is None or organiser is None:
        return None
    terms = walker.facts.directors(organiser.node, int(held.node))
    if len(terms) != 1:
        return None
    since, until, person = terms[0]
    last = Step(str(organiser.node), DIRECTED_BY, person, 2, since, until)
    text = f"Who directed {organiser.phrase} in the year in which it took place?"
    form = ["during", organiser.form, held.form]
    conclusion = f"{{E0}} was the director of the {{{organiser.node}}} in {{{held.node}}}."
    steps = (*held.steps, *organiser.steps, last)
    return Draft("temporal", text, form, (str(event.node),), steps, conclusion, (*held.steps, last))


def unanswerable(walker: Walker, hops: int) -> Draft | None:
    """Ask for what the last document says nobody knows."""
    chain = walker.extend(walker.start(), hops - 1)
    if chain is None:
        return None
    missing = walker.facts.graph.nodes[chain.node].get("missing", ())
    if not missing:
        return None
    relation = BY_NAME[walker.draws.pick(missing)]
    last = Step(str(chain.node), relation.name, None, len(chain.steps) + 1)
    steps = (*chain.steps, last)
    text = walker.draws.pick(relation.questions).format(x=chain.phrase)
    return Draft("unanswerable", text, ["hop", relation.name, chain.form], (steps[0].subject,), steps)
