"""One action parser for all worlds: native grammar, JSON tool calls and ReAct-style text."""

from __future__ import annotations

from dataclasses import dataclass, field

from turnwise.records import Action, Json

MAX_ACTION_CHARS = 65_536


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """One action of a world.

    Attributes:
        name: Tool name, such as ``"take"``.
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
    """The actions of a world, and how to read them from an agent's message."""

    def __init__(self, specs: tuple[ActionSpec, ...]) -> None:
        """Create a grammar of ``specs``."""
        self.specs = specs

    def parse(self, text: str) -> Action | ActionProblem:
        """Read one action from a message."""
        raise NotImplementedError

    def tools(self) -> list[dict[str, Json]]:
        """OpenAI function schemas."""
        raise NotImplementedError

    def explain(self) -> str:
        """The grammar in words."""
        raise NotImplementedError
