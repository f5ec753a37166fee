"""Our worlds as environments of the Tinker cookbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.protocols import Credit
from turnwise.records import Json, Trajectory
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.dialogue import Chat, OwnThread, Sampled, TokenEpisode, TokenizerChat
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.scores import problem_of, scores, world_of
from turnwise.rollout.trainers.stepping import World
from turnwise.rollout.trainers.tinker import REQUIREMENT
from turnwise.rollout.trainers.tinker.data import ADVANTAGE, REWARD

_tinker: Any = trainer_module("tinker", REQUIREMENT)
_types: Any = trainer_module("tinker_cookbook.rl.types", REQUIREMENT)


class WorldEnv(_types.Env):  # type: ignore[misc]
    """One episode of a world; single-use, as the cookbook has it."""

    def __init__(self, world: World, chat: Chat, *, task_id: str, sample: int) -> None:
        """Prepare an episode; the world is made by the first call."""
        self.world = world
        self._episode = TokenEpisode(world, chat)
        self._chat = chat
        self._task = (task_id, sample)
        self._aside = OwnThread()

    async def initial_observation(self) -> tuple[Any, list[int]]:
        """Begin the episode.

        Raises:
            TurnwiseError: The world could not begin.
        """
        task_id, sample = self._task
        await self._aside(self._episode.begin, task_id, sample=sample)
        if self._episode.over:
            await self.graded()
        return self._seen(), list(self._chat.ends)

    async def step(self, action: Sequence[int], *, extra: Mapping[str, Any] | None = None) -> Any:
        """Play a message.

        The reward is 0.0 until the episode is over, and then that of the whole episode, since rewards
        look at whole episodes; :class:`WorldGroup` puts each turn's share where it belongs.

        Raises:
            TurnwiseError: The episode failed, or has no reward.
        """
        over = await self._aside(self._episode.say, Sampled(ids=tuple(action)))
        numbers = scores(await self.graded(), self.world.rewards) if over else {}
        return _types.StepResult(
            reward=numbers.get("reward", 0.0),
            episode_done=over,
            next_observation=self._seen(),
            next_stop_condition=list(self._chat.ends),
            metrics=numbers,
        )

    async def graded(self) -> Trajectory:
        """Return the episode with its rewards; one that is not over was cut by the rollout's limits.

        Raises:
            TurnwiseError: It failed, or has no reward.
        """
        trajectory = await self._aside(self._episode.trajectory)
        problem = problem_of(trajectory)
        if problem is not None:
            raise problem
        return trajectory

    async def close(self) -> None:
        """Close the world."""
        await self._aside(self._episode.close)
        self._aside.close()

    def _seen(self) -> Any:
        return _tinker.ModelInput.from_ints(list(self._episode.ids))


class WorldGroup(_types.EnvGroupBuilder):  # type: ignore[misc]
    """The episodes of one task. It can be pickled: worlds and tokenizers are made where the episodes are played."""

    def __init__(
        self,
        *,
        task_id: str,
        world: Mapping[str, Json],
        group_size: int,
        model_name: str | None = None,
        chat: Chat | None = None,
        credit: Credit | None = None,
    ) -> None:
        """Describe a group.

        Args:
            task_id: The task.
            world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
            group_size: How many episodes.
            model_name: Whose tokenizer writes the observations.
            chat: Writes them instead.
            credit: Turn advantages of the group; None subtracts the group's mean return-to-go at each turn
                (``dr_grpo``), as the cookbook does for whole episodes.

        Raises:
            ConfigError: Neither or both of ``model_name`` and ``chat`` are given.
        """
        if (model_name is None) == (chat is None):
            raise ConfigError("say who writes the observations: either model_name=... or chat=...")
        self.task_id = task_id
        self.world = dict(world)
        self.group_size = group_size
        self.model_name = model_name
        self.credit = GroupCredit(estimator="dr_grpo", level="turn") if credit is None else credit
        self._chat = chat
        self._envs: list[WorldEnv] = []

    async def make_envs(self) -> Sequence[WorldEnv]:
        """Make the group's environments."""
        world, chat = world_of(self.world, agent="tinker"), self._chat or _chat_of(str(self.model_name))
        made = [WorldEnv(world, chat, task_id=self.task_id, sample=sample) for sample in range(self.group_size)]
        self._envs += made
        return made

    async def compute_group_rewards(
        self, trajectory_group: Sequence[Any], env_group: Sequence[WorldEnv]
    ) -> list[tuple[float, dict[str, float]]]:
        """Write each turn's reward and advantage to its transition; there is no further reward of the group.

        Raises:
            TurnwiseError: An episode that the rollout's limits cut has no reward.
        """
        graded = [await env.graded() for env in env_group]
        found = self.credit.assign(graded)
        for transitions, trajectory, advantages in zip(
            [rolled.transitions for rolled in trajectory_group], graded, found, strict=True
        ):
            (row,) = make_rows([trajectory])
            turns = zip(row.turn_rewards, advantages.advantages, advantages.mask, strict=True)
            for transition, (reward, advantage, use) in zip(transitions, turns, strict=False):
                transition.reward = 0.0 if reward is None else reward
                masked = {} if use else {_types.PARSE_ERROR_MASKED_METRIC_KEY: 1.0}
                transition.metrics = {
                    **transition.metrics,
                    REWARD: transition.reward,
                    ADVANTAGE: advantage if use else 0.0,
                    **masked,
                }
        return [(0.0, {}) for _ in graded]

    async def cleanup(self) -> None:
        """Close the environments."""
        envs, self._envs = self._envs, []
        for env in envs:
            await env.close()

    def logging_tags(self) -> list[str]:
        """Return the world's name."""
        return [str(self.world.get("env", "turnwise"))]


def _chat_of(model_name: str) -> Chat:
    get_tokenizer = trainer_module("tinker_cookbook.tokenizer_utils", REQUIREMENT).get_tokenizer
    return TokenizerChat(get_tokenizer(model_name))
