"""A list of chat messages as turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from turnwise.actions import ActionGrammar, ActionProblem
from turnwise.errors import ConfigError
from turnwise.records import Action, Json, Turn, replace
from turnwise.rollout.oracle.schema import Message, Span, TurnFacts


@dataclass(frozen=True)
class Conversation:
    """What a conversation says happened.

    Attributes:
        question: The first user message.
        turns: One per assistant message; one per call where a message makes several.
        final_observation: What came after the last assistant message.
        last_message: The last assistant message's text, or "".
        texts: The agent's messages as a world takes them.
    """

    question: str
    turns: tuple[Turn, ...]
    final_observation: str
    last_message: str
    texts: tuple[str, ...]


@dataclass
class _Reading:
    turns: list[Turn] = field(default_factory=list)
    observation: list[str] = field(default_factory=list)
    question: str | None = None
    last: str = ""


def read_conversation(messages: Sequence[Message], grammar: ActionGrammar | None) -> Conversation:
    """Read a conversation.

    With a grammar every assistant message is read as the world would read it. Without one a tool call is the action
    of its name, the last message is the answer, and messages in between are messages.

    Args:
        messages: At least one.
        grammar: The world's, or None.

    Raises:
        ConfigError: A message is malformed; the text begins with its place.
    """
    if not messages:
        raise ConfigError("messages: is empty: give the conversation, the agent's messages with role 'assistant'")
    spoken = [place for place, message in enumerate(messages) if message.role == "assistant"]
    reading = _Reading()
    for place, message in enumerate(messages):
        text = content_text(message.content, f"messages[{place}].content")
        if message.role == "assistant":
            final = bool(spoken) and place == spoken[-1]
            _add(reading, message, text, f"messages[{place}]", grammar, final)
        elif message.role not in ("system", "developer"):
            if reading.question is None and message.role == "user":
                reading.question = text
            reading.observation.append(text)
    return Conversation(
        question=reading.question or "",
        turns=tuple(reading.turns),
        final_observation="\n".join(reading.observation) if reading.turns else "",
        last_message=reading.last,
        texts=tuple(turn.action_text for turn in reading.turns),
    )


def content_text(content: str | Sequence[Mapping[str, Json]] | None, place: str) -> str:
    """Return the text of a message's content.

    Raises:
        ConfigError: A part is no text where one is due.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for number, part in enumerate(content):
        text = part.get("text", part.get("output", ""))
        if not isinstance(text, str):
            raise ConfigError(f"{place}[{number}]: 'text' must be a text, got {type(text).__name__}")
        parts.append(text)
    return "\n".join(part for part in parts if part)


def _add(
    reading: _Reading, message: Message, text: str, place: str, grammar: ActionGrammar | None, final: bool
) -> None:
    observation = "\n".join(part for part in reading.observation if part)
    reading.observation = []
    reading.last = text
    for said, action, problem in _moves(message, text, place, grammar, final):
        reading.turns.append(
            Turn(
                index=len(reading.turns),
                observation=observation,
                action_text=said,
                action=action,
                action_valid=action is not None,
                action_error=problem,
            )
        )
        observation = ""


def _moves(
    message: Message, text: str, place: str, grammar: ActionGrammar | None, final: bool
) -> list[tuple[str, Action | None, str | None]]:
    calls = [_call(call, f"{place}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())]
    if grammar is not None:
        said = text if not calls else json.dumps({"content": text, "tool_calls": calls}, ensure_ascii=False)
        parsed = grammar.parse(said)
        if isinstance(parsed, ActionProblem):
            return [(said, None, parsed.message)]
        return [(said, parsed, None)]
    if not calls:
        name = "answer" if final else "message"
        return [(text, Action(name=name, arguments={"text": text}, command=name), None)]
    return [
        (
            json.dumps(call, ensure_ascii=False),
            Action(
                name=call["name"],
                arguments=as_texts(call["arguments"]),
                command=call["name"],
                form="json",
                thought=text or None,
            ),
            None,
        )
        for call in calls
    ]


def _call(call: Mapping[str, Json], place: str) -> dict[str, Json]:
    inner = call.get("function")
    found = inner if isinstance(inner, Mapping) else call
    name, arguments = found.get("name"), found.get("arguments")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{place}: must hold a 'name' and 'arguments', got {sorted(map(str, found))}")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}  # what the policy garbled has none
    return {"name": name, "arguments": arguments if isinstance(arguments, dict) else {}}


def as_texts(arguments: Mapping[str, Json]) -> dict[str, str]:
    """Return a call's arguments as texts."""
    return {str(k): v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in arguments.items()}


def with_facts(turns: Sequence[Turn], facts: Sequence[TurnFacts] | None) -> tuple[Turn, ...]:
    """Put what the caller's world said on the turns.

    Raises:
        ConfigError: There is not one entry per turn.
    """
    if facts is None:
        return tuple(turns)
    if len(facts) != len(turns):
        raise ConfigError(f"turns: holds {len(facts)} entries for {len(turns)} turns: give one per turn")
    placed = []
    for turn, said in zip(turns, facts, strict=True):
        changes: dict[str, Json] = {
            "action_valid": said.action_valid and turn.action_valid,
            "action_error": said.action_error or turn.action_error,
            "env_reward": said.env_reward,
            "progress": said.progress,
            "success": said.success,
            "level": said.level,
            "info": said.info,
        }
        placed.append(replace(turn, **changes))
    return tuple(placed)


def with_spans(turns: Sequence[Turn], spans: Sequence[Span]) -> tuple[Turn, ...]:
    """Put token spans on the turns.

    Raises:
        ConfigError: There is not one span per turn, or they overlap.
    """
    if len(spans) != len(turns):
        raise ConfigError(
            f"tokens.spans: holds {len(spans)} spans for {len(turns)} turns: give one per assistant message, "
            "each with at most one tool call"
        )
    before = 0
    for number, (start, end) in enumerate(spans):
        if not before <= start <= end:
            raise ConfigError(f"tokens.spans[{number}]: [{start}, {end}] must follow {before} with start <= end")
        before = end
    return tuple(replace(turn, token_span=tuple(span)) for turn, span in zip(turns, spans, strict=True))
