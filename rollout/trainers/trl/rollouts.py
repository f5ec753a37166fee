"""``rollout_func`` for TRL: turnwise plays the episodes with the model that TRL is training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turnwise.errors import ConfigError
from turnwise.protocols import Credit
from turnwise.records import Json, Trajectory
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.policy import PolicyPool
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TOTAL, TrainingRow, make_rows
from turnwise.rollout.trainers.stepping import World
from turnwise.rollout.trainers.trl.advantages import ADVANTAGES
from turnwise.rollout.trainers.trl.players import Player, PoolPlayer, SharedModelPlayer


class Rollouts:
    """Plays whole episodes as TRL's completions; give it to ``GRPOTrainer(rollout_func=...)``.

    The prompts are task ids (:meth:`dataset`). An episode's prompt is what stands before the first
    sampled token, its completion everything from there on, later observations included, which are
    masked. TRL's own sampling options (temperature, top-p, top-k) are used, so that the log-probs it
    recomputes are those of the sampling policy.

    Besides TRL's own keys every row gets these columns, which reward functions receive too:

    ===================== ==============================================================================
    ``episode_id``        the trajectory's id
    ``episode_reward``    its reward; None where it is invalid or the episode failed
    ``episode_outcome``   1.0 solved, 0.0 not; None where the episode failed
    ``episode_problem``   why the row may not be trained on, or None
    ``reward_components`` what each reward of the tree contributes; None where there is no reward
    ``turn_rewards``      each turn's reward; None where it is invalid
    ``turn_spans``        half-open ``[start, end]`` of each turn's sampled ids in the completion
    ``token_advantages``  each id's advantage, for :class:`TurnAdvantages`; not there without credit
    ===================== ==============================================================================
    """

    def __init__(
        self,
        env: str = "turnwise/Household-v0",
        *,
        tasks: str | Sequence[str] | None = None,
        data: str | os.PathLike[str] | None = None,
        env_options: Mapping[str, Json] | None = None,
        max_turns: int | None = None,
        rewards: str | Path | Mapping[str, Json] | None = None,
        reward: str = TOTAL,
        credit: Credit | None = None,
        seed: int = 0,
        concurrency: int = 64,
        max_tokens: int | None = None,
        policy_options: Mapping[str, Json] | None = None,
        pool: PolicyPool | None = None,
        workers: int = 1,
    ) -> None:
        """Check the options; nothing is loaded or started.

        Args:
            env: Id of a registered environment.
            tasks: ``"SPLIT"``, ``"SPLIT:N"``, ``"SPLIT:A-B"``, a list of task ids, or None for all.
            data: A public data set in its own format; None is the embedded task set.
            env_options: Further keyword arguments of the environment.
            max_turns: Turns after which an episode is truncated; None is the world's default.
            rewards: Reward configuration; None is the built-in set.
            reward: Which reward of the tree is the episode's.
            credit: Assigns turn advantages within a group; None is GRPO per turn,
                ``GroupCredit(level="turn", reward=reward)``.
            seed: Seed of all episodes.
            concurrency: Episodes at once in this process, at least 1; they share one batch of the model.
            max_tokens: Most tokens per message; None is TRL's ``max_completion_length``.
            policy_options: Further options of ``TransformersPolicy``, such as ``{"stop": "</act>"}``.
            pool: Replicas that play instead of TRL's own model object, in worker processes with deadlines;
                they get the weights before every rollout. It must be started.
            workers: Ray actors, with a pool.

        Raises:
            ConfigError: An option is wrong.
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigError(f"concurrency is a whole number of at least 1, got {concurrency!r}")
        options = {
            "env": env,
            "data": data,
            "env_options": env_options,
            "max_turns": max_turns,
            "rewards": rewards,
        }
        self.world = World(agent="transformers:trl", tasks=tasks, seed=seed, **options)  # type: ignore[arg-type]
        self.reward = reward
        self.credit = credit if credit is not None else GroupCredit(level="turn", reward=reward)
        self._player: Player
        if pool is None:
            self._player = SharedModelPlayer(self.world, concurrency, max_tokens, policy_options or {})
        else:
            self._player = PoolPlayer(pool, {**options, "workers": workers})
        self._seed = seed
        self._calls: tuple[int, int] = (-1, 0)

    def dataset(self) -> Any:
        """Return the data set to train on: one row per task, whose ``prompt`` is the task's id.

        Raises:
            MissingTrainerError: ``datasets`` is not installed; it comes with TRL.
        """
        datasets = trainer_module("datasets", "datasets>=3")
        return datasets.Dataset.from_dict({"prompt": list(self.world.tasks), "task_id": list(self.world.tasks)})

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any] | None]:
        """Play one episode per prompt with the trainer's current weights.

        Args:
            prompts: Task ids, those of a group side by side, as TRL repeats them.
            trainer: The ``GRPOTrainer``.

        Returns:
            TRL's columns and those in the class's table, one entry per prompt.

        Raises:
            ConfigError: A prompt is no task id, or a group is spread over several processes.
        """
        group = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        _check_groups(prompts, group)
        samples = _samples(prompts)
        requests = [self.world.request(task, sample=sample) for task, sample in samples]
        trajectories = self._player.play(requests, trainer=trainer, seed=self._next_seed(trainer))
        rows = make_rows(trajectories, reward=self.reward, credit=self.credit)
        return _columns(rows, filler=_filler(trainer))

    def play(self, trainer: Any, *, group: int = 1, seed: int = 0) -> list[Trajectory]:
        """Play this object's own tasks with a trainer's current weights, as to measure held-out tasks.

        Args:
            trainer: The ``GRPOTrainer``.
            group: Episodes per task, at least 1.
            seed: Told apart from those of other calls.
        """
        requests = [self.world.request(task, sample=n) for task in self.world.tasks for n in range(group)]
        own = int(np.random.SeedSequence([self._seed, seed]).generate_state(1, np.uint32)[0])
        return self._player.play(requests, trainer=trainer, seed=own)

    def close(self) -> None:
        """Free what plays; the next call starts it again."""
        self._player.close()

    def _next_seed(self, trainer: Any) -> int:
        """Return a seed of its own for every call, the same whenever a run is repeated or resumed."""
        step = int(trainer.state.global_step)
        last, calls = self._calls
        self._calls = (step, calls + 1 if step == last else 0)
        words = [self._seed, step, self._calls[1], int(trainer.accelerator.process_index)]
        return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])


