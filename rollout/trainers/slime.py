"""slime: custom generation with our worlds, custom rewards, and advantages on every turn's tokens.

What survives of turn rewards: everything, by two of slime's hooks. :func:`generate` plays the episode and
keeps the turns in ``sample.metadata``; :func:`post_process_rewards` works out turn advantages in the group
and hands them on in place of the group-normalised rewards, one number per token, since slime carries no
metadata to its training processes; :func:`advantages` takes them up there. With :func:`generate` alone the
total survives. Checked against slime's source of 2026-08-21::

    --custom-generate-function-path turnwise.rollout.trainers.slime.generate
    --custom-reward-post-process-path turnwise.rollout.trainers.slime.post_process_rewards
    --custom-advantage-function-path turnwise.rollout.trainers.slime.advantages
    --custom-config-path turnwise.yaml

where ``turnwise.yaml`` holds what these functions read::

    turnwise_world: {env: turnwise/Household-v0, rewards: gated}
    turnwise_credit: {estimator: rloo, level: turn}    # options of GroupCredit
    turnwise_fallback: -1.0                            # reward of an episode that failed; without, it raises
    turnwise_attempts: 2                               # how often an episode is played at most

A sample's ``metadata["task_id"]``, or else its label, names its task. For rollouts that are not ours
``--custom-rm-path turnwise.rollout.trainers.slime.reward`` scores a response as the one message of its
task, for single samples and with ``--group-rm``.

Install: slime is not on PyPI (the name there is another project's): use its source or its image.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.dialogue import Chat, Sampled, TokenizerChat, play, usable_row
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TrainingRow
from turnwise.rollout.trainers.scores import problem_of, scores, world_of
from turnwise.rollout.trainers.stepping import World, replay
from turnwise.rollout.trainers.turn_credit import assign_turns

REQUIREMENT = "slime @ git+https://github.com/THUDM/slime"
KEY = "turnwise"


class AbortedError(Exception):
    """slime called its servers off: the sample goes back into its buffer and is played again."""


# -- generation ------------------------------------------------------------------------------------


async def generate(args: Any, sample: Any, sampling_params: Mapping[str, Any]) -> Any:
    """Play the episode of a sample and fill it in (``--custom-generate-function-path``).

    Raises:
        ConfigError: The sample names no task of the world.
        TurnwiseError: Every attempt failed, and there is no ``turnwise_fallback``.
    """
    world, chat = _world(args), _chat(args.hf_checkpoint)
    replies: dict[int, Mapping[str, Any]] = {}

    async def ask(prompt: tuple[int, ...], room: int | None) -> Sampled:
        reply = await _sample_tokens(args, sample, prompt, {**sampling_params, "max_new_tokens": room})
        replies[len(prompt)] = reply
        pairs = reply["output_token_logprobs"]
        version = reply.get("weight_version")
        return Sampled(
            ids=tuple(int(pair[1]) for pair in pairs),
            logprobs=tuple(float(pair[0]) for pair in pairs),
            policy_version=None if version is None else str(version),
        )

    try:
        trajectory = await play(
            world,
            chat,
            ask,
            task_id=_task_id(sample),
            sample=int(sample.index or 0),
            max_response=int(sampling_params["max_new_tokens"]),
            attempts=int(getattr(args, "turnwise_attempts", 1)),
        )
    except AbortedError:
        sample.status = type(sample).Status.ABORTED
        return sample
    return _filled(args, sample, trajectory, world, chat, replies)


async def _sample_tokens(args: Any, sample: Any, prompt: Sequence[int], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask slime's SGLang router for a message; returns its ``meta_info``."""
    http = trainer_module("slime.utils.http_utils", REQUIREMENT)
    body: dict[str, Json] = {"input_ids": list(prompt), "sampling_params": dict(params), "return_logprob": True}
    if getattr(args, "use_rollout_routing_replay", False):
        body["return_routed_experts"] = True
    sticky = sample.session_id and getattr(args, "router_policy", None) == "consistent_hashing"
    headers = {"X-SMG-Routing-Key": sample.session_id} if sticky else None
    url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}/generate"
    reply: Mapping[str, Any] = (await http.post(url, body, headers=headers))["meta_info"]
    if reply["finish_reason"]["type"] == "abort":
        raise AbortedError
    return reply


