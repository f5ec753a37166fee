"""The rubric reward, step by step: identify, fill, collect pages, judge support, connect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from turnwise.errors import JudgeError
from turnwise.protocols import Judge, JudgeCase, Passage, Verdict
from turnwise.records import Json, Task
from turnwise.rewards.carr.report import MAX_PAGES, Labels, citations, without_references
from turnwise.rewards.carr.rubrics import Rubrics, connected
from turnwise.rewards.carr.session import Session
from turnwise.rewards.validity import cut

Status = Literal["satisfied", "unidentified", "unsupported", "unconnected", "unknown"]
CreditTurn = Literal["page", "passage"]
_QUOTE_CHARS = 500


@dataclass(frozen=True)
class RubricScore:
    """What became of one rubric.

    Attributes:
        rubric: The statement with placeholders.
        filled: The statement with names, or None where one is missing.
        entities: Placeholder id to the name the report gives.
        supported: As judged; None when it was not asked (no name, no page) or could not be judged.
        connected: Whether supported rubrics lead to it from the answer.
        status: ``"satisfied"``, or the first thing that is missing; ``"unknown"`` when the judge could not say.
        score: 1.0 if satisfied, 0.0 if not, None if unknown.
        passages: What the verdict rests on.
        found: Whether each passage really stands on a page that a tool returned.
        reason: The judge's words.
        turn: The turn that first brought what supports it, for satisfied rubrics; None where no turn did.
    """

    rubric: str
    filled: str | None
    entities: Mapping[str, str | None]
    supported: bool | None
    connected: bool
    status: Status
    score: float | None
    passages: tuple[Passage, ...] = ()
    found: tuple[bool, ...] = ()
    reason: str = ""
    turn: int | None = None

    def evidence(self) -> dict[str, Json]:
        """Return it JSON-compatible, with quotations and reasons cut."""
        return {
            "rubric": self.rubric,
            "filled": self.filled,
            "entities": dict(self.entities),
            "supported": self.supported,
            "connected": self.connected,
            "status": self.status,
            "score": self.score,
            "passages": [
                {"url": passage.url, "quote": cut(passage.quote, limit=_QUOTE_CHARS), "found": found}
                for passage, found in zip(self.passages, self.found, strict=True)
            ],
            "reason": cut(self.reason, limit=_QUOTE_CHARS),
            "turn": self.turn,
        }


@dataclass(frozen=True)
class Assessment:
    """All rubrics of one report.

    Attributes:
        rubrics: One score per rubric.
        pages: Addresses of the cited pages that were read.
        uncited: Cited addresses that no tool output holds.
        unknown: Why the share is unknown, or None.
    """

    rubrics: tuple[RubricScore, ...]
    pages: tuple[str, ...]
    uncited: tuple[str, ...]
    unknown: str | None = None

    @property
    def share(self) -> float | None:
        """Share of all rubrics that are satisfied; None when it is unknown."""
        if self.unknown is not None:
            return None
        return math.fsum(rubric.score or 0.0 for rubric in self.rubrics) / len(self.rubrics)

    def evidence(self) -> dict[str, Json]:
        """Return it JSON-compatible."""
        return {
            "rubric_share": self.share,
            "rubrics": [rubric.evidence() for rubric in self.rubrics],
            "pages": list(self.pages),
            "cited_but_never_shown": [cut(url) for url in self.uncited[:MAX_PAGES]],
        }


def assess(
    case: JudgeCase,
    rubrics: Rubrics,
    session: Session,
    judge: Judge,
    *,
    connectivity: bool = True,
    max_pages: int = MAX_PAGES,
    labels: Labels = "any",
    credit_turn: CreditTurn = "page",
) -> Assessment:
    """Judge the rubrics of a report.

    The judge is asked for the names, and for support only where a name and a page are there to be judged.

    Args:
        case: The case; its report has no references.
        rubrics: The question's rubrics.
        session: What the tools showed.
        judge: Who decides.
        connectivity: Whether a rubric counts only when connected to the answer (False is the ablation without).
        max_pages: How many cited pages are read.
        labels: Which citations count.
        credit_turn: Whether a rubric is credited to the turn that first brought the supporting page, or the passage.

    Raises:
        JudgeError: The judge could not identify the entities, or could not judge support at all.
    """
    names = _names(judge.entities(case), rubrics)
    statements = rubrics.fill(names)
    cited = citations(case.report, labels)
    pages = session.cited(cited, max_pages)
    verdicts: Mapping[int, Verdict] = {}
    if statements and pages:
        verdicts = judge.support(case, statements, pages)
        if verdicts.keys() != statements.keys():
            raise JudgeError(f"asked about statements {sorted(statements)}, the judge answered {sorted(verdicts)}")
    supported = [index for index, verdict in verdicts.items() if verdict.holds]
    reached = connected(rubrics.slots, supported)
    unknown = [index for index, verdict in verdicts.items() if verdict.holds is None]
    placer = _Placer(session, credit_turn)
    scores = []
    for index, text in enumerate(rubrics.texts):
        verdict = verdicts.get(index)
        status = _status(index in statements, verdict, index in reached or not connectivity)
        satisfied = status == "satisfied"
        passages = () if verdict is None else verdict.passages
        scores.append(
            RubricScore(
                rubric=text,
                filled=statements.get(index),
                entities={slot: names[slot] for slot in rubrics.slots[index]},
                supported=None if verdict is None else verdict.holds,
                connected=index in reached,
                status=status,
                score=None if status == "unknown" else float(satisfied),
                passages=passages,
                found=tuple(session.first_turn(passage.url, passage.quote) is not None for passage in passages),
                reason="" if verdict is None else verdict.reason,
                turn=placer.turn(passages) if satisfied else None,
            )
        )
    problem = None
    if unknown:
        why = verdicts[unknown[0]].reason or "the judge gave no reason"
        problem = f"{len(unknown)} of {len(rubrics.texts)} rubrics could not be judged, the first: {why}"
    never = tuple(url for url in cited if url not in session.of_page)
    return Assessment(tuple(scores), tuple(page.url for page in pages), never, problem)


def _names(names: Mapping[str, str | None], rubrics: Rubrics) -> Mapping[str, str | None]:
    missing = [slot for slot in rubrics.ids if slot not in names]
    if missing:
        raise JudgeError(f"the judge said nothing about the entities {missing}")
    return names


def _status(identified: bool, verdict: Verdict | None, reached: bool) -> Status:
    if not identified:
        return "unidentified"
    if verdict is None:
        return "unsupported"
    if verdict.holds is None:
        return "unknown"
    if not verdict.holds:
        return "unsupported"
    return "satisfied" if reached else "unconnected"


class _Placer:
    """Finds the turn that completed what supports a rubric: the latest of its passages' first turns."""

    def __init__(self, session: Session, credit_turn: CreditTurn) -> None:
        self.session, self.credit_turn = session, credit_turn

    def turn(self, passages: Sequence[Passage]) -> int | None:
        turns = []
        for passage in passages:
            quote = passage.quote if self.credit_turn == "passage" else ""
            first = self.session.first_turn(passage.url, quote)
            # A judge's paraphrase is nowhere to be found; the page it names is.
            turns.append(self.session.first_turn(passage.url) if first is None else first)
        known = [turn for turn in turns if turn is not None]
        return max(known) if known else None


def make_case(task: Task, session: Session, rubrics: tuple[str, ...] = ()) -> JudgeCase:
    """Return what a judge needs to know of a task and a session.

    The question is ``task.data["question"]`` or else the instruction; the answers are ``data["answer"]`` and
    ``data["aliases"]``.
    """
    data = task.data
    aliases = data.get("aliases", data.get("golden_answers"))
    answers = [data.get("answer"), *(aliases if isinstance(aliases, list) else ())]
    return JudgeCase(
        question=str(data.get("question") or task.instruction),
        report=without_references(session.report or ""),
        answers=tuple(dict.fromkeys(str(answer) for answer in answers if answer is not None)),
        rubrics=rubrics,
        task=task,
    )
