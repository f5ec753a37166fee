"""A shopper that knows only what it has read: the honest counterpart of the expert.

It searches for the words of the instruction, opens the products that share most of them and cost no more than they may,
reads their description and features where words are still missing, chooses the options that the instruction names, and
buys the best. It reads the pages of the ``text_rich`` mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from turnwise.protocols import Info

_CEILING = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_MARKED = re.compile(r"^\s*\[(?:clicked )?button\] (.*?) \[(?:clicked )?button_\]\s*$")
_PRICE = re.compile(r"\$(\d+(?:\.\d+)?)")
_WORDS = re.compile(r"[a-z0-9]+(?:\.\d+)?")
_TITLE_BUTTONS = ("Description", "Features", "Reviews", "Buy Now")
# Words of instructions that say nothing about a product.
_FILLER_WORDS = (
    "a also am an and any are as be buy can color comes could dollars find flavor for get have i in is it like looking "
    "love lower me my need number of one order please price really should show shopping sister size sized some that "
    "the to used want which with would you"
)
_FILLERS = frozenset(_FILLER_WORDS.split())
_CANDIDATES = 3  # products that are opened at most
_GOOD = 0.999


class Offer(NamedTuple):
    """A product as a page of results shows it."""

    asin: str
    title: str
    price: float


class Lines(NamedTuple):
    """A page of the ``text_rich`` mode, taken apart.

    Attributes:
        instruction: What the shopper is asked for.
        buttons: Texts of all that can be clicked, in order.
        texts: The other lines after the instruction, in order.
        groups: Group name to its values, on the page of a product.
    """

    instruction: str
    buttons: list[str]
    texts: list[str]
    groups: dict[str, list[str]]


def read_page(observation: str) -> Lines:
    """Take a page apart."""
    lines = observation.split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith("Instruction:")), -1)
    instruction = lines[start + 1] if 0 <= start < len(lines) - 1 else ""
    buttons: list[str] = []
    texts: list[str] = []
    groups: dict[str, list[str]] = {}
    for line in lines[start + 2 :] if start >= 0 else lines:
        marked = _MARKED.match(line)
        if marked is None:
            texts.extend([line] if line.strip() else [])
            continue
        buttons.append(marked[1])
        if line.startswith("  [") and texts:  # values are indented under the name of their group
            groups.setdefault(texts[-1], []).append(marked[1])
    return Lines(instruction, buttons, texts, groups)


def offers_of(page: Lines, observation: str) -> list[Offer]:
    """Return the products of a page of results."""
    found = []
    lines = observation.split("\n")
    for number, line in enumerate(lines[:-2]):
        marked = _MARKED.match(line)
        price = _PRICE.search(lines[number + 2])
        if marked and price and number and not lines[number - 1] and lines[number + 2].startswith("$"):
            found.append(Offer(marked[1], lines[number + 1], float(price[1])))
    return found


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text that may describe a product."""
    return frozenset(_WORDS.findall(text.lower())) - _FILLERS


class HeuristicShopper:
    """Shops by the observations alone (keeps the Expert protocol)."""

    def __init__(self, page: Callable[[], str] | None = None) -> None:
        """Know nothing.

        Args:
            page: Returns the page in ``text_rich`` where the observations show it otherwise.
        """
        self._page = page
        self._begin("")

    def _begin(self, instruction: str) -> None:
        ceiling = _CEILING.search(instruction)
        self._instruction = instruction
        self._ceiling = float(ceiling[1]) if ceiling else float("inf")
        self._request = _CEILING.sub("", instruction)
        self._wanted = words_of(self._request)
        self._left: list[Offer] | None = None  # candidates not opened yet; None before the search
        self._scores: dict[str, float] = {}  # of the products that were looked at
        self._read: set[str] = set()  # what was read of the open product: sub-pages
        self._known: frozenset[str] = frozenset()  # words of the open product
        self._open: Offer | None = None
        self._settled: Offer | None = None  # the best of all that was looked at: opened once more, and bought
        self._decided = False

    def act(self, observation: Any, info: Info) -> str:
        """Return the next action.

        Args:
            observation: The page, in ``text_rich`` unless there is another way to read it.
            info: Not looked at.
        """
        text = str(observation) if self._page is None else self._page()
        page = read_page(text)
        if page.instruction and page.instruction != self._instruction:
            self._begin(page.instruction)
        if "Buy Now" in page.buttons:
            return self._on_item(page)
        if "Next >" in page.buttons:
            return self._on_results(page, text)
        if "< Prev" in page.buttons:
            self._known |= words_of(" ".join(page.texts))
            return "click[< prev]"
        if "Search" in page.buttons or not page.buttons:
            return f"search[{_plain(self._request) or 'gift'}]"
        return "click[back to search]"

    # -- pages -------------------------------------------------------------------------------------

    def _on_results(self, page: Lines, text: str) -> str:
        offers = offers_of(page, text)
        if self._left is None:
            affordable = [offer for offer in offers if offer.price <= self._ceiling] or offers
            affordable.sort(key=lambda offer: -self._share(words_of(offer.title)))
            self._left = affordable[:_CANDIDATES]
        if self._settled is not None:
            self._decided = True
            return f"click[{self._settled.asin.lower()}]"
        if not self._left:
            return self._fall_back(offers)
        self._open = self._left.pop(0)
        self._read, self._known = set(), words_of(self._open.title)
        return f"click[{self._open.asin.lower()}]"

    def _fall_back(self, offers: list[Offer]) -> str:
        if not offers:
            # Too many words may match nothing that is left; the last ones name the options and the use.
            self._request = self._request.rsplit(" ", 1)[0] if " " in self._request else "gift"
            self._left = None
            return f"search[{_plain(self._request) or 'gift'}]"
        self._settled, self._decided = offers[0], True
        return f"click[{offers[0].asin.lower()}]"

    def _on_item(self, page: Lines) -> str:
        self._known |= words_of(" ".join((*page.texts, *(v for values in page.groups.values() for v in values))))
        if not self._decided:
            for sub_page in ("Description", "Features"):
                if self._share(self._known) < _GOOD and sub_page not in self._read:
                    self._read.add(sub_page)
                    return f"click[{sub_page.lower()}]"
            self._judge()
        if not self._decided:
            return "click[< prev]"
        return self._choose(page)

    def _judge(self) -> None:
        """Note how good the open product is; decide for the best one when there is nothing more to see."""
        if self._open is None:
            self._decided = True
            return
        share = self._share(self._known)
        self._scores[self._open.asin] = share
        if share >= _GOOD or not self._left:
            best = max(self._scores, key=lambda asin: self._scores[asin])
            self._decided = best == self._open.asin
            if not self._decided:
                self._settled = Offer(best, "", 0.0)

    def _choose(self, page: Lines) -> str:
        """Choose the longest value of each group that the instruction names, then buy."""
        request = f" {_plain(self._request)} "
        for group, values in page.groups.items():
            named = [value for value in values if f" {_plain(value)} " in request]
            if named and group not in self._read:
                self._read.add(group)
                return f"click[{max(named, key=len)}]"
        return "click[buy now]"

    def _share(self, words: frozenset[str]) -> float:
        """Return the share of the wanted words that are among ``words``."""
        return len(self._wanted & words) / len(self._wanted) if self._wanted else 1.0


def _plain(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower()))