def _filled(
    args: Any,
    sample: Any,
    trajectory: Trajectory,
    world: World,
    chat: Chat,
    replies: Mapping[int, Mapping[str, Any]],
) -> Any:
    fallback = getattr(args, "turnwise_fallback", None)
    numbers = scores(trajectory, world.rewards, fallback=fallback)
    if problem_of(trajectory) is not None:
        return _left_out(sample, numbers, chat)
    row = usable_row(trajectory)
    fill(args, sample, row, replies)
    sample.response = chat.message(row.response_ids)
    sample.reward = {**numbers, args.reward_key: numbers["reward"]} if args.reward_key else numbers["reward"]
    sample.metadata = {**(sample.metadata or {}), KEY: turn_metadata(row), "turnwise_scores": numbers}
    if trajectory.ending.kind == "truncated":
        sample.status = type(sample).Status.TRUNCATED
    return sample


def fill(args: Any, sample: Any, row: TrainingRow, replies: Mapping[int, Mapping[str, Any]] | None = None) -> None:
    """Write an episode's ids, mask and log-probabilities into a slime ``Sample``.

    Args:
        args: slime's arguments, or None.
        sample: The sample, without a response.
        row: The episode; it has log-probabilities, which slime demands.
        replies: SGLang's ``meta_info`` of each message, by the length of its prompt.
    """
    if not row.logprobs:
        raise ConfigError(f"{row.id} has no log-probabilities, which slime demands: have the sampler return them")
    sample.tokens = list(row.prompt_ids)
    at = 0
    for start, end in row.turn_spans:
        if start > at:
            sample.append_response_tokens(args, tokens=row.response_ids[at:start], trainable=False)
        meta = (replies or {}).get(len(row.prompt_ids) + start)
        sample.append_response_tokens(
            args, tokens=row.response_ids[start:end], log_probs=row.logprobs[start:end], trainable=True, meta_info=meta
        )
        at = end
    sample.loss_mask = list(row.loss_mask)


def turn_metadata(row: TrainingRow) -> dict[str, Json]:
    """Return what a sample's metadata keeps of an episode's turns."""
    return {
        "group": row.group,
        "turn_spans": [list(span) for span in row.turn_spans],
        "turn_rewards": list(row.turn_rewards),
    }


def _left_out(sample: Any, numbers: Mapping[str, float], chat: Chat) -> Any:
    """Return a failed sample: it has the fallback for a reward and no token in the loss."""
    end = chat.ends[0] if chat.ends else 0
    sample.tokens, sample.response, sample.response_length = [end, end], "", 1
    sample.loss_mask, sample.rollout_log_probs = [0], [0.0]
    sample.reward, sample.remove_sample = numbers["reward"], True
    sample.status = type(sample).Status.FAILED
    sample.metadata = {**(sample.metadata or {}), KEY: None, "turnwise_scores": dict(numbers)}
    return sample


