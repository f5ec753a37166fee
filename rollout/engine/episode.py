"""The episode loop: reset, then act and step until it ends, then the rewards. One process, no I/O."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium
import msgspec

from turnwise.errors import Boundary, BudgetSpentError, EnvError, JudgeError, PolicyError, TurnwiseError, attribute_to
from turnwise.protocols import Agent, AgentMessage, Episode
from turnwise.records import Ending, Failure, Timings, Trajectory, Turn, TurnTokens
from turnwise.rollout.engine import contract
from turnwise.rollout.engine.contract import Seen, Stepped
from turnwise.rollout.engine.journal import Recorder
from turnwise.rollout.engine.wire import (
    PHASE_BOUNDARY,
    PHASE_DOING,
    EpisodeEnd,
    EpisodeRequest,
    Phase,
    WorkerSpec,
    assemble,
    encode,
)

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 4000


class RewardTree(Protocol):
    """What the engine needs of a reward tree."""

    def attach(self, trajectory: Trajectory) -> Trajectory:
        """Return the trajectory with its rewards."""
        ...


def run_episode(
    spec: WorkerSpec,
    request: EpisodeRequest,
    *,
    env: gymnasium.Env[Any, str],
    agent: Agent,
    rewards: RewardTree,
    recorder: Recorder,
) -> Trajectory:
    """Play one episode and attach its rewards.

    Whatever the environment, the agent or the rewards raise becomes a failed trajectory with the
    boundary, the reason and the turns played so far; it never becomes a reward.

    Args:
        spec: The worker's specification.
        request: The task, sample and seed to play.
        env: The environment, which is reset first.
        agent: The policy.
        rewards: The reward tree.
        recorder: Is told of every phase and every complete turn as they happen.

    Returns:
        The trajectory. Only ``KeyboardInterrupt`` and the like escape.
    """
    play = _Play(spec, request, env, agent, recorder)
    try:
        ending = play.run()
    except TurnwiseError as error:
        log.debug("%s failed", request.id, exc_info=error)
        ending = failed(error.boundary, error.kind, str(error), play.index)
    except SystemExit as error:
        message = f"sys.exit({error.code!r}) during {PHASE_DOING[play.phase]}"
        ending = failed(PHASE_BOUNDARY[play.phase], "exit", message, play.index)
    end = EpisodeEnd(ending=ending, final_observation=play.seen.text, policy_version=agent.policy_version)
    return graded(assemble(spec, request, play.turns, end), rewards, recorder)


def failed(boundary: Boundary, kind: str, message: str, turn: int | None) -> Ending:
    """Return the ending of an episode that failed."""
    failure = Failure(boundary=boundary, kind=kind, message=message[:MAX_MESSAGE_CHARS], turn=turn)
    return Ending(kind="failed", failure=failure)


def graded(trajectory: Trajectory, rewards: RewardTree, recorder: Recorder) -> Trajectory:
    """Attach the rewards.

    When that raises, the trajectory failed at the judge, unless it had failed before: then it keeps
    its first failure, without rewards.
    """
    last = len(trajectory.turns) - 1
    recorder.phase(Phase.JUDGE, last)
    try:
        with attribute_to("judge", "the rewards"):
            scored = rewards.attach(trajectory)
            if not isinstance(scored, Trajectory):
                raise JudgeError(f"the reward tree returned a {type(scored).__name__}, expected a Trajectory")
            return scored
    except TurnwiseError as error:
        log.debug("the rewards of %s failed", trajectory.id, exc_info=error)
        ending = failed(error.boundary, error.kind, str(error), max(last, 0))
    except SystemExit as error:
        ending = failed("judge", "exit", f"sys.exit({error.code!r}) during the rewards", max(last, 0))
    if trajectory.failed:
        return trajectory
    return msgspec.structs.replace(trajectory, ending=ending, outcome=None)


class _Play:
    """One episode while it is played."""

    def __init__(
        self,
        spec: WorkerSpec,
        request: EpisodeRequest,
        env: gymnasium.Env[Any, str],
        agent: Agent,
        recorder: Recorder,
    ) -> None:
        self._spec = spec
        self._request = request
        self._env = env
        self._agent = agent
        self._recorder = recorder
        self.phase = Phase.RESET
        self.index: int | None = None
        self.turns: list[Turn] = []
        self.seen = Seen("")
        self._observation: Any = None
        self._info: Mapping[str, Any] = {}
        self._tokens = 0

    def run(self) -> Ending:
        """Play to the end."""
        try:
            self._reset()
            ending = None
            while ending is None:
                self.index = len(self.turns)
                step = self._turn(self.index)
                ending = self._ending(step)
        except BudgetSpentError as spent:
            return Ending(kind="truncated", cause=spent.cause)
        return ending

    def _enter(self, phase: Phase, turn: int = -1) -> None:
        self.phase = phase
        self._recorder.phase(phase, turn)

    def _reset(self) -> None:
        request, where = self._request, f"{self._spec.env_id} reset"
        options = {"task_id": request.task.id} if self._spec.tasks_by_id else None
        self._enter(Phase.RESET)
        with attribute_to("env", where):
            result = self._env.reset(seed=request.seed, options=options)
            self._observation, seen, self._info = contract.read_reset(result, where)
        self._see(seen)
        self._enter(Phase.POLICY)
        # Scripted agents ask the world itself; wrappers would hide its methods.
        world: Any = self._env.unwrapped
        with attribute_to("policy", "agent.reset"):
            self._agent.reset(Episode(env=world, task=request.task, seed=request.seed, sample=request.sample))

    def _see(self, seen: Seen) -> None:
        self.seen = seen
        if seen.png is not None:
            self._recorder.image(seen.png)
        self._recorder.observation(seen.text)

    def _turn(self, index: int) -> Stepped:
        self._enter(Phase.POLICY, index)
        began = time.perf_counter()
        with attribute_to("policy", f"agent.act at turn {index}"):
            message = _check_message(self._agent.act(self._observation, self._info))
        self._recorder.action(message.text)
        self._enter(Phase.ENV, index)
        acted = time.perf_counter()
        where = f"{self._spec.env_id} step at turn {index}"
        with attribute_to("env", where):
            result = self._env.step(message.text)
            timings = Timings(act_s=acted - began, step_s=time.perf_counter() - acted)
            step = contract.read_step(result, where)
            turn = self._record(index, message, step, timings, where)
            encoded = _encode(turn, where)
        self.turns.append(turn)
        self._recorder.turn(encoded)
        self._observation, self._info = step.raw, step.info
        self._see(step.seen)
        return step

    def _record(self, index: int, message: AgentMessage, step: Stepped, timings: Timings, where: str) -> Turn:
        facts = contract.read_info(step.info, where)
        return Turn(
            index=index,
            observation=self.seen.text,
            image=self.seen.image,
            action_text=message.text,
            action=facts.action,
            action_valid=facts.valid,
            action_error=facts.error,
            env_reward=step.reward,
            progress=facts.progress,
            success=facts.success,
            level=facts.level,
            info=facts.extra,
            tokens=message.tokens,
            token_span=None if message.tokens is None else self._span(message.tokens),
            policy_version=message.policy_version,
            finish=message.finish,
            timings=timings,
        )

    def _span(self, tokens: TurnTokens) -> tuple[int, int]:
        """Return where a turn's sampled ids are in the episode's token sequence."""
        start = self._tokens + len(tokens.prompt_ids)
        self._tokens = start + len(tokens.completion_ids)
        return start, self._tokens

    def _ending(self, step: Stepped) -> Ending | None:
        if step.terminated:
            return Ending(kind="terminated")
        if step.truncated:
            return Ending(kind="truncated", cause=contract.truncation_cause(step.info))
        if self._spec.max_turns is not None and len(self.turns) >= self._spec.max_turns:
            return Ending(kind="truncated", cause="turns")
        return None


def _check_message(message: Any) -> AgentMessage:
    if not isinstance(message, AgentMessage):
        raise PolicyError(f"agent.act returned a {type(message).__name__}: an agent answers with an AgentMessage")
    if not isinstance(message.text, str):
        raise PolicyError(f"the agent's message holds a {type(message.text).__name__}: its text is a str")
    return message


def _encode(turn: Turn, where: str) -> bytes:
    try:
        return encode(turn)
    except (TypeError, OverflowError, ValueError) as error:
        raise EnvError(f"{where} returned an info['extra'] that cannot be stored: {error}") from error
