"""Re-executing recorded actions: does the world still answer as it did?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium

from turnwise.env import TurnEnv
from turnwise.errors import TurnwiseError, attribute_to
from turnwise.records import Action, Json, Trajectory, Turn
from turnwise.rollout.engine import contract

# Facts of a turn that come back from the world, apart from the observation.
_FACTS = ("action_valid", "action_error", "env_reward", "progress", "success", "level", "info", "action")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One fact that came out otherwise.

    Attributes:
        turn: The turn at which it differs, or None for how the episode ended.
        what: The fact: ``"observation"``, ``"env_reward"``, ``"action_valid"``, ``"ending"``, ...
        recorded: Its stored value.
        replayed: Its value now.
    """

    turn: int | None
    what: str
    recorded: Json
    replayed: Json


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What re-executing one trajectory gave.

    Attributes:
        trajectory_id: The trajectory.
        turns: How many recorded turns were played again.
        differences: Everything that differs, in order; empty when the world answers as it did.
    """

    trajectory_id: str
    turns: int
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Json]:
        """Return it JSON-compatible."""
        return {
            "id": self.trajectory_id,
            "turns": self.turns,
            "differences": [asdict(difference) for difference in self.differences],
        }


def replay_all(trajectories: Iterable[Trajectory]) -> Iterator[Replay]:
    """Replay trajectories, each in a world made with its recorded options.

    Worlds are made once for each set of options and closed at the end.

    Raises:
        ConfigError: A world is not registered, or its options no longer work.
    """
    with contextlib.ExitStack() as made:
        worlds: dict[str, gymnasium.Env[Any, str]] = {}
        for trajectory in trajectories:
            key = json.dumps([trajectory.env_id, trajectory.env_options], sort_keys=True)
            if key not in worlds:
                worlds[key] = gymnasium.make(trajectory.env_id, **trajectory.env_options)
                made.callback(worlds[key].close)
            yield replay(trajectory, worlds[key])


def replay(trajectory: Trajectory, env: gymnasium.Env[Any, str]) -> Replay:
    """Send a trajectory's messages to a fresh episode with its seed and task.

    Of a failed trajectory those turns are replayed that it has; how it failed is not.

    Args:
        trajectory: The recording.
        env: A world made with the recorded options.
    """
    play = _Replaying(trajectory, env)
    try:
        play.run()
    except TurnwiseError as error:
        play.found.append(Difference(turn=play.turn, what="failure", recorded=None, replayed=str(error)))
    return Replay(trajectory_id=trajectory.id, turns=play.played, differences=tuple(play.found))


class _Replaying:
    """One trajectory while it is replayed."""

    def __init__(self, trajectory: Trajectory, env: gymnasium.Env[Any, str]) -> None:
        self._trajectory = trajectory
        self._env = env
        self.found: list[Difference] = []
        self.turn: int | None = None
        self.played = 0

    def run(self) -> None:
        """Play to the end of the recording, or to where it cannot go on."""
        recorded = self._trajectory
        if recorded.failed and not recorded.turns:
            return  # it failed in reset or before: there is nothing to compare with
        self.turn = 0
        seen = self._reset()
        over = "goes on"
        for turn in recorded.turns:
            self.turn = turn.index
            self._compare("observation", turn.observation, seen.text)
            self._compare("image", turn.image, seen.image)
            if over != "goes on":
                self._compare("ending", "goes on", over)
                return
            step = self._step(turn)
            seen = step.seen
            over = _over(step)
            self.played += 1
        self.turn = None
        if recorded.final_observation or not recorded.failed:
            self._compare("final_observation", recorded.final_observation, seen.text)
        self._compare_ending(over)

    def _reset(self) -> contract.Seen:
        recorded = self._trajectory
        by_id = isinstance(self._env.unwrapped, TurnEnv)
        where = f"{recorded.env_id} reset"
        with attribute_to("env", where):
            result = self._env.reset(seed=recorded.seed, options={"task_id": recorded.task.id} if by_id else None)
            return contract.read_reset(result, where)[1]

    def _step(self, turn: Turn) -> contract.Stepped:
        where = f"{self._trajectory.env_id} step at turn {turn.index}"
        with attribute_to("env", where):
            step = contract.read_step(self._env.step(turn.action_text), where)
            facts = contract.read_info(step.info, where)
        now: Mapping[str, Json] = {
            "action": facts.action,
            "action_valid": facts.valid,
            "action_error": facts.error,
            "env_reward": step.reward,
            "progress": facts.progress,
            "success": facts.success,
            "level": facts.level,
            "info": facts.extra,
        }
        for name in _FACTS:
            self._compare(name, getattr(turn, name), now[name])
        return step

    def _compare_ending(self, over: str) -> None:
        """Compare the world's ending with the recorded one, where the world had a say in it."""
        ending = self._trajectory.ending
        if ending.kind == "failed":
            expected = {"goes on", "terminated", "truncated by turns"}
        elif ending.kind == "terminated":
            expected = {"terminated"}
        elif ending.cause == "turns" and isinstance(self._env.unwrapped, TurnEnv):
            expected = {"truncated by turns"}
        else:
            # The engine ends episodes by time, tokens and context, and foreign worlds by turns.
            expected = {"goes on", f"truncated by {ending.cause}"}
        if over not in expected:
            cause = f" by {ending.cause}" if ending.cause else ""
            self._compare("ending", f"{ending.kind}{cause}", over)

    def _compare(self, what: str, recorded: Any, replayed: Any) -> None:
        if recorded != replayed:
            self.found.append(
                Difference(turn=self.turn, what=what, recorded=_plain(recorded), replayed=_plain(replayed))
            )


def _over(step: contract.Stepped) -> str:
    if step.terminated:
        return "terminated"
    return f"truncated by {contract.truncation_cause(step.info)}" if step.truncated else "goes on"


def _plain(value: Any) -> Json:
    return value.command if isinstance(value, Action) else value