def _check_groups(prompts: Sequence[Any], group: int) -> None:
    """Credit compares the episodes of a group, so all of them must be here."""
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise ConfigError("a prompt is the id of a task: train on Rollouts.dataset(), or on a data set made like it")
    whole = len(prompts) % group == 0 and all(
        len(set(prompts[start : start + group])) == 1 for start in range(0, len(prompts), group)
    )
    if not whole:
        raise ConfigError(
            f"a group of {group} episodes is not in one process, got {len(prompts)} prompts here: make "
            "per_device_train_batch_size x steps_per_generation (and per_device_eval_batch_size) a multiple of "
            "num_generations"
        )


def _samples(prompts: Sequence[str]) -> list[tuple[str, int]]:
    """Number the episodes of each task."""
    counts: dict[str, int] = {}
    numbered = []
    for task in prompts:
        numbered.append((task, counts.get(task, 0)))
        counts[task] = counts.get(task, 0) + 1
    return numbered


def _filler(trainer: Any) -> int:
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return int(tokenizer.pad_token_id)


def _columns(rows: Sequence[TrainingRow], *, filler: int) -> dict[str, list[Any] | None]:
    # TRL takes no empty sequence: an episode that failed before anything was sampled is one masked id.
    known = all(row.logprobs or not row.response_ids for row in rows)
    return {
        "prompt_ids": [list(row.prompt_ids) or [filler] for row in rows],
        "completion_ids": [list(row.response_ids) or [filler] for row in rows],
        "logprobs": [list(row.logprobs) or [0.0] for row in rows] if known else None,
        "env_mask": [list(row.loss_mask) or [0] for row in rows],
        ADVANTAGES: [list(row.advantages) or [0.0] for row in rows],
        "episode_id": [row.id for row in rows],
        "episode_reward": [row.reward if row.valid else None for row in rows],
        "episode_outcome": [row.outcome for row in rows],
        "episode_problem": [row.why for row in rows],
        "reward_components": [row.components if row.valid else None for row in rows],
        "turn_rewards": [list(row.turn_rewards) for row in rows],
        "turn_spans": [[list(span) for span in row.turn_spans] for row in rows],
    }
