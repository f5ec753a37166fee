"""One action parser for all worlds: native grammar, JSON tool calls and ReAct-style text."""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Literal

from turnwise.errors import ConfigError, did_you_mean
from turnwise.messages import Found, ToolCall, UnreadableError, find_action, is_thought
from turnwise.records import Action, Json
from turnwise.templates import Template, first_word, fold

MAX_ACTION_CHARS = 65_536
_QUOTED_CHARS = 60
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Control characters and lone surrogates; tab, line feed and carriage return are text.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """One action of a world.

    Attributes:
        name: Tool name, such as ``"take"``. Specs that share a name are variants of one action.
        template: The native form, such as ``"take {object} from {receptacle}"`` or
            ``"search[{query}]"``.
        description: One line for the tool schema and the system prompt.
        parameters: Parameter name to its description, in the template's order.
    """

    name: str
    template: str
    description: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ActionProblem:
    """Why a message is no action.

    Attributes:
        message: What is wrong, in one line.
        explanation: The observation for the agent: what is wrong, and the grammar.
    """

    message: str
    explanation: str


class ActionGrammar:
    """The actions of a world, and how to read them from an agent's message.

    Native commands ignore case in the template's own words, and whitespace runs count as one space;
    arguments keep their case. Where several templates fit, the first spec wins. Specs of one name
    are the same action: its canonical ``command`` is written with the first one's template.
    """

    def __init__(self, specs: tuple[ActionSpec, ...]) -> None:
        """Create a grammar.

        Args:
            specs: The actions; earlier ones win where several fit.

        Raises:
            ConfigError: There are none, a name is no tool name, a template is malformed, or the
                parameters do not fit the template or the other specs of the same name.
        """
        if not specs:
            raise ConfigError("a grammar needs at least one ActionSpec")
        self.specs = tuple(specs)
        self._canonical: dict[str, tuple[ActionSpec, Template]] = {}
        self._by_word: dict[str, list[tuple[ActionSpec, Template]]] = {}
        self._bare: dict[str, Action] = {}
        for spec in self.specs:
            self._add(spec)
        for candidates in tuple(self._by_word.values()):
            for _, template in candidates:
                action = None if template.slots else self._match(template.text)
                if action is not None and not action.arguments:
                    self._bare[fold(template.text)] = action
        self._explanation = self._explain()

    def _add(self, spec: ActionSpec) -> None:
        if not _TOOL_NAME.fullmatch(spec.name):
            raise ConfigError(f"an action name has 1 to 64 of a-z, A-Z, 0-9, '_' and '-': got {spec.name!r}")
        template = Template(spec.template)
        if set(spec.parameters) != set(template.slots):
            raise ConfigError(
                f"action {spec.name!r}: its template has the slots {list(template.slots)} but its parameters are "
                f"{list(spec.parameters)}; name the same ones"
            )
        first, _ = self._canonical.setdefault(spec.name, (spec, template))
        if set(first.parameters) != set(spec.parameters):
            raise ConfigError(
                f"action {spec.name!r} has specs with other parameters ({list(first.parameters)} and "
                f"{list(spec.parameters)}): give one of them another name"
            )
        self._by_word.setdefault(template.word, []).append((spec, template))

    # -- reading -----------------------------------------------------------------------------------

    def parse(self, text: str) -> Action | ActionProblem:
        """Read the one action of a message; never raises, whatever the text.

        Args:
            text: A native command, a JSON tool call (OpenAI or Hermes form), or ReAct style with a
                thought before either of them.

        Returns:
            The action (``form`` is ``"json"`` for tool calls, ``"react"`` for a native command that
            a thought, label or tag sets apart, else ``"native"``), or what is wrong.
        """
        # Most messages are a plain command on one line; behind a command, only tags and fences count.
        if len(text) <= 256 and text.isprintable() and not ("<" in text or "```" in text):
            action = self._match(text)
            if action is not None:
                return action
        try:
            return self._read(text)
        except UnreadableError as problem:
            message = str(problem)
            return ActionProblem(message=message, explanation=f"Invalid action: {message}\n{self._explanation}")

    def _read(self, text: str) -> Action:
        if len(text) > MAX_ACTION_CHARS:
            raise UnreadableError(f"the message has {len(text)} characters, at most {MAX_ACTION_CHARS} are read")
        if not text or text.isspace():
            raise UnreadableError("the message is empty")
        if _UNPRINTABLE.search(text):
            raise UnreadableError("the message holds control characters or broken unicode")
        found = find_action(text)
        if isinstance(found.action, ToolCall):
            return self._call(found.action, found.thought)
        return self._command(found.action, found)

    def _match(self, text: str) -> Action | None:
        """Read a native command of one line, or return None."""
        command = " ".join(text.split())
        folded = fold(command)
        bare = self._bare.get(folded)
        if bare is not None:
            return bare
        for spec, template in self._by_word.get(first_word(folded), ()):
            values = template.match(command, folded)
            if values is not None:
                return Action(name=spec.name, arguments=values, command=self._canonical[spec.name][1].fill(values))
        return None

    def _command(self, text: str, found: Found) -> Action:
        action = self._match(text)
        if action is None:
            raise UnreadableError(self._why_not(text))
        if not found.marked:
            return action
        return Action(
            name=action.name,
            arguments=action.arguments,
            command=action.command,
            form="react",
            thought=found.thought,
        )

    def _why_not(self, text: str) -> str:
        if is_thought(text):
            return "the message is a thought without an action: add a line 'Action: ...'"
        start = fold(" ".join(text[:200].split()))
        near = self._by_word.get(first_word(start), [])
        if near:
            forms = " or ".join(repr(template.text) for _, template in near[:3])
            return f"{_quote(text)} does not have the form {forms}"
        heads = {fold(template.head): template for group in self._by_word.values() for _, template in group}
        words = start.split()
        guesses = [" ".join(words[:count]) for count in (1, 2) if words]
        close = [head for guess in guesses for head in difflib.get_close_matches(guess[:40], heads, n=1, cutoff=0.6)]
        hint = f"; did you mean {heads[close[-1]].text!r}?" if close else ""
        return f"{_quote(text)} is none of the actions{hint}"

    def _call(self, call: ToolCall, thought: str | None) -> Action:
        known = self._canonical.get(call.name)
        if known is None:
            raise UnreadableError(f"unknown tool {_quote(call.name)}.{did_you_mean(call.name[:64], self._canonical)}")
        spec, template = known
        for name in call.arguments:
            if name not in spec.parameters:
                hint = did_you_mean(name[:64], spec.parameters)
                raise UnreadableError(f"tool {spec.name!r} has no argument {_quote(name)}.{hint}")
        missing = [slot for slot in template.slots if slot not in call.arguments]
        if missing:
            raise UnreadableError(f"tool {spec.name!r} needs the argument {missing[0]!r}")
        values = {slot: _as_text(spec.name, slot, call.arguments[slot]) for slot in template.slots}
        return Action(
            name=spec.name, arguments=values, command=template.fill(values), form="json", thought=_printable(thought)
        )

    # -- writing -----------------------------------------------------------------------------------

    def format(self, action: Action, form: Literal["native", "json", "react"] | None = None) -> str:
        """Write an action so that :meth:`parse` reads it again.

        Args:
            action: An action of this grammar.
            form: How to write it; None writes it as the agent did. A thought is left out of the
                native form, and where it holds tags or fences that would be read as an action.
        """
        form = form or action.form
        thought = " ".join((action.thought or "").split())
        if "<" in thought or "```" in thought:
            thought = ""
        if form == "json":
            call = json.dumps({"name": action.name, "arguments": action.arguments}, ensure_ascii=False)
            return f"<think>{thought}</think>\n{call}" if thought else call
        if form == "react":
            return f"Thought: {thought}\nAction: {action.command}" if thought else f"Action: {action.command}"
        return action.command

    def tools(self) -> list[dict[str, Json]]:
        """Return the actions as strict tool schemas in the OpenAI function format."""
        return [
            {
                "type": "function",
                "function": {
                    "name": spec.name,
                    "description": spec.description,
                    "strict": True,
                    "parameters": {
                        "type": "object",
                        "properties": {
                            slot: {"type": "string", "description": spec.parameters[slot]} for slot in template.slots
                        },
                        "required": list(template.slots),
                        "additionalProperties": False,
                    },
                },
            }
            for spec, template in self._canonical.values()
        ]

    def explain(self) -> str:
        """Return the grammar in words: each native form, the JSON form, and where a thought goes."""
        return self._explanation

    def _explain(self) -> str:
        lines = [f"  {template.text} - {spec.description}" for spec, template in self._canonical.values()]
        spec, template = max(self._canonical.values(), key=lambda known: bool(known[1].slots))
        call = {"name": spec.name, "arguments": dict.fromkeys(template.slots, "...")}
        return "\n".join(
            (
                "Answer with exactly one action per message, in one of these forms:",
                *lines,
                f"The same as a JSON tool call: {json.dumps(call)}",
                f"A thought may come first. Example: Thought: what to do next. Action: {template.text}",
            )
        )


def _quote(text: str) -> str:
    """Quote a short, escaped piece of an agent's text."""
    return repr(text) if len(text) <= _QUOTED_CHARS else repr(text[:_QUOTED_CHARS]) + "..."


def _printable(text: str | None) -> str | None:
    return None if text is None or _UNPRINTABLE.search(text) else text


def _as_text(tool: str, name: str, value: Json) -> str:
    """Turn a JSON argument into a command's text."""
    where = f"argument {name!r} of tool {tool!r}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and math.isfinite(value):
        return str(value)
    if not isinstance(value, str):
        raise UnreadableError(f"{where} must be a text or a number")
    if _UNPRINTABLE.search(value):
        raise UnreadableError(f"{where} holds control characters or broken unicode")
    text = " ".join(value.split())
    if not text:
        raise UnreadableError(f"{where} is empty")
    return text
