"""The HTTP routes, as functions of a call: OpenEnv's and NeMo-Gym's share ``/reset`` and ``/step``."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from turnwise.errors import EpisodeOverError, TurnwiseError
from turnwise.records import Json
from turnwise.rollout.envserver import nemogym, openenv
from turnwise.rollout.envserver.options import ServerOptions
from turnwise.rollout.envserver.replies import BadMessageError, fault_of, read_json
from turnwise.rollout.envserver.sessions import Session, Sessions

COOKIE = "turnwise_session"
_NOT_PLAYING = "no episode is being played: POST /reset first, and send its cookie with every request"


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a handler needs of a request.

    Attributes:
        body: The body.
        cookie: The session's cookie, or None.
        path: The variable parts of the path.
    """

    body: bytes = b""
    cookie: str | None = None
    path: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a handler answers.

    Attributes:
        body: JSON-compatible.
        status: The HTTP status.
        headers: Further headers.
        cookie: The session's cookie to set, or None.
    """

    body: Json
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookie: str | None = None


Handler = Callable[[Call], Awaitable[Reply]]


async def guarded(handler: Handler, call: Call) -> Reply:
    """Run a handler; what it raises becomes a reply with the error's code."""
    try:
        return await handler(call)
    except TurnwiseError as error:
        fault = fault_of(error)
        headers = {"retry-after": "1"} if fault.status in (429, 503) else {}
        return Reply(body={"error": fault.data, "detail": fault.data["message"]}, status=fault.status, headers=headers)


