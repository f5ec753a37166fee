"""Rewards for searches that help: Search-R2's product with the outcome, and ReSeek's JUDGE utility."""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from turnwise.errors import JudgeError
from turnwise.protocols import Judge, JudgeCase, JudgePage, RewardSpec, Verdict
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.carr.assessment import make_case
from turnwise.rewards.carr.session import Piece, Search, Session, make_page, read_session
from turnwise.rewards.judges.choose import make_judge
from turnwise.rewards.options import choice, number
from turnwise.rewards.outcome import TimePolicy, no_outcome_reason
from turnwise.rewards.validity import cut, failure_reason, invalid_values

Place = Literal["last_turn", "turn"]
Pages = tuple[JudgePage, ...]
_AT_ONCE = 8  # searches of one episode; the judge itself bounds what all episodes ask
_SAID = re.compile(
    r"<judge>\s*(yes|no)\b|^[ \t>*]*judge\*{0,2}[ \t]*[:=]?\*{0,2}[ \t]*(yes|no)\b", re.IGNORECASE | re.MULTILINE
)


def judged_searches(
    case: JudgeCase, session: Session, judge: Judge, *, only: Collection[int] | None = None
) -> list[tuple[Search, Verdict]]:
    """Return searches with the judge's verdict on their results; one that failed has ``holds=None``.

    A judge that has to be waited for is asked about several searches at once.

    Args:
        case: The case.
        session: What the tools showed.
        judge: Who decides.
        only: Turns of the searches to judge; None for all.
    """
    earlier: dict[str, JudgePage] = {}
    asked: list[tuple[Search, Pages, Pages]] = []
    for search in session.searches:
        by_url: dict[str, list[Piece]] = {}
        for piece in search.pieces:
            by_url.setdefault(piece.url, []).append(piece)
        found = {url: make_page(url, pieces) for url, pieces in by_url.items()}
        if only is None or search.turn in only:
            asked.append((search, tuple(found.values()), tuple(earlier.values())))
        earlier.update(found)

    def judged(question: tuple[Search, Pages, Pages]) -> tuple[Search, Verdict]:
        return question[0], _useful(case, *question, judge)

    if not judge.remote or len(asked) < 2:
        return [judged(question) for question in asked]
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(asked)), thread_name_prefix="judge") as pool:
        return list(pool.map(judged, asked))


def _useful(case: JudgeCase, search: Search, found: Pages, earlier: Pages, judge: Judge) -> Verdict:
    if not found:
        return Verdict(holds=False, reason="no results")
    try:
        return judge.useful(case, search.query, found, earlier)
    except JudgeError as error:
        return Verdict(holds=None, reason=str(error))


class SearchR2:
    """``outcome * (1 + useful searches / searches)``; without searches, ``outcome``.

    Source: Search-R2, arXiv 2602.03647 (secondary: the formula is from notes on the paper, and it does not say what
    happens without searches). There a language model judges each result set: does it support the answer, and is it
    not redundant. The outcome is the world's own success, 1 or 0.
    """

    def __init__(self, *, judge: Any = "rule", placement: Place = "last_turn", time: TimePolicy = "invalid") -> None:
        """Reward right answers more, the more of the searches were of use.

        Args:
            judge: As in :class:`~turnwise.rewards.citation_rubric.CitationRubric`.
            placement: ``"last_turn"``, or ``"turn"`` to put each useful search's share on its turn.
            time: Whether an episode cut by the wall clock is ``"invalid"`` or ``"valid"``.

        Raises:
            ConfigError: An option is unknown.
        """
        self.name = "search_r2"
        self.judge: Judge = make_judge(judge)
        self.placement: Place = choice("placement", placement, ("last_turn", "turn"))
        self.time: TimePolicy = choice("time", time, ("invalid", "valid"))
        self.spec = RewardSpec(
            low=0.0,
            high=2.0,
            placement=self.placement,
            source="Search-R2, arXiv 2602.03647 (secondary)",
            summary="Outcome times one plus the share of useful searches.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn. An unsolved episode has 0 without asking the judge."""
        turns = len(trajectory.turns)
        reason = no_outcome_reason(trajectory, self.time)
        if reason is not None or trajectory.outcome is None or not turns:
            return invalid_values(turns, reason or "the trajectory has no outcome")
        values = [0.0] * turns
        session = read_session(trajectory)
        total = len(session.searches)
        evidence: dict[str, Json] = {"success": trajectory.outcome.success, "searches": total}
        if trajectory.outcome.success:
            values[-1] = 1.0
            case = make_case(trajectory.task, session)
            judged = judged_searches(case, session, self.judge)
            useful = [search.turn for search, verdict in judged if verdict.holds]
            evidence["useful_turns"] = useful
            for search, verdict in judged:
                if verdict.holds is None:
                    return invalid_values(turns, f"judge: the search of turn {search.turn}: {verdict.reason}", evidence)
            for turn in useful:
                values[turn if self.placement == "turn" else -1] += 1.0 / total
        placed = [RewardValue(value=value) for value in values]
        whole = evidence if self.placement == "last_turn" else {"episode": evidence}
        placed[-1] = RewardValue(value=values[-1], evidence=whole)
        return tuple(placed)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"judge": self.judge.describe(), "placement": self.placement, "time": self.time}


