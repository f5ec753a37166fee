"""Policies for rollouts: one model serves the episodes of all workers, whose processes never load it."""

from turnwise.rollout.policy.pool import PolicyPool

__all__ = ["PolicyPool"]
