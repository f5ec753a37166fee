"""What goes into the oracle and what comes out, on the wire and in process: the published schema.

msgspec structs rather than pydantic models: they check while they decode, and decoding a hundred
kilobytes of messages is what the oracle does most.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from turnwise.records import Ending, Json, Trajectory

VERSION = 1
MAX_NAME = 512

Status: TypeAlias = Literal["ok", "judge_failed", "invalid", "timeout"]
EvidenceLevel: TypeAlias = Literal["none", "total", "full"]
Name: TypeAlias = Annotated[str, Meta(max_length=MAX_NAME)]
Span: TypeAlias = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what callers send: a misspelt field is an error, not a default."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One chat message in the OpenAI form; further fields are ignored.

    Attributes:
        role: ``"system"``, ``"user"``, ``"assistant"``, ``"tool"``, ...; every assistant message is a turn.
        content: Text, or a list of parts of which those with ``text`` (or ``output``) count; None for none.
        tool_calls: Calls as ``{"function": {"name", "arguments"}}`` or ``{"name", "arguments"}``.
    """

    role: Name
    content: str | list[dict[str, Json]] | None = None
    tool_calls: list[dict[str, Json]] | None = None


class Tokens(Wire, frozen=True, kw_only=True):
    """The episode as the trainer has it.

    Attributes:
        ids: All token ids, prompt and observations among them.
        spans: Half-open ``[start, end)`` of the ids sampled in each turn, in order.
        logprobs: Log-probability of each id (0 where it was not sampled), or empty.
    """

    ids: list[Annotated[int, Meta(ge=0, le=2**53)]]
    spans: list[Span]
    logprobs: list[float] = []


class TurnFacts(Wire, frozen=True, kw_only=True):
    """What the caller's world said about one turn; the fields are those of ``turnwise.records.Turn``."""

    action_valid: bool = True
    action_error: str | None = None
    env_reward: float = 0.0
    progress: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    success: bool = False
    level: str | None = None
    info: dict[str, Json] = {}


class GivenOutcome(Wire, frozen=True, kw_only=True):
    """What the episode achieved, where the caller's world knows; the fields are those of ``Outcome``."""

    success: bool
    env_return: float = 0.0
    progress: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    level: str | None = None
    levels: list[str] = []


class Item(Wire, frozen=True, kw_only=True):
    """One episode to score: ``messages``, or ``tokens`` with spans, or a whole turnwise ``trajectory``.

    Attributes:
        id: The caller's name for it, returned with the result.
        messages: The conversation. With ``tokens`` there is one assistant message per span.
        tokens: Token ids with spans. Without ``messages`` the server decodes them (``--tokenizer``).
        trajectory: A turnwise trajectory; then the other descriptions of the episode must be absent.
        task: What the agent was asked; by default the first user message.
        task_id: Id of the task. With a world (``--env``) the assistant messages are played again in it, and
            what really happened is scored rather than what the messages say happened.
        seed: Seed of the replayed episode.
        label: The right answer: a text, a number, or a list of accepted ones.
        metadata: What rewards need of the task (``task.data``), such as ``rubrics``.
        turns: What the caller's world said, one per turn.
        outcome: What the episode achieved; by default whether the final answer matches ``label``.
        done: Whether the agent ended the episode; False where it was cut off.
        ending: How it ended, where that is more than ``done`` can say.
        group: Items with the same group are compared with each other for credit.
    """

    id: Name = ""
    messages: list[Message] | None = None
    tokens: Tokens | None = None
    trajectory: Trajectory | None = None
    task: str = ""
    task_id: Name = ""
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    label: Json = None
    metadata: dict[str, Json] = {}
    turns: list[TurnFacts] | None = None
    outcome: GivenOutcome | None = None
    done: bool = True
    ending: Ending | None = None
    group: Name = ""


