"""What an episode has searched, seen and read: an immutable record that grows turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from turnwise.records import Json

Fact = tuple[str, int]  # document id and sentence index; -1 stands for any sentence
ANY_SENTENCE = -1


@dataclass(frozen=True)
class Shown:
    """A piece of a document that one turn's observation held.

    Attributes:
        id: The document's id.
        url: Its address.
        kind: Which tool showed it; ``information`` is a search in tags, which shows whole documents.
        sentences: Indices of the sentences that were there completely; none for a list of results.
        text: What was shown.
    """

    id: str
    url: str
    kind: Literal["search", "open", "find", "information"]
    sentences: tuple[int, ...]
    text: str

    def as_json(self) -> dict[str, Json]:
        """Return the piece for ``info``."""
        return {
            "id": self.id,
            "url": self.url,
            "kind": self.kind,
            "sentences": list(self.sentences),
            "text": self.text,
        }


@dataclass(frozen=True)
class Session:
    """The state of an episode.

    Attributes:
        listed: Addresses and ids by which documents were shown so far, in order: id to address.
        results: Ids of the last list of results, for opening by number.
        read: Ids of the documents of which sentences were shown, in order.
        reading: The open document and its page, or None.
        found: Supporting facts read so far, in order; never shrinks.
        evidence: Whether a document that states the answer has been read.
        queries: How many searches were made.
    """

    listed: tuple[tuple[str, str], ...] = ()
    results: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    reading: tuple[str, int] | None = None
    found: tuple[Fact, ...] = ()
    evidence: bool = False
    queries: int = 0

    def seeing(self, pieces: tuple[Shown, ...], wanted: tuple[Fact, ...], proofs: frozenset[str]) -> Session:
        """Return the session after an observation.

        Args:
            pieces: What the observation held.
            wanted: The task's supporting facts.
            proofs: Ids of the documents that state the answer.
        """
        listed = dict(self.listed)
        read = dict.fromkeys(self.read)
        seen: set[Fact] = set()
        for piece in pieces:
            listed.setdefault(piece.id, piece.url)
            if piece.sentences:
                read[piece.id] = None
                seen |= {(piece.id, number) for number in (*piece.sentences, ANY_SENTENCE)}
        found = self.found + tuple(fact for fact in wanted if fact in seen and fact not in self.found)
        return replace(
            self,
            listed=tuple(listed.items()),
            read=tuple(read),
            found=found,
            evidence=self.evidence or any(fact[0] in proofs for fact in found),
        )

    def named(self, key: str) -> str | None:
        """Return the id of a listed document by its number in the last results, its id or its address, or None."""
        bare = key.strip().strip("[]\"'<>")
        for document_id, url in self.listed:
            if bare in (document_id, url):
                return document_id
        if bare.isascii() and bare.isdigit() and len(bare) < 6 and 1 <= int(bare) <= len(self.results):
            return self.results[int(bare) - 1]
        return None
