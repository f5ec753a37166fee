"""Documents as text: lists of results, pages, matches, and Search-R1's information blocks, each within its cap."""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.envs.retrieval.interface import Document
from turnwise.envs.searchqa.session import Shown

_TITLE = 200  # characters of a title that are shown
_CUT = " ... (cut)"


def result_list(documents: Sequence[Document], snippet_chars: int, cap: int) -> tuple[str, tuple[Shown, ...]]:
    """Return a numbered list of results, each with its address and first words.

    Args:
        documents: At least one, best first.
        snippet_chars: First characters of the text to show.
        cap: Longest text; each result gets an equal share.
    """
    room = cap // len(documents)
    lines, pieces = [], []
    for number, document in enumerate(documents, 1):
        start = document.text[:snippet_chars]
        more = " ..." if len(document.text) > len(start) else ""
        head = f"[{number}] {document.id} | {document.title[:_TITLE]}\n    {document.url}"
        lines.append(f"{head}\n    {start}{more}"[: room - 1])
        pieces.append(Shown(document.id, document.url, "search", (), f"{document.title} {start}"))
    return "\n".join(lines), tuple(pieces)


def information(documents: Sequence[Document], cap: int) -> tuple[str, tuple[Shown, ...]]:
    """Return whole documents between information tags, as Search-R1 shows them.

    Args:
        documents: Best first, may be none.
        cap: Longest text; each document gets an equal share.
    """
    room = (cap - 40) // max(len(documents), 1)
    lines, pieces = [], []
    for number, document in enumerate(documents, 1):
        head = f'Doc {number}(Title: "{document.title[:_TITLE]}") '
        text, shown = fill(document, tuple(range(len(document.sentences))), room - len(head) - len(_CUT) - 2)
        lines.append(head + text)
        pieces.append(Shown(document.id, document.url, "information", shown, f"{document.title} {text}"))
    body = "\n".join(lines) or "No document matches."
    return f"<information>{body}</information>", tuple(pieces)


def page_text(document: Document, split: Sequence[tuple[int, ...]], page: int, cap: int) -> tuple[str, Shown]:
    """Return a page of an opened document.

    Args:
        document: The document.
        split: Its pages, from :func:`pages`.
        page: Which one, from 1.
        cap: Longest text.
    """
    head = f"Title: {document.title[:_TITLE]}\nId: {document.id}\nURL: {document.url}\nPage {page} of {len(split)}\n\n"
    text, shown = fill(document, split[page - 1], cap - len(head) - len(_CUT) - 2)
    piece = Shown(document.id, document.url, "open", shown, f"{document.title} {text}")
    return head + (text or "(empty)"), piece


def matches(document: Document, numbers: Sequence[int], cap: int) -> tuple[str, Shown]:
    """Return the sentences of a document that a text was found in.

    Args:
        document: The document.
        numbers: Indices of the sentences.
        cap: Longest text.
    """
    head = f"In {document.id} ({document.title[:_TITLE]}):\n"
    lines, shown, left = [], [], cap - len(head) - len(_CUT) - 2
    for number in numbers:
        line = f"- {document.sentences[number]}"
        if len(line) > left:
            lines.append(_CUT.strip())
            break
        lines.append(line)
        shown.append(number)
        left -= len(line) + 1
    text = "\n".join(lines)
    return head + text, Shown(document.id, document.url, "find", tuple(shown), text)


def pages(document: Document, page_chars: int) -> list[tuple[int, ...]]:
    """Split a document into pages of whole sentences.

    Args:
        document: The document.
        page_chars: Characters of a page; a longer sentence gets a page of its own.

    Returns:
        The sentence indices of each page; at least one page.
    """
    split: list[list[int]] = [[]]
    size = 0
    for number, sentence in enumerate(document.sentences):
        if split[-1] and size + len(sentence) + 1 > page_chars:
            split.append([])
            size = 0
        split[-1].append(number)
        size += len(sentence) + 1
    return [tuple(page) for page in split]


def fill(document: Document, numbers: tuple[int, ...], budget: int) -> tuple[str, tuple[int, ...]]:
    """Return sentences up to a number of characters.

    Returns:
        The text, cut with a mark where the budget ends, and the indices of the sentences that are there completely.
    """
    parts: list[str] = []
    shown: list[int] = []
    left = budget
    for number in numbers:
        sentence = document.sentences[number]
        if len(sentence) > left:
            parts.append(sentence[: max(left, 0)] + _CUT)
            break
        parts.append(sentence)
        shown.append(number)
        left -= len(sentence) + 1
    return " ".join(parts), tuple(shown)
