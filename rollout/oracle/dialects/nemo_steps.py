"""NeMo-Gym's steps, in the worker: the episode so far is played from its start, and the latest turn's gain is told."""

from __future__ import annotations

import msgspec

from turnwise.errors import ConfigError, TurnwiseError
from turnwise.rollout.oracle.bodies import RejectedError, decode, rejected
from turnwise.rollout.oracle.dialects.base import encode
from turnwise.rollout.oracle.kinds import encode_result
from turnwise.rollout.oracle.schema import EvidenceLevel, ItemResult, Status
from turnwise.rollout.oracle.scorer import Oracle
from turnwise.rollout.oracle.world import World

NO_WORLD = "steps need a world: start the oracle with --env, or score whole responses with /verify"


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to.

    Attributes:
        result: The score of the episode so far.
        gained: What the latest turn adds to its reward; None where that cannot be known.
        observation: What the agent sees next.
        terminated: Whether the world ended the episode.
        truncated: Whether a limit did.
        turns: Turns played so far.
    """

    result: ItemResult
    gained: float | None
    observation: str
    terminated: bool
    truncated: bool
    turns: int


class Played(msgspec.Struct):
    """The payload of a step."""

    task_id: str
    seed: int
    messages: list[str]


def score_reset(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Return a task's first observation."""
    body = decode(Played, payload)
    world = _world(oracle)
    try:
        return "ok", encode({"observation": world.first_observation(body.task_id, seed=body.seed)})
    except ConfigError as error:
        raise RejectedError(422, "invalid", str(error), place="task_id") from error


def score_step(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Play the messages so far, and say what the latest one gained."""
    body = decode(Played, payload)
    world = _world(oracle)
    before = None
    try:
        episode = world.play(body.task_id, body.messages, seed=body.seed)
        result = oracle.score_trajectory("", episode, evidence=evidence)
        if len(body.messages) > 1:
            earlier = world.play(body.task_id, body.messages[:-1], seed=body.seed)
            before = oracle.score_trajectory("", earlier, evidence="none").reward
    except ConfigError as error:
        raise rejected(error) from error
    except TurnwiseError as error:
        nothing = oracle.shape.without_reward("", "invalid", f"{error.boundary}: {error}")
        return "invalid", _encode_step(
            StepResult(result=nothing, gained=None, observation="", terminated=False, truncated=True, turns=0)
        )
    gained = result.reward
    if gained is not None and len(body.messages) > 1:
        gained = None if before is None else gained - before
    over = episode.ending
    goes_on = over.cause == "turns" and len(episode.turns) < world.max_turns
    step = StepResult(
        result=result,
        gained=gained,
        observation=episode.final_observation,
        terminated=over.kind == "terminated",
        truncated=over.kind == "truncated" and not goes_on,
        turns=len(episode.turns),
    )
    return result.status, _encode_step(step)


def _encode_step(step: StepResult) -> bytes:
    plain = decode(ItemResult, encode_result(step.result))
    return encode(msgspec.structs.replace(step, result=plain))


def _world(oracle: Oracle) -> World:
    if oracle.world is None:
        raise RejectedError(409, "no_world", NO_WORLD)
    return oracle.world
