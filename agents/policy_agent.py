"""The client of a policy: the agent that an episode holds while the model lives elsewhere."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from turnwise.errors import ConfigError, PolicyError, TurnwiseError
from turnwise.policy import Channel, Policy, PolicyReply, PolicyRequest, ScoringPolicy
from turnwise.protocols import AgentMessage, AnswerLogProbs, AnswerQuery, Episode, Info

T = TypeVar("T")


class PolicyAgent:
    """Asks a policy for each message and keeps the episode's state between them (keeps the Agent protocol).

    Model-backed agents see the observation, the system prompt and the tools, nothing else: neither
    ``info`` nor the task.
    """

    def __init__(self, channel: Channel, *, spec: str, owns_channel: bool = False) -> None:
        """Speak for a policy.

        Args:
            channel: The way to it.
            spec: The policy's specification, for the records.
            owns_channel: Whether :meth:`close` closes the channel too.
        """
        self.spec = spec
        self.policy_version: str | None = None
        self._channel = channel
        self._owns_channel = owns_channel
        self._session = ""
        self._turn = 0
        self._state = b""
        self._opening: dict[str, Any] = {}

    def reset(self, episode: Episode) -> None:
        """Begin an episode, and tell the policy that the one before is over."""
        if self._session:
            self._channel.forget(self._session)
        # Random: another attempt at the same episode must not meet what the first one left behind.
        self._session = f"{episode.task.id}#{episode.sample}/{secrets.token_hex(6)}"
        self._turn, self._state, self.policy_version = 0, b"", None
        self._opening = {
            "system": str(getattr(episode.env, "system_prompt", "")),
            "tools": tuple(getattr(episode.env, "tools", ())),
        }
        self._seed = episode.seed

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Return the policy's message.

        Raises:
            BudgetSpentError: A token budget or the context is spent.
            PolicyError: The agent was not reset, or the model failed.
            TransportError: The way to the model failed.
        """
        if not self._session:
            raise PolicyError("the agent was not reset for this episode: call reset(episode) first")
        request = PolicyRequest(
            session=self._session,
            turn=self._turn,
            observation=_text(observation),
            seed=self._seed,
            state=self._state,
            **(self._opening if self._turn == 0 else {}),
        )
        reply = self._channel.act(request)
        self._turn += 1
        self._state = reply.state
        self.policy_version = reply.policy_version
        return AgentMessage(
            text=reply.text, tokens=reply.tokens, policy_version=reply.policy_version, finish=reply.finish
        )

    def close(self) -> None:
        """Tell that the last episode is over, and free what is the agent's own."""
        if self._session:
            self._channel.forget(self._session)
            self._session = ""
        if self._owns_channel:
            self._channel.close()


def _text(observation: Any) -> str:
    if isinstance(observation, Mapping):
        observation = observation.get("text", "")
    if not isinstance(observation, str):
        raise PolicyError(f"a model reads text, got an observation of type {type(observation).__name__}")
    return observation


class LocalChannel:
    """A policy in this process, on an event loop in a thread of its own (keeps the Channel protocol)."""

    def __init__(self, policy: Policy) -> None:
        """Serve ``policy``; its loop is started by the first request."""
        self.policy = policy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message."""
        return self._run(self.policy.act(request))

    def forget(self, session: str) -> None:
        """Tell that an episode is over."""
        self._run(self.policy.forget(session))

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers with the policy's model."""
        return self._run(scoring(self.policy).answer_logprobs(queries))

    def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        """Return the ids between a sampled message and the next one."""
        return self._run(scoring(self.policy).continuation(observation, sampled))

    def update(self, weights: Any, version: str) -> None:
        """Give the policy new weights; see :meth:`turnwise.policy.Policy.update`."""
        self._run(self.policy.update(weights, version))

    def close(self) -> None:
        """Close the policy and end the thread."""
        if self._loop is None or self._thread is None:
            return
        self._run(self.policy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="policy", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def scoring(policy: Policy) -> ScoringPolicy:
    """Return the policy if it scores texts.

    Raises:
        ConfigError: It does not.
    """
    if not isinstance(policy, ScoringPolicy):
        raise ConfigError(f"the policy {policy.spec!r} gives no log-probabilities of texts: use a local model's")
    return policy
