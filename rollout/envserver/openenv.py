"""OpenEnv's protocol: sessions over the WebSocket ``/ws``, the same over HTTP with a cookie, and tasks.

``{"type": "reset" | "step" | "state" | "close", "data": {...}}`` is answered by ``{"type": "observation" | "state",
"data": ...}`` or by ``{"type": "error", "data": {"code", "message", ...}}``. Unlike OpenEnv's own server, HTTP
``/reset`` and ``/step`` play the same episode as long as the client keeps its cookie.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from turnwise import __version__
from turnwise.errors import ConfigError, TurnwiseError, did_you_mean
from turnwise.records import Json
from turnwise.rollout.envserver.frames import Look, Shown
from turnwise.rollout.envserver.replies import (
    BadMessageError,
    facts_of,
    fault_of,
    introduction_of,
    read_action,
    read_json,
    record_of,
)
from turnwise.rollout.envserver.sessions import Session, Sessions

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

TASK_ROUTES = ("tasks", "num_tasks", "task", "task_range")
MAX_TASKS = 1_000
_TYPES = ("reset", "step", "state", "close")

ACTION_SCHEMA: dict[str, Json] = {
    "title": "Action",
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "The agent's message: the world's own grammar or a JSON tool call."},
        "name": {"type": "string", "description": "Instead of text: the tool to call."},
        "arguments": {"type": "object", "description": "Its arguments."},
        "metadata": {"type": "object", "description": "Not read."},
    },
    "oneOf": [{"required": ["text"]}, {"required": ["name"]}],
    "additionalProperties": False,
}
OBSERVATION_SCHEMA: dict[str, Json] = {
    "title": "Observation",
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "image": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        "task_id": {"type": "string"},
        "seed": {"type": "integer"},
        "turn": {"type": "integer"},
        "action_valid": {"type": "boolean"},
        "action_error": {"type": ["string", "null"]},
        "progress": {"type": "number"},
        "success": {"type": "boolean"},
        "level": {"type": ["string", "null"]},
        "terminated": {"type": "boolean"},
        "truncated": {"type": "boolean"},
        "truncation": {"type": ["string", "null"]},
        "admissible_actions": {"type": "array", "items": {"type": "string"}},
        "instruction": {"type": "string", "description": "After a reset."},
        "system_prompt": {"type": "string", "description": "After a reset."},
        "tools": {"type": "array", "description": "After a reset."},
        "trajectory": {"type": "object", "description": "When the episode is over and the server scores."},
    },
    "required": ["text", "task_id", "turn"],
}
STATE_SCHEMA: dict[str, Json] = {
    "title": "State",
    "type": "object",
    "properties": {
        "episode_id": {"type": ["string", "null"]},
        "step_count": {"type": "integer", "minimum": 0},
        "session_id": {"type": "string"},
        "task_id": {"type": ["string", "null"]},
        "done": {"type": "boolean"},
    },
}


def observation_of(session: Session, shown: Shown) -> dict[str, Json]:
    """Return what OpenEnv calls a step result."""
    observation = {
        "text": shown.text,
        "terminated": shown.terminated,
        "truncated": shown.truncated,
        **facts_of(shown),
        **record_of(session),
        "metadata": {},
    }
    return {"observation": observation, "reward": shown.reward if shown.turn else None, "done": shown.done}


def begun(sessions: Sessions, session: Session, shown: Shown) -> dict[str, Json]:
    """Return the step result of a reset, which also says what a policy needs to know."""
    result = observation_of(session, shown)
    result["observation"].update(introduction_of(sessions.about, shown))
    return result


def state_of(session: Session) -> dict[str, Json]:
    """Return OpenEnv's state: where the episode stands, and nothing of the world's."""
    last = session.last
    return {
        "episode_id": session.episode_id,
        "step_count": 0 if last is None else last.turn,
        "session_id": session.id,
        "task_id": None if last is None else last.task_id,
        "done": last is None or last.done,
    }


class OpenEnvSocket:
    """The ASGI application behind ``/ws``: each connection is a session."""

    def __init__(self, sessions: Sessions, *, max_chars: int) -> None:
        """Serve connections.

        Args:
            sessions: Where sessions are opened.
            max_chars: Longest message.
        """
        self._sessions = sessions
        self._max_chars = max_chars

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await receive()  # "websocket.connect"
        await send({"type": "websocket.accept"})
        connection = _Connection(self._sessions, receive, send, self._max_chars)
        try:
            await connection.run()
        except (OSError, RuntimeError) as error:  # what servers raise when the client is gone
            log.debug("a client left: %s", error)


class _Connection:
    """One WebSocket connection: one session."""

    def __init__(self, sessions: Sessions, receive: Receive, send: Send, max_chars: int) -> None:
        self._sessions = sessions
        self._receive = receive
        self._send = send
        self._max_chars = max_chars
        self._farewell: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer messages until the client or the reaper closes the session."""
        try:
            session = self._sessions.open()
        except TurnwiseError as error:
            await self._fault(error, active_sessions=len(self._sessions), max_sessions=self._sessions.limit)
            await self._send({"type": "websocket.close", "code": 1013})
            return
        session.when_reaped = self._say_goodbye
        try:
            await self._serve(session)
        finally:
            session.close()

    async def _serve(self, session: Session) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            try:
                if text is None:
                    raise BadMessageError("messages are JSON text, this one is binary", code="INVALID_JSON")
                if len(text) > self._max_chars:
                    raise BadMessageError(f"a message has at most {self._max_chars} characters")
                answer = await self._answer(session, read_json(text))
            except TurnwiseError as error:
                await self._fault(error)
                continue
            if answer is None:
                await self._send({"type": "websocket.close", "code": 1000})
                return
            await self._say(answer)

    async def _answer(self, session: Session, message: dict[str, Json]) -> dict[str, Json] | None:
        kind, data = message.get("type"), message.get("data", {})
        if not isinstance(kind, str) or kind not in _TYPES:
            hint = did_you_mean(kind[:64], _TYPES) if isinstance(kind, str) else f" Known: {', '.join(_TYPES)}."
            raise BadMessageError(f"unknown message type {str(kind)[:64]!r}.{hint}", code="UNKNOWN_TYPE")
        if not isinstance(data, dict):
            raise BadMessageError(f'"data" is an object, got {type(data).__name__}')
        if kind == "close":
            return None
        if kind == "state":
            return {"type": "state", "data": state_of(session)}
        if kind == "reset":
            return {"type": "observation", "data": begun(self._sessions, session, await session.reset(data))}
        return {"type": "observation", "data": observation_of(session, await session.step(read_action(data)))}

    async def _fault(self, error: TurnwiseError, **facts: Json) -> None:
        await self._say({"type": "error", "data": {**fault_of(error).data, **facts}})

    async def _say(self, answer: dict[str, Json]) -> None:
        await self._send({"type": "websocket.send", "text": msgspec.json.encode(answer).decode()})

    def _say_goodbye(self) -> None:
        self._farewell = asyncio.get_running_loop().create_task(self._goodbye())

    async def _goodbye(self) -> None:
        message = "the session was closed: there was no request for too long"
        with contextlib.suppress(OSError, RuntimeError):
            await self._say({"type": "error", "data": {"code": "SESSION_ERROR", "message": message, "kind": "idle"}})
            await self._send({"type": "websocket.close", "code": 1001})