class CreditSpec(Wire, frozen=True, kw_only=True):
    """How groups are compared; the options are those of the credit rule in ``turnwise.rewards.credit``.

    Attributes:
        use: ``"group"`` (GRPO, Dr. GRPO, RLOO), ``"cgrpo"`` or ``"information_gain"``.
        options: Its options, such as ``{"estimator": "rloo", "level": "turn"}``.
    """

    use: Literal["group", "cgrpo", "information_gain"] = "group"
    options: dict[str, Json] = {}


class ScoreRequest(Wire, frozen=True, kw_only=True):
    """The body of ``POST /v1/score`` and ``POST /v1/score/stream``.

    Attributes:
        items: What to score.
        credit: Also return advantages; needs ``group`` on the items. Not for the streaming form.
        evidence: How much of the rewards' evidence to return: none, the episode's, or every turn's too.
        deadline_s: Answer within this many seconds; the server's own deadline is the longest.
    """

    items: Annotated[list[Item], Meta(min_length=1)]
    credit: CreditSpec | None = None
    evidence: EvidenceLevel = "total"
    deadline_s: Annotated[float, Meta(gt=0)] | None = None


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one item. Every field and every component's key is there whatever the status.

    Attributes:
        id: The item's.
        status: ``"ok"``; ``"judge_failed"`` (a judge or reward could not decide), ``"invalid"`` (the episode has
            no reward, for instance because its world failed) or ``"timeout"``: then ``reward`` is None.
        reason: Why there is no reward, or None.
        reward: The weighted total over all turns; the sum of ``components``.
        outcome: Whether the task was solved, 1.0 or 0.0; None where nobody knows.
        process: What is left of ``reward`` without the components that are pure outcome.
        turn_rewards: The weighted total of each turn; None where it is invalid.
        turn_valid: Whether each turn has a valid reward.
        turn_reasons: Why not, per turn; None where valid.
        components: Each reward with a weight to its weighted share of ``reward``.
        turn_components: The same, turn by turn.
        metrics: Every reward of the tree to its own (unweighted) value for the episode.
        evidence: Reward name to what it rests on; empty unless asked for.
        turn_evidence: The same, turn by turn; empty unless asked for.
        spans: The ids sampled in each turn, where the item had tokens.
        token_rewards: Each turn's reward on the last id sampled in it, as long as the ids; None without tokens.
        turn_advantages: Advantage of each turn; None unless credit was asked for.
        advantage_mask: Whether a trainer may use each turn's advantage.
        token_advantages: Advantage of each id, where credit was asked for and the item had tokens.
    """

    id: str
    status: Status
    reason: str | None = None
    reward: float | None = None
    outcome: float | None = None
    process: float | None = None
    turn_rewards: list[float | None] = []
    turn_valid: list[bool] = []
    turn_reasons: list[str | None] = []
    components: dict[str, float | None] = {}
    turn_components: dict[str, list[float | None]] = {}
    metrics: dict[str, float | None] = {}
    evidence: dict[str, Json] = {}
    turn_evidence: list[dict[str, Json]] = []
    spans: list[Span] | None = None
    token_rewards: list[float] | None = None
    turn_advantages: list[float] | None = None
    advantage_mask: list[bool] | None = None
    token_advantages: list[float] | None = None


class ScoreReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of ``POST /v1/score``: one result per item, in the items' order."""

    results: list[ItemResult]


class StreamLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``POST /v1/score/stream``: the item's place in the request, and its result."""

    index: int
    result: ItemResult


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a request.

    Attributes:
        code: A short machine-readable word.
        message: What was got, what was expected, and how to fix it.
        place: Where in the body, such as ``"items[2].messages[0].role"``; empty where that says nothing.
    """

    code: str
    message: str
    place: str = ""


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every 4xx and 5xx."""

    error: ErrorBody


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of every body, under ``$defs``; ``turnwise serve --schema`` prints it."""
    shapes = (ScoreRequest, ScoreReply, StreamLine, ErrorReply)
    _, definitions = msgspec.json.schema_components(shapes, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "turnwise oracle",
        "version": VERSION,
        "$defs": definitions,
    }
