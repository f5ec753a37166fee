"""Agents: what answers an observation with a message."""

from turnwise.agents.expert import ExpertAgent
from turnwise.agents.explorer import ExplorerAgent
from turnwise.agents.human import HumanAgent
from turnwise.agents.noisy_expert import NoisyExpertAgent
from turnwise.agents.policy_agent import PolicyAgent
from turnwise.agents.random_agent import RandomAgent
from turnwise.agents.registry import has_policy, list_agents, make_agent, make_policy
from turnwise.agents.replay import ReplayAgent

__all__ = [
    "ExpertAgent",
    "ExplorerAgent",
    "HumanAgent",
    "NoisyExpertAgent",
    "PolicyAgent",
    "RandomAgent",
    "ReplayAgent",
    "has_policy",
    "list_agents",
    "make_agent",
    "make_policy",
]
