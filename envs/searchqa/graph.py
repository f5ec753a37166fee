"""The fictional world as a networkx graph: entities, typed relations and dates, the same for everybody.

Nodes are entities (text ids, those of their documents) and years (whole numbers); an edge's key is its relation. Each
split has entities of its own and no edge leaves a split. Near-duplicates are entities too, with facts of their own,
but nothing refers to them and no question is about them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnwise.envs.searchqa.names import Draws, vary, word
from turnwise.envs.searchqa.schema import BY_NAME, DIRECTED_BY, OF_KIND, YEAR_RELATION
from turnwise.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import networkx

SPLITS = ("train", "val", "test")
_SPLIT_SHARES = (0.7, 0.15, 0.15)
_DUPLICATE_SHARE = 0.3
_KIND_SHARES = {
    "country": 0.005,
    "city": 0.08,
    "institute": 0.045,
    "press": 0.035,
    "society": 0.045,
    "person": 0.44,
    "work": 0.25,
    "event": 0.10,
}
_MISSING = {"city_founder": 0.15, "taught_by": 0.2, "married_to": 0.3, "org_founder": 0.15, "dedicated_to": 0.3}
_COPIED = 0.5  # share of facts that a near-duplicate has in common with its original
_AUTHOR_SHARE = 0.15
MIN_DOCUMENTS = 1_500  # below, a split has too few of some kind for every question type

_WORKS = ("Lanterns", "Orchard", "Winter", "Ledger", "Ferry", "Garden", "Bells", "Road", "Mirror", "Letters", "Harbour")
_EVENTS = ("Congress", "Festival", "Exhibition", "Assembly", "Regatta", "Symposium")
_OCCUPATIONS = (
    "a botanist",
    "a painter",
    "an engineer",
    "a historian",
    "a physician",
    "a composer",
    "a jurist",
    "a poet",
)


@dataclass(slots=True)
class Entity:
    """An entity: a node of the graph and the subject of one document."""

    id: str
    kind: str
    name: str
    aliases: tuple[str, ...]
    split: str
    occupation: str = ""
    duplicate_of: str | None = None
    facts: dict[str, str | int] = field(default_factory=dict)  # functional relation -> entity id or year
    missing: tuple[str, ...] = ()
    terms: list[tuple[str, int, int]] = field(default_factory=list)  # director, first and last year

    @property
    def short(self) -> str:
        """A person's initial and family name; other entities have no short name."""
        first, _, family = self.name.partition(" ")
        return f"{first[0]}. {family}" if self.kind == "person" else self.name


@dataclass(frozen=True)
class Edge:
    """A fact, and the sentence of its subject's document that states it."""

    subject: str
    relation: str
    object: str | int | None  # None: the sentence says that it is not known
    sentence: int
    since: int = 0
    until: int = 0


