"""``TurnEnv``: the contract that every world keeps, written once.

A world subclasses :class:`TurnEnv` and fills in three hooks: ``make_task_set``, ``_begin`` and
``_apply``. Seeding, option checks, action parsing, the turn cap, the ``info`` keys and the replay
fallback for ``state``/``restore`` are done here, so they are the same everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import gymnasium

from turnwise.actions import MAX_ACTION_CHARS, ActionGrammar, ActionProblem
from turnwise.errors import ConfigError, EpisodeOverError, unknown_name
from turnwise.protocols import Expert, TaskSet
from turnwise.records import Action, Json, Task
from turnwise.spaces import UnicodeText

ObsT = TypeVar("ObsT")

MAX_OBSERVATION_CHARS = 1_048_576


@dataclass(frozen=True, kw_only=True)
class StepResult(Generic[ObsT]):
    """What a world's ``_begin`` and ``_apply`` hooks return.

    Attributes:
        observation: What the agent sees next.
        reward: The environment's reward for this turn, finite.
        terminated: Whether the world ended the episode.
        valid: Whether the action was carried out.
        error: What was wrong with it, or None.
        progress: Share of sub-goals reached so far, in [0, 1].
        success: Whether the task is solved.
        level: Outcome level reached so far, one of the class's ``outcome_levels``, or None.
        admissible: Commands that would be carried out now, or None if the world has no such list.
        extra: Further JSON-compatible ``info`` of the world.
    """

    observation: ObsT
    reward: float = 0.0
    terminated: bool = False
    valid: bool = True
    error: str | None = None
    progress: float = 0.0
    success: bool = False
    level: str | None = None
    admissible: list[str] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReplayState:
    """A mid-episode state as the actions that led to it: the fallback of ``state()``.

    Attributes:
        task_id: The task being played.
        seed: Seed that the episode was begun with, or None.
        generator: State of ``np_random`` when the episode began.
        actions: The agent's messages so far.
    """

    task_id: str
    seed: int | None
    generator: Mapping[str, Any]
    actions: tuple[str, ...]


class Bookmark(NamedTuple):
    """What :class:`TurnEnv` itself keeps of a point of an episode; a world's state holds it beside its own.

    Attributes:
        task: The task being played.
        turn: Turns played so far.
        over: Whether the episode has ended.
        seed: Seed that the episode was begun with, or None.
        generator: State of ``np_random`` when the episode began.
        actions: The agent's messages so far.
        result: What the last ``reset`` or ``step`` came to.
        action: The action that ``info`` shows, or None.
        truncation: The cause that ``info`` shows, or None.
    """

    task: Task
    turn: int
    over: bool
    seed: int | None
    generator: Mapping[str, Any]
    actions: tuple[str, ...]
    result: StepResult[Any]
    action: Action | None
    truncation: str | None


def _copy_json(value: Json) -> Json:
    """Copy the containers of a JSON tree; what callers do to an ``info`` must not reach the world."""
    if isinstance(value, dict):
        return {key: _copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy_json(item) for item in value]
    return value


class TurnEnv(gymnasium.Env[ObsT, str], ABC):
    """A turn-level environment for LLM agents.

    Observations are text (or a dict with ``text`` and ``image``), actions are text: the world's own
    grammar, a JSON tool call, or ReAct style. A malformed action is answered with an observation
    that explains the grammar; it never raises.

    ``info`` after ``reset`` and ``step`` always holds: ``task_id`` (str), ``action`` (the parsed
    :class:`~turnwise.records.Action` or None), ``action_valid`` (bool), ``action_error`` (str or
    None), ``progress`` (0..1), ``success`` (bool), ``level`` (str or None), ``truncation`` (None or
    the cause), ``admissible_actions`` (list of str, where the world has such a list) and the world's
    own ``extra`` (dict).

    Class attributes:
        grammar: The world's actions.
        outcome_levels: Ordered outcomes, worst first; the last one means success. May be empty.
        experts: Kinds of experts that :meth:`expert` knows; the first one solves every task.
        default_max_turns: Cap on turns when the caller gives none.
        reward_range: Smallest and largest environment reward of one turn.
        random_floor: Largest mean success that a random policy may reach in ``turnwise check``.
    """

    grammar: ClassVar[ActionGrammar]
    outcome_levels: ClassVar[tuple[str, ...]] = ()
    experts: ClassVar[tuple[str, ...]] = ("expert",)
    default_max_turns: ClassVar[int] = 50
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    random_floor: ClassVar[float] = 0.2
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "train",
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make an environment over a task set.

        Args:
            data: None for the embedded tasks, or a path to a public data set in its own format.
            split: Which split to draw tasks from.
            max_turns: Turns after which an episode is truncated; None takes the world's default.
            render_mode: None or ``"ansi"``.

        Raises:
            ConfigError: An argument is out of range, or the data cannot be read.
        """
        if max_turns is not None and (isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1):
            raise ConfigError(f"max_turns must be a whole number of at least 1 or None, got {max_turns!r}")
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        self.render_mode = render_mode
        self.max_turns = max_turns or self.default_max_turns
        self.tasks = self.make_task_set(data=data, split=split)
        self.observation_space = self._make_observation_space()
        self.action_space = UnicodeText(MAX_ACTION_CHARS)
        self._task: Task | None = None
        self._turn = 0
        self._over = True
        self._seed: int | None = None
        self._generator: Mapping[str, Any] = {}
        self._actions: list[str] = []
        self._result: StepResult[ObsT] | None = None
        self._shown: tuple[Action | None, str | None] = (None, None)

    # -- what a world fills in -------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        """Return the tasks of a split, embedded or from ``data``."""

    @abstractmethod
    def _begin(self, task: Task) -> StepResult[ObsT]:
        """Start an episode of ``task``; randomness comes from ``self.np_random`` only."""

    @abstractmethod
    def _apply(self, action: Action) -> StepResult[ObsT]:
        """Carry out a well-formed action (it may still be impossible: return ``valid=False``)."""

    def _task_of(self, task_id: str) -> Task:
        """Return a task by id; a world that also plays tasks from outside its task set looks there first."""
        return self.tasks.get(task_id)

    def _parse(self, text: str) -> Action | ActionProblem:
        """Read one action from a message; a world with a mode of its own may read it otherwise."""
        return self.grammar.parse(text)

    def _reject(self, problem: ActionProblem) -> StepResult[ObsT]:
        """Answer a malformed message; the state must not change."""
        if self._result is None:  # pragma: no cover - step() guarantees a previous result
            raise EpisodeOverError("call reset() first")
        return replace(
            self._result,
            observation=self._text_observation(problem.explanation),
            reward=0.0,
            terminated=False,
            valid=False,
            error=problem.message,
        )

    def _text_observation(self, text: str) -> ObsT:
        """Wrap a message into the world's observation type; text worlds return it as it is."""
        return text  # type: ignore[return-value]

    def _make_observation_space(self) -> gymnasium.Space[ObsT]:
        return UnicodeText(MAX_OBSERVATION_CHARS)  # type: ignore[return-value]

    def expert(self, kind: str | None = None) -> Expert:
        """Return a scripted solver for the current episode.

        Args:
            kind: One of the class's ``experts``; None takes the first.

        Raises:
            UnknownNameError: The world has no such expert.
        """
        raise unknown_name("expert", str(kind), self.experts)

    @property
    def system_prompt(self) -> str:
        """What an LLM needs to know: its role and the action grammar."""
        return self.grammar.explain()

    @property
    def tools(self) -> list[dict[str, Json]]:
        """The actions as tool schemas in the OpenAI function format."""
        return self.grammar.tools()

    # -- the Gymnasium contract ------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """The task being played.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._task is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ObsT, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of this episode's own generator; the same seed gives the same episode.
            options: ``{"task_id": ...}`` picks the task; without it the seed picks one.

        Returns:
            The first observation and ``info``.

        Raises:
            ConfigError: Unknown option or task id.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        task_id = chosen.pop("task_id", None)
        if chosen:
            name = next(iter(chosen))
            raise unknown_name("reset option", str(name), ["task_id"])
        # Drawn in any case: a seed gives the same episode whether the task was drawn or named.
        ids = self.tasks.ids()
        drawn = ids[int(self.np_random.integers(len(ids)))]
        return self._start(drawn if task_id is None else str(task_id), seed)

    def _start(self, task_id: str, seed: int | None) -> tuple[ObsT, dict[str, Any]]:
        self._over = True  # until the world has begun
        self._task = self._task_of(task_id)
        self._turn = 0
        self._seed = seed
        self._generator = self.np_random.bit_generator.state
        self._actions = []
        begun = self._finish(self._begin(self._task), action=None, truncation=None)
        self._over = False
        return begun

    def step(self, action: str) -> tuple[ObsT, float, bool, bool, dict[str, Any]]:
        """Play one turn.

        Args:
            action: The agent's raw message.

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            EpisodeOverError: The episode has not begun or is over.
            ConfigError: ``action`` is not a ``str``; text of any content is accepted.
        """
        if self._over:
            raise EpisodeOverError("the episode is over (or never began): call reset() before step()")
        if not isinstance(action, str):
            raise ConfigError(f"an action is a str, got {type(action).__name__}: pass the agent's message text")
        parsed = self._parse(action)
        result = self._reject(parsed) if isinstance(parsed, ActionProblem) else self._apply(parsed)
        self._turn += 1
        self._actions.append(action)
        truncated = self._turn >= self.max_turns and not result.terminated
        self._over = result.terminated or truncated
        observation, info = self._finish(
            result,
            action=None if isinstance(parsed, ActionProblem) else parsed,
            truncation="turns" if truncated else None,
        )
        return observation, result.reward, result.terminated, truncated, info

    def _finish(
        self, result: StepResult[ObsT], *, action: Action | None, truncation: str | None
    ) -> tuple[ObsT, dict[str, Any]]:
        info: dict[str, Any] = {
            "task_id": self.task.id,
            "action": action,
            "action_valid": result.valid,
            "action_error": result.error,
            "progress": result.progress,
            "success": result.success,
            "level": result.level,
            "truncation": truncation,
            "extra": {key: _copy_json(value) for key, value in result.extra.items()},
        }
        if result.admissible is not None:
            info["admissible_actions"] = list(result.admissible)
        self._result, self._shown = result, (action, truncation)
        return result.observation, info

    def render(self) -> Any:
        """Return the last observation as text in ``"ansi"`` mode, else None."""
        if self.render_mode != "ansi" or self._result is None:
            return None
        observation = self._result.observation
        return observation if isinstance(observation, str) else str(observation)

    # -- branching -------------------------------------------------------------------------------

    def _bookmark(self) -> Bookmark:
        """Return this class's part of a fast ``state()``.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._result is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        actions = tuple(self._actions)
        return Bookmark(
            self.task, self._turn, self._over, self._seed, self._generator, actions, self._result, *self._shown
        )

    def _return_to(self, mark: Bookmark) -> tuple[ObsT, dict[str, Any]]:
        """Go back to a bookmark, after the world has put its own part back; returns observation and info."""
        self._task, self._turn, self._over = mark.task, mark.turn, mark.over
        self._seed, self._generator, self._actions = mark.seed, mark.generator, list(mark.actions)
        return self._finish(mark.result, action=mark.action, truncation=mark.truncation)

    def state(self) -> Any:
        """Return the mid-episode state; worlds override this with something faster than replay."""
        return ReplayState(
            task_id=self.task.id, seed=self._seed, generator=self._generator, actions=tuple(self._actions)
        )

    def restore(self, state: Any) -> tuple[ObsT, dict[str, Any]]:
        """Go back to a state of :meth:`state` and return its observation and info.

        The fallback begins the episode again and re-executes the recorded actions.

        Raises:
            ConfigError: ``state`` is something else.
        """
        if not isinstance(state, ReplayState):
            raise ConfigError(f"restore() takes what state() returned, got {type(state).__name__}")
        self.np_random.bit_generator.state = state.generator
        result = self._start(state.task_id, state.seed)
        for action in state.actions:
            observation, _, _, _, info = self.step(action)
            result = (observation, info)
        return result
