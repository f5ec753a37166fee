"""Shop-R1: each action beside a reference action, in a hierarchy from its form to what it says."""

from __future__ import annotations

from typing import Literal

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.options import choice, number
from turnwise.rewards.shopping.actions import (
    CLICK_NAME,
    FORMAT,
    TYPE,
    TYPED_NAME,
    TYPED_NAME_ALIKE,
    TYPED_TEXT,
    action_of,
    best_reference,
    moved,
)
from turnwise.rewards.shopping.reference import References, asked_for, demonstrated
from turnwise.rewards.validity import cut, invalid_values

_MOST_BESIDE_ALIKE = FORMAT + TYPE + max(CLICK_NAME, TYPED_NAME + TYPED_TEXT + TYPED_NAME_ALIKE)


class ShopR1:
    """Shop-R1's hierarchical action reward with difficulty-aware reward scaling (DARS).

    Per turn::

        0.5 [the message is an action of the right form]
        + 0.3 [its type is the reference's]                                     and, only then,
        + click:            0.2 [both have a name] + difficulty * ROUGE-L(name)
        + type_and_submit:  0.1 [both have a name] + 0.1 [both have text] + 0.1 ROUGE-L(name)
                            + difficulty * ROUGE-L(text)
        + terminate:        nothing more

    A search is a ``type_and_submit`` into the field ``search``; everything else in this shop is a click. In the browser
    what counts is what the turn came to in the shop (``info["moves"]``), not the element it was done with; a turn that
    came to nothing there, such as scrolling, has no reference. Where several
    actions are as good, such as two options still to be chosen, the nearest one is the reference.

    Source: Shop-R1, arXiv 2507.17842. SECONDARY: only notes about the paper were read, so its numbers are probable, not
    certain; that the type must match before the rest counts is implied there. The paper rewards the prediction of a
    person's next action from what that person saw, one step at a time, and adds the policy's self-certainty (weight
    0.005), which takes its whole distributions and is not part of this reward. The reference from the goal is ours.

    Two things to know before training on it: with ``difficulty`` at the paper's 1000 the similarity outweighs all else,
    so under normalised advantages it decides the ranking and the rest hardly matters; and it pays for every turn, so
    that over free episodes, unlike over single steps, a longer episode earns more.
    """

    def __init__(
        self,
        *,
        difficulty: float = 1000.0,
        reference: Literal["goal", "demonstration"] = "goal",
        form: Literal["any", "json"] = "any",
    ) -> None:
        """Compare actions with references.

        Args:
            difficulty: Factor on the similarity of names and texts (DARS), at least 0.
            reference: ``"goal"``: what the goal asks for in the situation before the turn; ``"demonstration"``: the
                turn's action in ``task.data["demonstration"]``.
            form: ``"any"`` pays for every form that the world reads, ``"json"``, as in the paper, for JSON only.

        Raises:
            ConfigError: An option is out of range.
        """
        self.name = "shop_r1"
        self.difficulty = number("difficulty", difficulty, low=0.0)
        self.reference = choice("reference", reference, ("goal", "demonstration"))
        self.form = choice("form", form, ("any", "json"))
        self.spec = RewardSpec(
            low=0.0,
            high=_MOST_BESIDE_ALIKE + self.difficulty,
            placement="turn",
            source="Shop-R1, arXiv 2507.17842 (secondary); the reference from the goal by turnwise",
            summary="Hierarchical reward of each action beside a reference action, difficulty-aware scaling.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        references = asked_for(trajectory) if self.reference == "goal" else demonstrated(trajectory)
        if isinstance(references, str):
            return invalid_values(len(trajectory.turns), references)
        return tuple(self._value(turn, wanted) for turn, wanted in zip(trajectory.turns, references, strict=True))

    def _value(self, turn: Turn, references: References) -> RewardValue:
        if not references:
            return RewardValue(invalid="the demonstration ends before this turn")
        if turn.action is None:
            error = cut(turn.action_error or "no action in the message")
            return RewardValue(value=0.0, evidence={"error": error, "reference": cut(next(iter(references)))})
        said = action_of(turn.action) or moved(turn.info)
        if said is None:
            return RewardValue(
                invalid=f"does not apply: {turn.action.name!r} names neither keywords nor a label to compare"
            )
        formed = FORMAT if self.form == "any" or turn.action.form == "json" else 0.0
        command, parts = best_reference(said, references, difficulty=self.difficulty)
        parts = {"format": formed, **parts}
        return RewardValue(value=sum(parts.values()), evidence={"reference": cut(command), "parts": parts})

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"difficulty": self.difficulty, "reference": self.reference, "form": self.form}
