"""What plays TRL's episodes: its own model in this process, or replicas of it behind the engine."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from turnwise.agents.policy_agent import LocalChannel
from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory
from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.player import Kit
from turnwise.rollout.engine.player import Player as EpisodePlayer
from turnwise.rollout.engine.run import Rollout
from turnwise.rollout.engine.wire import EpisodeRequest, episode_seed
from turnwise.rollout.policy import PolicyPool
from turnwise.rollout.policy.channel import use_channel
from turnwise.rollout.trainers.stepping import World


class Player(Protocol):
    """Plays episodes with the weights that a trainer has now."""

    def play(self, requests: Sequence[EpisodeRequest], *, trainer: Any, seed: int) -> list[Trajectory]:
        """Return the trajectories in the requests' order.

        Args:
            requests: Which task and which sample of it; their own seeds are not used.
            trainer: TRL's trainer.
            seed: Seed of this rollout.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class SharedModelPlayer:
    """Plays in threads of this process with TRL's model object itself, so no weights are ever copied.

    All episodes share one batch of the model. A world that hangs or dies takes the trainer with it; give
    :class:`Rollouts` a pool where worlds may do that.
    """

    def __init__(self, world: World, concurrency: int, max_tokens: int | None, options: Mapping[str, Json]) -> None:
        """Play in a world.

        Args:
            world: The world.
            concurrency: Episodes at once.
            max_tokens: Most tokens per message, or None for TRL's own limit.
            options: Further options of the policy.
        """
        self._kit = Kit(spec=world.spec, rewards=world.rewards)
        self._concurrency = concurrency
        self._max_tokens = max_tokens
        self._options = dict(options)
        self._channel: LocalChannel | None = None
        self._model: Any = None

    def play(self, requests: Sequence[EpisodeRequest], *, trainer: Any, seed: int) -> list[Trajectory]:
        """Play all episodes, as many at once as the model's batch holds."""
        model = own_model(trainer)
        with _sampling(model):
            channel = self._way_to(model, trainer)
            # The very same tensors: nothing moves, but what was computed with the old values is dropped.
            channel.update(model.state_dict(), version=str(int(trainer.state.global_step)))
            return self._play([_seeded(request, seed) for request in requests], channel)

    def close(self) -> None:
        """End the model's thread."""
        channel, self._channel, self._model = self._channel, None, None
        if channel is not None:
            channel.close()

    def _way_to(self, model: Any, trainer: Any) -> LocalChannel:
        if self._channel is None or self._model is not model:
            from turnwise.agents.transformers_policy import TransformersPolicy

            self.close()
            policy = TransformersPolicy(
                model, tokenizer=_tokenizer(trainer), **{**self._sampling_options(trainer), **self._options}
            )
            self._channel, self._model = LocalChannel(policy), model
        return self._channel

    def _sampling_options(self, trainer: Any) -> dict[str, Any]:
        arguments = trainer.args
        return {
            "temperature": arguments.temperature,
            "top_p": arguments.top_p,
            "top_k": arguments.top_k or 0,
            "max_tokens": self._max_tokens or arguments.max_completion_length or 512,
            "max_batch": self._concurrency,
        }

    def _play(self, requests: Sequence[EpisodeRequest], channel: LocalChannel) -> list[Trajectory]:
        """Play on as many threads as episodes run at once: each waits for the model most of the time."""
        idle: queue.SimpleQueue[EpisodePlayer] = queue.SimpleQueue()
        count = min(self._concurrency, len(requests))
        players = [EpisodePlayer(self._kit, channel=channel) for _ in range(count)]
        for player in players:
            idle.put(player)

        def one(request: EpisodeRequest) -> Trajectory:
            player = idle.get()
            try:
                trajectory = player.play(request, Recording())
                if trajectory.failed:
                    player.close()
                return trajectory
            finally:
                idle.put(player)

        try:
            with ThreadPoolExecutor(count, thread_name_prefix="episode") as threads:
                return list(threads.map(one, requests))
        finally:
            for player in players:
                player.close()
            use_channel(None)


class PoolPlayer:
    """Plays with the engine: replicas of the model, worlds in worker processes with deadlines.

    The replicas get the whole state dict before a rollout whose weights have changed.
    """

    def __init__(self, pool: PolicyPool, options: Mapping[str, Any]) -> None:
        """Play with a started pool.

        Args:
            pool: The replicas.
            options: Keyword arguments of :class:`~turnwise.rollout.Rollout`.
        """
        self._pool = pool
        self._options = dict(options)

    def play(self, requests: Sequence[EpisodeRequest], *, trainer: Any, seed: int) -> list[Trajectory]:
        """Play all episodes in the workers."""
        version = str(int(trainer.state.global_step))
        if self._pool.version != version:
            weights = trainer.accelerator.get_state_dict(trainer.model)
            self._pool.update({name: tensor.cpu() for name, tensor in weights.items()}, version)
        tasks = list(dict.fromkeys(request.task.id for request in requests))
        group = max(request.sample for request in requests) + 1
        run = Rollout(tasks=tasks, group=group, agent=self._pool, seed=seed, **self._options)
        played = {trajectory.id: trajectory for trajectory in run}
        return [played[request.id] for request in requests]

    def close(self) -> None:
        """The pool is its owner's."""


def _seeded(request: EpisodeRequest, seed: int) -> EpisodeRequest:
    own = episode_seed(seed, request.task.id, request.sample)
    return EpisodeRequest(id=request.id, task=request.task, sample=request.sample, seed=own)


def _tokenizer(trainer: Any) -> Any:
    return getattr(trainer.processing_class, "tokenizer", trainer.processing_class)


def own_model(trainer: Any) -> Any:
    """Return the model itself.

    Raises:
        ConfigError: No process has the whole of it.
    """
    deepspeed = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    sharded = getattr(trainer, "is_fsdp_enabled", False) or (deepspeed is not None and deepspeed.zero_stage == 3)
    if sharded:
        raise ConfigError(
            "the trainer's parameters are sharded (FSDP or ZeRO-3), so its model cannot play: give Rollouts a "
            "PolicyPool, pool=..., whose replicas get the weights"
        )
    model = trainer.accelerator.unwrap_model(trainer.model)
    # An adapter's wrapper hides the signature; the model inside has the same adapter in its layers.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _sampling(model: Any) -> Iterator[None]:
    """Switch dropout and the like off while the model plays."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
