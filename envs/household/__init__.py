"""The household world: ALFRED's text games in an engine of our own."""

from turnwise.envs.household.env import HouseholdEnv

__all__ = ["HouseholdEnv"]
