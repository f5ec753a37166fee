"""What a trajectory's tools really returned, page by page, and the report that ends it.

A world says what an observation held in ``Turn.info["shown"]`` (or ``"pages"``) of the turn whose tool was called:
a list of ``{"url", "id", "title", "kind", "text", "sentences"}``, of which only ``url`` or ``id`` is needed.
Where it says nothing, the outputs are read as CaRR's browser prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from turnwise.protocols import JudgePage
from turnwise.records import Trajectory, Turn
from turnwise.rewards.carr.browser import read_hits, read_matches, read_opened
from turnwise.rewards.carr.report import plain_url

# Page text is made of snippets, then opened content, then matches, as in the released server.
_KINDS = {"search": 0, "snippet": 0, "open": 1, "information": 1, "page": 1, "find": 2}
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)\s+")  # not after an initial, as in "J. Tandel"
_ANSWER_ARGUMENTS = ("text", "answer", "report", "content")


class Piece(NamedTuple):
    """A piece of a page that one turn's tool returned."""

    turn: int
    kind: int
    url: str
    id: str = ""
    title: str = ""
    text: str = ""
    sentences: tuple[int, ...] = ()


@dataclass(frozen=True)
class Search:
    """A search and what it returned."""

    turn: int
    query: str
    pieces: tuple[Piece, ...]


@dataclass
class Session:
    """An episode as a judge sees it.

    Attributes:
        report: The final report, or None when the agent gave none.
        searches: The searches, in order.
        of_page: Address to everything that was shown of the page, in order of turns.
    """

    report: str | None
    searches: tuple[Search, ...]
    of_page: dict[str, list[Piece]] = field(default_factory=dict)

    def page(self, url: str) -> JudgePage:
        """Return what was shown of a page, each piece of text once."""
        return make_page(url, self.of_page[url])

    def cited(self, urls: Iterable[str], limit: int) -> tuple[JudgePage, ...]:
        """Return the first ``limit`` of the addresses that really occur in tool outputs, with their pages."""
        shown = [url for url in urls if url in self.of_page]
        return tuple(self.page(url) for url in shown[:limit])

    def first_turn(self, url: str, quote: str = "") -> int | None:
        """Return the turn that first brought a page, or a passage of it; None if none did."""
        pieces = self.of_page.get(plain_url(url), ())
        exact = next((piece.turn for piece in pieces if quote in piece.text), None)
        if exact is not None or not pieces:
            return exact
        wanted = squeeze(quote)
        return next((piece.turn for piece in pieces if wanted in squeeze(piece.text)), None)


def squeeze(text: str) -> str:
    """Return a text in one case with single blanks, for finding quotations."""
    return " ".join(text.casefold().split())


def make_page(url: str, pieces: Sequence[Piece]) -> JudgePage:
    """Put the pieces of one page together."""
    texts = dict.fromkeys(piece.text for kind in range(3) for piece in pieces if piece.kind == kind and piece.text)
    return JudgePage(
        url=url,
        id=next((piece.id for piece in pieces if piece.id), ""),
        title=next((piece.title for piece in pieces if piece.title), ""),
        text="\n\n".join(texts),
        sentences={number: text for piece in pieces for number, text in numbered(piece)},
    )


def numbered(piece: Piece) -> Iterator[tuple[int, str]]:
    """Yield the numbered sentences of a piece; without their texts where it has another number of sentences."""
    if not piece.sentences:
        return
    parts = _SENTENCE_END.split(piece.text)
    cut_off = len(parts) > len(piece.sentences) and parts[-1].endswith("(cut)")
    if len(parts) != len(piece.sentences) and not cut_off:
        parts = [""] * len(piece.sentences)
    for number, text in zip(piece.sentences, parts, strict=False):
        yield number, text.removeprefix("- ")


def read_session(trajectory: Trajectory) -> Session:
    """Read what the tools returned and the report.

    Args:
        trajectory: An episode of a world with the tools ``search``, ``open``, ``find`` and ``answer``; names may
            carry the prefix ``browser.``.
    """
    of_page: dict[str, list[Piece]] = {}
    searches = []
    reader = _OutputReader()
    for turn in trajectory.turns:
        pieces = tuple(_declared(turn))
        output = ""
        if not pieces and not ({"shown", "pages"} & turn.info.keys()):
            output = _output(trajectory, turn)
            pieces = tuple(reader.read(turn, output))
        for piece in pieces:
            of_page.setdefault(piece.url, []).append(piece)
        if _tool(turn) == "search" and turn.action is not None and turn.action_valid:
            searches.append(Search(turn.index, turn.action.arguments.get("query", ""), pieces))
    return Session(_report(trajectory), tuple(searches), of_page)


def _tool(turn: Turn) -> str:
    return "" if turn.action is None else turn.action.name.removeprefix("browser.")


def _output(trajectory: Trajectory, turn: Turn) -> str:
    following = turn.index + 1
    if following < len(trajectory.turns):
        return trajectory.turns[following].observation
    return trajectory.final_observation


def _report(trajectory: Trajectory) -> str | None:
    last = trajectory.turns[-1] if trajectory.turns else None
    if last is None or last.action is None or last.action.name != "answer" or not last.action_valid:
        return None
    arguments = last.action.arguments
    for name in _ANSWER_ARGUMENTS:
        if name in arguments:
            return arguments[name]
    return next(iter(arguments.values())) if len(arguments) == 1 else last.action.command


def _declared(turn: Turn) -> Iterator[Piece]:
    entries = turn.info.get("shown", turn.info.get("pages"))
    if not isinstance(entries, list):
        return
    default = _KINDS.get(_tool(turn), 1)
    for entry in entries:
        if isinstance(entry, Mapping) and (piece := _piece(turn.index, entry, default)) is not None:
            yield piece


def _piece(turn: int, entry: Mapping[str, Any], kind: int) -> Piece | None:
    page_id = _text(entry.get("id"))
    url = plain_url(_text(entry.get("url")) or page_id)
    if not url:
        return None
    numbers = entry.get("sentences")
    sentences = tuple(n for n in numbers if isinstance(n, int)) if isinstance(numbers, list) else ()
    kind = _KINDS.get(_text(entry.get("kind")), kind)
    return Piece(turn, kind, url, page_id, _text(entry.get("title")), _text(entry.get("text")), sentences)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


class _OutputReader:
    """Reads tool outputs in order, since opening by number and finding depend on what came before."""

    def __init__(self) -> None:
        self._results: dict[str, str] = {}
        self._open = ""

    def read(self, turn: Turn, output: str) -> Iterator[Piece]:
        tool = _tool(turn)
        arguments = {} if turn.action is None else turn.action.arguments
        if tool == "search":
            hits = read_hits(output)
            self._results = {str(hit.number): hit.url for hit in hits}
            for hit in hits:
                yield Piece(turn.index, 0, plain_url(hit.url), "", hit.title, hit.text)
        elif tool == "open":
            opened = read_opened(output)
            self._open = ""
            if opened is None:
                return
            asked = next((arguments[name] for name in ("id", "doc", "url") if name in arguments), "")
            target = plain_url(self._results.get(asked, asked))
            # A page that was moved is known under the address asked for and the one it has.
            urls = dict.fromkeys(url for url in (target, plain_url(opened.url)) if "://" in url)
            self._open = next(iter(urls), "")
            for url in urls:
                yield Piece(turn.index, 1, url, "", opened.title, opened.text)
        elif tool == "find" and self._open:
            for passage in read_matches(output):
                yield Piece(turn.index, 2, self._open, "", "", passage)