# -- advantages ------------------------------------------------------------------------------------


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Work out turn advantages within each group (``--custom-reward-post-process-path``).

    Returns:
        The raw rewards; and in place of one normalised reward per sample a tensor of its tokens'
        advantages, which :func:`advantages` takes up in the training process.

    Raises:
        ConfigError: A sample was not played by :func:`generate`.
    """
    torch = trainer_module("torch", "turnwise[torch]")
    turns = [_turns(sample) for sample in samples]
    groups = [str(sample.index if sample.group_index is None else sample.group_index) for sample in samples]
    credit = GroupCredit(**{"level": "turn", **dict(getattr(args, "turnwise_credit", None) or {})})
    values = [None if kept is None else kept["turn_rewards"] for kept in turns]
    rewards = []
    for sample, kept, found in zip(samples, turns, assign_turns(groups, values, credit), strict=True):
        per_token = torch.zeros(sample.response_length, dtype=torch.float32)
        spans = [] if kept is None else kept["turn_spans"]
        for (start, end), advantage, use in zip(spans, found.advantages, found.mask, strict=True):
            per_token[start:end] = advantage if use else 0.0
        rewards.append(per_token)
    return [_raw(args, sample) for sample in samples], rewards


def _turns(sample: Any) -> Mapping[str, Any] | None:
    metadata = sample.metadata or {}
    if KEY not in metadata:
        raise ConfigError(
            "turn advantages need samples that turnwise played: use "
            "--custom-generate-function-path turnwise.rollout.trainers.slime.generate"
        )
    kept: Mapping[str, Any] | None = metadata[KEY]
    return kept


def _raw(args: Any, sample: Any) -> float:
    reward = sample.reward
    return float(reward[args.reward_key] if isinstance(reward, Mapping) else reward)


def advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Put the turn advantages on the tokens (``--custom-advantage-function-path``).

    With context parallelism each process takes the tokens that are its own.

    Raises:
        ConfigError: The rewards did not come through :func:`post_process_rewards`.
    """
    found = []
    for i, (per_token, kl) in enumerate(zip(rollout_data["rewards"], rollout_data["kl"], strict=True)):
        length = rollout_data["response_lengths"][i]
        if getattr(per_token, "ndim", 0) != 1 or len(per_token) != length:
            raise ConfigError(
                f"sample {i} of {length} tokens has no advantage for each: use "
                "--custom-reward-post-process-path turnwise.rollout.trainers.slime.post_process_rewards"
            )
        if len(kl) != length:
            parallel = trainer_module("slime.backends.megatron_utils.cp_utils", REQUIREMENT)
            per_token = parallel.slice_log_prob_with_cp(per_token, rollout_data["total_lengths"][i], length)
        found.append(per_token.to(device=kl.device, dtype=kl.dtype))
    rollout_data["advantages"], rollout_data["returns"] = found, list(found)


# -- rewards of other rollouts ---------------------------------------------------------------------


async def reward(args: Any, samples: Any, **_: Any) -> Any:
    """Score responses as the one message of their tasks (``--custom-rm-path``, with or without ``--group-rm``).

    Returns:
        A float, with ``--reward-key`` a dict that has it; for a list of samples a list of such.

    Raises:
        ConfigError: A sample names no task.
        TurnwiseError: An episode failed, and there is no ``turnwise_fallback``.
    """
    if isinstance(samples, (list, tuple)):
        return list(await asyncio.gather(*(reward(args, sample) for sample in samples)))
    world, fallback = _world(args), getattr(args, "turnwise_fallback", None)
    trajectory = await asyncio.to_thread(replay, world, _task_id(samples), [str(samples.response)])
    numbers = scores(trajectory, world.rewards, fallback=fallback)
    return {**numbers, args.reward_key: numbers["reward"]} if args.reward_key else numbers["reward"]


def _world(args: Any) -> World:
    options = getattr(args, "turnwise_world", None)
    if not isinstance(options, Mapping):
        raise ConfigError("no world: --custom-config-path names a YAML file with 'turnwise_world: {env: ...}'")
    return world_of(options, agent="slime")


def _task_id(sample: Any) -> str:
    named = (sample.metadata or {}).get("task_id", sample.label)
    if not isinstance(named, str):
        raise ConfigError(f"a sample's metadata['task_id'] or its label names its task, got {named!r}")
    return named


@functools.lru_cache(maxsize=2)
def _chat(checkpoint: str) -> Chat:
    transformers = trainer_module("transformers", "turnwise[torch]")
    return TokenizerChat(transformers.AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True))
