"""Grades a final answer: exact match and F1 of the answer, precision and recall of its citations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnwise.envs.searchqa.metrics import best, best_f1, exact_match
from turnwise.envs.searchqa.report import MAX_CITATIONS, Report
from turnwise.envs.searchqa.session import Session
from turnwise.errors import did_you_mean
from turnwise.records import Json


@dataclass(frozen=True)
class Grade:
    """What a final answer is worth.

    Attributes:
        exact: The short answer that was compared.
        em: Whether it equals the answer or an alias after normalising.
        f1: Best token F1 over the aliases, in [0, 1].
        evidence: Whether a document that states the answer was read, where the task asks for that.
        cited: Ids of the cited documents.
        precision: Share of the cited documents that support the answer; 0.0 without citations.
        recall: Share of the supporting documents that are cited; 0.0 where none are known.
    """

    exact: str
    em: bool
    f1: float
    evidence: bool
    cited: tuple[str, ...]
    precision: float
    recall: float

    @property
    def correct(self) -> bool:
        """Whether the answer is right and was not guessed."""
        return self.em and self.evidence

    @property
    def level(self) -> str:
        """The outcome level: ``correct``, else ``cited`` (a supporting document is cited), else ``answered``."""
        if self.correct:
            return "correct"
        return "cited" if self.precision > 0 else "answered"

    def as_json(self) -> dict[str, Json]:
        """Return the grade for ``info``."""
        return {
            "exact": self.exact,
            "exact_match": self.em,
            "f1": self.f1,
            "evidence": self.evidence,
            "cited": list(self.cited),
            "citation_precision": self.precision,
            "citation_recall": self.recall,
        }


def grade(report: Report, cited: tuple[str, ...], session: Session, data: Mapping[str, Json]) -> Grade:
    """Grade a final answer.

    Args:
        report: The answer as it was read.
        cited: Ids of the documents it cites, all of them shown in the session.
        session: What was seen before.
        data: The task's data: ``answer``, ``aliases``, ``supporting_facts``, ``evidence_required``.
    """
    golds = list(dict.fromkeys([str(data["answer"]), *map(str, data.get("aliases", ()))]))
    support = {str(fact[0]) for fact in data.get("supporting_facts", ())}
    right = len(support & set(cited))
    return Grade(
        exact=report.exact,
        em=bool(best(exact_match, report.exact, golds)),
        f1=best_f1(report.exact, golds),
        evidence=session.evidence or not data.get("evidence_required", False),
        cited=cited,
        precision=right / len(cited) if cited else 0.0,
        recall=right / len(support) if support else 0.0,
    )


def cited_documents(report: Report, session: Session) -> tuple[tuple[str, ...], str | None]:
    """Return the ids of the cited documents, or what is wrong with a citation.

    Args:
        report: The answer; as CaRR does, only its first 20 citations are read.
        session: What was seen before.
    """
    ids = {url: document_id for document_id, url in session.listed}
    known = set(ids.values())
    cited: dict[str, None] = {}
    for citation in report.citations[:MAX_CITATIONS]:
        document_id = ids.get(citation.url)
        if document_id is None:
            hint = did_you_mean(citation.url[:200], ids) if ids else " Nothing has been searched yet."
            return (), f"Bad citation: no document with the address {citation.url[:200]!r} was seen.{hint}"
        if citation.label in known and citation.label != document_id:
            return (), f"Bad citation: {citation.url[:200]!r} is the address of {document_id}, not {citation.label}."
        cited[document_id] = None
    return tuple(cited), None