class CookieSessions:
    """Sessions of HTTP clients, found by a cookie that nobody can guess."""

    def __init__(self, sessions: Sessions) -> None:
        """Open sessions in ``sessions``."""
        self._sessions = sessions
        self._by_cookie: OrderedDict[str, Session] = OrderedDict()

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; it may be closed, as it is when its episode ended."""
        return None if cookie is None else self._by_cookie.get(cookie)

    def open(self, cookie: str | None) -> tuple[str, Session]:
        """Return the open session of a cookie, or a new one with its cookie.

        Raises:
            CapacityError: There are as many sessions as there may be.
        """
        known = self.find(cookie)
        if cookie is not None and known is not None and not known.closed:
            return cookie, known
        session = self._sessions.open()
        # A cookie that is not ours is not taken over: its sender may have chosen it for somebody else.
        key = cookie if cookie is not None and known is not None else secrets.token_urlsafe(24)
        self._by_cookie[key] = session
        self._by_cookie.move_to_end(key)
        self._forget_old()
        return key, session

    def _forget_old(self) -> None:
        """Keep as many closed sessions as there may be open ones, for ``/verify``."""
        excess = len(self._by_cookie) - 2 * self._sessions.limit
        for key in [key for key, session in self._by_cookie.items() if session.closed][: max(excess, 0)]:
            del self._by_cookie[key]


class Routes:
    """The handlers, and where they are found."""

    def __init__(self, sessions: Sessions, options: ServerOptions) -> None:
        """Serve ``sessions``."""
        self._sessions = sessions
        self._options = options
        self._cookies = CookieSessions(sessions)
        self._tasks = openenv.TaskRoutes(sessions)

    def table(self) -> list[tuple[str, str, str, Handler]]:
        """Return method, path, summary and handler of every route, the first match first."""
        return [
            ("GET", "/health", "Whether sessions can be begun.", self.health),
            ("GET", "/schema", "OpenEnv: JSON schemas.", self.schema),
            ("GET", "/metadata", "OpenEnv: what the world is.", self.metadata),
            ("GET", "/state", "OpenEnv: where the cookie's episode stands.", self.state),
            ("GET", "/list_environments", "OpenEnv: the world's name.", self.names),
            ("POST", "/reset", "OpenEnv and NeMo-Gym: begin an episode.", self.reset),
            ("POST", "/step", "OpenEnv and NeMo-Gym: play a turn.", self.step),
            ("POST", "/seed_session", "NeMo-Gym: open a session.", self.seed_session),
            ("POST", "/verify", "NeMo-Gym: the row again, with the episode's return.", self.verify),
            ("GET", "/sessions/{session_id}/trajectory", "A session's scored episode.", self.trajectory),
            # The name of a world has a slash in it.
            ("GET", "/{name:path}/splits", "OpenEnv: the split.", self.splits),
            ("POST", "/{name:path}/{route}", "OpenEnv: tasks, num_tasks, task, task_range.", self.tasks),
        ]

    async def health(self, call: Call) -> Reply:
        """Say whether sessions can be begun, and how many there are."""
        alive = self._sessions.pool.alive
        body = {
            "status": "healthy" if alive else "unhealthy",
            "env_id": self._sessions.pool.spec.env_id,
            "active_sessions": len(self._sessions),
            "max_sessions": self._sessions.limit,
        }
        return Reply(body=body, status=200 if alive else 503)

    async def schema(self, call: Call) -> Reply:
        """Return the JSON schemas."""
        return Reply(body=openenv.schema())

    async def metadata(self, call: Call) -> Reply:
        """Describe the world."""
        return Reply(body=openenv.metadata(self._sessions))

    async def names(self, call: Call) -> Reply:
        """Name the world."""
        return Reply(body=[self._sessions.pool.spec.env_id])

    async def state(self, call: Call) -> Reply:
        """Say where the cookie's episode stands."""
        session = self._cookies.find(call.cookie)
        if session is None:
            raise EpisodeOverError(_NOT_PLAYING)
        return Reply(body=openenv.state_of(session))

    async def seed_session(self, call: Call) -> Reply:
        """Open a session; the episode begins with ``/reset``."""
        read_json(call.body or b"{}")
        cookie, _ = self._cookies.open(call.cookie)
        return Reply(body={}, cookie=cookie)

    async def reset(self, call: Call) -> Reply:
        """Begin an episode in the cookie's session, or in a new one."""
        body = read_json(call.body or b"{}")
        fresh = self._cookies.find(call.cookie) is None
        cookie, session = self._cookies.open(call.cookie)
        try:
            if nemogym.is_row(body):
                return Reply(body=await nemogym.reset(self._sessions, session, body), cookie=cookie)
            return Reply(body=await openenv.reset(self._sessions, session, body), cookie=cookie)
        except TurnwiseError:
            if fresh:
                session.close()  # its client never gets the cookie
            raise

    async def step(self, call: Call) -> Reply:
        """Play a turn in the cookie's session; the last one gives its place to somebody else."""
        body = read_json(call.body)
        session = self._cookies.find(call.cookie)
        if session is None or session.closed:
            raise EpisodeOverError(_NOT_PLAYING)
        try:
            row = nemogym.is_row(body)
            answered = await (nemogym.step(session, body) if row else openenv.step(session, body))
            return Reply(body=answered, cookie=call.cookie)
        finally:
            if session.failure is not None or (session.last is not None and session.last.done):
                session.close()

    async def verify(self, call: Call) -> Reply:
        """Echo a row, with the return of the cookie's episode."""
        row = read_json(call.body)
        session = self._cookies.find(call.cookie)
        if session is None:
            nemogym.check_row(row)
            raise EpisodeOverError(_NOT_PLAYING)
        return Reply(body=_encodable(nemogym.verify(session, row)), cookie=call.cookie)

    async def trajectory(self, call: Call) -> Reply:
        """Return a session's finished episode with its rewards, to those who have the token."""
        if self._options.token is None:
            return _refused(403, "FORBIDDEN", "trajectories are behind the token: start the server with --token")
        record = self._sessions.record(call.path["session_id"])
        if record is None:
            why = "no finished, scored episode under this session id"
            hint = "" if self._options.rewards is not None else ": start the server with --rewards"
            return _refused(404, "NOT_FOUND", why + hint)
        return Reply(body=msgspec.Raw(record))

    async def splits(self, call: Call) -> Reply:
        """Name the split."""
        return Reply(body=self._tasks.splits()) if self._is_name(call) else _no_route()

    async def tasks(self, call: Call) -> Reply:
        """Answer for the tasks."""
        if not self._is_name(call) or call.path["route"] not in openenv.TASK_ROUTES:
            return _no_route()
        return Reply(body=await self._tasks.answer(call.path["route"], read_json(call.body or b"{}")))

    def _is_name(self, call: Call) -> bool:
        return call.path["name"] == self._sessions.pool.spec.env_id


def _refused(status: int, code: str, message: str) -> Reply:
    return Reply(body={"error": {"code": code, "message": message}, "detail": message}, status=status)


def _no_route() -> Reply:
    return _refused(404, "NOT_FOUND", "there is nothing here; see /openapi.json for what there is")


def _encodable(body: dict[str, Any]) -> dict[str, Any]:
    """Check an echoed body: it may hold whole numbers that JSON readers take and writers do not.

    Raises:
        BadMessageError: It does.
    """
    try:
        msgspec.json.encode(body)
    except (OverflowError, ValueError, TypeError) as error:
        raise BadMessageError(f"the row cannot be echoed: {error}") from error
    return body
