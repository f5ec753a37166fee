"""Asking for one message: the request's fields, and doing without what a server does not take."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence

import numpy as np

from turnwise.agents.openai_policy.endpoint import Endpoint
from turnwise.agents.openai_policy.errors import Failure, refused_fields, refuses_tools
from turnwise.agents.openai_policy.history import History, Mode, begin
from turnwise.agents.openai_policy.options import Options
from turnwise.agents.openai_policy.replies import Reply
from turnwise.errors import ConfigError
from turnwise.policy import Finish, PolicyRequest
from turnwise.records import Json

# Fields that a server may refuse and that a conversation can do without.
_DISPENSABLE = frozenset({"logprobs", "return_token_ids", "seed", "stream_options"})
_SEED_STREAM = 0x6F616970  # apart from what the environment and other agents draw from the episode's seed


class Asker:
    """Asks one server, and remembers what it does not take.

    Attributes:
        left_out: Names of the fields that the server refused.
        takes_tools: False once the server said that it takes no tools.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        """Ask ``endpoint`` for messages with ``options``."""
        self.left_out: set[str] = set()
        self.takes_tools = True
        self._endpoint = endpoint
        self._options = options
        self._model = options.model
        self._naming = asyncio.Lock()

    async def prepare(self) -> None:
        """Open the client, and ask for the model's name where none was given; further calls do nothing."""
        self._endpoint.open()
        async with self._naming:
            if self._model:
                return
            url = self._endpoint.url
            try:
                names = await self._endpoint.models()
            except Failure as failure:
                raise failure.error(url) from None
            if len(names) != 1:
                listed = f"lists {', '.join(map(repr, names[:12]))}" if names else "lists none"
                raise ConfigError(f"{url} {listed}: name the model, as openai:{url}?model=NAME")
            self._model = names[0]

    def begin(self, request: PolicyRequest) -> History:
        """Return an episode's conversation before the first observation.

        Raises:
            ConfigError: Tools are wanted of a world that has none.
        """
        if self._options.mode == "tools" and not request.tools:
            raise ConfigError("the world has no tools: use mode=text, or mode=auto")
        text = self._options.mode == "text" or not request.tools or not self.takes_tools
        mode: Mode = "text" if text else "tools"
        return begin(request, mode)

    async def ask(self, history: History, request: PolicyRequest, limit: int) -> tuple[History, Reply]:
        """Ask for the message that follows a conversation.

        Args:
            history: The conversation, up to the observation.
            request: What the policy was asked.
            limit: Longest message in tokens.

        Returns:
            The conversation, another one where the server takes no tools; and the message.
        """
        await self.prepare()
        while True:
            body = self._body(history, request, limit)
            try:
                return history, await self._endpoint.complete(body)
            except Failure as failure:
                refused = refused_fields(failure, _DISPENSABLE.intersection(body).difference(self._options.extra))
                if refused:
                    self._leave_out(refused)
                elif self._in_tools(body) and not request.turn and refuses_tools(failure):
                    self.takes_tools = False
                    history = begin(request, "text").asked(request.observation)
                elif "max_tokens" in body and _wants_newer_name(failure):
                    self.left_out.add("max_tokens")
                else:
                    raise failure.error(self._endpoint.url) from None

    def _in_tools(self, body: dict[str, Json]) -> bool:
        return self._options.mode == "auto" and "tools" in body

    def _body(self, history: History, request: PolicyRequest, limit: int) -> dict[str, Json]:
        options = self._options
        # OpenAI's newer models take the limit under its newer name only; others know the older one only.
        limited = "max_completion_tokens" if "max_tokens" in self.left_out else "max_tokens"
        body: dict[str, Json] = {
            "model": self._model,
            "messages": list(history.messages),
            "temperature": options.temperature,
            "top_p": options.top_p,
            limited: limit,
        }
        optional: dict[str, tuple[bool, Json]] = {
            "tools": (history.mode == "tools", list(history.tools)),
            "stop": (bool(options.stop), list(options.stop)),
            "seed": (options.seed, turn_seed(request.seed, request.turn)),
            "logprobs": (options.logprobs, True),
            "return_token_ids": (options.token_ids, True),
            "stream": (options.stream, True),
            "stream_options": (options.stream, {"include_usage": True}),
        }
        chosen = {name: value for name, (wanted, value) in optional.items() if wanted and name not in self.left_out}
        return {**body, **chosen, **options.extra}

    def _leave_out(self, fields: frozenset[str]) -> None:
        news = fields - self.left_out  # requests under way at the same time are refused alike
        self.left_out |= fields
        if news:
            text = f"{self._endpoint.url} does not take {', '.join(sorted(news))}: left out from now on"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def _wants_newer_name(failure: Failure) -> bool:
    return bool(refused_fields(failure, {"max_tokens"})) and "max_completion_tokens" in failure.problem


def turn_seed(seed: int, turn: int) -> int:
    """Return a message's seed, 0 to 2^31 - 1: the range that all servers take."""
    sequence = np.random.SeedSequence(abs(seed), spawn_key=(_SEED_STREAM, turn))
    return int(sequence.generate_state(1)[0]) & 0x7FFFFFFF


def server_version(reply: Reply) -> str | None:
    """Return what the server says that it runs: the model's name and its fingerprint."""
    return "@".join(part for part in (reply.model, reply.fingerprint) if part) or None


def finish(reply: Reply, stop: Sequence[str]) -> Finish:
    """Return why a message ends."""
    if reply.finish_reason == "length":
        return "length"
    if reply.calls or reply.finish_reason in ("tool_calls", "function_call"):
        return "action"
    # Servers say so (vLLM, SGLang) or leave the stop string in the text (transformers); others do not tell.
    stopped = reply.stopped_by in stop or any(reply.content.endswith(text) for text in stop)
    return "action" if stopped else "stop"
