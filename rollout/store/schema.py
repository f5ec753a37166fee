"""Trajectories as Arrow rows: an explicit schema with nested turns.

Dictionaries whose keys the worlds choose (``info``, ``evidence``, ``data``, ``arguments`` and
``env_options``) are JSON text columns, because a union of all worlds' keys would make a schema that
differs from shard to shard. Reward dictionaries become lists of named values, which every Parquet
reader can unnest.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory, from_builtins, to_json

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.decode

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_SEED = 2**64 - 1
_INT64 = range(-(2**63), 2**63)


@cache
def arrow_schema() -> Any:
    """Return the ``pyarrow.Schema`` of a shard; one row is one trajectory."""
    import pyarrow as pa

    text, integer, number, flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
    timings = pa.struct([("act_s", number), ("step_s", number)])
    rewards = pa.list_(pa.struct([("name", text), ("value", number), ("invalid", text), ("evidence", text)]))
    action = pa.struct([("name", text), ("arguments", text), ("command", text), ("form", text), ("thought", text)])
    ids, numbers = pa.list_(integer), pa.list_(number)
    turn = pa.struct(
        [
            ("index", integer),
            ("observation", text),
            ("action_text", text),
            ("action", action),
            ("action_valid", flag),
            ("action_error", text),
            ("env_reward", number),
            ("progress", number),
            ("success", flag),
            ("level", text),
            ("image", text),
            ("info", text),
            ("rewards", rewards),
            ("tokens", pa.struct([("prompt_ids", ids), ("completion_ids", ids), ("logprobs", numbers)])),
            ("token_span", pa.struct([("start", integer), ("end", integer)])),
            ("policy_version", text),
            ("finish", text),
            ("timings", timings),
        ]
    )
    task = [("id", text), ("split", text), ("instruction", text), ("type", text), ("data", text)]
    failure = pa.struct([("boundary", text), ("kind", text), ("message", text), ("turn", integer)])
    outcome = [("success", flag), ("env_return", number), ("progress", number), ("level", text)]
    return pa.schema(
        [
            ("id", text),
            ("env_id", text),
            ("task", pa.struct(task)),
            ("seed", pa.uint64()),
            ("agent", text),
            ("ending", pa.struct([("kind", text), ("cause", text), ("failure", failure)])),
            ("env_options", text),
            ("sample", integer),
            ("policy_version", text),
            ("turns", pa.list_(turn)),
            ("final_observation", text),
            ("outcome", pa.struct([*outcome, ("levels", pa.list_(text))])),
            ("rewards", rewards),
            ("tokens", pa.struct([("ids", ids), ("loss_mask", ids), ("logprobs", numbers)])),
            ("timings", timings),
            ("schema_version", integer),
        ]
    )


def check_ranges(trajectory: Trajectory) -> None:
    """Refuse numbers that have no place in the schema, before they are acknowledged.

    Raises:
        ConfigError: The seed is not an unsigned 64-bit number, or a count or token id is past 64 bits.
    """
    if not 0 <= trajectory.seed <= MAX_SEED:
        raise ConfigError(f"the seed of {trajectory.id} must be in [0, 2**64 - 1], got {trajectory.seed}")
    counts = [trajectory.sample, trajectory.schema_version]
    if trajectory.ending.failure is not None:
        counts.append(trajectory.ending.failure.turn or 0)
    if trajectory.tokens is not None:
        counts += _extremes(trajectory.tokens.ids)
    for turn in trajectory.turns:
        counts += turn.token_span or ()
        if turn.tokens is not None:
            counts += [*_extremes(turn.tokens.prompt_ids), *_extremes(turn.tokens.completion_ids)]
    for count in counts:
        if count not in _INT64:
            raise ConfigError(f"{trajectory.id} holds a whole number past 64 bits: {count}")


def _extremes(ids: tuple[int, ...]) -> tuple[int, ...]:
    return (min(ids), max(ids)) if ids else ()


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """Return the trajectory as a row of :func:`arrow_schema`."""
    return _row(msgspec.to_builtins(trajectory))


def encode_line(trajectory: Trajectory) -> bytes:
    """Return the trajectory as one line of JSON, as the journal holds it.

    Raises:
        ConfigError: It holds something that is not JSON.
    """
    try:
        return to_json(trajectory)
    except ConfigError as error:
        if not isinstance(error.__cause__, UnicodeEncodeError):
            raise
        # Half a surrogate pair, which an agent may send, has no UTF-8 form: keep the rest of the text.
        return _encode(_without_surrogates(msgspec.to_builtins(trajectory)))


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


def line_to_row(line: bytes) -> dict[str, Any]:
    """Return a trajectory's own JSON as a row; several times faster than by way of the records."""
    return _row(_decode(line))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    row["env_options"] = _text(row["env_options"])
    row["task"]["data"] = _text(row["task"]["data"])
    row["rewards"] = _named(row["rewards"])
    for turn in row["turns"]:
        turn["info"] = _text(turn["info"])
        turn["rewards"] = _named(turn["rewards"])
        if turn["action"] is not None:
            turn["action"]["arguments"] = _text(turn["action"]["arguments"])
        if turn["token_span"] is not None:
            start, end = turn["token_span"]
            turn["token_span"] = {"start": start, "end": end}
    return row


def from_row(row: dict[str, Any]) -> Trajectory:
    """Return the trajectory of a row, migrating rows of older schema versions; changes ``row``."""
    row["env_options"] = _decode(row["env_options"])
    row["task"]["data"] = _decode(row["task"]["data"])
    row["rewards"] = _by_name(row["rewards"])
    for turn in row["turns"]:
        turn["info"] = _decode(turn["info"])
        turn["rewards"] = _by_name(turn["rewards"])
        if turn["action"] is not None:
            turn["action"]["arguments"] = _decode(turn["action"]["arguments"])
        if turn["token_span"] is not None:
            turn["token_span"] = (turn["token_span"]["start"], turn["token_span"]["end"])
    return from_builtins(row)


def _text(value: Json) -> str:
    return _encode(value).decode()


def _named(rewards: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, **value, "evidence": _text(value["evidence"])} for name, value in rewards.items()]


def _by_name(rewards: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {value.pop("name"): {**value, "evidence": _decode(value["evidence"])} for value in rewards}
