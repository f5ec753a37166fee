"""Log-probabilities from the model that plays: the policy of the run itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from turnwise.errors import JudgeError, TurnwiseError, attribute_to
from turnwise.protocols import AnswerLogProbs, AnswerQuery, Segment
from turnwise.records import Json, Trajectory
from turnwise.rollout.policy.channel import current_channel


class PolicyContexts:
    """The ids that the policy read and sampled (keeps the ContextRenderer protocol); nothing is tokenised here."""

    def render(self, trajectory: Trajectory, turns: int) -> tuple[Segment, ...]:
        """Return ``turns + 1`` runs of ids, each up to where the policy would speak next.

        Raises:
            JudgeError: A turn has no ids.
        """
        tokens = [turn.tokens for turn in trajectory.turns]
        if not tokens or any(one is None for one in tokens):
            raise JudgeError(f"{trajectory.id!r} has turns without token ids: its agent is {trajectory.agent!r}")
        known = [one for one in tokens if one is not None]
        segments: list[tuple[int, ...]] = [known[0].prompt_ids]
        for before, after in itertools.pairwise(known[: turns + 1]):
            segments.append((*before.completion_ids, *after.prompt_ids))
        if turns == len(known):
            # What came back at the very end was never read; the policy says how it would have been.
            said = known[-1].completion_ids
            with attribute_to("policy", "writing the last observation"):
                rest = current_channel().continuation(trajectory.final_observation, said)
            segments.append((*said, *rest))
        return tuple(segments)

    def describe(self) -> dict[str, Json]:
        """There are no options."""
        return {}


class PolicyLogProbs:
    """Scores answers with the run's own policy, over the way its messages go (keeps the LogProbSource protocol).

    For the scorer option of ``information_gain``: ``source: turnwise.rollout.policy.logprobs:PolicyLogProbs``.
    """

    def __init__(self) -> None:
        self.renderer = PolicyContexts()

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers.

        Raises:
            PolicyError: No policy plays in this process.
            ConfigError: The policy gives no log-probabilities of texts.
        """
        return current_channel().answer_logprobs(queries)

    def describe(self) -> dict[str, Json]:
        """There are no options."""
        return {}
