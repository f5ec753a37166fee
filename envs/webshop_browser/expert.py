"""Experts for the site: they decide as in the text world, and do it with the elements of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from turnwise.envs.browser.tree import Element, Tree
from turnwise.envs.webshop.shop import BUY
from turnwise.protocols import Expert, Info

_NOWHERE = "back"


class SiteExpert:
    """Plays the commands of an expert of the text world (keeps the Expert protocol)."""

    def __init__(self, expert: Expert, tree: Callable[[], Tree]) -> None:
        """Translate.

        Args:
            expert: Answers with ``search[...]`` and ``click[...]``.
            tree: Returns the page as it was read last.
        """
        self._expert, self._tree = expert, tree
        self._pending: str | None = None

    def act(self, observation: Any, info: Info) -> str:
        """Return the next action.

        Args:
            observation: Passed on.
            info: Passed on.
        """
        # A search takes two actions: what it looks for is decided once.
        command = self._pending or self._expert.act(observation, info)
        actions = translate(command, self._tree())
        self._pending = command if len(actions) > 1 else None
        return actions[0]


def translate(command: str, tree: Tree) -> list[str]:
    """Return what is still to be done on a page for a command of the text world.

    Args:
        command: ``search[words]`` or ``click[label]``.
        tree: The page.

    Returns:
        One or two actions of the site; ``back`` where there is nothing of the kind.
    """
    name, _, argument = command.removesuffix("]").partition("[")
    if name == "search":
        return _search(argument, tree)
    element = _find(argument, tree)
    return [_NOWHERE if element is None else f"click[{element.number}]"]


def _search(words: str, tree: Tree) -> list[str]:
    field = next((element for element in tree.elements.values() if element.role == "searchbox"), None)
    button = _named("button", "search", tree)
    if field is None or button is None:
        return [_NOWHERE]
    send = f"click[{button.number}]"
    return [send] if field.value == words else [f"type[{field.number}, {words}]", send]


def _find(label: str, tree: Tree) -> Element | None:
    if label == BUY:
        return _named("button", BUY, tree)
    links = [element for element in tree.elements.values() if element.role == "link"]
    leading = [link for link in links if parse_qs(urlsplit(link.url).query).get("to") == [label]]
    return leading[-1] if leading else _named("radio", label, tree)


def _named(role: str, name: str, tree: Tree) -> Element | None:
    wanted = " ".join(name.split()).lower()
    alike = (element for element in tree.elements.values() if element.role == role)
    return next((element for element in alike if element.name.lower() == wanted), None)
