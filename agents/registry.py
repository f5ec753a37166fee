"""Agents by name: ours, and third parties' through entry points of the group ``turnwise.agents``."""

from __future__ import annotations

from turnwise.agents.replay import ReadActions, ReplayAgent, actions_from_jsonl
from turnwise.errors import ConfigError
from turnwise.protocols import Agent
from turnwise.registry import Registry

BUILTIN_AGENTS = {
    "expert": "turnwise.agents.expert:ExpertAgent",
    "explorer": "turnwise.agents.explorer:ExplorerAgent",
    "human": "turnwise.agents.human:HumanAgent",
    "noisy-expert": "turnwise.agents.noisy_expert:NoisyExpertAgent",
    "random": "turnwise.agents.random_agent:RandomAgent",
    "replay": "turnwise.agents.replay:ReplayAgent",
}

agents = Registry("agent", BUILTIN_AGENTS, "turnwise.agents")


def make_agent(spec: str, *, read_actions: ReadActions = actions_from_jsonl) -> Agent:
    """Make an agent from its specification.

    Args:
        spec: ``NAME`` or ``NAME:REST``, such as ``"expert"``, ``"noisy-expert:0.2"`` or
            ``"replay:runs/x#task-3#0"``. What REST means is the agent's own business.
        read_actions: How ``replay`` reads recorded actions; by default from a JSONL file.

    Raises:
        UnknownNameError: No such agent; the message lists near misses.
        ConfigError: The agent does not take this REST.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"an agent is named by text such as 'expert', got {type(spec).__name__}")
    name, _, rest = spec.partition(":")
    found = agents.load(name)
    if found is ReplayAgent:
        return ReplayAgent.from_spec(rest, read_actions)
    if not hasattr(found, "from_spec"):
        raise ConfigError(f"{agents.entry_point(name)} is no agent class: it needs a classmethod from_spec(rest)")
    made: Agent = found.from_spec(rest)
    return made


def list_agents() -> tuple[str, ...]:
    """Return the names that :func:`make_agent` knows."""
    return agents.names()
