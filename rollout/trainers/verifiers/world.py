"""Taskset, task and env of verifiers v1. Importing this module imports verifiers."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import verifiers.v1 as vf

from turnwise.records import Json, Trajectory, to_json
from turnwise.rollout.trainers.rows import TOTAL, shares
from turnwise.rollout.trainers.scores import problem_of, world_of
from turnwise.rollout.trainers.stepping import DrivenEpisode, World
from turnwise.rollout.trainers.verifiers.credit import INFO, trajectory_of


class WorldTaskData(vf.TaskData):  # type: ignore[misc]
    """A task as it goes over the wire: its id, nothing that the agent may not see."""

    task_id: str


class WorldTasksetConfig(vf.TasksetConfig):  # type: ignore[misc]
    """Which world and which of its tasks, under ``--env.taskset.*``."""

    world: str = "turnwise/Household-v0"
    """Id of a registered environment."""
    tasks: str | list[str] | None = None
    """``SPLIT``, ``SPLIT:N``, ``SPLIT:A-B``, task ids, or None for all."""
    data: str | None = None
    """A public data set in its own format; None is the embedded task set."""
    max_turns: int | None = None
    """Turns after which an episode is truncated; None is the world's default."""
    rewards: str | None = None
    """Reward configuration: a preset's name, a YAML file, or JSON text; None is the built-in set."""
    env_options: dict[str, Any] | None = None
    """Further keyword arguments of the environment."""
    seed: int = 0
    """Seed of all episodes."""

    def open(self) -> World:
        """Return the world, made once per process.

        Raises:
            ConfigError: An option is wrong.
        """
        rewards: Json = self.rewards
        if self.rewards is not None and self.rewards.lstrip().startswith("{"):
            rewards = json.loads(self.rewards)
        options = {
            "env": self.world,
            "tasks": self.tasks,
            "data": self.data,
            "max_turns": self.max_turns,
            "rewards": rewards,
            "env_options": self.env_options,
            "seed": self.seed,
        }
        return world_of({key: value for key, value in options.items() if value is not None}, agent="verifiers")


class WorldTask(vf.Task[WorldTaskData]):  # type: ignore[misc]
    """Scores what :class:`WorldEnv` played."""

    @property
    def key(self) -> str:
        """The task's own id, which does not depend on its place in the list."""
        return str(self.data.task_id)

    @vf.reward(weight=1.0)  # type: ignore[untyped-decorator]
    async def turnwise(self, trace: vf.Trace) -> dict[str, float]:
        """Return what each reward of the tree contributes; their sum is the episode's reward.

        Raises:
            TurnwiseError: The episode has no reward: the trace fails, it is not scored 0.
        """
        trajectory = trajectory_of(trace)
        problem = problem_of(trajectory)
        if problem is not None:
            raise problem
        total = trajectory.rewards[TOTAL]
        return shares(total) or {TOTAL: float(total.value or 0.0)}

    @vf.metric  # type: ignore[untyped-decorator]
    async def episode(self, trace: vf.Trace) -> dict[str, float]:
        """Return success, progress and the number of turns."""
        trajectory = trajectory_of(trace)
        outcome = trajectory.outcome
        return {
            "success": float(outcome is not None and outcome.success),
            "progress": 0.0 if outcome is None else outcome.progress,
            "turns": float(len(trajectory.turns)),
        }


class WorldTaskset(vf.Taskset[WorldTask, WorldTasksetConfig]):  # type: ignore[misc]
    """The tasks of a world."""

    def load(self) -> list[WorldTask]:
        """Return one task per task id. The world opens the conversation, so there is no prompt."""
        world = self.config.open()
        episode = DrivenEpisode(world)
        episode.begin(world.tasks[0])
        system = episode.system_prompt or None
        episode.close()
        return [
            WorldTask(
                WorldTaskData(task_id=task, id=task, name=task, prompt=None, system_prompt=system), self.config.task
            )
            for task in world.tasks
        ]


class WorldEnvConfig(vf.EnvConfig):  # type: ignore[misc]
    """One agent, in a plain chat."""

    agent: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})
    """Who plays; the ``null`` harness is a chat without tools of its own."""
    taskset: WorldTasksetConfig = WorldTasksetConfig()
    """Which world."""


class WorldEnv(vf.Env[WorldEnvConfig]):  # type: ignore[misc]
    """The world is the user of the conversation: its observations are the user's messages."""

    async def run(self, task: WorldTask, agents: Any) -> None:
        """Play one episode."""
        episode = DrivenEpisode(self.config.taskset.open())
        try:
            async with agents.agent.interaction(task) as talk:
                nodes = await _converse(episode, task.data.task_id, talk)
                trajectory = await asyncio.to_thread(episode.trajectory, cause="tokens")
                # Before the interaction ends, which scores the trace.
                talk.trace.info[INFO] = _record(trajectory, nodes)
        finally:
            await asyncio.to_thread(episode.close)


async def _converse(episode: DrivenEpisode, task_id: str, talk: Any) -> list[list[int]]:
    """Play until the world or the agent ends it; returns which of the trace's nodes each turn sampled."""
    observation = await asyncio.to_thread(episode.begin, task_id)
    nodes: list[list[int]] = []
    while not episode.over:
        before = len(talk.trace.nodes)
        segment = await talk.turn(observation)
        if segment.terminated:
            break
        answer = await asyncio.to_thread(episode.step, segment.last_reply)
        if len(nodes) < episode.turns:
            new = range(before, len(talk.trace.nodes))
            nodes.append([place for place in new if talk.trace.nodes[place].sampled])
        observation = answer.observation
    return nodes


def _record(trajectory: Trajectory, nodes: list[list[int]]) -> dict[str, Json]:
    """Return what the trace keeps. The task goes without its data, which holds what graders know."""
    task: Mapping[str, Json] = {
        "id": trajectory.task.id,
        "split": trajectory.task.split,
        "instruction": trajectory.task.instruction,
        "type": trajectory.task.type,
    }
    public = json.loads(to_json(trajectory))
    public["task"] = task
    return {
        "turn_rewards": [turn.rewards[TOTAL].value if TOTAL in turn.rewards else None for turn in trajectory.turns],
        "nodes": [list(one) for one in nodes],
        "trajectory": json.dumps(public, ensure_ascii=False),
    }
