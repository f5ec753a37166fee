"""Episodes that a trainer drives: it brings the messages, the world answers, the rewards come at the end.

The engine asks an agent for each message; a trainer that samples by itself hands them in instead. What is
recorded and how it is graded is the same: one world, one reward tree, one trajectory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import msgspec

from turnwise.errors import ConfigError, EpisodeOverError, TurnwiseError, attribute_to
from turnwise.records import Ending, Json, Task, Timings, Trajectory, TruncationCause, Turn, TurnTokens
from turnwise.rewards import load_rewards
from turnwise.rollout.engine import contract
from turnwise.rollout.engine.episode import failed, graded
from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.plan import make_plan
from turnwise.rollout.engine.wire import Deadlines, EpisodeEnd, EpisodeRequest, assemble, episode_seed

OVER = "The episode is over."


class Answer(NamedTuple):
    """What the world answered to a message.

    Attributes:
        observation: What the agent reads next.
        over: Whether the episode is over.
    """

    observation: str
    over: bool


class World:
    """A world, its tasks and a reward tree: checked once, played as often as wanted.

    Attributes:
        tasks: The ids of the tasks, in order.
        rewards: The reward tree.
        seed: Seed of the run.
    """

    def __init__(
        self,
        env: str = "turnwise/Household-v0",
        *,
        agent: str,
        tasks: str | Sequence[str] | None = None,
        data: str | os.PathLike[str] | None = None,
        env_options: Mapping[str, Json] | None = None,
        max_turns: int | None = None,
        rewards: str | Path | Mapping[str, Json] | None = None,
        seed: int = 0,
    ) -> None:
        """Check the options; they are those of :class:`~turnwise.rollout.Rollout`.

        Args:
            env: Id of a registered environment.
            agent: Whose messages these are, for the records, such as ``"trl"``.
            tasks: ``"SPLIT"``, ``"SPLIT:N"``, ``"SPLIT:A-B"``, a list of task ids, or None for all.
            data: A public data set in its own format; None is the embedded task set.
            env_options: Further keyword arguments of the environment.
            max_turns: Turns after which an episode is truncated; None is the world's default.
            rewards: Reward configuration; None is the built-in set.
            seed: Seed of the run, at least 0.

        Raises:
            ConfigError: An option is wrong.
        """
        self._plan = make_plan(
            env=env,
            tasks=tasks,
            data=data,
            env_options=env_options or {},
            max_turns=max_turns,
            group=1,
            agent="random",  # nobody is asked: the trainer brings the messages
            rewards=rewards,
            seed=seed,
            workers=0,
            slots=1,
            deadlines=Deadlines(),
            memory_limit=None,
        )
        self.spec = msgspec.structs.replace(self._plan.spec, agent=agent)
        self.tasks = self._plan.task_ids
        self.rewards = load_rewards(self.spec.reward_config)
        self.seed = seed

    def task(self, task_id: str) -> Task:
        """Return a task of the split by its id.

        Raises:
            ConfigError: There is no such task; the message lists near misses.
        """
        return self._plan.tasks.get(task_id)

    def make(self) -> gymnasium.Env[Any, str]:
        """Make an environment.

        Raises:
            EnvError: It cannot be made.
        """
        with attribute_to("env", f"making {self.spec.env_id}"):
            made: gymnasium.Env[Any, str] = gymnasium.make(
                self.spec.env_id, disable_env_checker=True, **self.spec.env_options
            )
        return made

    def request(self, task_id: str, *, sample: int = 0, seed: int | None = None) -> EpisodeRequest:
        """Return what names an episode: its task, its number in the group and its seed."""
        task = self.task(task_id)
        own = episode_seed(self.seed, task_id, sample) if seed is None else seed
        return EpisodeRequest(id=f"{task_id}#{sample}", task=task, sample=sample, seed=own)


class DrivenEpisode:
    """One episode at a time of a world; the environment is kept from one to the next.

    Whatever the world raises makes the episode fail; it is never raised, and never becomes a reward.
    """

    def __init__(self, world: World) -> None:
        """Play a world; the environment is made by the first :meth:`begin`."""
        self.world = world
        self._env: gymnasium.Env[Any, str] | None = None
        self._request: EpisodeRequest | None = None
        self._turns: list[Turn] = []
        self._seen = ""
        self._image: str | None = None
        self._ending: Ending | None = None
        self._tokens = 0
        self._graded: Trajectory | None = None

    # -- playing -----------------------------------------------------------------------------------

    def begin(self, task_id: str, *, sample: int = 0, seed: int | None = None) -> str:
        """Begin an episode and return the first observation.

        Args:
            task_id: The task.
            sample: Number of this episode within its group.
            seed: Seed of the episode; None derives one from the run's seed, task and sample.

        Raises:
            ConfigError: There is no such task.
        """
        request = self.world.request(task_id, sample=sample, seed=seed)
        self._request, self._turns, self._ending, self._graded = request, [], None, None
        self._seen, self._image, self._tokens = "", None, 0
        try:
            if self._env is None:
                self._env = self.world.make()
            options = {"task_id": task_id} if self.world.spec.tasks_by_id else None
            where = f"{self.world.spec.env_id} reset"
            with attribute_to("env", where):
                result = self._env.reset(seed=request.seed, options=options)
                _, seen, _ = contract.read_reset(result, where)
            self._seen, self._image = seen.text, seen.image
        except TurnwiseError as error:
            self._fail(error)
        return self._seen

    @property
    def system_prompt(self) -> str:
        """The world's system prompt, of the episode being played."""
        return str(getattr(self._unwrapped(), "system_prompt", ""))

    @property
    def tools(self) -> list[dict[str, Json]]:
        """The world's tools in the OpenAI function format."""
        return list(getattr(self._unwrapped(), "tools", ()))

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self._ending is not None

    @property
    def turns(self) -> int:
        """Turns played so far."""
        return len(self._turns)

    def step(self, text: str, *, tokens: TurnTokens | None = None, policy_version: str | None = None) -> Answer:
        """Play one turn.

        Args:
            text: The agent's message.
            tokens: Its token ids, where the trainer has them.
            policy_version: Version of the weights that sampled it.

        Raises:
            EpisodeOverError: The episode has not begun or is over.
        """
        if self._request is None or self._env is None or self._ending is not None:
            raise EpisodeOverError("the episode is over (or never began): call begin() before step()")
        index, began = len(self._turns), time.perf_counter()
        where = f"{self.world.spec.env_id} step at turn {index}"
        try:
            with attribute_to("env", where):
                step = contract.read_step(self._env.step(text), where)
                facts = contract.read_info(step.info, where)
        except TurnwiseError as error:
            self._fail(error)
            return Answer(OVER, True)
        self._turns.append(
            Turn(
                index=index,
                observation=self._seen,
                image=self._image,
                action_text=text,
                action=facts.action,
                action_valid=facts.valid,
                action_error=facts.error,
                env_reward=step.reward,
                progress=facts.progress,
                success=facts.success,
                level=facts.level,
                info=facts.extra,
                tokens=tokens,
                token_span=None if tokens is None else self._span(tokens),
                policy_version=policy_version,
                timings=Timings(step_s=time.perf_counter() - began),
            )
        )
        self._seen, self._image = step.seen.text, step.seen.image
        self._ending = self._ended(step)
        return Answer(self._seen, self.over)

    def _ended(self, step: contract.Stepped) -> Ending | None:
        if step.terminated:
            return Ending(kind="terminated")
        if step.truncated:
            return Ending(kind="truncated", cause=contract.truncation_cause(step.info))
        cap = self.world.spec.max_turns
        return Ending(kind="truncated", cause="turns") if cap is not None and len(self._turns) >= cap else None

    def _span(self, tokens: TurnTokens) -> tuple[int, int]:
        start = self._tokens + len(tokens.prompt_ids)
        self._tokens = start + len(tokens.completion_ids)
        return start, self._tokens

    def _fail(self, error: TurnwiseError) -> None:
        self._ending = failed(error.boundary, error.kind, str(error), len(self._turns))
        self.close()  # as in a worker, where a failure costs the process

    # -- the record --------------------------------------------------------------------------------

    def trajectory(self, *, cause: TruncationCause = "turns") -> Trajectory:
        """Return the episode with its rewards; one that is not over counts as truncated from here on.

        Args:
            cause: Which limit cut an episode that is not over.

        Raises:
            EpisodeOverError: No episode was begun.
        """
        if self._ending is None:
            self._ending = Ending(kind="truncated", cause=cause)
        if self._graded is None:
            self._graded = graded(self.ungraded(), self.world.rewards, Recording())
        return self._graded

    def ungraded(self) -> Trajectory:
        """Return the turns so far without rewards, as if the episode were cut here.

        Raises:
            EpisodeOverError: No episode was begun.
        """
        if self._request is None:
            raise EpisodeOverError("no episode yet: call begin() first")
        ending = self._ending or Ending(kind="truncated", cause="turns")
        version = self._turns[-1].policy_version if self._turns else None
        end = EpisodeEnd(ending=ending, final_observation=self._seen, policy_version=version)
        return assemble(self.world.spec, self._request, self._turns, end)

    def close(self) -> None:
        """Close the environment; the next :meth:`begin` makes another. What ``close`` raises is not news."""
        env, self._env = self._env, None
        if env is None:
            return
        try:
            with attribute_to("env", "close"):
                env.close()
        except TurnwiseError:
            return

    def _unwrapped(self) -> Any:
        return None if self._env is None else self._env.unwrapped


def replay(world: World, task_id: str, messages: Sequence[str], *, sample: int = 0) -> Trajectory:
    """Play given messages in a world and return the graded trajectory; those after its end are left out.

    Args:
        world: The world.
        task_id: The task they answer.
        messages: The agent's messages, in order.
        sample: Number of this episode within its group.

    Raises:
        ConfigError: There is no such task, or a message is no text.
    """
    episode = DrivenEpisode(world)
    try:
        episode.begin(task_id, sample=sample)
        for message in messages:
            if episode.over:
                break
            if not isinstance(message, str):
                raise ConfigError(f"a message is a str, got {type(message).__name__}: pass the agent's text")
            episode.step(message)
        return episode.trajectory()
    finally:
        episode.close()
