"""Entities to documents: one page each, every fact in a sentence of its own, in its subject's page only.

A fact stands in one document, so the page of an author does not list the works: what needs two pages to know cannot be
found with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnwise.envs.retrieval.interface import Document
from turnwise.envs.searchqa.graph import Edge, Entity
from turnwise.envs.searchqa.names import Draws
from turnwise.envs.searchqa.schema import DIRECTED_BY, OF_KIND, TERM_SENTENCE, WITH_ARTICLE

URL = "https://almanac.example/"

_INTRO = {
    "country": ("{s} is a country.", "{s} is a state with a long coast."),
    "city": ("{s} is a city.", "{s} is a market town that grew into a city."),
    "person": ("{s} was {occupation}.", "{s} ({short}) is remembered as {occupation}."),
    "institute": ("The {s} is a place of learning.", "The {s} is an institute for the sciences."),
    "press": ("The {s} is a publishing house.", "The {s} prints and sells books."),
    "society": ("The {s} is a learned society.", "The {s} is an association of scholars and amateurs."),
    "work": ("{s} is a novel.", "{s} is a book in three parts."),
    "event": ("{s} was a public gathering.", "{s} drew visitors for several weeks."),
}
_FILLER = {
    "country": ("Most of the land is used for farming.", "Its rivers freeze in hard winters.", "Salt was its trade."),
    "city": ("The old walls are still standing.", "A market is held on the quay.", "Its bridges were rebuilt twice."),
    "person": (
        "Few portraits are known.",
        "Contemporaries praised a dry sense of humour.",
        "The notebooks were sold at auction.",
        "A street carries the name.",
        "In later years the eyesight failed.",
    ),
    "institute": ("Its library is open to the public.", "The buildings were restored after a fire."),
    "press": ("Its catalogues are collected.", "The presses were driven by water at first."),
    "society": ("Members meet on the first Monday of the month.", "It keeps a small museum."),
    "work": (
        "Critics were divided.",
        "An illustrated edition followed.",
        "It has been put on the stage more than once.",
        "The manuscript has many corrections.",
    ),
    "event": ("The weather was fine.", "A medal was struck for the occasion.", "The newspapers sent correspondents."),
}
_COMMON_FILLER = (
    "Further sources are kept in the state archive.",
    "Several accounts differ in the details.",
    "An entry in the old almanac is shorter.",
    "Readers should not confuse the entry with others of a similar spelling.",
)


def shown_name(kind: str, name: str) -> str:
    """Return a name as it stands inside a sentence: organisations take an article."""
    return f"the {name}" if kind in WITH_ARTICLE else name


def write_documents(entities: Sequence[Entity], seed: int) -> tuple[list[Document], list[Edge]]:
    """Write the page of every entity.

    Args:
        entities: In the order of their ids.
        seed: Of the choice of words and the order of sentences.

    Returns:
        The documents, and the facts with the sentences that state them.
    """
    draws = Draws(seed, 3)
    names = {entity.id: entity.name for entity in entities}
    documents: list[Document] = []
    edges: list[Edge] = []
    for entity in entities:
        sentences = _sentences(entity, names, draws, edges)
        title = entity.name[0].upper() + entity.name[1:]
        documents.append(Document(entity.id, title, sentences, URL + title.replace(" ", "_")))
    return documents, edges


def _sentences(entity: Entity, names: Mapping[str, str], draws: Draws, edges: list[Edge]) -> tuple[str, ...]:
    kind, own = entity.kind, entity.name
    lines: list[tuple[str, Edge | None]] = []
    for relation in OF_KIND[kind]:
        target = entity.facts.get(relation.name)
        if target is not None:
            other = str(target) if isinstance(target, int) else names[target]
            text = draws.pick(relation.sentences).format(s=own, o=other)
            lines.append((text, Edge(entity.id, relation.name, target, 0)))
        elif relation.name in entity.missing:
            text = (relation.missing or "").format(s=own)
            lines.append((text, Edge(entity.id, relation.name, None, 0)))
    for person, since, until in entity.terms:
        text = TERM_SENTENCE.format(o=names[person], since=since, until=until)
        lines.append((text, Edge(entity.id, DIRECTED_BY, person, 0, since, until)))
    filler = list(_FILLER[kind] + _COMMON_FILLER)
    draws.shuffle(filler)
    lines += [(text, None) for text in filler[: draws.between(2, 5)]]
    draws.shuffle(lines)
    intro = draws.pick(_INTRO[kind]).format(s=own, occupation=entity.occupation, short=entity.short)
    lines.insert(0, (intro, None))
    for number, (_, edge) in enumerate(lines):
        if edge is not None:
            edges.append(Edge(edge.subject, edge.relation, edge.object, number, edge.since, edge.until))
    return tuple(text[0].upper() + text[1:] for text, _ in lines)
