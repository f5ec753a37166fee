"""NeMo-Gym 0.4 and NeMo-RL: rollout results in their form, and our worlds as a batched environment.

What survives of turn rewards: their sum, and what each reward of the tree contributed to it.

* :func:`gym_result` writes an episode as NeMo-Gym's agents return one. Ids and log-probabilities of every
  message reach NeMo-RL as they were sampled; the reward is one number per episode. ``reward_components``
  become ``reward/NAME`` columns, which GDPO normalises one by one, and sum to the reward, as NeMo-RL checks.
* :class:`BatchWorld` is an ``EnvironmentInterface`` of NeMo-RL. Its rewards come turn by turn and are added
  up to ``total_reward`` there; with ``components=True`` they come by name.

NeMo-RL makes the environment a Ray actor::

    @ray.remote
    class TurnwiseEnvironment(batch_world_class()): ...

    env = TurnwiseEnvironment.remote({"env": "turnwise/Household-v0", "rewards": "gated"}, components=True)

and a dataset's rows hold :func:`opening_messages` and ``extra_env_info={"task_id": ..., "sample": 0}``.

Install: ``pip install nemo-gym==0.4.0`` (Python 3.12); NeMo-RL from its source with uv. The models of
NeMo-Gym are tested against; NeMo-RL's interface is from its source of 2026-08-22.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory
from turnwise.rollout.trainers.dialogue import usable_row
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TrainingRow
from turnwise.rollout.trainers.scores import world_of
from turnwise.rollout.trainers.spoken import SpokenEpisode, Told
from turnwise.rollout.trainers.stepping import World

REQUIREMENT = "nemo-rl @ git+https://github.com/NVIDIA-NeMo/RL"
COMPONENT = "component/"


# -- NeMo-Gym --------------------------------------------------------------------------------------


def gym_result(trajectory: Trajectory, *, model: str = "policy", system: str = "") -> dict[str, Json]:
    """Return an episode as NeMo-Gym's ``/run`` returns one.

    Args:
        trajectory: A graded episode with token ids and log-probabilities.
        model: What the response names as its model.
        system: The world's system prompt, for the record.

    Raises:
        TurnwiseError: The episode failed or has no reward: it is no result. NeMo-Gym would retry it.
        ConfigError: It has no token ids or no log-probabilities.
    """
    row = usable_row(trajectory)
    if not row.logprobs:
        raise ConfigError(f"{row.id} has no log-probabilities, which NeMo-RL demands")
    return {
        "responses_create_params": {"input": _opening(trajectory, system)},
        "response": {
            "id": f"resp_{row.id}",
            "created_at": 0.0,
            "model": model,
            "object": "response",
            "output": list(_output(trajectory, row)),
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
        },
        "reward": row.reward,
        "reward_components": components(row),
        "turn_rewards": list(row.turn_rewards),
        "task_id": row.group,
    }


def components(row: TrainingRow) -> dict[str, float]:
    """Return what makes up a row's reward, by name; the values sum to it.

    Raises:
        ConfigError: The row has no reward.
    """
    if row.reward is None:
        raise ConfigError(f"{row.id} has no reward: {row.why}")
    found = row.components or {"reward": row.reward}
    if not math.isclose(math.fsum(found.values()), row.reward, rel_tol=1e-6, abs_tol=1e-9):
        raise ConfigError(f"the components of {row.id} sum to {math.fsum(found.values())}, its reward is {row.reward}")
    return dict(found)


def _opening(trajectory: Trajectory, system: str) -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": trajectory.turns[0].observation}]


def _output(trajectory: Trajectory, row: TrainingRow) -> list[dict[str, Json]]:
    """Return each message with its ids, and the observations between them."""
    ids = [*row.prompt_ids, *row.response_ids]
    items: list[dict[str, Json]] = []
    for turn, (start, end) in zip(trajectory.turns, row.turn_spans, strict=True):
        if turn.index:
            items.append({"type": "message", "role": "user", "content": turn.observation})
        items.append(
            {
                "id": f"msg_{turn.index}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": turn.action_text, "annotations": []}],
                "prompt_token_ids": ids[: len(row.prompt_ids) + start],
                "generation_token_ids": list(row.response_ids[start:end]),
                "generation_log_probs": list(row.logprobs[start:end]),
            }
        )
    return items


# -- NeMo-RL ---------------------------------------------------------------------------------------


class EnvironmentReturn(NamedTuple):
    """What a step returns, in the order of NeMo-RL's tuple of this name; one entry per episode in each.

    Attributes:
        observations: ``{"role": "user", "content": ...}``.
        metadata: What the next step is given back.
        next_stop_strings: None: the sampler's own.
        rewards: float32 tensor, or with components a mapping of such by ``reward/NAME``.
        terminateds: bool tensor.
        answers: None.
    """

    observations: list[dict[str, str]]
    metadata: list[dict[str, Json] | None]
    next_stop_strings: list[None]
    rewards: Any
    terminateds: Any
    answers: None = None


class BatchWorld:
    """Many episodes of a world, stepped together (NeMo-RL's ``EnvironmentInterface``)."""

    def __init__(
        self,
        world: Mapping[str, Json],
        *,
        components: bool = False,
        fallback: float | None = None,
        score_every_turn: bool = True,
    ) -> None:
        """Prepare; episodes begin with their first message.

        Args:
            world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
            components: Whether rewards come by name, ``reward/NAME``; they add up to the same.
            fallback: Reward of an episode that failed, counted in the metrics; None raises, which ends
                NeMo-RL's run.
            score_every_turn: Whether the reward tree is asked after every message; without, episodes that
                NeMo-RL cuts have earned nothing.
        """
        self._world = world_of(world, agent="nemo-rl")
        self._components = components
        self._options: dict[str, Any] = {"fallback": fallback, "score_every_turn": score_every_turn}
        self._open: dict[str, SpokenEpisode] = {}
        self._count = itertools.count()
        self._invalid = self._over = 0

    def step(
        self, message_log_batch: Sequence[Sequence[Mapping[str, Any]]], metadata: Sequence[Mapping[str, Any]]
    ) -> EnvironmentReturn:
        """Play the last message of each log.

        Args:
            message_log_batch: One conversation per episode; each ends with the policy's message.
            metadata: ``{"task_id": ..., "sample": ...}`` at first, then what the step before returned.

        Raises:
            ConfigError: A log does not end with the policy's message, or metadata names no task.
            TurnwiseError: An episode failed, and there is no fallback.
        """
        told, following = [], []
        for log, given in zip(message_log_batch, metadata, strict=True):
            key = given.get("episode") or self._begin(given)
            one = self._open[key].say(_last_message(log))
            if one.over:
                del self._open[key]
                self._over += 1
                self._invalid += int(one.numbers["valid"] == 0.0)
            told.append(one)
            following.append(None if one.over else {**given, "episode": key})
        torch = trainer_module("torch", "turnwise[torch]")
        return EnvironmentReturn(
            observations=[{"role": "user", "content": one.observation} for one in told],
            metadata=following,
            next_stop_strings=[None] * len(told),
            rewards=self._rewards(told, torch),
            terminateds=torch.tensor([one.over for one in told]),
        )

    def _begin(self, given: Mapping[str, Any]) -> str:
        task_id = given.get("task_id")
        if not isinstance(task_id, str):
            raise ConfigError(f"extra_env_info needs the 'task_id' of each row, got the keys {sorted(given)}")
        episode = SpokenEpisode(self._world, **self._options)
        episode.begin(task_id, sample=int(given.get("sample", 0)))
        key = f"{task_id}/{next(self._count)}"
        self._open[key] = episode
        return key

    def _rewards(self, told: Sequence[Told], torch: Any) -> Any:
        def column(name: str) -> Any:
            return torch.tensor([one.gained[name] for one in told], dtype=torch.float32)

        if not self._components:
            return column("reward")
        names = [part.name for part in self._world.rewards.rewards if part.weight != 0.0]
        return {f"reward/{name}": column(COMPONENT + name) for name in names}

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """Close what NeMo-RL cut, and return the batch and the metrics of the episodes since the last call."""
        cut, self._open = self._open, {}
        for episode in cut.values():
            episode.close()
        metrics = {"turnwise/over": float(self._over), "turnwise/invalid": float(self._invalid)}
        self._over = self._invalid = 0
        return batch, {**metrics, "turnwise/cut": float(len(cut))}


def batch_world_class() -> type:
    """Return :class:`BatchWorld` as a subclass of NeMo-RL's ``EnvironmentInterface``, to be made a Ray actor.

    Raises:
        MissingTrainerError: NeMo-RL is not installed.
    """
    interfaces = trainer_module("nemo_rl.environments.interfaces", REQUIREMENT)
    made: type = type("TurnwiseEnvironment", (BatchWorld, interfaces.EnvironmentInterface), {})
    return made


def opening_messages(world: World, task_id: str, *, sample: int = 0) -> list[dict[str, str]]:
    """Return the messages that a row of NeMo-RL's dataset begins with: the system prompt and the first observation.

    Raises:
        TurnwiseError: There is no such task, or the world could not begin.
    """
    episode = SpokenEpisode(world)
    try:
        seen = episode.begin(task_id, sample=sample)
        system = episode.system_prompt
    finally:
        episode.close()
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": seen}]


def _last_message(log: Sequence[Mapping[str, Any]]) -> str:
    if not log or log[-1].get("role") != "assistant":
        raise ConfigError("each message log ends with the policy's message, whose role is 'assistant'")
    return str(log[-1]["content"]).strip()
