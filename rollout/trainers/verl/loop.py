"""An agent loop for verl that plays our worlds and puts each turn's reward on that turn's last token.

Configure ``actor_rollout_ref.rollout.agent.agent_loop_config_path`` with a file such as::

    - name: turnwise
      _target_: turnwise.rollout.trainers.verl.loop.TurnwiseLoop
      world: {env: turnwise/Household-v0, tasks: train, rewards: gated}

and give the dataset's rows ``agent_name: turnwise`` and ``extra_info: {task_id: ...}``, as
:func:`~turnwise.rollout.trainers.verl.dataset.dataset_rows` does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from turnwise.errors import ConfigError
from turnwise.rollout.trainers.dialogue import Chat, Sampled, TokenizerChat, play, usable_row
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TrainingRow
from turnwise.rollout.trainers.scores import scores, world_of
from turnwise.rollout.trainers.verl import REQUIREMENT
from turnwise.rollout.trainers.verl.fields import output_fields

_agent_loop: Any = trainer_module("verl.experimental.agent_loop.agent_loop", REQUIREMENT)


class TurnOutput(_agent_loop.AgentLoopOutput):  # type: ignore[misc]
    """verl's output of an episode, with a reward on every turn.

    Attributes:
        token_rewards: One number per response token: each turn's reward on the last token sampled in it.
    """

    token_rewards: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that verl stores; ``rm_scores`` holds the turn rewards on their tokens."""
        fields: dict[str, Any] = super().as_dict()
        torch = trainer_module("torch", "turnwise[torch]")
        fields["rm_scores"] = torch.tensor(fields.pop("token_rewards"), dtype=torch.float32)
        return fields


def to_output(row: TrainingRow, *, metrics: Any = None, extra_fields: Mapping[str, Any] | None = None) -> TurnOutput:
    """Return an episode as verl takes it.

    Args:
        row: A valid row.
        metrics: verl's ``AgentLoopMetrics``; None takes empty ones.
        extra_fields: What else verl is to store with it.

    Raises:
        ConfigError: The row has no reward.
    """
    made = _agent_loop.AgentLoopMetrics() if metrics is None else metrics
    return TurnOutput(**output_fields(row, extra_fields=extra_fields), metrics=made)


class TurnwiseLoop(_agent_loop.AgentLoopBase):  # type: ignore[misc]
    """Plays one episode with verl's model."""

    def __init__(self, *args: Any, world: Any, attempts: int = 2, **kwargs: Any) -> None:
        """Prepare an episode; verl makes one of these for each.

        Args:
            args: Passed on to verl.
            world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
            attempts: How often an episode is played, at most, when the world or a judge fails.
            kwargs: Passed on to verl.
        """
        super().__init__(*args, **kwargs)
        self._world = world_of(world, agent="verl")
        self._attempts = attempts
        self._facts: dict[str, Any] = {}

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> TurnOutput:
        """Play the episode of a dataset row.

        Args:
            sampling_params: Of verl.
            row: The row's columns; ``extra_info`` holds the ``task_id``.

        Raises:
            ConfigError: There is no such task.
            TurnwiseError: Every attempt failed; verl drops the task's group.
        """
        task_id = (row.get("extra_info") or {}).get("task_id")
        if not isinstance(task_id, str):
            raise ConfigError("the dataset's extra_info needs the 'task_id' of each row: see dataset_rows()")
        request_id = uuid4().hex  # verl keeps an episode on the server that knows its prefix

        longest = self.rollout_config.prompt_length

        async def ask(prompt: tuple[int, ...], room: int | None) -> Sampled:
            if room == self.rollout_config.response_length and len(prompt) > longest:
                raise ConfigError(
                    f"the first prompt of {task_id!r} has {len(prompt)} tokens, verl takes {longest}: "
                    "raise data.max_prompt_length"
                )
            limits = dict(sampling_params) if room is None else {**sampling_params, "max_tokens": room}
            reply = await self.server_manager.generate(
                request_id=request_id, prompt_ids=list(prompt), sampling_params=limits
            )
            self._note(reply.extra_fields)
            return Sampled(ids=tuple(reply.token_ids), logprobs=tuple(reply.log_probs or ()))

        trajectory = await play(
            self._world,
            _chat(self.tokenizer),
            ask,
            task_id=task_id,
            sample=int(row.get("session_id", 0)),
            max_response=self.rollout_config.response_length,
            attempts=self._attempts,
        )
        numbers = scores(trajectory, self._world.rewards)
        return to_output(usable_row(trajectory), extra_fields={**self._facts, "reward_extra_info": numbers})

    def _note(self, facts: Mapping[str, Any]) -> None:
        """Keep which versions of the weights sampled the episode: the first one's minimum, the last one's maximum."""
        first = self._facts.get("min_global_steps")
        self._facts.update(facts)
        if first is not None:
            self._facts["min_global_steps"] = first


@functools.lru_cache(maxsize=4)
def _chat(tokenizer: Any) -> Chat:
    return TokenizerChat(tokenizer)
