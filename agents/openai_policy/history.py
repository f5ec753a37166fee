"""A conversation as a chat endpoint is sent it: the policy's whole state, which only ever grows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from turnwise.agents.openai_policy.replies import Call, Reply
from turnwise.agents.openai_policy.tokens import NOTHING, KnownIds
from turnwise.errors import PolicyError
from turnwise.policy import PolicyRequest, pack_state, unpack_state
from turnwise.records import Json

Mode = Literal["tools", "text"]

_THINK_TAGS = re.compile(r"</?(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_ANSWERED_LAST = "The answer to all calls of the message follows."


@dataclass(frozen=True, kw_only=True)
class History:
    """One episode's conversation.

    Attributes:
        messages: What the endpoint is sent, in order.
        tools: The world's tools; sent in tools mode only.
        mode: How actions are asked for.
        spent: Tokens of the conversation after the last reply, as the server counts them.
        ids: The token ids so far, or None once they are not known.
    """

    messages: tuple[dict[str, Json], ...]
    tools: tuple[dict[str, Json], ...]
    mode: Mode
    spent: int = 0
    ids: KnownIds | None = NOTHING

    def asked(self, observation: str) -> History:
        """Return the conversation with an observation: an answer to each open tool call, or the user's words."""
        text = _sendable(observation)
        calls = self.messages[-1].get("tool_calls") if self.messages else None
        if not calls:
            return replace(self, messages=(*self.messages, {"role": "user", "content": text}))
        # An endpoint refuses a conversation in which a call is left without an answer.
        *others, last = (call["id"] for call in calls)
        answers = [{"role": "tool", "tool_call_id": call_id, "content": _ANSWERED_LAST} for call_id in others]
        answers.append({"role": "tool", "tool_call_id": last, "content": text})
        return replace(self, messages=(*self.messages, *answers))

    def answered(self, reply: Reply, turn: int, *, spent: int, ids: KnownIds | None) -> History:
        """Return the conversation with the model's message."""
        message = _assistant(reply, turn)
        return replace(self, messages=(*self.messages, message), spent=spent, ids=ids)

    def pack(self) -> bytes:
        """Encode as a policy's state."""
        ids = None if self.ids is None else [self.ids.count, self.ids.digest]
        return pack_state([list(self.messages), list(self.tools), self.mode, self.spent, ids])


def begin(request: PolicyRequest, mode: Mode) -> History:
    """Return the conversation before the first observation."""
    system = ({"role": "system", "content": _sendable(request.system)},) if request.system else ()
    return History(messages=system, tools=request.tools, mode=mode)


def resume(state: bytes) -> History:
    """Decode a state.

    Raises:
        PolicyError: It is none of this policy's.
    """
    try:
        messages, tools, mode, spent, ids = unpack_state(state)
        known = None if ids is None else KnownIds(int(ids[0]), bytes(ids[1]))
        return History(messages=tuple(messages), tools=tuple(tools), mode=mode, spent=int(spent), ids=known)
    except (ValueError, TypeError, IndexError) as error:
        raise PolicyError(f"the state of the turn before is none of this policy: {error}", kind="state") from None


def world_text(reply: Reply) -> str:
    """Return a message as the world is to read it.

    A tool call is written as JSON, its arguments as the model wrote them; several calls as a list, which
    worlds refuse with the reason. What was said besides a call, and what the server kept apart as
    reasoning, stands before it as a thought.
    """
    if not reply.calls:
        return _thought(reply.reasoning, closed=bool(reply.content)) + reply.content
    calls = [_written(call) for call in reply.calls]
    said = "\n".join(part for part in (reply.reasoning.strip(), reply.content.strip()) if part)
    return _thought(said) + (calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]")


def _thought(text: str, *, closed: bool = True) -> str:
    # Tags of its own would end the thought too early.
    plain = _THINK_TAGS.sub("", text).strip()
    if not plain:
        return ""
    return f"<think>{plain}</think>\n" if closed else f"<think>{plain}"


def _written(call: Call) -> str:
    """Write a call as worlds read it; arguments that are no JSON object go as text, so that the world explains."""
    raw = call.arguments.strip()
    arguments = raw or "{}" if decoded(raw) else json.dumps(call.arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {arguments}}}'


def decoded(arguments: str) -> bool:
    """Whether a call's arguments are a JSON object, or nothing at all."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return not arguments.strip() or isinstance(json.loads(arguments, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _assistant(reply: Reply, turn: int) -> dict[str, Json]:
    """Return the message as the history keeps it: content and calls as they came.

    Calls with broken arguments are kept as the text that the world saw. Servers decode the arguments of
    earlier calls for their templates, and would refuse every later request of the episode.
    """
    if not reply.calls:
        return {"role": "assistant", "content": reply.content}
    if not all(decoded(call.arguments) and call.name for call in reply.calls):
        return {"role": "assistant", "content": world_text(replace(reply, reasoning=""))}
    return {"role": "assistant", "content": reply.content or None, "tool_calls": _calls(reply.calls, turn)}


def _calls(calls: Sequence[Call], turn: int) -> list[dict[str, Json]]:
    return [
        {
            # An answer needs an id to refer to, which a few servers leave out.
            "id": call.id or f"call_{turn}_{number}",
            "type": "function",
            # No text at all is what some models write for no arguments, and what no server can decode.
            "function": {"name": call.name, "arguments": call.arguments if call.arguments.strip() else "{}"},
        }
        for number, call in enumerate(calls)
    ]


def _sendable(text: str) -> str:
    """Replace lone halves of surrogate pairs, which UTF-8 has no form for."""
    return text.encode("utf-8", "replace").decode("utf-8")
