"""The final report: its text without references, its citations and its exact answer."""

from __future__ import annotations

import re
from typing import Literal

Labels = Literal["any", "number"]
MAX_PAGES = 20  # how many cited pages CaRR reads

_REFERENCES = "## References"
# A link counts where "]" or "," follows it: [[1](u)] and [[1](u), [2](u)]. The released server takes numbers
# as labels only; worlds whose documents have other ids need any. An address has no blanks (the released
# pattern would run over them, and over the next link, when the first one has nothing after it).
_CITATIONS = {
    "number": re.compile(r"\[\d{1,9}\]\((?:view-source:)?(https?://\S{1,2000}?)\)(?=[\],])"),
    "any": re.compile(r"\[[^\[\]\n]{1,200}\]\((?:view-source:)?([a-z][a-z0-9+.-]{0,20}://\S{1,2000}?)\)(?=[\],])"),
}
_MIRROR = re.compile(r"\A(?:https?://r\.jina\.ai/)+(?=[a-z][a-z0-9+.-]*://)")
# Line feeds may be lost: a native command is one line.
_HEADING = re.compile(r"#{1,6}[ \t]*exact answer\b[ \t]*:?\**", re.IGNORECASE)
_NEXT_HEADING = re.compile(r"#{1,6}[ \t]*(?:references|explanation)\b", re.IGNORECASE)
_INLINE = re.compile(r"\[\s*(?:\[[^\[\]\n]{1,200}\]\(\S{1,2000}?\)\s*,?\s*){1,50}\]")


def without_references(report: str) -> str:
    """Return a report up to its last ``## References``; all of it where there is none."""
    return report.rpartition(_REFERENCES)[0] if _REFERENCES in report else report


def plain_url(url: str) -> str:
    """Return an address without the reader proxy's prefix."""
    return _MIRROR.sub("", url) if "r.jina.ai" in url else url


def citations(report: str, labels: Labels = "any") -> tuple[str, ...]:
    """Return the cited addresses, each once, in order.

    Args:
        report: A report without its references.
        labels: ``"number"`` as the released server reads them, or ``"any"``.
    """
    return tuple(dict.fromkeys(plain_url(url) for url in _CITATIONS[labels].findall(report)))


def exact_answer(report: str) -> str | None:
    """Return the section "Exact Answer" without citations and emphasis; None where there is none."""
    headings = list(_HEADING.finditer(report))
    if not headings:
        return None
    section = _NEXT_HEADING.split(report[headings[-1].end() :], maxsplit=1)[0]
    bare = " ".join(_INLINE.sub(" ", section).split())
    return bare.strip(" *_`\"'").removesuffix(".").strip(" *_`\"'")
