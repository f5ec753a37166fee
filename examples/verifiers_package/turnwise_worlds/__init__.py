"""The worlds of turnwise as a taskset package for verifiers v1: ``--env.taskset.id turnwise-worlds``."""

from turnwise.rollout.trainers.verifiers import WorldEnv, WorldTaskset

__all__ = ["WorldEnv", "WorldTaskset"]