class ReSeekJudge:
    """Whether the agent judged its search results rightly: ``JUDGE: Yes`` or ``No`` in a message after the search.

    Right gives ``match``; a Yes to useless results ``accepted_useless``; a No to useful ones ``rejected_useful``. The
    value is on the turn that says it. A message judges the last search before it, once; searches that nobody judged
    give 0.

    Source: ReSeek, arXiv 2510.00568 (secondary; no code was released). There a reranker's score of observation and
    right answer, above 0.7, decides what is useful; here the judge does, so plug in a reranker as a judge.
    """

    def __init__(
        self,
        *,
        judge: Any = "rule",
        match: float = 0.3,
        accepted_useless: float = -0.6,
        rejected_useful: float = -0.3,
    ) -> None:
        """Reward right judgements of search results.

        Args:
            judge: As in :class:`~turnwise.rewards.citation_rubric.CitationRubric`.
            match: Value of a right judgement.
            accepted_useless: Value of a Yes to useless results.
            rejected_useful: Value of a No to useful results.

        Raises:
            ConfigError: An option is unknown or not a finite number.
        """
        self.name = "reseek_judge"
        self.judge: Judge = make_judge(judge)
        self.match = number("match", match)
        self.accepted_useless = number("accepted_useless", accepted_useless)
        self.rejected_useful = number("rejected_useful", rejected_useful)
        ends = (0.0, self.match, self.accepted_useless, self.rejected_useful)
        self.spec = RewardSpec(
            low=min(ends),
            high=max(ends),
            placement="turn",
            source="ReSeek, arXiv 2510.00568 (secondary); the judge stands for its reranker",
            summary="Whether the agent judged the results of its search rightly.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes, too."""
        session = read_session(trajectory)
        said = _judgements(trajectory, session)
        case = make_case(trajectory.task, session)
        asked = {search for search, _ in said.values()}
        judged = {s.turn: verdict for s, verdict in judged_searches(case, session, self.judge, only=asked)}
        values = [RewardValue(value=0.0)] * len(trajectory.turns)
        for turn, (search, accepted) in said.items():
            values[turn] = self._value(accepted, search, judged[search], trajectory)
        return tuple(values)

    def _value(self, accepted: bool, search: int, verdict: Verdict, trajectory: Trajectory) -> RewardValue:
        evidence: dict[str, Json] = {"search_turn": search, "said": accepted, "useful": verdict.holds}
        if verdict.reason:
            evidence["reason"] = cut(verdict.reason)
        if verdict.holds is None:
            reason = failure_reason(trajectory) or f"judge: {verdict.reason}"
            return RewardValue(invalid=reason, evidence=evidence)
        wrong = self.accepted_useless if accepted else self.rejected_useful
        return RewardValue(value=self.match if accepted == verdict.holds else wrong, evidence=evidence)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {
            "judge": self.judge.describe(),
            "match": self.match,
            "accepted_useless": self.accepted_useless,
            "rejected_useful": self.rejected_useful,
        }


def _judgements(trajectory: Trajectory, session: Session) -> dict[int, tuple[int, bool]]:
    """Return for each turn that judges a search the search's turn, and whether it accepts the results."""
    searches = {search.turn for search in session.searches}
    judgements: dict[int, tuple[int, bool]] = {}
    waiting: int | None = None
    for turn in trajectory.turns:
        said = _SAID.search(turn.action_text)
        if said is not None and waiting is not None:
            judgements[turn.index] = waiting, (said[1] or said[2]).lower() == "yes"
            waiting = None
        if turn.index in searches:
            waiting = turn.index
    return judgements
