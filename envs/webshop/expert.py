"""The expert: knows which product is wanted, finds it with the shop's own search, chooses its options and buys it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from turnwise.envs.webshop.product import Product
from turnwise.envs.webshop.reward import option_matches, plain
from turnwise.envs.webshop.shop import BACK, BUY, NEXT, PAGE_SIZE, PREV, Page
from turnwise.envs.webshop.visit import Visit
from turnwise.protocols import Info

_GIVE_UP = f"click[{BUY}]"


class BuyingExpert:
    """Plays by the goal behind the instruction (keeps the Expert protocol); it may take over at any point."""

    def __init__(self, visit: Callable[[], Visit]) -> None:
        """Play a visit.

        Args:
            visit: Returns the present one.
        """
        self._visit = visit

    def act(self, observation: Any, info: Info) -> str:
        """Return the next action.

        Args:
            observation: Not looked at.
            info: Not looked at.
        """
        visit = self._visit()
        page = visit.page
        target = visit.target
        if target is None:  # a goal for a product that the shop does not sell
            return self._anything(page)
        if page.kind == "sub":
            return f"click[{PREV}]"
        if page.kind == "item":
            return self._buy(page) if page.row == target else f"click[{BACK}]"
        if page.kind == "results" and target in page.found:
            return self._turn_to(page, target)
        return f"search[{self._words(target)}]"

    def _anything(self, page: Page) -> str:
        if page.kind == "results" and page.listed:
            return f"click[{self._visit().shop.catalogue.product(page.listed[0]).asin.lower()}]"
        return _GIVE_UP if page.kind == "item" else f"search[{self._visit().goal.query or 'gift'}]"

    def _turn_to(self, page: Page, target: int) -> str:
        number = page.found.index(target) // PAGE_SIZE + 1
        if page.number != number:
            return f"click[{NEXT if page.number < number else PREV}]"
        return f"click[{self._visit().shop.catalogue.product(target).asin.lower()}]"

    def _words(self, target: int) -> str:
        """Return what to search for: the words that list the product earliest."""
        search = self._visit().shop.catalogue.search
        product = self._visit().shop.catalogue.product(target)
        best, place = f"<q> {product.query}", -1
        for words in _queries(product, self._visit().goal.instruction_text):
            found = search(words.lower())
            if target in found and (place < 0 or found.index(target) < place):
                best, place = words, found.index(target)
            if 0 <= place < PAGE_SIZE:
                break
        return best

    def _buy(self, page: Page) -> str:
        """Choose what is still to be chosen, then buy."""
        chosen = dict(page.options)
        for group, label in self._plan(page).items():
            if chosen.get(group) != label:
                return f"click[{label}]"
        return f"click[{BUY}]"

    def _plan(self, page: Page) -> dict[str, str]:
        """Return what to choose: group name to label."""
        visit = self._visit()
        options = [(label, target.group) for label, target in visit.shop.targets(page).items() if target.group]
        plan: dict[str, str] = {}
        for wanted in visit.goal.option_values:
            # The value itself, even where the reward's quirks would take another one for it.
            same = [(label, group) for label, group in options if plain(label) == plain(wanted)]
            alike = [pair for pair in options if all(option_matches([pair[0]], [wanted], mode=visit.mode))]
            free = [(label, group) for label, group in (*same, *alike) if group not in plan]
            if free:
                plan[free[0][1]] = free[0][0]
        return plan


def _queries(product: Product, instruction: str) -> Iterator[str]:
    """Iterate over words that may list a product early."""
    for words in (product.title, f"{product.title} {product.description}", product.index_text, instruction):
        flat = " ".join(words.replace("[", " ").replace("]", " ").split())[:2_000]
        if flat and not flat.startswith("<"):
            yield flat
