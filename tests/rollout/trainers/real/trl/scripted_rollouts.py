"""Rollouts whose episodes are written down: which messages, and for which of them nobody knows the reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import doors

from turnwise.protocols import TurnAdvantages
from turnwise.records import RewardValue, Trajectory, TurnTokens, replace
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.wire import EpisodeRequest
from turnwise.rollout.trainers.stepping import DrivenEpisode, World
from turnwise.rollout.trainers.trl import Rollouts

REWARDS = {"version": 1, "rewards": [{"name": "progress"}]}
# A colour, "right" for the key's, or "wrong" for another one.
Script = Sequence[str]


class ScriptedPlayer:
    """Plays scripts in the small world (keeps the Player protocol)."""

    def __init__(self, world: World, tokenizer: Any, scripts: Sequence[Script], *, broken: Sequence[int] = ()) -> None:
        self.world, self.tokenizer, self.scripts, self.broken = world, tokenizer, scripts, broken

    def play(self, requests: Sequence[EpisodeRequest], *, trainer: Any, seed: int) -> list[Trajectory]:
        played = [self._episode(request, self.scripts[place]) for place, request in enumerate(requests)]
        return [
            replace(one, ending=failed("env", "hang", "it hung", 1), outcome=None) if place in self.broken else one
            for place, one in enumerate(played)
        ]

    def _episode(self, request: EpisodeRequest, script: Script) -> Trajectory:
        episode = DrivenEpisode(self.world)
        observation = episode.begin(request.task.id, sample=request.sample, seed=1)
        for word in script:
            key = observation.rpartition("Key: ")[2].rstrip(".")
            other = next(colour for colour in doors.COLOURS if colour != key)
            text = f" open {({'right': key, 'wrong': other}).get(word, word)}"
            prompt = self.tokenizer.encode(f"{observation} ")
            said = [*self.tokenizer.encode(text), self.tokenizer.eos_token_id]
            tokens = TurnTokens(prompt_ids=tuple(prompt), completion_ids=tuple(said), logprobs=(-0.5,) * len(said))
            observation = episode.step(text, tokens=tokens).observation
            if episode.over:
                break
        return episode.trajectory()

    def close(self) -> None:
        pass


class RawReturn:
    """Credit without any comparison: the reward that is still to come (keeps the Credit protocol)."""

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        assigned = []
        for one in group:
            values = [turn.rewards["reward"].value or 0.0 for turn in one.turns]
            returns = tuple(sum(values[turn:]) for turn in range(len(values)))
            usable = (not one.failed,) * len(values)
            assigned.append(TurnAdvantages(trajectory_id=one.id, advantages=returns, mask=usable))
        return tuple(assigned)


def scripted(tokenizer: Any, scripts: Sequence[Script], *, credit: Any = None, broken: Sequence[int] = ()) -> Rollouts:
    rollouts = Rollouts(doors.ENV_ID, tasks=["red-blue-blue"], rewards=REWARDS, credit=credit)
    rollouts._player = ScriptedPlayer(rollouts.world, tokenizer, scripts, broken=broken)
    return rollouts


def without_rewards(trajectory: Trajectory, turn: int) -> Trajectory:
    """The trajectory with an unknown reward on a turn."""
    unknown = RewardValue(invalid="judge: down")
    turns = [replace(one, rewards={"reward": unknown}) if one.index == turn else one for one in trajectory.turns]
    changed: Trajectory = replace(trajectory, turns=tuple(turns), rewards={"reward": unknown})
    return changed
