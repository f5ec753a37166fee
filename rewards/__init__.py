"""Rewards on every turn: one small module each, composed, gated, explained and turned into credit."""

from turnwise.rewards.catalogue import RewardInfo, list_rewards
from turnwise.rewards.compose import WeightedReward, WeightedSum
from turnwise.rewards.config import preset_names
from turnwise.rewards.gate import Gate
from turnwise.rewards.gated import Gated, Priority
from turnwise.rewards.tree import RewardTree, load_rewards

__all__ = [
    "Gate",
    "Gated",
    "Priority",
    "RewardInfo",
    "RewardTree",
    "WeightedReward",
    "WeightedSum",
    "list_rewards",
    "load_rewards",
    "preset_names",
]