# -- HTTP --------------------------------------------------------------------------------------------


async def reset(sessions: Sessions, session: Session, body: dict[str, Json]) -> dict[str, Json]:
    """Answer ``POST /reset``."""
    return begun(sessions, session, await session.reset(body))


async def step(session: Session, body: dict[str, Json]) -> dict[str, Json]:
    """Answer ``POST /step``.

    Raises:
        BadMessageError: The body has no action, or something else beside it.
    """
    action = body.get("action")
    if not isinstance(action, dict):
        raise BadMessageError('the body of /step is {"action": {"text": "..."}}')
    unknown = set(body) - {"action", "timeout_s", "request_id"}
    if unknown:
        raise BadMessageError(f"/step takes no {min(unknown)[:64]!r}")
    return observation_of(session, await session.step(read_action(action)))


def schema() -> dict[str, Json]:
    """Answer ``GET /schema``."""
    return {
        "action": ACTION_SCHEMA,
        "observation": OBSERVATION_SCHEMA,
        "reset_observation": OBSERVATION_SCHEMA,
        "state": STATE_SCHEMA,
    }


def metadata(sessions: Sessions) -> dict[str, Json]:
    """Answer ``GET /metadata``."""
    return {
        "name": sessions.pool.spec.env_id,
        "description": sessions.about.description,
        "readme_content": sessions.about.system_prompt,
        "version": __version__,
        "author": None,
        "documentation_url": None,
    }


# -- tasks -------------------------------------------------------------------------------------------


class TaskRoutes:
    """OpenEnv's task provider: the splits, how many tasks they have, and what each of them asks for."""

    def __init__(self, sessions: Sessions) -> None:
        """Serve the tasks of ``sessions``."""
        self._sessions = sessions

    def splits(self) -> dict[str, Json]:
        """Answer ``GET /NAME/splits``: a server has one."""
        return {"splits": [{"name": self._sessions.about.split}]}

    async def answer(self, route: str, body: dict[str, Json]) -> dict[str, Any]:
        """Answer ``POST /NAME/tasks``, ``num_tasks``, ``task`` and ``task_range``.

        Raises:
            ConfigError: The split or the index does not exist.
        """
        about = self._sessions.about
        if body.get("split", about.split) != about.split:
            raise ConfigError(f"this server has the split {about.split!r}, got {str(body.get('split'))[:64]!r}")
        if route == "num_tasks":
            return {"num_tasks": about.tasks}
        if route == "tasks":
            return {"tasks": await self._sessions.look(Look()), "env_name": self._sessions.pool.spec.env_id}
        if route == "task":
            index = _index(body, "index", None, about.tasks)
            return {"task": (await self._sessions.look(Look(start=index, stop=index + 1, full=True)))[0]}
        start = _index(body, "start", 0, about.tasks)
        stop = body.get("stop")
        stop = min(about.tasks, start + MAX_TASKS) if stop is None else _index(body, "stop", None, about.tasks + 1)
        if stop - start > MAX_TASKS:
            raise ConfigError(f"at most {MAX_TASKS} tasks are told at once, got {stop - start}")
        return {"tasks": await self._sessions.look(Look(start=start, stop=stop, full=True))}


def _index(body: dict[str, Json], name: str, default: int | None, end: int) -> int:
    value = body.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < max(end, 1):
        raise ConfigError(f"{name} is a whole number from 0 to {end - 1}, got {str(value)[:64]!r}")
    return value
