"""The world behind the oracle: reads actions by its grammar, and plays them again to see what they really did."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import gymnasium

from turnwise import registry
from turnwise.actions import ActionGrammar
from turnwise.env import TurnEnv
from turnwise.errors import ConfigError, attribute_to
from turnwise.records import Ending, Json, Outcome, Task, Trajectory, Turn
from turnwise.rollout.engine import contract


class World:
    """A registered environment, made once per thread that plays in it."""

    def __init__(self, env_id: str, options: Mapping[str, Json] | None = None) -> None:
        """Name the world.

        Args:
            env_id: Registered id, such as ``"turnwise/SearchQA-v0"``.
            options: Keyword arguments of the environment.

        Raises:
            ConfigError: It is not registered, or is no turnwise world.
        """
        kind = registry.env_class(env_id)
        if not (isinstance(kind, type) and issubclass(kind, TurnEnv)):
            raise ConfigError(f"the oracle needs a turnwise world, one that subclasses TurnEnv: {env_id!r} does not")
        self.env_id = env_id
        self.options: dict[str, Json] = dict(options or {})
        self.grammar: ActionGrammar = kind.grammar
        self.levels: tuple[str, ...] = tuple(kind.outcome_levels)
        self._made = threading.local()

    def check_task(self, task_id: str) -> None:
        """Check that a task exists.

        Raises:
            ConfigError: The world has no such task; the message has near misses.
        """
        self._env().tasks.get(task_id)

    def play(self, task_id: str, messages: Sequence[str], *, seed: int = 0, trajectory_id: str = "") -> Trajectory:
        """Play an agent's messages in a fresh episode; those after its end are left out.

        Args:
            task_id: The task.
            messages: The agent's messages, in order.
            seed: Seed of the episode.
            trajectory_id: Id of the result; the task's by default.

        Returns:
            The trajectory as the engine would have recorded it. An episode that goes on after the last message is
            truncated (by turns).

        Raises:
            ConfigError: The world has no such task.
            EnvError: The world failed.
        """
        env = self._env()
        self.check_task(task_id)
        where = f"{self.env_id} reset"
        with attribute_to("env", where):
            _, seen, _ = contract.read_reset(env.reset(seed=seed, options={"task_id": task_id}), where)
        turns: list[Turn] = []
        ending = Ending(kind="truncated", cause="turns")
        for text in messages:
            turn, step = self._step(env, text, len(turns), seen.text)
            turns.append(turn)
            seen = step.seen
            if step.terminated:
                ending = Ending(kind="terminated")
            elif step.truncated:
                ending = Ending(kind="truncated", cause=contract.truncation_cause(step.info))
            if step.terminated or step.truncated:
                break
        return self._trajectory(env.task, trajectory_id or f"{task_id}#0", seed, turns, seen.text, ending)

    def _step(self, env: TurnEnv[Any], text: str, index: int, observation: str) -> tuple[Turn, contract.Stepped]:
        where = f"{self.env_id} step at turn {index}"
        with attribute_to("env", where):
            step = contract.read_step(env.step(text), where)
            facts = contract.read_info(step.info, where)
        turn = Turn(
            index=index,
            observation=observation,
            action_text=text,
            action=facts.action,
            action_valid=facts.valid,
            action_error=facts.error,
            env_reward=step.reward,
            progress=facts.progress,
            success=facts.success,
            level=facts.level,
            info=facts.extra,
        )
        return turn, step

    def _trajectory(
        self, task: Task, trajectory_id: str, seed: int, turns: Sequence[Turn], observation: str, ending: Ending
    ) -> Trajectory:
        last = turns[-1] if turns else None
        return Trajectory(
            id=trajectory_id,
            env_id=self.env_id,
            env_options=self.options,
            task=task,
            seed=seed,
            agent="oracle",
            turns=tuple(turns),
            final_observation=observation,
            ending=ending,
            outcome=Outcome(
                success=last.success if last else False,
                env_return=sum(turn.env_reward for turn in turns),
                progress=last.progress if last else 0.0,
                level=last.level if last else None,
                levels=self.levels,
            ),
        )

    def first_observation(self, task_id: str, *, seed: int = 0) -> str:
        """Return what the agent sees first.

        Raises:
            ConfigError: The world has no such task.
        """
        return self.play(task_id, (), seed=seed).final_observation

    @property
    def max_turns(self) -> int:
        """Turns after which an episode is truncated."""
        return self._env().max_turns

    def _env(self) -> TurnEnv[Any]:
        env = getattr(self._made, "env", None)
        if env is None:
            with attribute_to("env", f"making {self.env_id}"):
                env = gymnasium.make(self.env_id, **self.options).unwrapped
            self._made.env = env
        return cast("TurnEnv[Any]", env)
