"""The seams between the packages: what a reward, a credit rule, an agent and a task set look like.

``core`` imports none of the other packages and they do not import each other; what they need from
one another they ask for through these Protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from turnwise.errors import TurnwiseError
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


# A piece of a context: text, or the token ids that the policy read and sampled.
Segment: TypeAlias = str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ForcedAnswer:
    """An answer as a model is made to give it: only the answer's own tokens are scored.

    Attributes:
        answer: The text that is scored, not empty.
        prefix: What stands between the context and the answer.
        suffix: What follows the answer; it decides only how the answer's last characters are tokenised.
    """

    answer: str
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class AnswerQuery:
    """Answers to score in contexts of which each continues the one before.

    Attributes:
        segments: Context ``t`` is ``segments[0]`` to ``segments[t]`` in a row; the first is not empty.
        answers: The answers to score in every context.
    """

    segments: tuple[Segment, ...]
    answers: tuple[ForcedAnswer, ...]


@dataclass(frozen=True, kw_only=True)
class AnswerLogProbs:
    """Log-probabilities of answers.

    Attributes:
        tokens: ``tokens[t][a]`` holds the natural-log probability of each token of answer ``a`` in
            context ``t``; never empty, each finite.
    """

    tokens: tuple[tuple[tuple[float, ...], ...], ...]


@runtime_checkable
class LogProbSource(Protocol):
    """A language model that says how probable it finds a given text."""

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers; what fails in one query is returned in its place and costs the others nothing.

        Raises:
            TurnwiseError: Nothing can be scored at all (no model, no server).
        """
        ...

    def describe(self) -> dict[str, Json]:
        """Return the configuration, without secrets."""
        ...


@runtime_checkable
class ContextRenderer(Protocol):
    """Writes a trajectory as a language model reads it."""

    def render(self, trajectory: Trajectory, turns: int) -> tuple[Segment, ...]:
        """Return ``turns + 1`` segments: what is read before the first turn, and what each turn adds.

        A turn adds the agent's message, the observation after it and whatever asks for the next message.

        Raises:
            JudgeError: This trajectory cannot be written so.
        """
        ...

    def describe(self) -> dict[str, Json]:
        """Return the configuration."""
        ...


@dataclass(frozen=True, kw_only=True)
class BeliefRequest:
    """A trajectory whose beliefs are asked for.

    Attributes:
        trajectory: The trajectory.
        turns: How many of its first turns to score.
        answers: The right answer and its aliases; empty where the task names none.
    """

    trajectory: Trajectory
    turns: int
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Belief:
    """How probable the right answer is, given what was read so far.

    Attributes:
        probability: In (0, 1]; may underflow to 0 where ``logprob`` is very low.
        logprob: Its natural logarithm, or what stands for it (with several aliases, their mean).
        answer: The alias that the numbers are of, or None.
        evidence: What explains the numbers, JSON-compatible.
    """

    probability: float
    logprob: float
    answer: str | None = None
    evidence: Mapping[str, Json] = field(default_factory=dict)


@runtime_checkable
class BeliefScorer(Protocol):
    """Says how probable the right answer is before the first turn and after each one."""

    def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
        """Return ``request.turns + 1`` beliefs, the first from what was read before any turn.

        Raises:
            TurnwiseError: They cannot be known; never a made-up number.
        """
        ...

    def describe(self) -> dict[str, Json]:
        """Return the options it was made with, without secrets."""
        ...


@runtime_checkable
class BatchBeliefScorer(BeliefScorer, Protocol):
    """A belief scorer that is faster on many trajectories at once."""

    def beliefs_many(self, requests: Sequence[BeliefRequest]) -> Sequence[tuple[Belief, ...] | TurnwiseError]:
        """Return for each request its beliefs, or why there are none."""
        ...


@dataclass(frozen=True, kw_only=True)
class AgentMessage:
    """What an agent answers with.

    Attributes:
        text: The message.
        tokens: The token ids behind it, when a model sampled it.
        policy_version: Version of the weights that sampled it, or None.
        finish: Why it ends: ``"stop"`` (the model ended it), ``"action"`` (an action was complete),
            ``"length"`` (a token budget cut it); None where nobody sampled.
    """

    text: str
    tokens: TurnTokens | None = None
    policy_version: str | None = None
    finish: str | None = None


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


@dataclass(frozen=True, kw_only=True)
class JudgeCase:
    """What a judge is asked about.

    Attributes:
        question: The question that the agent was to answer.
        report: The agent's final report, without its list of references.
        answers: The right answer and its aliases; empty where nobody knows.
        rubrics: Single-hop statements with ``<E0>`` for the answer and ``<E1>``.. for other entities.
        task: The task, for judges that know its world.
    """

    question: str
    report: str
    answers: tuple[str, ...]
    rubrics: tuple[str, ...]
    task: Task


@dataclass(frozen=True, kw_only=True)
class JudgePage:
    """What the tools showed of one page.

    Attributes:
        url: Its address.
        id: Its id in the world, or "".
        title: Its title, or "".
        text: Everything shown of it, each piece once.
        sentences: Index to text of the sentences that were shown, for worlds that number them; "" where the
            text cannot be told apart from what stands around it.
    """

    url: str
    id: str = ""
    title: str = ""
    text: str = ""
    sentences: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A quotation.

    Attributes:
        url: Address of the page.
        quote: The words quoted from it; "" where a judge names the page only.
    """

    url: str
    quote: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge decided about a statement. A judge that cannot decide raises instead, or says None.

    Attributes:
        holds: True or False as judged; None when this one could not be judged.
        passages: What the decision rests on, all of it needed.
        reason: The judge's words, or why it could not judge.
    """

    holds: bool | None
    passages: tuple[Passage, ...] = ()
    reason: str = ""


@runtime_checkable
class Judge(Protocol):
    """Decides what rewards cannot compute: is the answer right, is a statement supported.

    Every method raises :class:`~turnwise.errors.JudgeError` when it could not reach a verdict. That is
    never the same as a negative verdict.

    Attributes:
        remote: Whether a verdict is waited for, so that two are better asked for side by side. Methods
            of a remote judge may be called from several threads at once.
    """

    remote: bool

    def answer(self, case: JudgeCase) -> Verdict:
        """Decide whether the report's final answer is right; a passage may hold the answer as read."""
        ...

    def entities(self, case: JudgeCase) -> Mapping[str, str | None]:
        """Return for each placeholder id (``"E0"``) the name that the report gives it, None for none."""
        ...

    def support(
        self, case: JudgeCase, statements: Mapping[int, str], pages: Sequence[JudgePage]
    ) -> Mapping[int, Verdict]:
        """Decide for each statement whether the pages support it.

        Args:
            case: The case.
            statements: Index of the rubric to its statement with all names filled in.
            pages: The pages that the report cites and the tools showed.
        """
        ...

    def useful(self, case: JudgeCase, query: str, found: Sequence[JudgePage], earlier: Sequence[JudgePage]) -> Verdict:
        """Decide whether the results of a search help to answer and say more than the earlier ones."""
        ...

    def describe(self) -> dict[str, Json]:
        """Return the configuration, without secrets."""
        ...
