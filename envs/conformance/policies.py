"""Policies without skill, and messages that no environment may fall over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from turnwise.env import TurnEnv
from turnwise.envs.conformance.subject import text_of

_WORD = re.compile(r"\w[\w ]{0,30}")


class NullPolicy:
    """Does nothing useful: empty messages and idle talk, in turn."""

    def __init__(self) -> None:
        """Begin with an empty message."""
        self._turn = -1

    def __call__(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Return the next idle message."""
        self._turn += 1
        return ("", "nothing", "Thought: I will wait and see.")[self._turn % 3]


class RandomPolicy:
    """Any admissible action; in worlds without such a list, any tool with words off the screen."""

    def __init__(self, env: TurnEnv[Any], generator: np.random.Generator) -> None:
        """Draw from ``generator``."""
        self._tools = [tool["function"] for tool in env.tools]
        self._generator = generator

    def __call__(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Return a random action."""
        admissible = info.get("admissible_actions")
        if admissible:
            return str(admissible[int(self._generator.integers(len(admissible)))])
        tool = self._tools[int(self._generator.integers(len(self._tools)))]
        words = _WORD.findall(text_of(observation)[:5_000]) or ["1"]
        arguments = {
            name: words[int(self._generator.integers(len(words)))] for name in tool["parameters"]["properties"]
        }
        return json.dumps({"name": tool["name"], "arguments": arguments})


# Messages that are no action in any world, whatever its grammar.
MALFORMED: dict[str, str] = {
    "empty": "",
    "blank": " \t\r\n ",
    "1 MB of letters": "a" * 1_000_000,
    "1 MB of unicode": "\N{SNOWMAN}" * 1_000_000,
    "binary": bytes(range(256)).decode("latin-1"),
    "NUL": "\x00",
    "control characters": "\x1b[2J\x07\x08\x7f",
    "lone surrogate": "\ud800 action \udfff",
    "unicode": "\u202e\u0000\ufeff\N{COMBINING ACUTE ACCENT}" * 50,
    "deep JSON list": "[" * 50_000,
    "deep JSON object": '{"name":' * 8_000,
    "closed deep JSON": "[" * 20_000 + "]" * 20_000,
    "JSON without a name": '{"arguments": {}}',
    "JSON null": "[null]",
    "JSON number": '{"name": 1, "arguments": 2}',
    "huge JSON number": '{"name": "x", "arguments": {"x": ' + "9" * 10_000 + "}}",
    "two calls": '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]',
    "unknown tool": '{"name": "\\u0000__class__", "arguments": {"__proto__": []}}',
    "torn JSON": '{"name": "',
    "unclosed thought": "<think>" + "hm " * 1_000,
    "only tags": "<action></action>",
    "many tags": "<action>" * 5_000,
    "many fences": "```" * 10_000,
}

# Arguments that a world may treat as text but must not carry out, expand or choke on.
INJECTIONS = (
    "{0.__class__.__mro__}",
    "{self.__init__.__globals__}",
    "%s%s%n",
    "${7*7} {{7*7}} #{7*7} <%= 7*7 %>",
    "$(exit 7) `exit 7`; exit 7",
    "../../../../etc/passwd",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "x" * 20_000,
    "(a+)+$" * 200,
    "\u202e\u200f\u0301" * 20,
    "__import__('os').getcwd()",
)


def injected(env: TurnEnv[Any]) -> list[str]:
    """Return well-formed tool calls with hostile arguments, for every tool of the environment."""
    calls: list[str] = []
    for tool in env.tools:
        names = list(tool["function"]["parameters"]["properties"])
        texts = INJECTIONS if names else ()
        calls += [json.dumps({"name": tool["function"]["name"], "arguments": dict.fromkeys(names, t)}) for t in texts]
    return calls
