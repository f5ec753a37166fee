"""G-RA: rewards of lower priority count only in trajectories that clear every gate above them.

Source: Gated Reward Accumulation, arXiv 2508.10548. Only its abstract and introduction could be
read. From the abstract and secondary notes come: the two-level formula, priorities with one
threshold each, the four ordered SWE outcomes, and that the SWE gate asks for completion, not for
passing tests. Not known, and ours here: the numeric level values, the list and size of the immediate
rewards, the rule for invalid rewards and ``gate_negative``. The sources conflict on the comparison
(``>=`` in notes, masked when ``<=``, that is ``>``, in a third-party implementation), so both are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from turnwise.errors import did_you_mean
from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.compose import (
    Build,
    Leaf,
    WeightedReward,
    WeightedSum,
    bounds,
    check_names,
    combine,
    in_list,
    leaves,
)
from turnwise.rewards.format import Format
from turnwise.rewards.gate import COMPARISONS, Gate, Verdict
from turnwise.rewards.options import OptionError, choice, flag, number, show
from turnwise.rewards.outcome import OutcomeLevel
from turnwise.rewards.progress import Progress
from turnwise.rewards.valid_action import ValidAction
from turnwise.rewards.validity import score_checked, total

Mode = Literal["gated", "direct"]
Values = tuple[RewardValue, ...]


@dataclass(frozen=True)
class Priority:
    """Rewards of one priority, and the gate they put before all lower ones.

    Attributes:
        rewards: The rewards with their weights. With a gate there is exactly one (a ``sum`` to gate
            on several); its weight may be 0, so that it gates without being counted.
        gate: The threshold on that reward's total, before its weight; None gates nothing.
    """

    rewards: tuple[WeightedReward, ...]
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if not self.rewards:
            raise OptionError("rewards", "a priority needs at least one reward")
        if self.gate is None:
            return
        if len(self.rewards) != 1:
            raise OptionError(
                "rewards", f"a priority with a threshold holds one reward, got {len(self.rewards)}: put them in a 'sum'"
            )
        self.gate.check(self.rewards[0].reward)


def default_priorities() -> tuple[Priority, ...]:
    """Return what ``gated`` does without options; the preset ``gated`` spells the same out.

    The gate is half-way up the world's outcome levels: above "acted on the goal object" in the
    household, success in a world without levels. Sub-goals pay; bad form and impossible actions cost,
    and good form pays nothing, since a bonus per tidy turn would pay for dawdling.
    """
    immediate = (
        WeightedReward(Format(good=0.0, bad=-1.0), 0.02),
        WeightedReward(ValidAction(good=0.0, bad=-1.0), 0.01),
        WeightedReward(Progress(), 0.25),
    )
    return (Priority((WeightedReward(OutcomeLevel()),), Gate(0.5)), Priority(immediate))


class Gated:
    """Gated reward accumulation (G-RA), and the ungated baseline (D-RA) beside it.

    With the highest priority ``r_high`` and one level of immediate rewards ``r_low``::

        direct:  R = r_high + sum_t r_low[t]
        gated:   R = r_high + [r_high >= threshold] * sum_t r_low[t]

    In general every priority has a gate, and its rewards count only where every higher gate passed.
    Rewards stay on their turns; what is withheld counts 0 and is named in the evidence.

    * A gate on an invalid total decides nothing: the rewards below it are invalid, not 0, unless
      another gate above them is known to have failed.
    * ``gate_negative=False`` withholds only what would have been positive: a trajectory that fails
      the gate keeps its penalties, and a value that is unknown stays so, since it may have been one.
      With ``True`` a failed gate withholds everything.
    * A gate of the lowest priority has nothing below it; its verdict is in the evidence all the same.
    """

    def __init__(
        self, *, priorities: Sequence[Priority] | None = None, mode: Mode = "gated", gate_negative: bool = False
    ) -> None:
        """Gate rewards by rewards of higher priority.

        Args:
            priorities: Highest first, at least one; by default the outcome level gates format,
                valid actions and progress.
            mode: ``"gated"`` for G-RA, ``"direct"`` for plain accumulation (D-RA).
            gate_negative: Whether a failed gate also withholds negative values.

        Raises:
            ConfigError: A name is taken twice, or an option is wrong.
        """
        self.name = "gated"
        self.priorities = default_priorities() if priorities is None else tuple(priorities)
        if not self.priorities:
            raise OptionError("priorities", "needs at least one priority")
        self.mode = choice("mode", mode, ("gated", "direct"))
        self.gate_negative = flag("gate_negative", gate_negative)
        rewards = [reward for priority in self.priorities for reward in priority.rewards]
        placed = [in_list(f"priorities[{i}].rewards", p.rewards) for i, p in enumerate(self.priorities)]
        check_names([pair for pairs in placed for pair in pairs])
        self._leaves = [[(w, leaf) for w in p.rewards for leaf in leaves(w)] for p in self.priorities]
        low, high = bounds(rewards)
        self.spec = RewardSpec(
            low=low,
            high=high,
            placement="turn",
            source="G-RA, arXiv 2508.10548 (formula secondary; level values, weights and gate_negative are ours)",
            summary="Rewards that count only in trajectories whose higher-priority rewards clear their thresholds.",
        )

    @classmethod
    def from_config(cls, options: Mapping[str, Json], build: Build) -> Gated:
        """Make it from its options, ``priorities`` being a list of ``{rewards, threshold, comparison}``."""
        settings: dict[str, Any] = dict(options)
        if settings.get("priorities") is not None:
            settings["priorities"] = _priorities(settings["priorities"], build)
        return cls(**settings)

    def parts(self) -> Sequence[tuple[str, tuple[WeightedReward, ...]]]:
        """Return the rewards of each priority, headed by its number and gate."""
        return [
            (f"priority {i}" + (f", gate: total {priority.gate}" if priority.gate else ""), priority.rewards)
            for i, priority in enumerate(self.priorities, 1)
        ]

    def check_levels(self, levels: Sequence[str]) -> None:
        """Check thresholds that name levels against a world's levels.

        Raises:
            ConfigError: A gate's level is unknown to the world.
        """
        for priority in self.priorities:
            if priority.gate is not None:
                priority.gate.check_levels(priority.rewards[0].reward, levels)

    def score(self, trajectory: Trajectory) -> Values:
        """Return what counts, per turn, with what was withheld; the last turn's evidence holds all gates (``episode``).

        Raises:
            ConfigError: A threshold names a level that the world does not have.
        """
        turns = len(trajectory.turns)
        verdicts: list[Verdict] = []
        counted: list[tuple[str, float, Values]] = []
        withheld: dict[str, list[tuple[int, float]]] = {}
        passed: bool | None = True  # every gate so far
        cleared: bool | None = True  # every gate with something below it
        for priority, inside in zip(self.priorities, self._leaves, strict=True):
            cleared = passed
            scored = [(w, leaf, score_checked(leaf.reward, trajectory, name=leaf.name)) for w, leaf in inside]
            for weighted, leaf, values in scored:
                weight = weighted.weight * leaf.weight
                if weight == 0.0:
                    continue
                if self.mode == "gated" and passed is not True:
                    values = self._hold_back(leaf, weight, values, verdicts, withheld)
                counted.append((leaf.name, weight, values))
            if priority.gate is not None:
                verdict = _judge(priority.gate, priority.rewards[0], scored, trajectory)
                verdicts.append(verdict)
                passed = _both(passed, verdict.passed)
        return self._explain(combine(counted, turns), cleared, verdicts, withheld)

    def _hold_back(
        self,
        leaf: Leaf,
        weight: float,
        values: Values,
        verdicts: Sequence[Verdict],
        withheld: dict[str, list[tuple[int, float]]],
    ) -> Values:
        """Replace what does not count: by 0 below a failed gate, by invalid below an undecided one."""
        if not any(verdict.passed is False for verdict in verdicts):
            reason = next(verdict.reason for verdict in verdicts if verdict.passed is None)
            return (RewardValue(invalid=f"the gate above is undecided: {reason}"),) * len(values)
        kept = []
        for turn, value in enumerate(values):
            share = None if value.value is None else weight * value.value
            if share is None and not self.gate_negative:
                kept.append(value)  # it may be a penalty, which would count
            elif share is not None and share <= 0.0 and not self.gate_negative:
                kept.append(value)
            else:
                if share:
                    withheld.setdefault(leaf.name, []).append((turn, share))
                kept.append(_WITHHELD)
        return tuple(kept)

    def _explain(
        self,
        combined: Values,
        cleared: bool | None,
        verdicts: Sequence[Verdict],
        withheld: Mapping[str, Sequence[tuple[int, float]]],
    ) -> Values:
        """Put on each turn whether the gates were passed and what was withheld there, and on the last one the gates."""
        by_turn: dict[int, dict[str, float]] = {}
        for name, shares in withheld.items():
            for turn, share in shares:
                by_turn.setdefault(turn, {})[name] = share
        last = len(combined) - 1
        explained = []
        for turn, value in enumerate(combined):
            evidence: dict[str, Json] = {"passed": cleared, **value.evidence}
            if turn in by_turn:
                evidence["withheld"] = by_turn[turn]
            if turn == last:
                evidence["episode"] = {
                    "mode": self.mode,
                    "passed": cleared,
                    "gates": [verdict.evidence for verdict in verdicts],
                    "withheld": {name: sum(share for _, share in shares) for name, shares in withheld.items()},
                }
            explained.append(RewardValue(value=value.value, invalid=value.invalid, evidence=evidence))
        return tuple(explained)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        priorities = []
        for priority in self.priorities:
            entry: dict[str, Json] = {"rewards": [part.describe() for part in priority.rewards]}
            if priority.gate is not None:
                entry.update(threshold=priority.gate.threshold, comparison=priority.gate.comparison)
            priorities.append(entry)
        return {"priorities": priorities, "mode": self.mode, "gate_negative": self.gate_negative}


_WITHHELD = RewardValue(value=0.0)


def _judge(
    gate: Gate, weighted: WeightedReward, scored: Sequence[tuple[WeightedReward, Leaf, Values]], trajectory: Trajectory
) -> Verdict:
    if isinstance(weighted.reward, WeightedSum):
        own = combine([(leaf.name, leaf.weight, values) for _, leaf, values in scored], len(trajectory.turns))
    else:
        ((_, _, own),) = scored
    return gate.judge(weighted.name, weighted.reward, total(own, trajectory), trajectory)


def _both(above: bool | None, passed: bool | None) -> bool | None:
    if above is False or passed is False:
        return False
    return None if above is None or passed is None else True


def _priorities(value: object, build: Build) -> tuple[Priority, ...]:
    if not isinstance(value, (list, tuple)):
        raise OptionError("priorities", f"must be a list, highest priority first, got {show(value)}")
    return tuple(_priority(entry, f"priorities[{i}]", build) for i, entry in enumerate(value))


def _priority(entry: object, place: str, build: Build) -> Priority:
    known = ("rewards", "threshold", "comparison")
    if not isinstance(entry, Mapping):
        raise OptionError(place, f"must be a mapping with 'rewards' and 'threshold', got {show(entry)}")
    for key in entry:
        if key not in known:
            raise OptionError(f"{place}.{key}", f"unknown key.{did_you_mean(str(key), known)}")
    if "rewards" not in entry:
        raise OptionError(place, "needs 'rewards': a list of rewards")
    if "comparison" in entry and "threshold" not in entry:
        raise OptionError(f"{place}.comparison", "needs a 'threshold' beside it")
    rewards = build(entry["rewards"], f"{place}.rewards")
    try:
        return Priority(rewards, _gate(entry) if "threshold" in entry else None)
    except OptionError as error:
        raise OptionError(f"{place}.{error.option}", error.problem) from None


def _gate(entry: Mapping[str, Any]) -> Gate:
    threshold = entry["threshold"]
    if not isinstance(threshold, str):
        threshold = number("threshold", threshold)
    return Gate(threshold, choice("comparison", entry.get("comparison", ">="), COMPARISONS))
