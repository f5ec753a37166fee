"""Agents by name: ours, and third parties' through entry points of the group ``turnwise.agents``."""

from __future__ import annotations

import inspect
from typing import Any

from turnwise.agents.policy_agent import LocalChannel, PolicyAgent
from turnwise.agents.replay import ReadActions, ReplayAgent, actions_from_jsonl
from turnwise.errors import ConfigError
from turnwise.policy import Channel, Policy
from turnwise.protocols import Agent
from turnwise.registry import Registry

BUILTIN_AGENTS = {
    "expert": "turnwise.agents.expert:ExpertAgent",
    "explorer": "turnwise.agents.explorer:ExplorerAgent",
    "human": "turnwise.agents.human:HumanAgent",
    "noisy-expert": "turnwise.agents.noisy_expert:NoisyExpertAgent",
    "openai": "turnwise.agents.openai_policy:OpenAIPolicy",
    "random": "turnwise.agents.random_agent:RandomAgent",
    "replay": "turnwise.agents.replay:ReplayAgent",
    "transformers": "turnwise.agents.transformers_policy:TransformersPolicy",
}

agents = Registry("agent", BUILTIN_AGENTS, "turnwise.agents")


def make_agent(spec: str, *, read_actions: ReadActions = actions_from_jsonl, channel: Channel | None = None) -> Agent:
    """Make an agent from its specification.

    Args:
        spec: ``NAME`` or ``NAME:REST``, such as ``"expert"``, ``"noisy-expert:0.2"`` or
            ``"transformers:PATH"``. What REST means is the agent's own business.
        read_actions: How ``replay`` reads recorded actions; by default from a JSONL file.
        channel: The way to the policy, for agents with a model; None runs the model in this process.

    Raises:
        UnknownNameError: No such agent; the message lists near misses.
        ConfigError: The agent does not take this REST.
    """
    found, rest = _find(spec)
    if found is ReplayAgent:
        return ReplayAgent.from_spec(rest, read_actions)
    if _is_policy(found):
        if channel is not None:
            return PolicyAgent(channel, spec=spec)
        policy: Policy = found.from_spec(rest)
        return PolicyAgent(LocalChannel(policy), spec=policy.spec, owns_channel=True)
    made: Agent = found.from_spec(rest)
    return made


def make_policy(spec: str) -> Policy:
    """Make the policy behind a model-backed agent; nothing is loaded yet.

    Raises:
        UnknownNameError: No such agent; the message lists near misses.
        ConfigError: This agent has no model, or does not take this REST.
    """
    found, rest = _find(spec)
    if not _is_policy(found):
        raise ConfigError(f"the agent {spec!r} has no model behind it: there is no policy to serve")
    policy: Policy = found.from_spec(rest)
    return policy


def has_policy(spec: str) -> bool:
    """Whether an agent's messages come from a policy, which serves many episodes at once.

    Raises:
        UnknownNameError: No such agent; the message lists near misses.
    """
    return _is_policy(_find(spec)[0])


def _find(spec: str) -> tuple[Any, str]:
    if not isinstance(spec, str):
        raise ConfigError(f"an agent is named by text such as 'expert', got {type(spec).__name__}")
    name, _, rest = spec.partition(":")
    found = agents.load(name)
    if not hasattr(found, "from_spec"):
        raise ConfigError(f"{agents.entry_point(name)} is no agent class: it needs a classmethod from_spec(rest)")
    return found, rest


def _is_policy(found: Any) -> bool:
    """An agent answers at once, a policy asynchronously."""
    return inspect.iscoroutinefunction(getattr(found, "act", None))


def list_agents() -> tuple[str, ...]:
    """Return the names that :func:`make_agent` knows."""
    return agents.names()
