"""Log-probabilities from the policy that plays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chaospolicy import ChaosPolicy

from turnwise.agents.policy_agent import LocalChannel
from turnwise.errors import JudgeError, PolicyError
from turnwise.protocols import BeliefRequest
from turnwise.records import Ending, Task, Trajectory, Turn, TurnTokens
from turnwise.rewards.gain.model import ModelBeliefs
from turnwise.rollout.policy.channel import use_channel
from turnwise.rollout.policy.logprobs import PolicyContexts, PolicyLogProbs


@pytest.fixture
def policy() -> Iterator[ChaosPolicy]:
    """A policy that plays in this process."""
    policy = ChaosPolicy("")
    channel = LocalChannel(policy)
    use_channel(channel)
    yield policy
    use_channel(None)
    channel.close()


def trajectory(*tokens: TurnTokens | None) -> Trajectory:
    turns = tuple(Turn(index=i, observation="seen", action_text="do", tokens=t) for i, t in enumerate(tokens))
    return Trajectory(
        id="t#0",
        env_id="x",
        task=Task(id="t", split="train", instruction="?"),
        seed=0,
        agent="chaos-policy",
        turns=turns,
        final_observation="four",
        ending=Ending(kind="truncated", cause="turns"),
    )


ONE = TurnTokens(prompt_ids=(1, 2), completion_ids=(3,))
TWO = TurnTokens(prompt_ids=(4,), completion_ids=(5, 6))


def test_contexts_are_the_ids_up_to_where_the_policy_speaks(policy: ChaosPolicy) -> None:
    played = trajectory(ONE, TWO)
    assert PolicyContexts().render(played, 1) == ((1, 2), (3, 4))
    # The last observation was never read: the policy says how it would have been.
    assert PolicyContexts().render(played, 2) == ((1, 2), (3, 4), (5, 6, 6, 4))


def test_turns_without_ids_have_no_contexts(policy: ChaosPolicy) -> None:
    with pytest.raises(JudgeError, match="has turns without token ids"):
        PolicyContexts().render(trajectory(ONE, None), 1)
    with pytest.raises(JudgeError, match="has turns without token ids"):
        PolicyContexts().render(trajectory(), 0)


def test_beliefs_come_from_the_policy(policy: ChaosPolicy) -> None:
    scorer = ModelBeliefs(PolicyLogProbs())
    beliefs = scorer.beliefs(BeliefRequest(trajectory=trajectory(ONE, TWO), turns=1, answers=("good",)))
    assert [belief.logprob for belief in beliefs] == [-1 / 2, -1 / 4]
    with pytest.raises(PolicyError, match="cannot be scored"):
        scorer.beliefs(BeliefRequest(trajectory=trajectory(ONE, TWO), turns=1, answers=("bad",)))


def test_without_a_policy_there_is_a_way_out() -> None:
    with pytest.raises(PolicyError, match="TransformersLogProbs"):
        PolicyLogProbs().answer_logprobs([])
