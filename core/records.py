"""The records everything else exchanges: Task, Turn, Trajectory and their parts.

All records are frozen and versioned. They are msgspec structs rather than pydantic models: they
decode with the same validation, cost a fraction of the import and coding time, and a worker encodes
one per turn. JSON goes through :func:`to_json` and :func:`from_json`; Arrow and Parquet through
``turnwise.rollout.store``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from turnwise.errors import Boundary, ConfigError

SCHEMA_VERSION = 1

Json: TypeAlias = Any  # JSON-compatible: None, bool, int, finite float, str, list, dict with str keys
EndingKind = Literal["terminated", "truncated", "failed"]
TruncationCause = Literal["turns", "tokens", "context", "time"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: immutable, keyword-only, unknown fields ignored when reading."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


class Task(Record, frozen=True, kw_only=True):
    """One problem instance of an environment.

    Attributes:
        id: Unique within the environment's data.
        split: The split it belongs to, such as ``"train"``.
        instruction: What the agent is asked to do, in words.
        type: The world's own task type, such as ``"pick_heat_then_place_in_recep"``.
        data: Whatever the environment or the grader needs, JSON-compatible. Agents never see it.
    """

    id: str
    split: str
    instruction: str
    type: str = ""
    data: dict[str, Json] = {}


class Action(Record, frozen=True, kw_only=True):
    """A parsed action.

    Attributes:
        name: The action's name in the world's grammar, such as ``"go_to"``.
        arguments: Argument name to text.
        command: The canonical command in the world's own grammar, such as ``"go to desk 1"``.
        form: How the agent wrote it.
        thought: The text before the action, or None.
    """

    name: str
    arguments: dict[str, str]
    command: str
    form: Literal["native", "json", "react"] = "native"
    thought: str | None = None


class RewardValue(Record, frozen=True, kw_only=True):
    """One reward on one turn: a finite value, or invalid with a reason. Never both, never neither.

    Attributes:
        value: The raw (not normalised) reward, or None when invalid.
        invalid: Why there is no value (judge down, sandbox died, ...), or None when valid.
        evidence: Why the value is what it is, JSON-compatible.
    """

    value: float | None = None
    invalid: str | None = None
    evidence: dict[str, Json] = {}

    def __post_init__(self) -> None:
        # Spelled out, as in Turn: a run makes a dozen of these a turn, and need not format messages for all.
        if self.value is None:
            if not self.invalid:
                raise ConfigError("a reward without a value needs a reason: RewardValue(invalid='...')")
        elif self.invalid is not None:
            raise ConfigError(f"a reward is valid or invalid, got value={self.value!r} and {self.invalid!r}")
        elif not math.isfinite(self.value):
            raise ConfigError(f"a reward value must be finite, got {self.value!r}")

    @property
    def valid(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


class TurnTokens(Record, frozen=True, kw_only=True):
    """What the policy read and sampled in one turn, as token ids, never re-tokenised.

    Attributes:
        prompt_ids: Ids appended to the sequence before the completion (observation, headers).
        completion_ids: Ids the policy sampled, in order.
        logprobs: Natural-log probability of each sampled id under the sampling policy; as long as
            ``completion_ids``, each finite and at most 0 up to rounding.
    """

    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n, m = len(self.completion_ids), len(self.logprobs)
        _require(m in (0, n), f"logprobs must be empty or one per completion id: got {m} for {n} ids")
        _require(all(math.isfinite(x) for x in self.logprobs), "logprobs must be finite")


class TokenSequence(Record, frozen=True, kw_only=True):
    """The whole episode as the trainer will see it.

    Attributes:
        ids: All token ids in order.
        loss_mask: 1 for ids the policy sampled, 0 for prompt and observation; as long as ``ids``.
        logprobs: Log-probability per id (0.0 where the mask is 0), or empty.
    """

    ids: tuple[int, ...]
    loss_mask: tuple[int, ...]
    logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        _require(len(self.loss_mask) == n, f"loss_mask must be as long as ids: got {len(self.loss_mask)} for {n}")
        _require(all(m in (0, 1) for m in self.loss_mask), "loss_mask holds only 0 and 1")
        _require(len(self.logprobs) in (0, n), f"logprobs must be empty or as long as ids: got {len(self.logprobs)}")
        _require(all(math.isfinite(x) for x in self.logprobs), "logprobs must be finite")


class Timings(Record, frozen=True, kw_only=True):
    """Wall-clock seconds, the only part of a record that differs from one run to the next.

    Attributes:
        act_s: Time the agent took.
        step_s: Time the environment took.
    """

    act_s: float = 0.0
    step_s: float = 0.0


class Turn(Record, frozen=True, kw_only=True):
    """One agent message and what came back.

    Attributes:
        index: 0-based position in the episode.
        observation: The text the agent saw when it acted.
        image: Content hash of the image it saw, or None in text worlds.
        action_text: The agent's raw message.
        action: The parsed action, or None when the message was malformed.
        action_valid: Whether the environment carried the action out.
        action_error: What was wrong with it, or None.
        env_reward: The environment's own reward for this turn.
        progress: Share of the task's sub-goals reached so far, in [0, 1].
        success: Whether the task is solved after this turn.
        level: The outcome level reached so far (one of the world's ``outcome_levels``), or None.
        info: Further JSON-compatible facts of the world, such as its sub-goals.
        rewards: Reward name to value, attached by the engine after the episode.
        tokens: Token ids of this turn, or None for scripted agents.
        token_span: Half-open ``(start, end)`` of the sampled ids in the trajectory's token
            sequence, or None.
        policy_version: Version of the weights that sampled this turn, or None for scripted agents.
        finish: Why the message ends: ``"stop"`` (the model ended it), ``"action"`` (an action was
            complete), ``"length"`` (a token budget cut it); None for scripted agents.
        timings: Wall-clock seconds of this turn.
    """

    index: int
    observation: str
    action_text: str
    action: Action | None = None
    action_valid: bool = True
    action_error: str | None = None
    env_reward: float = 0.0
    progress: float = 0.0
    success: bool = False
    level: str | None = None
    image: str | None = None
    info: dict[str, Json] = {}
    rewards: dict[str, RewardValue] = {}
    tokens: TurnTokens | None = None
    token_span: tuple[int, int] | None = None
    policy_version: str | None = None
    finish: str | None = None
    timings: Timings = Timings()

    def __post_init__(self) -> None:
        if not math.isfinite(self.env_reward):
            raise ConfigError(f"env_reward must be finite, got {self.env_reward!r}")
        if not 0.0 <= self.progress <= 1.0:
            raise ConfigError(f"progress must be in [0, 1], got {self.progress!r}")
        if self.token_span is not None:
            start, end = self.token_span
            _require(0 <= start <= end, f"token_span needs 0 <= start <= end, got {self.token_span}")


class Failure(Record, frozen=True, kw_only=True):
    """Why an episode has no outcome.

    Attributes:
        boundary: Where it failed.
        kind: ``"exception"``, ``"hang"``, ``"exit"``, ``"memory"``, ``"boot"``, or ``"deadline"`` for an
            episode cut by ``"time"``.
        message: What happened, for a person.
        turn: The turn being played, or None when it failed in reset or before.
    """

    boundary: Boundary
    kind: str
    message: str
    turn: int | None = None


class Ending(Record, frozen=True, kw_only=True):
    """How an episode ended.

    Attributes:
        kind: Terminated by the world, truncated by a limit, or failed.
        cause: Which limit, for ``"truncated"``.
        failure: What failed, for ``"failed"``; and for an episode cut by ``"time"`` what it was doing.
    """

    kind: EndingKind
    cause: TruncationCause | None = None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        _require(
            (self.kind == "truncated") == (self.cause is not None), "a truncated ending needs a cause, others have none"
        )
        _require(self.kind != "failed" or self.failure is not None, "a failed ending needs a failure")


class Outcome(Record, frozen=True, kw_only=True):
    """What the episode achieved; absent (None on the trajectory) when it failed.

    Attributes:
        success: Whether the task was solved.
        env_return: Sum of the environment's rewards.
        progress: Share of sub-goals reached, in [0, 1].
        level: The outcome level reached, or None for worlds without levels.
        levels: The world's ordered outcome levels, lowest first.
    """

    success: bool
    env_return: float
    progress: float = 0.0
    level: str | None = None
    levels: tuple[str, ...] = ()


class Trajectory(Record, frozen=True, kw_only=True):
    """The turns of one episode with everything needed to score, explain and replay it.

    Attributes:
        id: ``"<task id>#<sample>"``; unique within a run.
        env_id: Registered environment id.
        env_options: Keyword arguments the environment was made with (besides the defaults).
        task: The task played.
        sample: 0-based number of this trajectory within its group (the samples of one task).
        seed: Seed given to ``env.reset``; the agent's generator is spawned from it too.
        agent: The agent's specification, such as ``"noisy-expert:0.2"``.
        policy_version: Version of the weights that sampled its last turn, or None for scripted agents.
        turns: The turns, in order.
        final_observation: What came back after the last turn.
        ending: How the episode ended.
        outcome: What was achieved, or None when the episode failed.
        rewards: Reward name to its value for the whole trajectory.
        tokens: The episode as one token sequence, or None for scripted agents.
        timings: Wall-clock seconds, summed over the turns.
        schema_version: Version of this schema.
    """

    id: str
    env_id: str
    task: Task
    seed: int
    agent: str
    ending: Ending
    env_options: dict[str, Json] = {}
    sample: int = 0
    policy_version: str | None = None
    turns: tuple[Turn, ...] = ()
    final_observation: str = ""
    outcome: Outcome | None = None
    rewards: dict[str, RewardValue] = {}
    tokens: TokenSequence | None = None
    timings: Timings = Timings()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for position, turn in enumerate(self.turns):
            if turn.index != position:
                raise ConfigError(f"turn {position} of {self.id} carries index {turn.index}")
        if self.ending.kind == "failed":
            _require(self.outcome is None, f"{self.id} failed, so it has no outcome")
        if self.tokens is not None:
            for turn in self.turns:
                if turn.token_span is not None:
                    fits = turn.token_span[1] <= len(self.tokens.ids)
                    _require(fits, f"turn {turn.index} of {self.id}: span {turn.token_span} is past the token sequence")

    @property
    def failed(self) -> bool:
        """Whether the episode has no outcome and must be masked, not scored as zero."""
        return self.ending.kind == "failed"

    @property
    def group(self) -> str:
        """The group this trajectory belongs to: all samples of one task."""
        return self.task.id


def replace(record: Any, **changes: Any) -> Any:
    """Return a copy of ``record`` with ``changes``; records are never mutated in place."""
    return msgspec.structs.replace(record, **changes)


def without_timings(trajectory: Trajectory) -> Trajectory:
    """Return the trajectory with all wall-clock fields zeroed, for comparing two runs."""
    turns = tuple(replace(turn, timings=Timings()) for turn in trajectory.turns)
    stripped: Trajectory = replace(trajectory, turns=turns, timings=Timings())
    return stripped


def _migrate(data: Mapping[str, Json]) -> Mapping[str, Json]:
    """Bring a decoded trajectory of an older schema up to :data:`SCHEMA_VERSION`, step by step."""
    version = data.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ConfigError(
            f"trajectory has schema version {version!r}, this turnwise reads up to {SCHEMA_VERSION}: upgrade turnwise"
        )
    while version < SCHEMA_VERSION:
        step = MIGRATIONS.get(version)
        if step is None:
            raise ConfigError(f"no migration from schema version {version} to {version + 1}: re-run the rollout")
        data = {**step(data), "schema_version": version + 1}
        version += 1
    return data


# Version n -> function that turns a decoded trajectory of version n into one of version n + 1.
MIGRATIONS: dict[int, Any] = {}

_encoder = msgspec.json.Encoder(order="deterministic")
_trajectory_decoder = msgspec.json.Decoder(Trajectory)


def to_json(record: Record) -> bytes:
    """Encode a record as one line of UTF-8 JSON with a stable key order.

    Raises:
        ConfigError: It holds something that JSON has no form for: a lone surrogate, an object, ...
    """
    try:
        return _encoder.encode(record)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"a {type(record).__name__} cannot be written as JSON: {error}") from error


def from_json(data: bytes | str) -> Trajectory:
    """Decode a trajectory, migrating older schema versions.

    Raises:
        ConfigError: The JSON is malformed, of a newer schema, or breaks a record's rules.
    """
    try:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict):
            raise ConfigError(f"a trajectory is a JSON object, got {type(raw).__name__}")
        if raw.get("schema_version", SCHEMA_VERSION) == SCHEMA_VERSION:
            return _trajectory_decoder.decode(data)
        return msgspec.convert(_migrate(raw), Trajectory)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not a trajectory: {error}") from error


def from_builtins(data: Mapping[str, Json]) -> Trajectory:
    """Build a trajectory from plain dicts and lists (as read from Arrow), migrating old versions."""
    try:
        return msgspec.convert(_migrate(data), Trajectory)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not a trajectory: {error}") from error
