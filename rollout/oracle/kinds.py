"""What a worker can be asked: one function per kind of payload, each payload in, status and reply out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from turnwise.errors import ConfigError, TurnwiseError
from turnwise.records import Trajectory
from turnwise.rollout.oracle.bodies import RejectedError, decode, rejected
from turnwise.rollout.oracle.schema import EvidenceLevel, Item, ItemResult, Status
from turnwise.rollout.oracle.scorer import Oracle

Score: TypeAlias = Callable[[bytes, Oracle, EvidenceLevel], "tuple[Status, bytes]"]
Read: TypeAlias = Callable[[bytes], Item]

_encoder = msgspec.json.Encoder()


def encode_result(result: ItemResult) -> bytes:
    """Return a result as JSON; evidence that JSON has no form for is left out."""
    try:
        return _encoder.encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _encoder.encode(msgspec.structs.replace(result, evidence={}, turn_evidence=[]))


def score_native(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score an item of the native endpoint."""
    return score_item(decode(Item, payload), oracle, evidence)


def score_item(item: Item, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score an item.

    Raises:
        RejectedError: It cannot be read.
    """
    trajectory = read_item(item, oracle)
    if isinstance(trajectory, TurnwiseError):
        reason = f"{trajectory.boundary}: {trajectory}"
        return "invalid", encode_result(oracle.shape.without_reward(item.id, "invalid", reason))
    result = oracle.score_trajectory(item.id, trajectory, evidence=evidence)
    return result.status, encode_result(result)


def read_item(item: Item, oracle: Oracle) -> Trajectory | TurnwiseError:
    """Return the episode, or why the world could not say what happened.

    Raises:
        RejectedError: The item is malformed.
    """
    try:
        return oracle.reader.trajectory(item)
    except ConfigError as error:
        raise rejected(error) from error
    except RejectedError:
        raise
    except TurnwiseError as error:
        return error


def known_kinds() -> dict[str, Score]:
    """Return every kind by its name."""
    from turnwise.rollout.oracle.dialects import carr, nemo_rows, nemo_steps, openrlhf, slime

    return {
        "native": score_native,
        "openrlhf": openrlhf.score,
        "slime": slime.score,
        "carr": carr.score,
        "nemo_gym": nemo_rows.score,
        "nemo_gym_step": nemo_steps.score_step,
        "nemo_gym_reset": nemo_steps.score_reset,
    }
