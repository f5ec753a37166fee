"""What CaRR's browser tools print, taken apart: lists of hits, opened pages, matches inside a page."""

from __future__ import annotations

import re
from typing import NamedTuple

_HIT_LINE = re.compile(r"^\[(\d+)\] (Title|URL Source|Description|Date): ?(.*)$")
_OPENED = re.compile(r"\A(?:Title: (?P<title>[^\n]*)\n+)?URL Source: (?P<url>\S+)[^\n]*\n")
_CONTENT = "Markdown Content:\n"
_MATCH = re.compile(r"^\[Match \d+\]\n", re.MULTILINE)


class Hit(NamedTuple):
    """One entry of a list of results."""

    number: int
    url: str
    title: str
    text: str


class Opened(NamedTuple):
    """An opened page."""

    url: str
    title: str
    text: str


def read_hits(output: str) -> tuple[Hit, ...]:
    """Return the entries of a list of results; entries without an address are left out."""
    fields: dict[int, dict[str, str]] = {}
    number, name = -1, ""
    for line in output.splitlines():
        match = _HIT_LINE.match(line)
        if match:
            number, name = int(match[1]), match[2]
            fields.setdefault(number, {})[name] = match[3]
        elif number >= 0 and line.strip():
            fields[number][name] += "\n" + line  # a description may have several lines
    return tuple(
        Hit(number, entry["URL Source"].strip(), entry.get("Title", ""), entry.get("Description", ""))
        for number, entry in fields.items()
        if entry.get("URL Source", "").strip()
    )


def read_opened(output: str) -> Opened | None:
    """Return an opened page, or None where the output is something else, such as an error."""
    match = _OPENED.match(output)
    if match is None:
        return None
    rest = output[match.end() :]
    return Opened(match["url"], match["title"] or "", rest.partition(_CONTENT)[2] if _CONTENT in rest else rest)


def read_matches(output: str) -> tuple[str, ...]:
    """Return the passages that a search inside a page found."""
    return tuple(part.strip() for part in _MATCH.split(output) if part.strip())
