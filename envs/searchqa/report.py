"""The final report: explanation with citations, exact answer, references, as CaRR asks for them.

The parser also takes a bare answer. Line feeds may be lost (a native command is one line), so sections are told apart
by their headings alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_CITATIONS = 20  # how many CaRR reads
# "[[3](https://...)]" or "[[3](...), [4](...)]": a link that a closing bracket or a comma follows.
_LINK = r"\[([^\[\]\n]{1,200})\]\((?:view-source:)?(\S{1,1000}?)\)"
_CITATION = re.compile(rf"{_LINK}(?=[\],])")
_REMOVED = re.compile(rf"\[?{_LINK}[\],]")
_AROUND = " *_`\"',;"
_HEADING = re.compile(
    r"#{1,6}[ \t]*(?P<name>explanation with citations|explanation|exact answer|references)\b[ \t]*:?\**",
    re.IGNORECASE,
)


class Citation(NamedTuple):
    """A link of the form ``[[label](url)]``."""

    label: str
    url: str


class Report(NamedTuple):
    """A final answer.

    Attributes:
        exact: The short answer, without citations and emphasis; may be empty.
        explanation: What comes before it, or the whole text of a bare answer.
        references: The list of sources, or an empty text.
        citations: In the order of the text without the references, each address once.
        sections: Whether the three sections are there.
    """

    exact: str
    explanation: str
    references: str
    citations: tuple[Citation, ...]
    sections: bool


def read_report(text: str) -> Report:
    """Read a final answer.

    Args:
        text: A report with CaRR's headings, or a bare answer.
    """
    parts: dict[str, str] = {}
    headings = list(_HEADING.finditer(text))
    for number, heading in enumerate(headings):
        end = headings[number + 1].start() if number + 1 < len(headings) else len(text)
        name = "explanation" if heading["name"].lower().startswith("expl") else heading["name"].lower()
        parts[name] = text[heading.end() : end].strip()  # of several the last one counts
    exact = parts.get("exact answer")
    cited_in = text if not headings else " ".join(parts.get(name, "") for name in ("explanation", "exact answer"))
    return Report(
        exact=plain(text if exact is None else exact),
        explanation=parts.get("explanation", "" if headings else text.strip()),
        references=parts.get("references", ""),
        citations=read_citations(cited_in),
        sections={"explanation", "exact answer", "references"} <= set(parts),
    )


def read_citations(text: str) -> tuple[Citation, ...]:
    """Return the citations of a text, each address once, in order."""
    found: dict[str, Citation] = {}
    for match in _CITATION.finditer(text):
        found.setdefault(match[2], Citation(match[1].strip(), match[2]))
    return tuple(found.values())


def plain(text: str) -> str:
    """Return a text without citations, emphasis and quotation marks around it."""
    bare = " ".join(_REMOVED.sub(" ", text).split())
    return bare.strip(_AROUND).removesuffix(".").strip(_AROUND)


def write_report(answer: str, explanation: str, references: list[Citation]) -> str:
    """Return a final report.

    Args:
        answer: The exact answer.
        explanation: Sentences with their citations.
        references: The sources, in order.
    """
    listed = "\n".join(f"{number}. {cite(source)}" for number, source in enumerate(references, 1))
    return f"## Explanation with Citations\n{explanation}\n\n## Exact Answer\n{answer}\n\n## References\n{listed}"


def cite(source: Citation) -> str:
    """Return a citation in the inline form."""
    return f"[[{source.label}]({source.url})]"
