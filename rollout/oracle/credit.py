"""Advantages for results: items of one group are compared with each other."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from turnwise.errors import ConfigError, did_you_mean
from turnwise.protocols import Credit, TurnAdvantages
from turnwise.records import Ending, Failure, RewardValue, Task, TokenSequence, Trajectory, Turn
from turnwise.rewards.credit import CGRPO, GroupCredit, InformationGainCredit, expand_to_tokens
from turnwise.rewards.tree import TOTAL
from turnwise.rollout.oracle.results import ResultShape
from turnwise.rollout.oracle.schema import CreditSpec, ItemResult

_RULES: dict[str, Any] = {"group": GroupCredit, "cgrpo": CGRPO, "information_gain": InformationGainCredit}
_NO_GROUP = Failure(boundary="judge", kind="exception", message="it has no reward")


def make_credit(spec: CreditSpec) -> Credit:
    """Return the credit rule that a request asks for.

    Raises:
        ConfigError: It has no such option, or the option is out of range.
    """
    rule = _RULES[spec.use]
    known = inspect.signature(rule).parameters
    for name in spec.options:
        if name not in known:
            raise ConfigError(f"credit.options.{name}: {spec.use!r} has no such option.{did_you_mean(name, known)}")
    try:
        made: Credit = rule(**spec.options)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"credit.options: {error}") from error
    return made


def assign(
    results: Sequence[ItemResult], groups: Sequence[str], lengths: Sequence[int], credit: Credit, shape: ResultShape
) -> list[ItemResult]:
    """Return the results with advantages.

    Args:
        results: One per item.
        groups: The group of each.
        lengths: How many token ids each has; 0 for none.
        credit: The rule.
        shape: The shape of the results.

    Raises:
        ConfigError: The rule needs a reward that the tree does not have.
    """
    found: dict[int, ItemResult] = {}
    for group in dict.fromkeys(groups):
        places = [place for place, name in enumerate(groups) if name == group]
        episodes = [_episode(results[place], place, group, lengths[place], shape) for place in places]
        assigned = credit.assign(episodes)
        for place, episode, advantages in zip(places, episodes, assigned, strict=True):
            found[place] = _with(results[place], episode, advantages)
    return [found[place] for place in range(len(results))]


def _episode(result: ItemResult, place: int, group: str, length: int, shape: ResultShape) -> Trajectory:
    """Return what a credit rule looks at: rewards on turns, and token spans."""
    failed = result.status != "ok" and not result.turn_rewards
    spans = result.spans
    return Trajectory(
        id=str(place),
        env_id="oracle",
        task=Task(id=group, split="", instruction=""),
        seed=0,
        agent="oracle",
        ending=Ending(kind="failed", failure=_NO_GROUP) if failed else Ending(kind="terminated"),
        turns=tuple(
            Turn(
                index=turn,
                observation="",
                action_text="",
                rewards=_values(result, turn, shape),
                token_span=None if spans is None else spans[turn],
            )
            for turn in range(len(result.turn_rewards))
        ),
        tokens=None if spans is None else _tokens(spans, length),
    )


def _values(result: ItemResult, turn: int, shape: ResultShape) -> dict[str, RewardValue]:
    reason = result.turn_reasons[turn] or result.reason or "it has no reward"
    given = {TOTAL: result.turn_rewards[turn]}
    for name in shape.components:
        share = result.turn_components[name][turn]
        given[name] = None if share is None else share / shape.weights[name]
    return {
        name: RewardValue(invalid=reason) if value is None else RewardValue(value=value)
        for name, value in given.items()
    }


def _tokens(spans: Sequence[tuple[int, int]], length: int) -> TokenSequence:
    mask = [0] * length
    for start, end in spans:
        mask[start:end] = [1] * (end - start)
    return TokenSequence(ids=(0,) * length, loss_mask=tuple(mask))


def _with(result: ItemResult, episode: Trajectory, advantages: TurnAdvantages) -> ItemResult:
    usable = [bool(use) and result.status == "ok" for use in advantages.mask]
    per_turn = [float(a) if use else 0.0 for a, use in zip(advantages.advantages, usable, strict=True)]
    on_tokens = None
    if episode.tokens is not None:
        masked = TurnAdvantages(trajectory_id=episode.id, advantages=tuple(per_turn), mask=tuple(usable))
        values, _ = expand_to_tokens(masked, episode)
        on_tokens = [float(value) for value in values]
    return msgspec.structs.replace(result, turn_advantages=per_turn, advantage_mask=usable, token_advantages=on_tokens)
