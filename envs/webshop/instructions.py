"""How customers of the generated shop say what they want."""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.envs.webshop.draws import Draws
from turnwise.envs.webshop.vocabulary import Kind

_OPENINGS = (
    "i am looking for {a} {thing}",
    "i need {a} {thing}",
    "i want to buy {a} {thing}",
    "find me {a} {thing}",
    "can you show me {a} {thing}",
    "please get {a} {thing}",
    "i'm shopping for {a} {thing}",
    "my sister would like {a} {thing}",
    "i would love to have {a} {thing}",
    "looking to order {a} {thing}",
)
_TAILS = ("", "", "", " for {use}", ". it is for {use}", ", to be used for {use}")
# Option group to how its value is asked for.
_OPTION_PHRASES: dict[str, tuple[str, ...]] = {
    "Color": ("in {value}", "in the color {value}", "that comes in {value}", "and i want the {value} one"),
    "Size": ("in size {value}", "and the size should be {value}", "sized {value}"),
    "Flavor Name": ("in the {value} flavor", "and the flavor should be {value}"),
    "Scent": ("with the scent {value}", "and the scent should be {value}"),
}
_ANY_OPTION = ("and the {name} should be {value}", "and i want {value} as the {name}")
_PLURAL = ("shoes", "curtains", "pants", "socks", "earbuds", "beans", "bars")
_UNCOUNTED = ("shampoo", "sunscreen", "pasta", "powder", "oil", "tea", "sauce", "polish", "mango")


def bare(attribute: str) -> str:
    """Return an attribute without its mark."""
    return attribute.removeprefix("+")


def joined(parts: Sequence[str]) -> str:
    """Return parts as a list in words."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _article(phrase: str, query: str) -> str:
    if query.endswith((*_PLURAL, *_UNCOUNTED)):
        return "some"
    return "an" if phrase[0] in "aeiou" else "a"


def write_instruction(kind: Kind, attributes: Sequence[str], options: Sequence[tuple[str, str]], draws: Draws) -> str:
    """Write an instruction.

    Args:
        kind: What is wanted.
        attributes: What it must be or come with, with their marks; at least one.
        options: Group name and value of the options to choose.
        draws: Decides how it is said.
    """
    being = [name for name in attributes if not name.startswith("+")]
    having = [bare(name) for name in attributes if name.startswith("+")]
    before = being and draws.chance(0.4)
    thing = f"{' '.join(being[:1])} {kind.query}" if before else kind.query
    rest = being[1:] if before else being
    parts = [draws.pick(_OPENINGS).format(a=_article(thing, kind.query), thing=thing)]
    plural = kind.query.endswith(_PLURAL)
    if rest:
        parts.append(
            f"{'that are' if plural else draws.pick(('that is', 'which is', 'that is really'))} {joined(rest)}"
        )
    if having:
        parts.append(
            f"{draws.pick(('with', 'that comes with', 'featuring')) if not plural else 'with'} {joined(having)}"
        )
    for name, value in options:
        phrases = _OPTION_PHRASES.get(name, _ANY_OPTION)
        parts.append(draws.pick(phrases).format(name=name.lower(), value=value.lower()))
    text = parts[0]
    for part in parts[1:]:
        text += f", {part}" if part.startswith("and ") else f" {part}"
    return text + draws.pick(_TAILS).format(use=draws.pick(kind.uses))


def write_synthetic(kind: Kind, attributes: Sequence[str]) -> str:
    """Write the instruction that synthetic goals of a product begin with."""
    names = [bare(name) for name in attributes]
    leaf = kind.path[-1].lower()
    return f"Find me {names[0]} {leaf}" + (f" with {joined(names[1:])}" if names[1:] else "")
