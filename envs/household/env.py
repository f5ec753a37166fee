"""``HouseholdEnv``: the household world as a turn-level environment."""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, NamedTuple

import msgspec

from turnwise.actions import ActionGrammar, ActionProblem
from turnwise.env import Bookmark, StepResult, TurnEnv
from turnwise.envs.household.cache import SCENES
from turnwise.envs.household.game import NOTHING_HAPPENS, Game
from turnwise.envs.household.grammar import GRAMMAR, ROLE
from turnwise.envs.household.loader import GameFiles, load_games
from turnwise.envs.household.problem import Problem
from turnwise.envs.household.scene import GameState, Scene
from turnwise.envs.household.subgoals import OUTCOME_LEVELS, Reached, Subgoals
from turnwise.errors import ConfigError, EpisodeOverError, unknown_name
from turnwise.protocols import Expert, TaskSet
from turnwise.records import Action, Task

_NEAR_MISSES = 3


class HouseholdState(NamedTuple):
    """A point of an episode, as :meth:`HouseholdEnv.state` returns it. Cheap to take and to keep."""

    mark: Bookmark
    game: GameState
    reached: Reached


class HouseholdEnv(TurnEnv[str]):
    """Household tasks in text: find things, heat, cool, clean or light them, and put them in place.

    The dynamics and the text are those of ALFWorld's TextWorld games. The reward is 1.0 on success,
    which ends the episode, and 0.0 otherwise. ``info["extra"]["subgoals"]`` holds the share reached
    of each sub-goal of the task type (found, taken, treated, placed), ``info["progress"]`` their
    mean; see :class:`~turnwise.envs.household.subgoals.Subgoals`, also for the outcome levels.
    """

    grammar: ClassVar[ActionGrammar] = GRAMMAR
    outcome_levels: ClassVar[tuple[str, ...]] = OUTCOME_LEVELS
    experts: ClassVar[tuple[str, ...]] = ("expert", "explorer")

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "train",
        max_turns: int | None = None,
        render_mode: str | None = None,
        strict: bool = False,
    ) -> None:
        """Make a household.

        Args:
            data: None for the embedded tasks, or the path of an ALFWorld game file, of a game's
                folder, or of a ``json_2.1.1``-style tree.
            split: ``train``, ``val_seen`` or ``val_unseen``, or one of their usual aliases.
            max_turns: Turns after which an episode is truncated; None means 50, as in ALFWorld.
            render_mode: None or ``"ansi"``.
            strict: Take messages to the letter, as TextWorld does: no tool calls, no thoughts, no
                explanations; what is not admissible is answered ``"Nothing happens."``.

        Raises:
            ConfigError: An argument is out of range, or the data cannot be read.
        """
        super().__init__(data=data, split=split, max_turns=max_turns, render_mode=render_mode)
        self.strict = bool(strict)
        self._game: Game | None = None
        self._subgoals: Subgoals | None = None

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        """Return the embedded tasks of a split, or those under the path ``data``.

        Raises:
            UnknownNameError: Unknown split.
            ConfigError: There are no games under ``data``.
        """
        if data is not None:
            return load_games(data, split)
        from turnwise.envs.household.embedded import EmbeddedTasks

        return EmbeddedTasks(split)

    @property
    def game(self) -> Game:
        """The game being played, for experts and tests; changing it changes the episode.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._game is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._game

    @property
    def system_prompt(self) -> str:
        """The agent's role and the action grammar."""
        return f"{ROLE}\n\n{self.grammar.explain()}"

    def expert(self, kind: str | None = None) -> Expert:
        """Return a scripted solver for the current episode.

        Args:
            kind: ``"expert"`` (the default) plans with the whole state in view; ``"explorer"`` knows
                only what it has observed.

        Raises:
            UnknownNameError: There is no such expert.
        """
        if kind in (None, "expert"):
            from turnwise.envs.household.planner import PlannerExpert

            return PlannerExpert(self)
        if kind == "explorer":
            from turnwise.envs.household.explorer import ExplorerExpert

            return ExplorerExpert(self.np_random.spawn(1)[0])
        raise unknown_name("expert", str(kind), self.experts)

    # -- the hooks of TurnEnv ----------------------------------------------------------------------

    def _begin(self, task: Task) -> StepResult[str]:
        self._play(self._scene(task))
        intro = self.game.reset()
        subgoals = self._followed()
        subgoals.begin(self.game)
        return self._result_of(intro)

    def _apply(self, action: Action) -> StepResult[str]:
        game = self.game
        command = action.command
        if action.name == "move" and not self.strict:
            command = game.scene.words.put_command.format(
                o=action.arguments["object"], r=action.arguments["receptacle"]
            )
        feedback = game.step(command)
        if game.last is None:
            return self._result_of(feedback, error=self._why_not(command))
        self._followed().update(game)
        return self._result_of(feedback)

    def _parse(self, text: str) -> Action | ActionProblem:
        parsed = self.grammar.parse(text)
        if not self.strict or (isinstance(parsed, Action) and parsed.command == text.strip()):
            return parsed
        return Action(name="verbatim", arguments={"text": text}, command=text)

    def _reject(self, problem: ActionProblem) -> StepResult[str]:
        explained = ActionProblem(message=problem.message, explanation=f"{NOTHING_HAPPENS} {problem.explanation}")
        return super()._reject(explained)

    def _result_of(self, observation: str, *, error: str | None = None) -> StepResult[str]:
        game, subgoals = self.game, self._followed()
        won = game.won
        return StepResult(
            observation=observation,
            reward=float(won),
            terminated=won,
            valid=error is None,
            error=error,
            progress=subgoals.progress(won),
            success=won,
            level=subgoals.level,
            admissible=game.admissible(),
            extra={"subgoals": subgoals.report()},
        )

    def _why_not(self, command: str) -> str:
        """Say that a command is not possible now, and which similar ones are."""
        verb = command.split(" ", 1)[0]
        admissible = self.game.admissible()
        alike = [other for other in admissible if other.startswith(verb)] or admissible
        near = difflib.get_close_matches(command[:100], alike, n=_NEAR_MISSES, cutoff=0.5) or alike[:_NEAR_MISSES]
        shown = repr(command) if len(command) <= 100 else repr(command[:100]) + "..."
        return f"{shown} is not possible now; possible is, for example, " + " or ".join(repr(other) for other in near)

    # -- scenes ------------------------------------------------------------------------------------

    def _scene(self, task: Task) -> Scene:
        tasks = self.tasks
        if isinstance(tasks, GameFiles):
            key = str(task.data["digest"])
        else:
            key = f"{task.type}:{task.instruction}:{msgspec.json.encode(task.data, order='sorted').decode()}"

        def build() -> Problem:
            if isinstance(tasks, GameFiles):
                return tasks.problem(task)
            from turnwise.envs.household.embedded import build_problem

            return build_problem(task)

        try:
            return SCENES.get(key, build)
        except ConfigError as error:
            raise ConfigError(f"task {task.id!r}: {error}") from error

    def _play(self, scene: Scene) -> None:
        """Have a game and sub-goals of this scene; they are kept from one episode to the next."""
        if self._game is None or self._game.scene is not scene:
            self._game = Game(scene)
            self._subgoals = Subgoals(scene)

    def _followed(self) -> Subgoals:
        if self._subgoals is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._subgoals

    # -- branching ---------------------------------------------------------------------------------

    def state(self) -> HouseholdState:
        """Return the current point of the episode: a small immutable record.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        return HouseholdState(mark=self._bookmark(), game=self.game.state(), reached=self._followed().reached)

    def restore(self, state: HouseholdState) -> tuple[str, dict[str, Any]]:
        """Go back to a point of an episode, of this environment or of another one.

        Args:
            state: What :meth:`state` returned.

        Returns:
            The observation and ``info`` that were returned at that point.

        Raises:
            ConfigError: ``state`` is something else, or its game cannot be read.
        """
        if not isinstance(state, HouseholdState):
            raise ConfigError(f"restore() takes what state() returned, got {type(state).__name__}")
        if self._game is None or self._task is not state.mark.task:
            self._play(self._scene(state.mark.task))
        self.game.restore(state.game)
        self._followed().restore(state.reached)
        return self._return_to(state.mark)
