"""``Player``: one environment and one agent, made once and reused from episode to episode."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import gymnasium

from turnwise import registry
from turnwise.agents.policy_agent import PolicyAgent
from turnwise.agents.registry import agents as agent_registry
from turnwise.errors import TurnwiseError, attribute_to
from turnwise.policy import Channel
from turnwise.protocols import Agent
from turnwise.records import Trajectory
from turnwise.rewards import load_rewards
from turnwise.rollout.agents import make_agent
from turnwise.rollout.engine.episode import RewardTree, graded, run_episode
from turnwise.rollout.engine.journal import Recorder, Recording
from turnwise.rollout.engine.wire import EpisodeRequest, WorkerSpec, assemble
from turnwise.rollout.policy.channel import SocketChannel, use_channel


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What all players of a process share; loaded once, before the first fork.

    Attributes:
        spec: The worker's specification.
        rewards: The reward tree, which holds no state.
    """

    spec: WorkerSpec
    rewards: RewardTree


def load_kit(spec: WorkerSpec) -> Kit:
    """Import everything that episodes of ``spec`` need, and read the task set once.

    Raises:
        TurnwiseError: Something cannot be imported, or the configuration is wrong.
    """
    sys.path += [entry for entry in spec.pythonpath if entry not in sys.path]
    for env_id, entry_point in spec.envs.items():
        registry.register_env(env_id, entry_point)
    for name, entry_point in spec.rewards.items():
        registry.register_reward(name, entry_point)
    for name, entry_point in spec.agents.items():
        agent_registry.register(name, entry_point)
    with attribute_to("env", f"importing {spec.env_id}"):
        world = registry.env_class(spec.env_id)
        if spec.tasks_by_id:
            # Worlds keep their static tables per process: read before a fork, they are shared by all slots.
            known = {key: spec.env_options[key] for key in ("data", "split") if key in spec.env_options}
            world.make_task_set(**known)
    if spec.warm:
        with attribute_to("env", f"trying {spec.env_id}"):
            env: gymnasium.Env[Any, str] = gymnasium.make(spec.env_id, disable_env_checker=True, **spec.env_options)
            env.reset(seed=0)
            env.close()
    with attribute_to("policy", f"importing the agent {spec.agent!r}"):
        agent_registry.load(spec.agent.partition(":")[0])
    with attribute_to("judge", "loading the rewards"):
        rewards = load_rewards(spec.reward_config)
    return Kit(spec=spec, rewards=rewards)


class Player:
    """Plays episodes one after another in this process."""

    def __init__(self, kit: Kit, *, channel: Channel | None = None) -> None:
        """Use ``kit``; nothing is made before :meth:`boot`.

        Args:
            kit: What to play.
            channel: The way to the policy, for agents with a model; None connects to the gateway that
                the specification names, else has the model run in this process.
        """
        self._kit = kit
        self._channel = channel
        self._env: gymnasium.Env[Any, str] | None = None
        self._agent: Agent | None = None

    def boot(self) -> tuple[gymnasium.Env[Any, str], Agent]:
        """Make the environment and the agent if there are none.

        Raises:
            TurnwiseError: They cannot be made.
        """
        spec = self._kit.spec
        if self._env is None:
            with attribute_to("env", f"making {spec.env_id}"):
                self._env = gymnasium.make(spec.env_id, disable_env_checker=True, **spec.env_options)
        if self._agent is None:
            with attribute_to("policy", f"making the agent {spec.agent!r}"):
                self._agent = self._make_agent()
        return self._env, self._agent

    def _make_agent(self) -> Agent:
        """Make the agent; one with a model speaks through the worker's gateway, and so do the rewards."""
        if self._kit.spec.policy_socket is not None and self._channel is None:
            self._channel = SocketChannel(self._kit.spec.policy_socket)
        use_channel(self._channel)
        return make_agent(self._kit.spec.agent, channel=self._channel)

    def play(self, request: EpisodeRequest, recorder: Recorder) -> Trajectory:
        """Play one episode and grade it.

        Raises:
            TurnwiseError: The environment or the agent cannot be made.
        """
        env, agent = self.boot()
        return run_episode(self._kit.spec, request, env=env, agent=agent, rewards=self._kit.rewards, recorder=recorder)

    def grade(self, request: EpisodeRequest, played: Recording, recorder: Recorder) -> Trajectory:
        """Attach the rewards to an episode that another process played and did not survive."""
        trajectory = assemble(self._kit.spec, request, *played.decoded())
        return graded(trajectory, self._kit.rewards, recorder)

    def close(self) -> None:
        """Close the environment and forget it and the agent; what ``close`` raises is not news."""
        env, agent, self._env, self._agent = self._env, self._agent, None, None
        if isinstance(agent, PolicyAgent):
            agent.close()
        if env is None:
            return
        try:
            with attribute_to("env", "close"):
                env.close()
        except (TurnwiseError, SystemExit):
            return
