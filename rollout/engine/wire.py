"""What crosses the engine's process boundaries: the worker's specification, requests and endings.

The driver sends :class:`WorkerSpec` and :class:`EpisodeRequest`; an episode comes back as journal
entries (``turnwise.rollout.engine.journal``): each turn encoded once, then one :class:`EpisodeEnd`.
All of it is msgpack.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from enum import IntEnum

import msgspec
import numpy as np

from turnwise.errors import Boundary, ConfigError
from turnwise.records import (
    Ending,
    Json,
    Outcome,
    Record,
    RewardValue,
    Task,
    Timings,
    TokenSequence,
    Trajectory,
    Turn,
)

DEFAULT_MEMORY_LIMIT = 4 * 2**30
_SURROGATE = re.compile("[\ud800-\udfff]")


class Phase(IntEnum):
    """What a child process is doing; written to shared memory so that a hang can be attributed."""

    IDLE = 0
    BOOT = 1
    RESET = 2
    POLICY = 3
    ENV = 4
    JUDGE = 5
    CLOSE = 6


PHASE_BOUNDARY: dict[Phase, Boundary] = {
    Phase.IDLE: "env",
    Phase.BOOT: "env",
    Phase.RESET: "env",
    Phase.POLICY: "policy",
    Phase.ENV: "env",
    Phase.JUDGE: "judge",
    Phase.CLOSE: "env",
}
PHASE_DOING: dict[Phase, str] = {
    Phase.IDLE: "waiting for an episode",
    Phase.BOOT: "making the environment",
    Phase.RESET: "env.reset",
    Phase.POLICY: "agent.act",
    Phase.ENV: "env.step",
    Phase.JUDGE: "the rewards",
    Phase.CLOSE: "env.close",
}


class Deadlines(Record, frozen=True, kw_only=True):
    """Seconds after which the process of a slot is killed; None switches a deadline off.

    Attributes:
        boot_s: Making the environment and the agent, one ``reset``, or one ``close``.
        step_s: One ``env.step``.
        act_s: One ``agent.act``.
        episode_s: All turns of an episode from reset to the last step; passing it truncates the
            episode with the cause ``"time"``, passing any other deadline fails it.
        grade_s: All rewards of one trajectory.
    """

    boot_s: float | None = 60.0
    step_s: float | None = 60.0
    act_s: float | None = 300.0
    episode_s: float | None = 3600.0
    grade_s: float | None = 120.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value > 0):
                raise ConfigError(f"the deadline {name} is a positive number of seconds or None, got {value!r}")

    def of(self, phase: Phase) -> float:
        """Return the seconds that a phase may last; infinity when its deadline is off."""
        limits = {
            Phase.BOOT: self.boot_s,
            Phase.RESET: self.boot_s,
            Phase.POLICY: self.act_s,
            Phase.ENV: self.step_s,
            Phase.JUDGE: self.grade_s,
            Phase.CLOSE: self.boot_s,
        }
        limit = limits.get(phase)
        return math.inf if limit is None else float(limit)


class WorkerSpec(Record, frozen=True, kw_only=True):
    """Everything a worker needs to run episodes; the same for all workers of a run.

    Attributes:
        env_id: Registered environment id.
        env_options: Keyword arguments for ``gymnasium.make``.
        tasks_by_id: Whether ``reset`` takes ``options={"task_id": ...}``; foreign worlds do not.
        envs: The whole environment registry, id to import string, so that worlds which the driver
            registered at run time exist in the workers.
        rewards: The whole reward registry, likewise.
        agents: The whole agent registry, likewise.
        agent: The agent's specification.
        reward_config: Configuration of the reward tree; None is the built-in set.
        outcome_levels: The world's ordered outcome levels, lowest first.
        max_turns: Cap on turns that the engine itself keeps, for worlds that have none; or None.
        slots: Episodes at once.
        deadlines: When a slot's process is killed.
        memory_limit: Bytes that one episode's process may allocate, or None.
        pythonpath: Directories that the driver's ``sys.path`` has beyond the installation's.
        policy_socket: Where this worker's gateway to the policy listens, for agents with a model.
        child: Import string of what a forked process runs; takes the kit, its socket and its journal.
        warm: Whether an environment is made, reset and closed before the first fork, so that what worlds read
            and keep is shared by all processes. Not for worlds that start threads or programs.
    """

    env_id: str
    agent: str
    env_options: dict[str, Json] = msgspec.field(default_factory=dict)
    tasks_by_id: bool = True
    envs: dict[str, str] = msgspec.field(default_factory=dict)
    rewards: dict[str, str] = msgspec.field(default_factory=dict)
    agents: dict[str, str] = msgspec.field(default_factory=dict)
    reward_config: Json = None
    outcome_levels: tuple[str, ...] = ()
    max_turns: int | None = None
    slots: int = 2
    deadlines: Deadlines = Deadlines()
    memory_limit: int | None = DEFAULT_MEMORY_LIMIT
    pythonpath: tuple[str, ...] = ()
    policy_socket: str | None = None
    child: str = "turnwise.rollout.engine.slot_child:run_slot"
    warm: bool = False


class EpisodeRequest(Record, frozen=True, kw_only=True):
    """One episode to play.

    Attributes:
        id: ``"<task id>#<sample>"``.
        task: The task.
        sample: 0-based number within the task's group.
        seed: Seed for the environment and the agent.
    """

    id: str
    task: Task
    sample: int
    seed: int


class EpisodeEnd(Record, frozen=True, kw_only=True):
    """A trajectory without its turns, and without what they and the request already say.

    Attributes:
        ending: How the episode ended.
        final_observation: What came back after the last turn.
        turn_rewards: Rewards of each turn, or empty when there are none.
        rewards: Rewards of the whole trajectory.
        policy_version: Version of the policy's weights, or None.
    """

    ending: Ending
    final_observation: str = ""
    turn_rewards: tuple[dict[str, RewardValue], ...] = ()
    rewards: dict[str, RewardValue] = msgspec.field(default_factory=dict)
    policy_version: str | None = None


_encoder = msgspec.msgpack.Encoder()
_turn_decoder = msgspec.msgpack.Decoder(Turn)
_end_decoder = msgspec.msgpack.Decoder(EpisodeEnd)
_request_decoder = msgspec.msgpack.Decoder(EpisodeRequest)
_spec_decoder = msgspec.msgpack.Decoder(WorkerSpec)


def encode(record: Record) -> bytes:
    """Encode a record; half surrogate pairs, which have no UTF-8 form, become U+FFFD.

    Raises:
        TypeError: A free-form field holds something that is not JSON-compatible.
        OverflowError: It holds an integer of more than 64 bits.
    """
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(record)))


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


def decode_turn(data: bytes) -> Turn:
    """Decode one turn."""
    return _turn_decoder.decode(data)


def decode_end(data: bytes) -> EpisodeEnd:
    """Decode the end of an episode."""
    return _end_decoder.decode(data)


def decode_request(data: bytes) -> EpisodeRequest:
    """Decode a request."""
    return _request_decoder.decode(data)


def decode_spec(data: bytes) -> WorkerSpec:
    """Decode a worker's specification."""
    return _spec_decoder.decode(data)


