"""Agents: what answers an observation with a message."""

from turnwise.agents.expert import ExpertAgent
from turnwise.agents.explorer import ExplorerAgent
from turnwise.agents.human import HumanAgent
from turnwise.agents.noisy_expert import NoisyExpertAgent
from turnwise.agents.random_agent import RandomAgent
from turnwise.agents.registry import list_agents, make_agent
from turnwise.agents.replay import ReplayAgent

__all__ = [
    "ExpertAgent",
    "ExplorerAgent",
    "HumanAgent",
    "NoisyExpertAgent",
    "RandomAgent",
    "ReplayAgent",
    "list_agents",
    "make_agent",
]
