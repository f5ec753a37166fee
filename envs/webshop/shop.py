"""The page state machine: which page follows which, and what can be clicked on it. No text is made here.

All worlds over the shop (text, browser) play through :class:`Shop`; a :class:`Page` is all there is to remember.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from turnwise.envs.webshop.catalogue import Catalogue, Rows
from turnwise.envs.webshop.product import Product
from turnwise.errors import ConfigError

PAGE_SIZE = 10  # products on a page of results
SEARCH, BACK, NEXT, PREV, BUY = "search", "back to search", "next >", "< prev", "buy now"
SUB_PAGES = ("description", "features", "reviews")

PageKind = Literal["search", "results", "item", "sub", "done"]


class Page(NamedTuple):
    """Where a customer is. Immutable: a step makes a new one.

    Attributes:
        kind: ``"search"`` (the first page), ``"results"``, ``"item"``, ``"sub"`` (of an item) or ``"done"``.
        keywords: What was searched for, or "".
        number: Number of the page of results, from 1; 0 before a search.
        found: Rows of all products that the search found.
        row: Row of the product that was opened, or None.
        sub: Which sub-page: one of ``SUB_PAGES``, or "".
        options: Group name and chosen value, in the order in which the groups were first chosen from.
        visited: Rows of the products that were opened since the first page was last left.
        searches: How many searches were run, counting those that ``< prev`` and ``next >`` repeat.
    """

    kind: PageKind
    keywords: str = ""
    number: int = 0
    found: Rows = ()
    row: int | None = None
    sub: str = ""
    options: tuple[tuple[str, str], ...] = ()
    visited: frozenset[int] = frozenset()
    searches: int = 0

    @property
    def listed(self) -> Rows:
        """The rows on the page of results; none on other pages."""
        if self.kind != "results":
            return ()
        return self.found[(self.number - 1) * PAGE_SIZE : self.number * PAGE_SIZE]


class Target(NamedTuple):
    """Something that can be clicked.

    Attributes:
        kind: A button, a link to a product, or the value of an option.
        row: The product behind a link, else -1.
        group: The option's group, else "".
    """

    kind: Literal["button", "product", "option"]
    row: int = -1
    group: str = ""


START = Page("search")
_BUTTON = Target("button")
_SEARCH_TARGETS = {SEARCH: _BUTTON}
_SUB_TARGETS = {BACK: _BUTTON, PREV: _BUTTON}
_ITEM_BUTTONS = (BACK, PREV, *SUB_PAGES, BUY)


class Shop:
    """The rules of the shop, over a catalogue; it remembers nothing of a customer."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Open a shop that sells the products of ``catalogue``."""
        self.catalogue = catalogue

    def product(self, page: Page) -> Product:
        """Return the product that is open on a page.

        Raises:
            ConfigError: None is.
        """
        if page.row is None:
            raise ConfigError(f"no product is open on a page of kind {page.kind!r}")
        return self.catalogue.product(page.row)

    # -- what can be done --------------------------------------------------------------------------

    def targets(self, page: Page) -> Mapping[str, Target]:
        """Return what can be clicked, by its label in lower case, in the order of the page.

        Of several things with one label the last one counts, as in WebShop.
        """
        if page.kind == "item":
            return self._item_targets(self.product(page))
        if page.kind == "results":
            return self._result_targets(page)
        return _SEARCH_TARGETS if page.kind == "search" else _SUB_TARGETS if page.kind == "sub" else {}

    def _result_targets(self, page: Page) -> dict[str, Target]:
        found = {BACK: _BUTTON, PREV: _BUTTON, NEXT: _BUTTON} if page.number > 1 else {BACK: _BUTTON, NEXT: _BUTTON}
        product = self.catalogue.product
        for row in page.listed:
            found[product(row).asin.lower()] = Target("product", row)
        return found

    def _item_targets(self, product: Product) -> dict[str, Target]:
        found = dict.fromkeys(_ITEM_BUTTONS, _BUTTON)
        for group, values in product.options.items():
            target = Target("option", -1, group)
            for value in values:
                found[value] = target
        return found

    # -- what it does ------------------------------------------------------------------------------

    def search(self, page: Page, text: str, draws: int = 0) -> Page:
        """Search; possible from every page but the last.

        Args:
            page: Where the customer is.
            text: The words. ``<r>`` finds 50 random products; ``<a> NAME``, ``<c> NAME`` and ``<q> NAME`` find all
                products with that attribute, category or query.
            draws: Seed of the random products.
        """
        return self._results(page, text.lower(), 1, draws)

    def _results(self, page: Page, keywords: str, number: int, draws: int) -> Page:
        searches = page.searches + 1
        found = self._find(keywords, draws, searches)
        return Page("results", keywords, number, found, visited=page.visited, searches=searches)

    def _find(self, keywords: str, draws: int, searches: int) -> Rows:
        if not keywords.startswith("<"):
            return self.catalogue.search(keywords)
        prefix, _, rest = keywords.partition(" ")
        rest = rest.strip()
        if prefix == "<r>":
            return self.catalogue.sample(np.random.default_rng([draws, searches]))
        if prefix == "<a>":
            return self.catalogue.with_field("attributes", rest)
        if prefix == "<c>":
            # WebShop looks at the first word only; no department has two.
            return self.catalogue.with_field("category", rest.partition(" ")[0])
        if prefix == "<q>":
            return self.catalogue.with_field("query", rest)
        return self.catalogue.search(keywords)

    def click(self, page: Page, label: str, draws: int = 0) -> Page | None:
        """Click something.

        Args:
            page: Where the customer is.
            label: One of the labels of :meth:`targets`.
            draws: Seed of random products, where the click repeats a search.

        Returns:
            The page that follows, or None where there is nothing with this label that a click has an effect on.
        """
        target = self.targets(page).get(label)
        if target is None or label == SEARCH:
            return None
        return self._press(page, label, draws) or self._choose(page, label, target)

    def _press(self, page: Page, label: str, draws: int) -> Page | None:
        """Follow a button; as in WebShop an option with a button's label acts as the button."""
        if label == BUY:
            return page._replace(kind="done", sub="")
        if label == BACK:
            return START._replace(searches=page.searches)
        if label == NEXT and page.kind == "results":
            return self._results(page, page.keywords, page.number + 1, draws)
        if label == PREV and page.kind == "results":
            return self._results(page, page.keywords, page.number - 1, draws)
        if label == PREV and page.kind == "sub":
            return page._replace(kind="item", sub="")
        if label == PREV and page.kind == "item":
            return self._results(page, page.keywords, page.number, draws)
        if label in SUB_PAGES:
            return page._replace(kind="sub", sub=label)
        return None

    def _choose(self, page: Page, label: str, target: Target) -> Page:
        if target.kind == "product":
            return page._replace(kind="item", row=target.row, visited=page.visited | {target.row})
        chosen = {**dict(page.options), target.group: label}
        return page._replace(options=tuple(chosen.items()))
