"""CaRR: the share of a question's rubrics that the final report names, cites and connects to its answer.

Source: CaRR, arXiv 2601.06021, and its released reward server: a rubric counts iff its entities are named in the
report, the filled statement is supported by cited pages that the tools really returned, and supported rubrics connect
it to the answer. There a judge that fails gives 0; here the value is invalid.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, ParamSpec, TypeVar

from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import Judge, JudgeCase, RewardSpec, Verdict
from turnwise.records import Json, RewardValue, Task, Trajectory
from turnwise.rewards.carr.assessment import Assessment, CreditTurn, RubricScore, assess, make_case
from turnwise.rewards.carr.report import MAX_PAGES, Labels
from turnwise.rewards.carr.rubrics import Rubrics
from turnwise.rewards.carr.session import Session, read_session
from turnwise.rewards.judges.choose import make_judge
from turnwise.rewards.options import choice, flag, number, whole
from turnwise.rewards.outcome import TimePolicy, no_outcome_reason
from turnwise.rewards.validity import cut, invalid_values

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")
Place = Literal["last_turn", "turn"]


class CitationRubric:
    """``(1 - ratio) * outcome + ratio * rubric``, rubric being the share of satisfied rubrics, in [0, 1].

    With ``placement="last_turn"`` all of it is on the last turn. With ``"turn"`` each satisfied rubric counts on the
    turn that first brought the page that supports it (the last one to arrive, if it needs several) and the outcome on
    the last turn; the trajectory's value is the same.

    An episode that ended without an answer has 0, without asking the judge. To a task without rubrics the reward does
    not apply, and is invalid. Where the judge could not reach a verdict,
    every turn is invalid with the reason, and the evidence tells the rubrics judged false from those not judged.
    """

    def __init__(
        self,
        *,
        judge: Any = "rule",
        ratio: float = 1.0,
        placement: Place = "last_turn",
        credit_turn: CreditTurn = "page",
        connectivity: bool = True,
        max_pages: int = MAX_PAGES,
        citation_labels: Labels = "any",
        time: TimePolicy = "invalid",
    ) -> None:
        """Reward reports whose claims are cited and supported.

        Args:
            judge: ``"rule"`` for worlds that know their facts, a mapping such as
                ``{use: llm, base_url: .., model: ..}`` (see :func:`turnwise.rewards.judges.make_judge`), or a judge.
            ratio: Share of the rubrics in the value; below 1 the judge also decides whether the answer is right. The
                released server's ``rubric_reward_ratio``.
            placement: Where the value is put.
            credit_turn: With ``placement="turn"``, whether the turn that first brought the supporting ``"page"`` is
                credited, or the one that first brought the quoted ``"passage"``.
            connectivity: False counts supported rubrics that nothing connects to the answer, too (the ablation).
            max_pages: How many cited pages are read, in the order of the report.
            citation_labels: ``"number"`` takes only ``[[1](url)]``, as the released server; ``"any"`` other ids too.
            time: Whether an episode cut by the wall clock is ``"invalid"`` or ``"valid"``.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        self.name = "citation_rubric"
        self.judge: Judge = make_judge(judge)
        self.ratio = number("ratio", ratio, low=0.0, high=1.0)
        self.placement: Place = choice("placement", placement, ("last_turn", "turn"))
        self.credit_turn: CreditTurn = choice("credit_turn", credit_turn, ("page", "passage"))
        self.connectivity = flag("connectivity", connectivity)
        self.max_pages = whole("max_pages", max_pages, low=1)
        self.citation_labels: Labels = choice("citation_labels", citation_labels, ("any", "number"))
        self.time: TimePolicy = choice("time", time, ("invalid", "valid"))
        self.spec = RewardSpec(
            low=0.0,
            high=1.0,
            placement=self.placement,
            source="CaRR, arXiv 2601.06021, and THUDM/CaRR; judge failures are invalid instead of 0, prompts are ours",
            summary="Share of the question's rubrics that the report names, cites and connects to its answer.",
        )

    def check_task(self, task: Task) -> None:
        """Check a task's rubrics before any episode is played.

        Raises:
            ConfigError: A rubric has no placeholder, or there are none.
        """
        if self.ratio == 0.0:
            return
        if "rubrics" not in task.data:
            raise ConfigError(
                f"task {task.id!r}: rubrics are what a report is held against, and its data have none; the embedded "
                "search questions have some, and records of CaRR and DeepDive"
            )
        Rubrics.read(task.data["rubrics"], where=f"task {task.id!r}: rubrics")

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn.

        Raises:
            ConfigError: The task's rubrics are malformed; in a tree this makes the values invalid.
        """
        turns = len(trajectory.turns)
        reason = no_outcome_reason(trajectory, self.time)
        if reason is not None or not turns:
            return invalid_values(turns, reason or "no turn was played")
        if self.ratio > 0.0 and "rubrics" not in trajectory.task.data:
            return invalid_values(turns, "does not apply: the task has no rubrics to hold a report against")
        self.check_task(trajectory.task)
        session = read_session(trajectory)
        if session.report is None:
            return self._place(turns, 0.0, None, {"report": None, "because": "the agent gave no final report"})
        data = trajectory.task.data
        rubrics = Rubrics.read(data["rubrics"]) if self.ratio > 0.0 else None
        case = make_case(trajectory.task, session, rubrics.texts if rubrics else ())
        outcome, assessment = self._judge(case, rubrics, session)
        return self._combine(turns, outcome, assessment)

    def _judge(
        self, case: JudgeCase, rubrics: Rubrics | None, session: Session
    ) -> tuple[Verdict | JudgeError | None, Assessment | JudgeError | None]:
        """Ask for outcome and rubrics; of a judge that has to be waited for, side by side."""
        if rubrics is None:
            return _caught(self._outcome, case), None
        if self.ratio == 1.0:
            return None, _caught(self._rubrics, case, rubrics, session)
        if not self.judge.remote:
            return _caught(self._outcome, case), _caught(self._rubrics, case, rubrics, session)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge") as pool:
            asked = pool.submit(_caught, self._outcome, case)
            assessment = _caught(self._rubrics, case, rubrics, session)
            return asked.result(), assessment

    def _outcome(self, case: JudgeCase) -> Verdict:
        return self.judge.answer(case)

    def _rubrics(self, case: JudgeCase, rubrics: Rubrics, session: Session) -> Assessment:
        return assess(
            case,
            rubrics,
            session,
            self.judge,
            connectivity=self.connectivity,
            max_pages=self.max_pages,
            labels=self.citation_labels,
            credit_turn=self.credit_turn,
        )

    def _combine(
        self, turns: int, outcome: Verdict | JudgeError | None, assessment: Assessment | JudgeError | None
    ) -> tuple[RewardValue, ...]:
        evidence: dict[str, Json] = {"judge": self.judge.describe().get("model", self.judge.describe().get("use"))}
        problems = []
        right = 0.0
        if isinstance(outcome, Verdict):
            right = float(bool(outcome.holds))
            answer = outcome.passages[0].quote if outcome.passages else None
            evidence["outcome"] = {"correct": outcome.holds, "answer": cut(answer or ""), "reason": cut(outcome.reason)}
            if outcome.holds is None:
                problems.append(f"the answer could not be judged: {outcome.reason}")
        elif outcome is not None:
            evidence["outcome"] = {"correct": None, "reason": cut(str(outcome))}
            problems.append(f"the answer could not be judged: {outcome}")
        if isinstance(assessment, Assessment):
            evidence.update(assessment.evidence())
            if assessment.unknown is not None:
                problems.append(assessment.unknown)
        elif assessment is not None:
            evidence["rubric_share"] = None
            problems.append(f"the rubrics could not be judged: {assessment}")
        if problems:
            nothing = invalid_values(turns, "judge: " + "; ".join(problems))
            return (*nothing[:-1], RewardValue(invalid=nothing[-1].invalid, evidence=self._whole(evidence)))
        known = assessment if isinstance(assessment, Assessment) else None
        return self._place(turns, (1.0 - self.ratio) * right, known, evidence)

    def _place(
        self, turns: int, outcome: float, assessment: Assessment | None, evidence: dict[str, Json]
    ) -> tuple[RewardValue, ...]:
        values = [0.0] * turns
        found: dict[int, list[tuple[int, RubricScore]]] = {}
        last = turns - 1
        rubrics = () if assessment is None else assessment.rubrics
        for index, rubric in enumerate(rubrics):
            if rubric.status == "satisfied":
                turn = last if self.placement == "last_turn" or rubric.turn is None else rubric.turn
                found.setdefault(turn, []).append((index, rubric))
        for turn, satisfied in found.items():
            values[turn] += self.ratio * (len(satisfied) / len(rubrics))
        values[last] += outcome
        placed = [
            RewardValue(value=value, evidence=self._share(found.get(turn, []), len(rubrics)))
            for turn, value in enumerate(values)
        ]
        placed[last] = RewardValue(value=values[last], evidence={**placed[last].evidence, **self._whole(evidence)})
        return tuple(placed)

    def _share(self, satisfied: list[tuple[int, RubricScore]], rubrics: int) -> dict[str, Json]:
        """Say what a turn brought; with all of it on the last turn, the others have nothing to say."""
        if self.placement == "last_turn":
            return {}
        evidence: dict[str, Json] = {"satisfied": len(satisfied), "of": rubrics}
        if satisfied:
            evidence["brought"] = [_in_words(rubric) for _, rubric in satisfied]
            evidence["rubrics"] = [{"index": index, **rubric.evidence()} for index, rubric in satisfied]
        return evidence

    def _whole(self, evidence: dict[str, Json]) -> dict[str, Json]:
        """Put what concerns the episode where :func:`turnwise.rewards.validity.total` looks for it."""
        return evidence if self.placement == "last_turn" else {"episode": evidence}

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {
            "judge": self.judge.describe(),
            "ratio": self.ratio,
            "placement": self.placement,
            "credit_turn": self.credit_turn,
            "connectivity": self.connectivity,
            "max_pages": self.max_pages,
            "citation_labels": self.citation_labels,
            "time": self.time,
        }


def _in_words(rubric: RubricScore) -> str:
    """Return a statement with the quotations that it rests on, for people."""
    sources = "; ".join(f"{passage.url}: {cut(passage.quote)!r}" for passage in rubric.passages)
    return f"{rubric.filled} ({sources})"


def _caught(
    ask: Callable[ArgumentsT, ResultT], *arguments: ArgumentsT.args, **options: ArgumentsT.kwargs
) -> ResultT | JudgeError:
    """Return what the judge said, or why it could not."""
    try:
        return ask(*arguments, **options)
    except JudgeError as error:
        return error
