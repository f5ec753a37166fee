"""What a server answered, whole or in a stream, as one record."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from turnwise.records import Json

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class MalformedError(ValueError):
    """A response that is no chat completion; the text says why."""


@dataclass(frozen=True)
class Call:
    """A tool call as the server wrote it: the arguments are JSON text, which may be broken."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A message, however it came.

    Attributes:
        content: The message's text.
        reasoning: What the server kept apart as the model's thought.
        calls: Its tool calls.
        finish_reason: Why it ends, in the server's word; empty where the server did not say.
        stopped_by: The stop string (or token) that ended it, where the server tells.
        model: The model's name as the server gives it.
        fingerprint: What else the server says about the version of what it runs.
        usage: Prompt and completion tokens, or None.
        prompt_ids: All ids that the model read, or None.
        completion_ids: The ids that it sampled, or None.
        logprobs: One for each sampled token, or None.
    """

    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str = ""
    stopped_by: str | int | None = None
    model: str = ""
    fingerprint: str = ""
    usage: tuple[int, int] | None = None
    prompt_ids: tuple[int, ...] | None = None
    completion_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Json = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    """A message, or what a chunk adds to one."""

    content: str | list[dict[str, Json]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # the name that DeepSeek gave it, and most servers took over
    reasoning: str | None = None  # vLLM's newer name
    tool_calls: list[_ToolCall] | None = None


class _LogProb(msgspec.Struct):
    logprob: float


class _LogProbs(msgspec.Struct):
    content: list[_LogProb] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Part | None = None
    delta: _Part | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM
    matched_stop: str | int | None = None  # SGLang
    logprobs: _LogProbs | None = None
    token_ids: list[TokenId] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    system_fingerprint: str | None = None
    usage: _Usage | None = None
    prompt_token_ids: list[TokenId] | None = None


def read_completion(payload: bytes) -> Reply:
    """Read a completion that came in one piece.

    Raises:
        MalformedError: It is none.
    """
    try:
        completion = msgspec.json.decode(payload, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{_why(error)}, in {_clean(payload[:200].decode('utf-8', 'replace'))!r}") from None
    if not any(choice.message is not None and choice.index == 0 for choice in completion.choices):
        raise MalformedError("the completion has no message")
    collected = Collector()
    collected.take(completion)
    return collected.reply()


class Collector:
    """Puts a message together from the chunks of a stream; a whole completion is a single one."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Growing] = []
        self._finish_reason = self._model = self._fingerprint = ""
        self._stopped_by: str | int | None = None
        self._usage: tuple[int, int] | None = None
        self._prompt_ids: tuple[int, ...] | None = None
        self._completion_ids: list[int] | None = None
        self._logprobs: list[float] | None = None

    @property
    def complete(self) -> bool:
        """Whether the message's end came, so that nothing is missing."""
        return bool(self._finish_reason)

    def add(self, chunk: object) -> None:
        """Add a decoded chunk.

        Raises:
            MalformedError: It is none.
        """
        try:
            self.take(msgspec.convert(chunk, _Completion))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise MalformedError(_why(error)) from None

    def take(self, completion: _Completion) -> None:
        """Add a completion or a chunk of one."""
        self._model = completion.model or self._model
        self._fingerprint = completion.system_fingerprint or self._fingerprint
        if completion.usage is not None:  # some servers count along in every chunk; the last one counts
            self._usage = (completion.usage.prompt_tokens, completion.usage.completion_tokens)
        if completion.prompt_token_ids is not None:
            self._prompt_ids = tuple(completion.prompt_token_ids)
        for choice in completion.choices:
            if choice.index == 0:
                self._choice(choice)

    def _choice(self, choice: _Choice) -> None:
        part = choice.message or choice.delta
        if part is not None:
            self._content.append(_text(part.content) or part.refusal or "")
            self._reasoning.append(part.reasoning_content or part.reasoning or "")
            for number, call in enumerate(part.tool_calls or ()):
                self._call(call, number if choice.message is not None else None)
        self._finish_reason = choice.finish_reason or self._finish_reason
        for stopped_by in (choice.stop_reason, choice.matched_stop):
            self._stopped_by = self._stopped_by if stopped_by is None else stopped_by
        if choice.token_ids is not None:
            self._completion_ids = [*(self._completion_ids or ()), *choice.token_ids]
        if choice.logprobs is not None and choice.logprobs.content is not None:
            self._logprobs = [*(self._logprobs or ()), *(entry.logprob for entry in choice.logprobs.content)]

    def _call(self, call: _ToolCall, number: int | None) -> None:
        """Add a tool call, or a piece of one: ``number`` is its place in a whole message."""
        index = call.index if number is None else number
        known = next((one for one in self._calls if one.index == index), None) if index is not None else None
        if index is None and self._calls and call.id in (None, "", self._calls[-1].id):
            known = self._calls[-1]  # a server that numbers no calls goes on with the last one
        if known is None:
            known = _Growing(len(self._calls) if index is None else index)
            self._calls.append(known)
        known.id = known.id or call.id or ""
        if call.function is not None:
            known.name += call.function.name or ""
            arguments = call.function.arguments
            # Some servers send the arguments decoded, against the specification.
            known.arguments.append(arguments if isinstance(arguments, str) else _dump(arguments))

    def reply(self) -> Reply:
        """Return the message."""
        logprobs = self._logprobs
        if logprobs is not None and not all(math.isfinite(value) for value in logprobs):
            logprobs = None
        return Reply(
            content=_clean("".join(self._content)),
            reasoning=_clean("".join(self._reasoning)),
            calls=tuple(Call(_clean(c.id), _clean(c.name), _clean("".join(c.arguments))) for c in self._calls),
            finish_reason=self._finish_reason,
            stopped_by=self._stopped_by,
            model=_clean(self._model),
            fingerprint=_clean(self._fingerprint),
            usage=self._usage,
            prompt_ids=self._prompt_ids,
            completion_ids=None if self._completion_ids is None else tuple(self._completion_ids),
            logprobs=None if logprobs is None else tuple(logprobs),
        )


class _Growing:
    """A tool call of which more may come."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


def read_models(payload: bytes) -> list[str]:
    """Read the names in an answer of ``/models``.

    Raises:
        MalformedError: It is none.
    """
    try:
        listed: Any = json.loads(payload)["data"]
        return [str(entry["id"]) for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedError(f"{type(error).__name__} in what /models answered") from None


def _text(content: str | list[dict[str, Json]] | None) -> str:
    """Return the text of a message's content, which a few servers send in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if part.get("type", "text") == "text")
    return content or ""


def _dump(value: Json) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _clean(text: str) -> str:
    """Replace what cannot be stored or sent again: lone halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
