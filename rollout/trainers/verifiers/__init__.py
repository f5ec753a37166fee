"""Our worlds as a Taskset of verifiers v1, played over many turns, with credit per sampled token.

A taskset of verifiers is an installed package that is named on its command line. Ours is two lines, as in
``examples/verifiers_package``::

    from turnwise.rollout.trainers.verifiers import WorldEnv, WorldTaskset
    __all__ = ["WorldEnv", "WorldTaskset"]

``WorldTaskset.load()`` yields the tasks of a world; ``WorldEnv`` is the user of the conversation: it sends
the observations and plays the agent's replies.

What survives of turn rewards: the trace's rewards are scalars, one per reward of the tree, and sum to the
tree's total. The turn rewards themselves stand in ``trace.info["turnwise"]``, and :func:`assign_advantages`
writes turn advantages to every sampled token (``node.advantages``), which a trainer that reads them takes
as they are; one that computes its own from ``trace.reward`` overwrites them. An episode without a reward
fails its trace; it is never scored 0.

Nothing of verifiers is imported before one of its classes is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnwise.rollout.trainers.install import MissingTrainerError

if TYPE_CHECKING:
    from turnwise.rollout.trainers.verifiers.credit import assign_advantages, trajectory_of
    from turnwise.rollout.trainers.verifiers.world import (
        WorldEnv,
        WorldEnvConfig,
        WorldTask,
        WorldTaskData,
        WorldTaskset,
        WorldTasksetConfig,
    )

_WORLD = ("WorldEnv", "WorldEnvConfig", "WorldTask", "WorldTaskData", "WorldTaskset", "WorldTasksetConfig")
_CREDIT = ("assign_advantages", "trajectory_of")

__all__ = [
    "WorldEnv",
    "WorldEnvConfig",
    "WorldTask",
    "WorldTaskData",
    "WorldTaskset",
    "WorldTasksetConfig",
    "assign_advantages",
    "trajectory_of",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for.

    Raises:
        MissingTrainerError: verifiers is not installed.
    """
    if name in _CREDIT:
        from turnwise.rollout.trainers.verifiers import credit

        return getattr(credit, name)
    if name not in _WORLD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from turnwise.rollout.trainers.verifiers import world
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "verifiers":
            raise
        raise MissingTrainerError("verifiers", "verifiers>=0.4") from error
    return getattr(world, name)
