"""Shop-R1's hierarchical reward of one action beside a reference action."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from turnwise.records import Action, Json
from turnwise.rewards.shopping.facts import words

FORMAT, TYPE = 0.5, 0.3
CLICK_NAME = 0.2
TYPED_NAME, TYPED_TEXT, TYPED_NAME_ALIKE = 0.1, 0.1, 0.1
SEARCH_BOX = "search"
_COMMAND = re.compile(r"\s*(search|click)\[(.*)\]\s*", re.DOTALL)

Kind = Literal["click", "type_and_submit", "terminate"]


class ShopAction(NamedTuple):
    """An action in Shop-R1's terms.

    Attributes:
        kind: A click, text that is typed into a field and sent off, or leaving.
        name: What is clicked, or the name of the field.
        text: What is typed.
    """

    kind: Kind
    name: str = ""
    text: str = ""


def action_of(action: Action) -> ShopAction | None:
    """Return a parsed action in Shop-R1's terms; None for one that names neither keywords nor a label."""
    if action.name == "search" and "keywords" in action.arguments:
        return ShopAction("type_and_submit", SEARCH_BOX, action.arguments["keywords"])
    if action.name == "click" and "label" in action.arguments:
        return ShopAction("click", action.arguments["label"])
    return None


def moved(info: Mapping[str, Json]) -> ShopAction | None:
    """Return the last thing that a turn came to in the shop, where the world says so; None for nothing."""
    moves = info.get("moves")
    return read_action(str(moves[-1])) if isinstance(moves, list) and moves else None


def read_action(command: str) -> ShopAction | None:
    """Read ``search[...]``, ``click[...]`` or ``terminate``; None for anything else."""
    if command.strip() == "terminate":
        return ShopAction("terminate")
    found = _COMMAND.fullmatch(command)
    if found is None:
        return None
    return (
        ShopAction("type_and_submit", SEARCH_BOX, found[2]) if found[1] == "search" else ShopAction("click", found[2])
    )


def action_parts(said: ShopAction, reference: ShopAction, *, difficulty: float) -> dict[str, float]:
    """Return what a readable action earns, by part, without what its form earns.

    ::

        type             0.3
        click            0.2 [both have a name] + difficulty * ROUGE-L(name)
        type_and_submit  0.1 [both have a name] + 0.1 [both have text] + 0.1 ROUGE-L(name) + difficulty * ROUGE-L(text)
        terminate        nothing more

    all of it only where the type matches. See :class:`~turnwise.rewards.shopping.shop_r1.ShopR1` for the source.

    Args:
        said: The agent's action.
        reference: The action to compare it with.
        difficulty: Factor on the similarity of what is hard to predict; 1000 in the paper.
    """
    if said.kind != reference.kind:
        return {}
    named = bool(said.name.strip() and reference.name.strip())
    if said.kind == "click":
        return {
            "type": TYPE,
            "name": CLICK_NAME * named,
            "name_alike": difficulty * rouge_l(said.name, reference.name),
        }
    if said.kind == "type_and_submit":
        return {
            "type": TYPE,
            "name": TYPED_NAME * named,
            "text": TYPED_TEXT * bool(said.text.strip() and reference.text.strip()),
            "name_alike": TYPED_NAME_ALIKE * rouge_l(said.name, reference.name),
            "text_alike": difficulty * rouge_l(said.text, reference.text),
        }
    return {"type": TYPE}


def rouge_l(one: str, two: str) -> float:
    """Return the ROUGE-L F1 of two texts (Lin 2004): over words in lower case, 0 where either has none."""
    first, second = words(one), words(two)
    if not first or not second:
        return 0.0
    return 2 * common_subsequence(first, second) / (len(first) + len(second))


def common_subsequence(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Return the length of the longest common subsequence.

    One bit per word of ``first`` (Hyyrö 2004): an agent may send thousands of words.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(first) - row.bit_count()


def best_reference(
    said: ShopAction, references: Mapping[str, ShopAction], *, difficulty: float
) -> tuple[str, dict[str, float]]:
    """Return the reference that an action earns most beside, and what it earns; the first of equals."""
    scored = {
        command: action_parts(said, reference, difficulty=difficulty) for command, reference in references.items()
    }
    best = max(scored, key=lambda command: sum(scored[command].values()))
    return best, scored[best]
