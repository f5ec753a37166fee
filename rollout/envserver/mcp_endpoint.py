"""MCP: the world's tools for MCP clients, over the official SDK's streamable HTTP; one episode per MCP session.

Both generations of the SDK are served: 1.x registers handlers with decorators, 2.x takes them when the server
is made. The protocol of 2026-07-28 has no sessions, and an episode needs one, so its clients are told which
versions have them and fall back.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from turnwise import __version__
from turnwise.errors import EpisodeOverError, MissingExtraError, TurnwiseError
from turnwise.records import Json
from turnwise.rollout.envserver.frames import Shown
from turnwise.rollout.envserver.gate import send_json
from turnwise.rollout.envserver.replies import BadMessageError, facts_of, fault_of, introduction_of, record_of
from turnwise.rollout.envserver.sessions import Session, Sessions

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

META = "turnwise/turn"  # where a result carries reward and facts, which are not for the model
SESSION_HEADER = "mcp-session-id"
VERSION_HEADER = "mcp-protocol-version"
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")  # those with sessions
UNSUPPORTED_VERSION = -32022
SESSIONS_PER_EPISODE = 4
OVER = "The episode is over. Reset to begin another one."

CallTool = Callable[[str, str, dict[str, Json]], Awaitable[dict[str, Json]]]


class McpEndpoint:
    """The ASGI application behind ``/mcp``."""

    def __init__(self, sessions: Sessions, *, idle_s: float | None) -> None:
        """Serve the tools of the world behind ``sessions``.

        Raises:
            MissingExtraError: The SDK is not installed.
        """
        self._sessions = sessions
        self._open: dict[str, Session] = {}
        world = {str(_function(tool)["name"]): _function(tool) for tool in sessions.about.tools}
        self._reset = next(name for name in ("reset", "reset_episode", "turnwise_reset") if name not in world)
        self.tools = [_reset_tool(self._reset), *map(_world_tool, world.values())]
        self._free_text = not world
        if self._free_text:
            self.tools.append(_ACT_TOOL)
        self._names = {str(tool["name"]) for tool in self.tools}
        # A session without an episode costs little, but not nothing.
        self._manager = _manager(self._server(), idle_s=idle_s, max_sessions=SESSIONS_PER_EPISODE * sessions.limit)

    def _server(self) -> Any:
        about = self._sessions.about
        instructions = f"{about.description}\nCall {self._reset} first.\n\n{about.system_prompt}"
        return _make_server(self._sessions.pool.spec.env_id, instructions, self.tools, self._call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        async with self._manager.run():
            try:
                yield
            finally:
                for session in list(self._open.values()):
                    session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        version = headers.get(VERSION_HEADER)
        if version is not None and version > VERSIONS[-1]:
            await _refuse_version(version, scope, receive, send)
            return
        await self._manager.handle_request(scope, receive, send)
        if scope["method"] == "DELETE":
            ended = self._open.pop(headers.get(SESSION_HEADER, ""), None)
            if ended is not None:
                ended.close()

    async def _call(self, key: str, name: str, arguments: dict[str, Json]) -> dict[str, Json]:
        """Call a tool in the session of an MCP session; what fails is a result that says so."""
        try:
            if name not in self._names:
                raise BadMessageError(f"unknown tool {name[:64]!r}: the tools are {', '.join(sorted(self._names))}")
            if name == self._reset:
                session = self._session(key)
                shown = await session.reset({k: v for k, v in arguments.items() if v is not None})
                return self._result(session, shown, introduce=True)
            found = self._open.get(key)
            if found is None or found.closed:
                raise EpisodeOverError(f"no episode is being played: call {self._reset} first")
            return self._result(found, await found.step(self._message(name, arguments)))
        except TurnwiseError as error:
            fault = fault_of(error)
            text = f"{fault.code}: {fault.data['message']}"
            return {"content": [{"type": "text", "text": text}], "isError": True, "_meta": {META: fault.data}}

    def _session(self, key: str) -> Session:
        if not key:
            raise BadMessageError("episodes need an MCP session: initialize, and send the header Mcp-Session-Id")
        session = self._open.get(key)
        if session is None or session.closed:
            # MCP sessions that ended without a word leave closed ones behind.
            self._open = {k: s for k, s in self._open.items() if not s.closed}
            session = self._open[key] = self._sessions.open()
        return session

    def _message(self, name: str, arguments: dict[str, Json]) -> str:
        if not self._free_text:
            return msgspec.json.encode({"name": name, "arguments": arguments}).decode()
        if not isinstance(arguments.get("text"), str):
            raise BadMessageError('act takes {"text": "..."}')
        return str(arguments["text"])

    def _result(self, session: Session, shown: Shown, *, introduce: bool = False) -> dict[str, Json]:
        content: list[dict[str, Json]] = [{"type": "text", "text": shown.text}]
        if shown.png is not None:
            content.append({"type": "image", "data": base64.b64encode(shown.png).decode(), "mimeType": "image/png"})
        if shown.done:
            content.append({"type": "text", "text": OVER})
        facts = {
            "session_id": session.id,
            "reward": shown.reward,
            "terminated": shown.terminated,
            "truncated": shown.truncated,
            **{name: value for name, value in facts_of(shown).items() if name != "image"},
        }
        if introduce:
            facts["instruction"] = introduction_of(self._sessions.about, shown)["instruction"]
        for name, raw in record_of(session).items():
            facts[name] = msgspec.json.decode(raw)
        return {"content": content, "isError": not shown.action_valid, "_meta": {META: facts}}


# -- tools -------------------------------------------------------------------------------------------

_ACT_TOOL: dict[str, Json] = {
    "name": "act",
    "description": "Play one turn.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The message to the world."}},
        "required": ["text"],
    },
}


def _function(tool: dict[str, Json]) -> dict[str, Json]:
    function = tool.get("function", tool)
    return function if isinstance(function, dict) else {}


def _world_tool(function: dict[str, Json]) -> dict[str, Json]:
    return {
        "name": function["name"],
        "description": function.get("description", ""),
        "inputSchema": function.get("parameters") or {"type": "object", "properties": {}},
    }


def _reset_tool(name: str) -> dict[str, Json]:
    return {
        "name": name,
        "description": "Begin an episode. Without arguments any task is played.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "task_id": {"type": "string", "description": "The task to play."},
                "seed": {"type": "integer", "minimum": 0, "description": "The same seed gives the same episode."},
            },
            "additionalProperties": False,
        },
    }


# -- the SDK -----------------------------------------------------------------------------------------


def _make_server(name: str, instructions: str, tools: list[dict[str, Json]], call: CallTool) -> Any:
    try:
        from mcp import types
        from mcp.server.lowlevel import Server
    except ImportError as error:
        raise MissingExtraError("mcp", "mcp") from error
    listed = types.ListToolsResult.model_validate({"tools": tools})
    make: Any = Server
    if hasattr(make, "call_tool"):  # 1.x
        server = make(name, version=__version__, instructions=instructions)

        async def list_tools() -> Any:
            return listed.tools

        async def call_tool(tool: str, arguments: dict[str, Json]) -> Any:
            result = await call(_key(server.request_context.request), tool, arguments or {})
            return types.CallToolResult.model_validate(result)

        server.list_tools()(list_tools)
        # The world itself says what is wrong with arguments, as it does to every other client.
        server.call_tool(validate_input=False)(call_tool)
        return server

    async def on_list_tools(context: Any, parameters: Any) -> Any:
        return listed

    async def on_call_tool(context: Any, parameters: Any) -> Any:
        result = await call(_key(context.request), parameters.name, parameters.arguments or {})
        return types.CallToolResult.model_validate(result)

    return make(
        name,
        version=__version__,
        instructions=instructions,
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
    )


def _key(request: Any) -> str:
    return "" if request is None else str(request.headers.get(SESSION_HEADER, ""))


def _manager(server: Any, *, idle_s: float | None, max_sessions: int) -> Any:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    # Authentication, hosts and body sizes are looked at before a request comes here.
    wanted = {
        "app": server,
        "json_response": True,
        "stateless": False,
        "session_idle_timeout": idle_s,
        "max_sessions": max_sessions,
    }
    known = inspect.signature(StreamableHTTPSessionManager.__init__).parameters
    make: Any = StreamableHTTPSessionManager
    return make(**{name: value for name, value in wanted.items() if name in known})


async def _refuse_version(version: str, scope: Scope, receive: Receive, send: Send) -> None:
    request_id = None
    message = await receive() if scope["method"] == "POST" else {}
    try:
        body = msgspec.json.decode(message.get("body", b"") or b"null")
        request_id = body.get("id") if isinstance(body, dict) else None
    except msgspec.MsgspecError:
        pass
    error = {
        "code": UNSUPPORTED_VERSION,
        "message": f"protocol version {version[:32]} has no sessions, which episodes need",
        "data": {"supported": list(VERSIONS), "requested": version[:32]},
    }
    reply = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": error})
    await send_json(send, 400, reply)
