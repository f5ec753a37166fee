"""Information gain: how much a turn raised the probability of the right answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from turnwise.errors import JudgeError, TurnwiseError, attribute_to
from turnwise.protocols import BatchBeliefScorer, Belief, BeliefRequest, BeliefScorer, RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.gain.answers import best_f1, given_answer, reference_answers
from turnwise.rewards.gain.parts import made, use_of
from turnwise.rewards.options import OptionError, choice, number
from turnwise.rewards.validity import cut, failure_reason, invalid_values

Kind = Literal["prob_diff", "log_prob_diff"]
Beliefs = tuple[Belief, ...]

# Worlds whose beliefs are known in closed form, so that no model is needed.
EXACT_SCORERS = {
    "turnwise/Household-v0": "turnwise.rewards.gain.household:HouseholdBeliefs",
    "turnwise/SearchQA-v0": "turnwise.rewards.gain.searchqa:SearchBeliefs",
}
ROLE = "role"  # evidence key: "gain" or "outcome"; see turnwise.rewards.credit.InformationGainCredit
_SUMMARY = "How much the turn raised the probability of the right answer; the answer turn gets its F1."
_SOURCE = "IGPO, arXiv 2510.14967, and its code (snapshot bff163b); exact beliefs by turnwise"


class InformationGain:
    """The change in the probability of the right answer that a turn brought about.

    With ``p[t]`` the probability of the right answer once turn ``t`` has been observed, and ``s[t]`` its
    logarithm, a turn gets ``p[t] - p[t-1]`` (``prob_diff``) or ``s[t] - s[t-1]`` (``log_prob_diff``);
    before turn 0 stands the bare task. The gains telescope: they sum to the whole change.

    The answer turn, which ends the episode, gets the F1 of its answer and no gain. Every value says in
    its evidence under ``role`` whether it is a ``"gain"`` or the ``"outcome"``, so that credit never has
    to guess it from the value (a gain of exactly 0 is a gain).

    Probabilities come from a :class:`~turnwise.protocols.BeliefScorer`: a language model
    (:class:`~turnwise.rewards.gain.model.ModelBeliefs`), or the exact beliefs of an embedded world.

    Source: IGPO (arXiv 2510.14967). There ``prob_diff`` is the code's default and ``log_prob_diff`` the
    later paper's definition.
    """

    def __init__(
        self,
        *,
        kind: Kind = "prob_diff",
        scorer: BeliefScorer | str | None = None,
        scorer_options: Mapping[str, Json] | None = None,
        answer_keys: Sequence[str] = ("answer", "aliases", "answers"),
        answer_actions: Sequence[str] = ("answer",),
        outcome: Literal["f1", "none"] = "f1",
        outcome_weight: float = 1.0,
        no_answer: float | None = None,
    ) -> None:
        """Reward information.

        Args:
            kind: ``"prob_diff"`` or ``"log_prob_diff"``.
            scorer: Where probabilities come from: an object, or an import string such as
                ``"turnwise.rewards.gain.model:ModelBeliefs"``; None takes the world's exact beliefs.
            scorer_options: What to make it with, for an import string.
            answer_keys: Keys of ``task.data`` that hold right answers, as a text or a list of texts.
            answer_actions: Names of the actions that give the final answer.
            outcome: ``"f1"`` puts the best F1 over the right answers on the answer turn; ``"none"`` puts
                0 there, for use beside another outcome reward.
            outcome_weight: Factor on the F1; IGPO has 1.
            no_answer: Outcome of an episode that ends without an answer, on its last turn in place of
                the gain (IGPO's code: -2.0 for a format failure); None gives every turn its gain.

        Raises:
            ConfigError: An option is unknown or out of range, or the scorer cannot be made.
        """
        self.name = "information_gain"
        self.kind: Kind = choice("kind", kind, ("prob_diff", "log_prob_diff"))
        self.scorer: BeliefScorer | None = None
        if scorer is not None:
            self.scorer = made("scorer", scorer, scorer_options, BeliefScorer)
        elif scorer_options:
            raise OptionError("scorer_options", "needs 'scorer': the import string of what to make with them")
        self.answer_keys = _names("answer_keys", answer_keys)
        self.answer_actions = _names("answer_actions", answer_actions)
        self.outcome = choice("outcome", outcome, ("f1", "none"))
        self.outcome_weight = number("outcome_weight", outcome_weight)
        self.no_answer = None if no_answer is None else number("no_answer", no_answer)
        self._exact: dict[str, BeliefScorer] = {}
        bound = 1.0 if self.kind == "prob_diff" else math.inf
        outcomes = (self.outcome_weight, self.no_answer or 0.0)
        self.spec = RewardSpec(
            low=min(-bound, *outcomes),
            high=max(bound, *outcomes),
            placement="turn",
            source=_SOURCE,
            summary=_SUMMARY,
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; gains that cannot be known are invalid, with the reason."""
        return self.score_many([trajectory])[0]

    def score_many(self, trajectories: Sequence[Trajectory]) -> list[tuple[RewardValue, ...]]:
        """Score several trajectories, with one call of the scorer where it takes many.

        Args:
            trajectories: Any trajectories; they need not be a group.

        Returns:
            One value per turn of each, as :meth:`score` returns them.
        """
        results: list[tuple[RewardValue, ...] | None] = [None] * len(trajectories)
        asked: list[tuple[int, BeliefRequest]] = []
        for position, trajectory in enumerate(trajectories):
            reason = failure_reason(trajectory)
            if reason is not None or not trajectory.turns:
                results[position] = _all_invalid(trajectory, reason or "no turn was played", self._turns(trajectory))
                continue
            try:
                with attribute_to("judge", "reading the right answer"):
                    answers = reference_answers(trajectory, self.answer_keys)
            except TurnwiseError as error:
                results[position] = _all_invalid(trajectory, _reason(error), self._turns(trajectory))
                continue
            request = BeliefRequest(trajectory=trajectory, turns=self._turns(trajectory), answers=answers)
            asked.append((position, request))
        for (position, request), beliefs in zip(asked, self._beliefs([r for _, r in asked]), strict=True):
            results[position] = self._values(request, beliefs)
        return [values for values in results if values is not None]

    # -- placement ---------------------------------------------------------------------------------

    def _is_answer(self, turn: Turn) -> bool:
        return turn.action_valid and turn.action is not None and turn.action.name in self.answer_actions

    def _turns(self, trajectory: Trajectory) -> int:
        """Return how many of the first turns get a gain: all, or all but the last."""
        turns = len(trajectory.turns)
        if turns and (self.no_answer is not None or self._is_answer(trajectory.turns[-1])):
            return turns - 1
        return turns

    def _values(self, request: BeliefRequest, beliefs: Beliefs | TurnwiseError) -> tuple[RewardValue, ...]:
        trajectory, turns = request.trajectory, request.turns
        if isinstance(beliefs, TurnwiseError):
            gains = invalid_values(turns, _reason(beliefs), {ROLE: "gain"})
        else:
            gains = tuple(self._gain(beliefs[t], beliefs[t + 1]) for t in range(turns))
        return gains if turns == len(trajectory.turns) else (*gains, self._outcome(trajectory, request.answers))

    def _gain(self, before: Belief, after: Belief) -> RewardValue:
        gain = after.probability - before.probability if self.kind == "prob_diff" else after.logprob - before.logprob
        evidence: dict[str, Json] = {ROLE: "gain", "before": before.probability, "after": after.probability}
        if self.kind == "log_prob_diff":
            evidence |= {"logprob_before": before.logprob, "logprob_after": after.logprob}
        if after.answer is not None:
            evidence["answer"] = cut(after.answer)
        if before.answer != after.answer:
            evidence["answer_before"] = None if before.answer is None else cut(before.answer)
        return RewardValue(value=gain, evidence={**evidence, **after.evidence})

    def _outcome(self, trajectory: Trajectory, answers: Sequence[str]) -> RewardValue:
        last = trajectory.turns[-1]
        evidence: dict[str, Json] = {ROLE: "outcome"}
        if not self._is_answer(last):
            return RewardValue(value=self.no_answer or 0.0, evidence={**evidence, "no_answer": True})
        if self.outcome == "none":
            return RewardValue(value=0.0, evidence=evidence)
        if not answers:
            return RewardValue(invalid=f"judge: {_no_answers(trajectory, self.answer_keys)}", evidence=evidence)
        prediction = given_answer(last)
        f1, alias = best_f1(prediction, answers)
        evidence |= {"f1": f1, "prediction": cut(prediction), "answer": cut(alias)}
        return RewardValue(value=self.outcome_weight * f1, evidence=evidence)

    # -- beliefs -----------------------------------------------------------------------------------

    def _beliefs(self, requests: Sequence[BeliefRequest]) -> list[Beliefs | TurnwiseError]:
        if isinstance(self.scorer, BatchBeliefScorer):
            try:
                with attribute_to("judge", "scoring answers"):
                    many = list(self.scorer.beliefs_many(requests))
            except TurnwiseError as error:
                return [error] * len(requests)
            if len(many) != len(requests):
                wrong = JudgeError(f"the scorer gave {len(many)} results for {len(requests)} trajectories")
                return [wrong] * len(requests)
            return [_checked(request, beliefs) for request, beliefs in zip(requests, many, strict=True)]
        return [self._belief(request) for request in requests]

    def _belief(self, request: BeliefRequest) -> Beliefs | TurnwiseError:
        try:
            with attribute_to("judge", "scoring answers"):
                return _checked(request, self._scorer(request.trajectory.env_id).beliefs(request))
        except TurnwiseError as error:
            return error

    def _scorer(self, env_id: str) -> BeliefScorer:
        if self.scorer is not None:
            return self.scorer
        if env_id not in self._exact:
            if env_id not in EXACT_SCORERS:
                raise JudgeError(
                    f"{env_id!r} has no exact beliefs (there are some for {', '.join(map(repr, EXACT_SCORERS))}): "
                    "set 'scorer' to a model's, such as 'turnwise.rewards.gain.model:ModelBeliefs'"
                )
            self._exact[env_id] = made("scorer", EXACT_SCORERS[env_id], None, BeliefScorer)
        return self._exact[env_id]

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {
            "kind": self.kind,
            "scorer": None if self.scorer is None else use_of(self.scorer),
            "scorer_options": None if self.scorer is None else self.scorer.describe(),
            "answer_keys": list(self.answer_keys),
            "answer_actions": list(self.answer_actions),
            "outcome": self.outcome,
            "outcome_weight": self.outcome_weight,
            "no_answer": self.no_answer,
        }


def _names(option: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise OptionError(option, f"must be a list of names, got {value!r}")
    return tuple(value)


def _reason(error: TurnwiseError) -> str:
    return f"{error.boundary}: {error}"


def _no_answers(trajectory: Trajectory, keys: Sequence[str]) -> str:
    return f"task {trajectory.task.id!r} names no right answer: its data has none under {', '.join(map(repr, keys))}"


def _all_invalid(trajectory: Trajectory, reason: str, turns: int) -> tuple[RewardValue, ...]:
    rest = len(trajectory.turns) - turns
    return (*invalid_values(turns, reason, {ROLE: "gain"}), *invalid_values(rest, reason, {ROLE: "outcome"}))


def _checked(request: BeliefRequest, beliefs: Beliefs | TurnwiseError) -> Beliefs | TurnwiseError:
    """Return the beliefs if they are what a scorer promises: one per context, probabilities, finite logarithms."""
    if isinstance(beliefs, TurnwiseError):
        return beliefs
    if len(beliefs) != request.turns + 1:
        return JudgeError(f"the scorer gave {len(beliefs)} beliefs for {request.turns} turns, expected one more")
    for position, belief in enumerate(beliefs):
        if not 0.0 <= belief.probability <= 1.0 + 1e-9 or not math.isfinite(belief.logprob):
            shown = f"probability {belief.probability!r}, log-probability {belief.logprob!r}"
            return JudgeError(f"belief {position} is no probability with a finite logarithm: {shown}")
    return beliefs
