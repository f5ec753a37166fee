"""Agents for rollouts: those of ``turnwise.agents``, where ``replay:RUN`` reads stored runs too."""

from __future__ import annotations

from pathlib import Path

from turnwise import agents
from turnwise.policy import Channel
from turnwise.protocols import Agent
from turnwise.rollout.store import read_actions


def make_agent(spec: str, *, channel: Channel | None = None) -> Agent:
    """Make an agent from its specification, as :func:`turnwise.agents.make_agent` does.

    Args:
        spec: ``NAME`` or ``NAME:REST``; ``replay:`` takes a run directory or a JSONL file.
        channel: The way to the policy, for agents with a model; None runs the model in this process.

    Raises:
        UnknownNameError: No such agent; the message lists near misses.
        ConfigError: The agent does not take this REST.
    """
    name, _, rest = spec.partition(":")
    if name == "replay" and rest:
        path, hash_, trajectory_id = rest.partition("#")
        # Workers may run in another directory.
        spec = f"replay:{Path(path).expanduser().absolute()}{hash_}{trajectory_id}"
    return agents.make_agent(spec, read_actions=read_actions, channel=channel)
