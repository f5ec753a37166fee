"""One customer's visit to the shop: the goal, where the customer is, what was reached and what was bought.

This is what all worlds over the shop have in common; they differ in how they show a page and how they read an action.
"""

from __future__ import annotations

from typing import NamedTuple

from turnwise.envs.webshop.goal import Goal
from turnwise.envs.webshop.milestones import Milestones, level_of, none_of, reached
from turnwise.envs.webshop.nouns import RULE, Tagger
from turnwise.envs.webshop.reward import PurchaseReward, RewardMode, purchase_reward
from turnwise.envs.webshop.shop import SEARCH, START, Page, Shop
from turnwise.envs.webshop.text import View
from turnwise.errors import did_you_mean
from turnwise.records import Json

_QUOTED = 60  # characters of an agent's words that a refusal repeats
_LISTED = 60  # labels that a refusal lists
_LABEL_CHARS = 100


class Customer(NamedTuple):
    """All that a visit remembers; immutable.

    Attributes:
        page: Where the customer is.
        milestones: What has been reached.
        draws: Seed of random products.
        bought: What the purchase was worth, or None before it.
    """

    page: Page
    milestones: Milestones
    draws: int = 0
    bought: PurchaseReward | None = None


class Visit:
    """A visit with a goal. Nothing can be done after the purchase."""

    def __init__(
        self, shop: Shop, goal: Goal, *, seed: int, draws: int = 0, mode: RewardMode = "compat", tagger: Tagger = RULE
    ) -> None:
        """Begin a visit on the first page.

        Args:
            shop: The shop.
            goal: What the customer wants.
            seed: Seed of the prices that are drawn from a range.
            draws: Seed of random products.
            mode: How the purchase is rewarded.
            tagger: Finds the nouns of titles.
        """
        self.shop, self.goal, self.mode, self.seed = shop, goal, mode, seed
        self.target = shop.catalogue.find(goal.asin)
        self.customer = Customer(START, none_of(goal), draws)
        self._tagger = tagger

    @property
    def page(self) -> Page:
        """The page that the customer is on."""
        return self.customer.page

    @property
    def bought(self) -> PurchaseReward | None:
        """What the purchase was worth, or None before it."""
        return self.customer.bought

    @property
    def reward(self) -> float:
        """The total reward of the purchase, 0 before it."""
        return 0.0 if self.customer.bought is None else self.customer.bought.total

    @property
    def level(self) -> str:
        """The outcome level."""
        return level_of(self.customer.bought)

    def view(self, session: str) -> View:
        """Return what a renderer needs to show the page, in a session of some name."""
        return View(self.shop, self.page, self.goal.instruction_text, session, self.reward)

    # -- actions -----------------------------------------------------------------------------------

    def search(self, keywords: str) -> None:
        """Search, on whatever page."""
        self._enter(self.shop.search(self.page, keywords, self.customer.draws))

    def click(self, label: str) -> bool:
        """Click what has a label, in lower case; returns False, and changes nothing, where there is no such thing."""
        page = self.shop.click(self.page, label, self.customer.draws)
        if page is not None:
            self._enter(page)
        return page is not None

    def _enter(self, page: Page) -> None:
        before = self.customer
        bought = self._pay(page) if page.kind == "done" else None
        milestones = reached(before.milestones, page, self.target, self.goal, bought, self.mode)
        self.customer = Customer(page, milestones, before.draws, bought)

    def _pay(self, page: Page) -> PurchaseReward:
        product, options = self.shop.product(page), dict(page.options)
        return purchase_reward(product, self.goal, self._price(page), options, mode=self.mode, tagger=self._tagger)

    def _price(self, page: Page) -> float:
        return 0.0 if page.row is None else self.shop.catalogue.price(page.row, self.seed)

    # -- words -------------------------------------------------------------------------------------

    def label_of(self, said: str) -> str | None:
        """Return the label that somebody means, or None; case and runs of blanks do not count."""
        targets, label = self.shop.targets(self.page), said.lower()
        if label in targets:
            return label
        return next((known for known in targets if " ".join(known.split()) == label), None)

    def why_not(self, said: str) -> str:
        """Say why something cannot be clicked, and what can."""
        shown = repr(said) if len(said) <= _QUOTED else repr(said[:_QUOTED]) + "..."
        labels = [label for label in self.shop.targets(self.page) if label != SEARCH]
        if said.lower() == SEARCH or not labels:
            return f"{shown} cannot be clicked here: search with search[keywords]"
        close = did_you_mean(said[:_LABEL_CHARS], labels)
        hint = close if close.startswith(" Did you mean") else ""
        listed = ", ".join(repr(label[:_LABEL_CHARS]) for label in labels[:_LISTED])
        return f"there is no {shown} on this page.{hint} To click: {listed}{', ...' if len(labels) > _LISTED else ''}"

    def report(self) -> dict[str, Json]:
        """Return the facts that turn rewards are computed from, JSON-compatible."""
        page, milestones, _, bought = self.customer
        product = self.shop.catalogue.product
        asin = None if page.row is None else product(page.row).asin
        purchase = None
        if bought is not None:
            purchase = {"asin": asin, "options": dict(page.options), "price": self._price(page), **bought.as_json()}
        return {
            "page": page.kind,
            "page_number": page.number,
            "query": page.keywords,
            "results": len(page.found),
            "listed": [product(row).asin for row in page.listed],
            "asin": asin,
            "sub_page": page.sub,
            "options": dict(page.options),
            "milestones": milestones.as_json(),
            "purchase": purchase,
        }