def episode_seed(run_seed: int, task_id: str, sample: int) -> int:
    """Return the seed of one episode, a whole number in [0, 2**32).

    It depends on nothing but the arguments, so the number of workers and the order in which
    episodes finish do not change any trajectory.
    """
    digest = hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, len(digest), 4)]
    return int(np.random.SeedSequence([run_seed, *words, sample]).generate_state(1, np.uint32)[0])


def end_of(trajectory: Trajectory) -> EpisodeEnd:
    """Return the part of a trajectory that neither its turns nor its request carry."""
    turn_rewards = tuple(turn.rewards for turn in trajectory.turns)
    return EpisodeEnd(
        ending=trajectory.ending,
        final_observation=trajectory.final_observation,
        turn_rewards=turn_rewards if any(turn_rewards) else (),
        rewards=trajectory.rewards,
        policy_version=trajectory.policy_version,
    )


def assemble(spec: WorkerSpec, request: EpisodeRequest, turns: Sequence[Turn], end: EpisodeEnd) -> Trajectory:
    """Put a trajectory together from what was asked and what came back."""
    if end.turn_rewards:
        pairs = zip(turns, end.turn_rewards, strict=True)
        turns = [msgspec.structs.replace(turn, rewards=rewards) for turn, rewards in pairs]
    return Trajectory(
        id=request.id,
        env_id=spec.env_id,
        env_options=spec.env_options,
        task=request.task,
        sample=request.sample,
        seed=request.seed,
        agent=spec.agent,
        policy_version=end.policy_version or (turns[-1].policy_version if turns else None),
        turns=tuple(turns),
        final_observation=end.final_observation,
        ending=end.ending,
        outcome=None if end.ending.kind == "failed" else _outcome(spec, turns),
        rewards=end.rewards,
        tokens=_token_sequence(turns),
        timings=Timings(
            act_s=sum(turn.timings.act_s for turn in turns), step_s=sum(turn.timings.step_s for turn in turns)
        ),
    )


def _outcome(spec: WorkerSpec, turns: Sequence[Turn]) -> Outcome:
    if not turns:
        return Outcome(success=False, env_return=0.0, levels=spec.outcome_levels)
    last = turns[-1]
    return Outcome(
        success=last.success,
        env_return=math.fsum(turn.env_reward for turn in turns),
        progress=last.progress,
        level=last.level,
        levels=spec.outcome_levels,
    )


def _token_sequence(turns: Sequence[Turn]) -> TokenSequence | None:
    """Return the episode as the trainer will see it; with log-probs only if every sampled id has one."""
    spoken = [turn.tokens for turn in turns if turn.tokens is not None]
    if not spoken:
        return None
    ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    for tokens in spoken:
        ids += [*tokens.prompt_ids, *tokens.completion_ids]
        mask += [0] * len(tokens.prompt_ids) + [1] * len(tokens.completion_ids)
        logprobs += [0.0] * len(tokens.prompt_ids) + list(tokens.logprobs)
    return TokenSequence(
        ids=tuple(ids), loss_mask=tuple(mask), logprobs=tuple(logprobs) if len(logprobs) == len(ids) else ()
    )
