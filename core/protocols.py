"""The seams between the packages: what a reward, a credit rule, an agent and a task set look like.

``core`` imports none of the other packages and they do not import each other; what they need from
one another they ask for through these Protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from turnwise.records import Json, RewardValue, Task, Trajectory, TurnTokens

if TYPE_CHECKING:
    from turnwise.env import TurnEnv

Placement = Literal["turn", "last_turn"]
Info = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """What a reward says about itself, for ``turnwise rewards`` and for range checks.

    Attributes:
        low: Smallest value on one turn.
        high: Largest value on one turn.
        placement: On every turn, or on the last turn with 0 elsewhere.
        source: Paper and section, repository, or "turnwise" for our own design; says so where the
            source is secondary or unverified.
        summary: One line.
    """

    low: float
    high: float
    placement: Placement
    source: str
    summary: str


@runtime_checkable
class Reward(Protocol):
    """Trajectory in, one value per turn out; each value valid, or invalid with a reason."""

    name: str
    spec: RewardSpec

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; a reward must not raise for a failed episode."""
        ...

    def describe(self) -> dict[str, Json]:
        """Return the configuration as a JSON-compatible tree."""
        ...


@dataclass(frozen=True, kw_only=True)
class TurnAdvantages:
    """Advantages of one trajectory's turns.

    Attributes:
        trajectory_id: The trajectory they belong to.
        advantages: One finite value per turn; 0.0 where masked.
        mask: Per turn, whether the trainer may use it. False for turns with an invalid reward and
            for every turn of a failed trajectory.
    """

    trajectory_id: str
    advantages: tuple[float, ...]
    mask: tuple[bool, ...]


@runtime_checkable
class Credit(Protocol):
    """Group in, turn advantages out: the only place where rewards are normalised."""

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        """Return the advantages of each trajectory of the group, in the group's order."""
        ...


@dataclass(frozen=True, kw_only=True)
class AgentMessage:
    """What an agent answers with: text, and the token ids behind it when a model sampled it."""

    text: str
    tokens: TurnTokens | None = None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What an agent is told when an episode begins.

    Attributes:
        env: The environment; scripted agents may ask it for its expert, model-backed ones only for
            its system prompt and tools.
        task: The task, whose ``data`` a model-backed agent must not look at.
        seed: Seed of this episode; agents spawn their own generator from it.
        sample: Number of this episode within its group.
    """

    env: TurnEnv[Any]
    task: Task
    seed: int
    sample: int = 0
    options: Mapping[str, Json] = field(default_factory=dict)


@runtime_checkable
class Agent(Protocol):
    """A policy: observation in, message out."""

    spec: str
    policy_version: str | None

    def reset(self, episode: Episode) -> None:
        """Begin an episode."""
        ...

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Answer the observation."""
        ...


@runtime_checkable
class Expert(Protocol):
    """An environment's own scripted solver."""

    def act(self, observation: Any, info: Info) -> str:
        """Return the next action in the world's own grammar."""
        ...


@runtime_checkable
class TaskSet(Protocol):
    """The tasks of one split, in a fixed order."""

    @property
    def split(self) -> str:
        """The split's canonical name."""
        ...

    def ids(self) -> Sequence[str]:
        """All task ids, in order."""
        ...

    def get(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            UnknownNameError: No task has this id; the message lists near misses.
        """
        ...

    def __len__(self) -> int:
        """Number of tasks."""
        ...
