"""The seams of retrieval: a ranker orders rows of a corpus, an engine answers queries with documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s.!?])")


class Hit(NamedTuple):
    """A row of a corpus and its score; higher is better."""

    row: int
    score: float


class Document(NamedTuple):
    """A document.

    Attributes:
        id: Unique in its corpus.
        title: Its title, may be empty.
        sentences: Its text in sentences, in order; a supporting fact is one of their indices.
        url: Where it is said to come from; unique in its corpus.
    """

    id: str
    title: str
    sentences: tuple[str, ...]
    url: str

    @property
    def text(self) -> str:
        """The sentences, joined by single spaces."""
        return " ".join(self.sentences)


class Scored(NamedTuple):
    """A document that a search found, and its score."""

    document: Document
    score: float


def split_sentences(text: str) -> tuple[str, ...]:
    """Split a text whose sentences nobody marked: after ``.``, ``!`` or ``?`` and white space.

    Args:
        text: Any text; runs of white space count as one blank.
    """
    flat = " ".join(text.split())
    return tuple(_SENTENCE_END.split(flat)) if flat else ()


@runtime_checkable
class Ranker(Protocol):
    """Orders the rows of a corpus by their fit to a query."""

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the best rows of each query.

        Args:
            queries: Texts; one without any known term gets an empty list.
            k: How many hits to return at most, at least 1.

        Returns:
            One list per query, best first; equal scores in the order of the rows.
        """
        ...


@runtime_checkable
class Corpus(Protocol):
    """Documents by row, and rows by whatever names a document."""

    def __len__(self) -> int:
        """Number of documents."""
        ...

    def document(self, row: int) -> Document:
        """Return the document of a row."""
        ...

    def find(self, key: str) -> int | None:
        """Return the row of an id, an address or a title (ignoring case), or None."""
        ...

    def texts(self) -> Iterator[str]:
        """Iterate over what is indexed of each document: its title, then its text."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Answers queries with documents; what a world talks to."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Scored]]:
        """Return the best documents of each query, best first."""
        ...

    def lookup(self, key: str) -> Document | None:
        """Return the document with an id, address or title, or None if there is none."""
        ...


class LocalEngine:
    """A corpus and a ranker in this process."""

    def __init__(self, corpus: Corpus, ranker: Ranker) -> None:
        """Join a corpus and a ranker over the same rows."""
        self.corpus = corpus
        self.ranker = ranker

    def search(self, queries: Sequence[str], k: int) -> list[list[Scored]]:
        """Return the best documents of each query, best first."""
        return [
            [Scored(self.corpus.document(hit.row), hit.score) for hit in hits] for hits in self.ranker.rank(queries, k)
        ]

    def lookup(self, key: str) -> Document | None:
        """Return the document with an id, address or title, or None if there is none."""
        row = self.corpus.find(key)
        return None if row is None else self.corpus.document(row)