class _Names:
    """Names that are used once in the whole world."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._used: set[str] = set()
        self._given = [word(draws, 2) for _ in range(700)]
        self._family = [word(draws, 3) for _ in range(4_000)]

    def make(self, kind: str) -> str:
        draws = self._draws
        while True:
            if kind == "person":
                name = f"{draws.pick(self._given)} {draws.pick(self._family)}"
            elif kind == "work":
                name = f"The {draws.pick(_WORKS)} of {word(draws, 3)} {word(draws, 2)}"
            elif kind == "event":
                name = f"the {word(draws, 3)} {word(draws, 2)} {draws.pick(_EVENTS)}"
            elif kind in ("institute", "press", "society"):
                name = f"{word(draws, 2)} {word(draws, 3)} {kind.capitalize()}"
            else:
                name = word(draws, 3 if kind == "city" else 4)
            if self._take(name):
                return name

    def near(self, name: str) -> str:
        """Return a name that differs in one letter of one made-up word."""
        words = name.split()
        made = [place for place, part in enumerate(words) if part not in _FIXED_WORDS]
        while True:
            place = self._draws.pick(made)
            near = " ".join([*words[:place], vary(self._draws, words[place]), *words[place + 1 :]])
            if self._take(near):
                return near

    def _take(self, name: str) -> bool:
        key = name.casefold()
        if key in self._used:
            return False
        self._used.add(key)
        return True


_FIXED_WORDS = {"The", "the", "of", *_WORKS, *_EVENTS, "Institute", "Press", "Society"}


class _Part:
    """The entities of one split while they are being made."""

    def __init__(self, split: str, count: int, draws: Draws, names: _Names) -> None:
        self.split, self.draws, self.names = split, draws, names
        self.entities: list[Entity] = []
        self.of_kind: dict[str, list[Entity]] = {}
        originals = count - round(count * _DUPLICATE_SHARE)
        for kind, share in _KIND_SHARES.items():
            size = max(2, round(originals * share))
            self.of_kind[kind] = [self._entity(kind) for _ in range(size)]
        self._birth_years()
        for country in self.of_kind["country"]:  # so that a capital lies in its own country
            capital = draws.pick([city for city in self.of_kind["city"] if "lies_in" not in city.facts])
            country.facts["capital"], capital.facts["lies_in"] = capital.id, country.id
        for entity in list(self.entities):
            self._facts(entity, None)
        for original in self._originals(count):
            twin = self._entity(original.kind, original)
            if twin.kind == "person":
                twin.facts["born_year"] = draws.between(1500, 1900)
            self._facts(twin, original)

    def _entity(self, kind: str, original: Entity | None = None) -> Entity:
        draws = self.draws
        name = self.names.make(kind) if original is None else self.names.near(original.name)
        aliases: tuple[str, ...] = (name,)
        if kind == "person":
            aliases = (name, f"{name[0]}. {name.partition(' ')[2]}")
        occupation = draws.pick(_OCCUPATIONS) if kind == "person" else ""
        twin = None if original is None else original.id
        made = Entity("", kind, name, aliases, self.split, occupation, twin)
        self.entities.append(made)
        made.id = f"{self.split}{len(self.entities)}"  # replaced by a number that tells nothing
        return made

    def _originals(self, count: int) -> list[Entity]:
        originals = [entity for entity in self.entities if entity.kind != "country"]
        self.draws.shuffle(originals)
        return originals[: count - len(self.entities)]

    def _birth_years(self) -> None:
        persons = self.of_kind["person"]
        for person in persons:
            person.facts["born_year"] = self.draws.between(1480, 1920)
        self._by_birth = sorted(persons, key=lambda person: person.facts["born_year"])
        self._births = [int(person.facts["born_year"]) for person in self._by_birth]
        self._authors = [person for person in self._by_birth if self.draws.chance(_AUTHOR_SHARE)]
        self._author_births = [int(person.facts["born_year"]) for person in self._authors]

    def _alive(self, year: int, low: int = 22, high: int = 65, *, authors: bool = False) -> Entity:
        """Return a person of an age in [low, high] in a year, or of about that age."""
        people = self._authors if authors else self._by_birth
        births = self._author_births if authors else self._births
        first, last = bisect_left(births, year - high), bisect_right(births, year - low)
        if first >= last:
            return people[min(first, len(people) - 1)]
        return people[self.draws.between(first, last - 1)]

    def _facts(self, entity: Entity, original: Entity | None) -> None:
        year = self._own_year(entity)
        for relation in OF_KIND[entity.kind]:
            name = relation.name
            if name in entity.facts:
                continue
            if self.draws.chance(_MISSING.get(name, 0.0)):
                entity.missing += (name,)
            elif original is not None and name in original.facts and self.draws.chance(_COPIED):
                entity.facts[name] = original.facts[name]
            else:
                entity.facts[name] = self._object(name, entity, year)
        if entity.kind in ("institute", "press", "society"):
            self._terms(entity, year)

    def _own_year(self, entity: Entity) -> int:
        name = YEAR_RELATION[entity.kind]
        if name not in entity.facts:
            low, high = {"country": (900, 1480), "city": (1510, 1700), "work": (1520, 1950), "event": (1560, 1950)}.get(
                entity.kind, (1520, 1880)
            )
            entity.facts[name] = self.draws.between(low, high)
        return int(entity.facts[name])

    def _object(self, relation: str, entity: Entity, year: int) -> str:
        kind = BY_NAME[relation].object
        if kind != "person":
            return self.draws.pick(self.of_kind[kind]).id
        for _ in range(20):
            if relation == "author":
                person = self._alive(year, 20, 70, authors=True)
            elif relation == "taught_by":
                person = self._alive(year, 20, 45)
            elif relation == "married_to":
                person = self._alive(year, -8, 8)
            else:
                person = self._alive(max(year, 1510))
            if person is not entity:
                break
        return person.id

    def _terms(self, entity: Entity, year: int) -> None:
        since = year
        for _ in range(self.draws.between(2, 4)):
            until = since + self.draws.between(4, 18)
            entity.terms.append((self._alive(since, 28, 60).id, since, until))
            since = until + 1


def make_entities(seed: int, documents: int) -> list[Entity]:
    """Make the entities of the world, in the order of their document ids.

    Args:
        seed: Of all draws.
        documents: How many entities (and so documents) to make.

    Raises:
        ConfigError: Fewer than :data:`MIN_DOCUMENTS`.
    """
    if documents < MIN_DOCUMENTS:
        raise ConfigError(f"a world has at least {MIN_DOCUMENTS} documents, got {documents}")
    names = _Names(Draws(seed, 0))
    counts = [round(documents * share) for share in _SPLIT_SHARES]
    counts[0] += documents - sum(counts)
    entities: list[Entity] = []
    for number, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        entities += _Part(split, count, Draws(seed, 1, number), names).entities
    used = Counter(alias for entity in entities for alias in entity.aliases)
    for entity in entities:  # an alias that fits somebody else too would make a wrong answer right
        entity.aliases = tuple(alias for alias in entity.aliases if alias == entity.name or used[alias] == 1)
    Draws(seed, 2).shuffle(entities)
    renamed = {entity.id: f"d{number:05d}" for number, entity in enumerate(entities)}
    for entity in entities:
        entity.id = renamed[entity.id]
        entity.duplicate_of = None if entity.duplicate_of is None else renamed[entity.duplicate_of]
        entity.facts = {name: renamed[o] if isinstance(o, str) else o for name, o in entity.facts.items()}
        entity.terms = [(renamed[person], since, until) for person, since, until in entity.terms]
    return entities


def make_graph(entities: list[Entity], edges: list[Edge]) -> networkx.MultiDiGraph[Any]:
    """Return the world as a graph.

    Nodes carry ``kind``, ``name``, ``aliases``, ``split``, ``duplicate_of``, ``missing`` (relations that are not
    recorded) and ``missing_sentences`` (which sentence says so); edges are keyed by relation and carry ``sentence``
    (the index of the sentence in the subject's document that states the fact) and, for directors, ``since`` and
    ``until``.

    Raises:
        MissingExtraError: networkx is not installed.
    """
    try:
        import networkx
    except ImportError as error:
        raise MissingExtraError("networkx", "search") from error
    graph: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
    for entity in entities:
        graph.add_node(
            entity.id,
            kind=entity.kind,
            name=entity.name,
            aliases=entity.aliases,
            split=entity.split,
            duplicate_of=entity.duplicate_of,
            missing=entity.missing,
            missing_sentences={},
        )
    for edge in edges:
        if edge.object is None:
            graph.nodes[edge.subject]["missing_sentences"][edge.relation] = edge.sentence
            continue
        if isinstance(edge.object, int) and edge.object not in graph:
            graph.add_node(edge.object, kind="year", name=str(edge.object), aliases=(str(edge.object),))
        # A director may come back for a second term, so a term's key also holds its first year.
        key = edge.relation if edge.relation != DIRECTED_BY else f"{DIRECTED_BY}:{edge.since}"
        graph.add_edge(
            edge.subject,
            edge.object,
            key=key,
            relation=edge.relation,
            sentence=edge.sentence,
            since=edge.since,
            until=edge.until,
        )
    return graph
