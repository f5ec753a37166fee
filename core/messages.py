"""Where the action is in an agent's message: ReAct labels, tags, fences and JSON tool calls."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from turnwise.records import Json

_THINK_OPEN = re.compile(r"\A\s*<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THINK_CLOSE = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TAGS = tuple(
    (re.compile(f"<{tag}>", re.IGNORECASE), re.compile(f"</{tag}>", re.IGNORECASE)) for tag in ("tool_call", "action")
)
# "Action:", "**Action:**" and the numbered "Action 3:" of the ReAct prompts.
_LABEL = r"(?: ?\d{1,3})?\*{0,2}[ \t]?:\*{0,2}"
_ACTION_LINE = re.compile(rf"^[ \t]*\*{{0,2}}action{_LABEL}", re.IGNORECASE | re.MULTILINE)
_ACTION_INLINE = re.compile(rf"\baction{_LABEL}", re.IGNORECASE)
_THOUGHT_LABEL = re.compile(rf"\A[ \t>]*\*{{0,2}}(?:thought|think){_LABEL}", re.IGNORECASE)
_PROMPT_LINE = re.compile(r"^[ \t]*>", re.MULTILINE)
_FENCE_LANGUAGE = re.compile(r"\A(?:json\b|\w{1,20}[ \t]*\n)")

SEVERAL = "the message holds several actions: send exactly one per turn"


class UnreadableError(ValueError):
    """A message in which no single action can be found; the text says why, in one line."""


@dataclass(frozen=True)
class ToolCall:
    """A JSON tool call, not yet checked against a grammar."""

    name: str
    arguments: dict[str, Json]


@dataclass(frozen=True)
class Found:
    """An action as it stands in a message.

    Attributes:
        action: The native command, one line; or a tool call.
        thought: The text before it, or None.
        marked: Whether a thought, label or tag set the action apart.
    """

    action: str | ToolCall
    thought: str | None
    marked: bool


def is_thought(text: str) -> bool:
    """Whether ``text`` begins with a thought's label or tag."""
    return bool(_THOUGHT_LABEL.match(text) or _THINK_OPEN.match(text))


def find_action(text: str) -> Found:
    """Find the one action of a message.

    Args:
        text: The agent's message.

    Raises:
        UnreadableError: There is none, there are several, or its JSON is broken.
    """
    thought, body, inner = "", text.strip(), None
    if not body.startswith(("{", "[")):
        thought, body = _split_thought(body)
    if not body.startswith(("{", "[")):
        before, inner = _set_apart(body)
        thought = "\n".join(part for part in (thought, before.strip()) if part)
    content = _unwrap(body if inner is None else inner)
    if not content:
        raise UnreadableError("the message holds no action")
    if thought:
        thought = _THOUGHT_LABEL.sub("", thought, count=1).strip()
    if content.startswith(("{", "[")):
        call, said = read_call(content)
        return Found(call, thought or said, marked=True)
    if "\n" in content or "\r" in content:
        raise UnreadableError("the action must be one line: put thoughts before a line 'Action: ...', nothing after it")
    return Found(content, thought or None, marked=bool(thought) or inner is not None)


def _split_thought(text: str) -> tuple[str, str]:
    opened = _THINK_OPEN.match(text)
    # Chat templates of reasoning models put the opening tag into the prompt, so it may be missing.
    closed = _THINK_CLOSE.search(text)
    if closed:
        return text[opened.end() if opened else 0 : closed.start()].strip(), text[closed.end() :].strip()
    if opened:
        raise UnreadableError("the thought is never closed: end it with </think> and write the action after it")
    return "", text


def _set_apart(body: str) -> tuple[str, str | None]:
    """Split a message at its label, tag or fence; ``("", None)`` if it has none."""
    for opening, closing in _TAGS:
        parts = opening.split(body, maxsplit=2)
        if len(parts) > 2:
            raise UnreadableError(SEVERAL)
        if len(parts) == 2:
            # Samplers stop at the closing tag and leave it out, so it may be missing.
            return parts[0], closing.split(parts[1], maxsplit=1)[0]
    labels = [match.span() for match in _ACTION_LINE.finditer(body)]
    if len(labels) > 1:
        raise UnreadableError(SEVERAL)
    if not labels and _THOUGHT_LABEL.match(body):
        # The thought itself may speak of an action, so the last label counts.
        labels = [match.span() for match in _ACTION_INLINE.finditer(body)][-1:]
    if labels:
        return body[: labels[0][0]], body[labels[0][1] :]
    if "```" in body:
        start = body.index("```")
        return body[:start], body[start:]
    prompts = [match.span() for match in _PROMPT_LINE.finditer(body)]
    if len(prompts) > 1:
        raise UnreadableError(SEVERAL)
    if prompts and not _THOUGHT_LABEL.match(body[prompts[0][0] :]):
        return body[: prompts[0][0]], body[prompts[0][1] :]
    return "", None


def _unwrap(content: str) -> str:
    """Take an action out of a code fence or backticks."""
    content = content.strip()
    if not content.startswith("`"):
        return content
    if not content.startswith("```"):
        return content.strip("`").strip()
    parts = content.split("```", 3)
    if len(parts) > 3:
        raise UnreadableError(SEVERAL)
    return _FENCE_LANGUAGE.sub("", parts[1].strip(), count=1).strip()


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _decode(text: str) -> tuple[Json, str]:
    """Decode the leading JSON value; returns it with what follows."""
    try:
        value, end = _decoder.raw_decode(text)
    except RecursionError:
        raise UnreadableError("the JSON is nested too deeply: a call is {'name': ..., 'arguments': {...}}") from None
    except ValueError as error:
        # Only the decoder's own words: they quote nothing of the text but positions.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number or constant is out of range"
        raise UnreadableError(f"the JSON is broken: {reason}") from None
    return value, text[end:].strip()


def read_call(text: str) -> tuple[ToolCall, str | None]:
    """Read a JSON tool call in the OpenAI or Hermes form.

    Args:
        text: JSON that starts with ``{`` or ``[``.

    Returns:
        The call, and the text of an assistant message around it or None.

    Raises:
        UnreadableError: Broken JSON, no call or several.
    """
    value, rest = _decode(text)
    if rest:
        raise UnreadableError(SEVERAL if rest.startswith(("{", "[", ",")) else "there is text after the JSON call")
    said: str | None = None
    for _ in range(4):  # list, assistant message, list of calls, function: no form nests deeper
        if isinstance(value, list):
            if len(value) != 1:
                raise UnreadableError(SEVERAL if value else "the list of tool calls is empty")
            value = value[0]
        elif isinstance(value, dict) and "tool_calls" in value:
            content = value.get("content")
            said = content.strip() or None if isinstance(content, str) else None
            value = value["tool_calls"]
        elif isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        else:
            break
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise UnreadableError('the JSON is no tool call: it needs "name" and "arguments"')
    return ToolCall(value["name"], _arguments(value)), said


def _arguments(call: dict[str, Json]) -> dict[str, Json]:
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments, rest = _decode(arguments.strip())
        if rest:
            raise UnreadableError('there is text after the JSON in "arguments"')
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, dict):
        raise UnreadableError('"arguments" must be a JSON object')
    return arguments
