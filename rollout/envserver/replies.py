"""What clients are told: the same facts in every protocol, and one list of error codes."""

from __future__ import annotations

import base64
from typing import NamedTuple

import msgspec

from turnwise.errors import ConfigError, EpisodeOverError, TurnwiseError
from turnwise.records import Json
from turnwise.rollout.envserver.frames import About, Shown
from turnwise.rollout.envserver.sessions import CapacityError, FactoryError, Session, SessionClosedError


class Fault(NamedTuple):
    """An error as clients are told it: OpenEnv's code, the HTTP status and the facts."""

    code: str
    status: int
    data: dict[str, Json]


class BadMessageError(ConfigError):
    """What a client sent is no message of the protocol.

    Attributes:
        code: One of OpenEnv's codes.
    """

    def __init__(self, message: str, *, code: str = "VALIDATION_ERROR") -> None:
        super().__init__(message)
        self.code = code


def fault_of(error: TurnwiseError) -> Fault:
    """Say what went wrong in OpenEnv's codes and HTTP's."""
    data: dict[str, Json] = {"message": str(error), "boundary": error.boundary, "kind": error.kind}
    if isinstance(error, CapacityError):
        code, status = "CAPACITY_REACHED", 429
    elif isinstance(error, FactoryError):
        code, status = "FACTORY_ERROR", 503
    elif isinstance(error, SessionClosedError):
        code, status = "SESSION_ERROR", 410
    elif isinstance(error, BadMessageError):
        code, status = error.code, 400 if error.code == "INVALID_JSON" else 422
    elif isinstance(error, EpisodeOverError):
        code, status = "EXECUTION_ERROR", 409
    elif isinstance(error, ConfigError):
        code, status = "VALIDATION_ERROR", 422
    else:
        code, status = "EXECUTION_ERROR", 504 if error.kind in ("hang", "deadline") else 500
    return Fault(code, status, {**data, "code": code})


def facts_of(shown: Shown) -> dict[str, Json]:
    """Return the facts of a reset or a turn beside observation, reward, terminated and truncated."""
    facts: dict[str, Json] = {
        "task_id": shown.task_id,
        "seed": shown.seed,
        "turn": shown.turn,
        "action_valid": shown.action_valid,
        "action_error": shown.action_error,
        "progress": shown.progress,
        "success": shown.success,
        "level": shown.level,
        "truncation": shown.truncation,
    }
    if shown.admissible_actions is not None:
        facts["admissible_actions"] = shown.admissible_actions
    if shown.png is not None:
        facts["image"] = base64.b64encode(shown.png).decode()
    return facts


def introduction_of(about: About, shown: Shown) -> dict[str, Json]:
    """Return what a policy needs to know before its first message."""
    return {"instruction": shown.instruction, "system_prompt": about.system_prompt, "tools": about.tools}


def record_of(session: Session) -> dict[str, Json]:
    """Return the finished episode's record under its key, where there is one."""
    return {} if session.record is None else {"trajectory": msgspec.Raw(session.record)}


def read_json(data: bytes | str) -> dict[str, Json]:
    """Read a JSON object.

    Raises:
        BadMessageError: It is no JSON, or no object.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadMessageError(f"no JSON: {error}", code="INVALID_JSON") from error
    if not isinstance(value, dict):
        raise BadMessageError(f"a message is a JSON object, got {type(value).__name__}")
    return value


def read_action(fields: dict[str, Json]) -> str:
    """Return the message behind an action: ``{"text": ...}``, or a tool call ``{"name": ..., "arguments": {...}}``.

    Raises:
        BadMessageError: It is neither.
    """
    given = {name: value for name, value in fields.items() if name != "metadata"}
    if set(given) == {"text"} and isinstance(given["text"], str):
        return given["text"]
    named = set(given) in ({"name"}, {"name", "arguments"}) and isinstance(given["name"], str)
    if named and isinstance(given.get("arguments", {}), dict):
        return msgspec.json.encode({"name": given["name"], "arguments": given.get("arguments", {})}).decode()
    raise BadMessageError(
        'an action is {"text": "..."} or {"name": "...", "arguments": {...}}, got the fields '
        f"{sorted(name[:40] for name in given)[:8]}"
    )
