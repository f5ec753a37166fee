"""What a purchase is worth: WebShop's reward, with its quirks or without them.

The formula is that of Yao et al. 2022 (WebShop, section 2.3): type x (attributes + options + price) / (number of goal
attributes + number of goal options + 1). Where the published text and the public code differ, ``compat`` follows the
code:

- options and attributes count as equal when their token *set* ratio is above 85, so ``"large"`` takes ``"x-large"``,
  ``"hair"`` takes ``"natural hair"`` and ``"12 inch"`` takes ``"12 inch (pack of 1)"``;
- options are first reduced to the first palette word inside them, also inside other words: ``"standard"`` is ``"tan"``;
- an attribute counts when it is a substring of the product's text, also inside other words;
- a title without common nouns makes the type 0, even when query and category match.

``strict`` compares options and attributes as whole texts (case and punctuation aside), finds attributes in the text as
whole words, knows no palette, and lets the titles decide only where neither query nor category match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from rapidfuzz import fuzz, utils

from turnwise.envs.webshop.colours import first_colour
from turnwise.envs.webshop.goal import Goal, read_goal
from turnwise.envs.webshop.nouns import RULE, Tagger
from turnwise.envs.webshop.product import AttributeEntry, Product, read_product, split_levels
from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Json

RewardMode = Literal["compat", "strict"]
REWARD_MODES: tuple[RewardMode, ...] = get_args(RewardMode)
_ALIKE = 85  # token set ratios above it count as equal
_NO_NOUNS = 0.2  # title score of a goal whose title has no noun
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class PurchaseReward:
    """The reward of a purchase and its parts, by the names that WebShop gives them.

    Attributes:
        total: The reward, in [0, 1].
        r_type: Whether it is the right kind of product: 0, 0.1, 0.5 or 1.
        query_match: Whether both products stand for the same query.
        category_match: Whether they share at least two categories.
        title_score: Share of the nouns in the goal's title that the bought title has.
        r_att: Share of the goal's attributes that it has; None where the goal has none.
        w_att: Weight of the attributes.
        r_option: Share of the goal's options that were chosen; None where the goal has none.
        w_option: Weight of the options, or None.
        r_price: Whether it costs no more than the goal allows; None where the ceiling is not positive.
        w_price: Weight of the price, or None.
        attributes: Per goal attribute, whether the product has it.
        options: Per goal option, whether it was chosen.
    """

    total: float
    r_type: float
    query_match: bool
    category_match: bool
    title_score: float
    r_att: float | None
    w_att: float
    r_option: float | None
    w_option: float | None
    r_price: bool | None
    w_price: float | None
    attributes: tuple[bool, ...]
    options: tuple[bool, ...]

    def as_json(self) -> dict[str, Json]:
        """Return it JSON-compatible."""
        return {
            "total": self.total,
            "r_type": self.r_type,
            "query_match": self.query_match,
            "category_match": self.category_match,
            "title_score": self.title_score,
            "r_att": self.r_att,
            "w_att": self.w_att,
            "r_option": self.r_option,
            "w_option": self.w_option,
            "r_price": self.r_price,
            "w_price": self.w_price,
            "attributes_matched": list(self.attributes),
            "options_matched": list(self.options),
        }


def purchase_reward(
    product: Product | Mapping[str, Any],
    goal: Goal | Mapping[str, Any],
    price: float,
    options: Mapping[str, str] | Sequence[str],
    *,
    mode: RewardMode = "compat",
    tagger: Tagger = RULE,
) -> PurchaseReward:
    """Return what buying a product is worth.

    Args:
        product: What was bought: a product, or a mapping as WebShop keeps it (with ``Attributes``).
        goal: What was wanted: a goal, or a mapping as WebShop keeps it.
        price: What it cost, in dollars.
        options: The chosen options: group name to value, or the values.
        mode: ``"compat"`` keeps the quirks of WebShop's code, ``"strict"`` does without them.
        tagger: Finds the nouns of a title.

    Raises:
        ConfigError: The mode is unknown, or the product or the goal cannot be read.
    """
    if mode not in REWARD_MODES:
        raise unknown_name("reward mode", str(mode), REWARD_MODES)
    bought, wanted = product_of(product), read_goal(goal)
    chosen = tuple(options.values() if isinstance(options, Mapping) else options)
    kind, query_match, category_match, title_score = _type(bought, wanted, tagger, strict=mode == "strict")
    attributes = attribute_matches(bought, wanted.attributes, mode=mode)
    matched = option_matches(chosen, wanted.option_values, mode=mode)
    cheap = price <= wanted.price_upper if wanted.price_upper > 0 else None
    size = len(attributes) + len(matched) + 1
    return PurchaseReward(
        total=kind * ((sum(attributes) + sum(matched) + bool(cheap)) / size),
        r_type=kind,
        query_match=query_match,
        category_match=category_match,
        title_score=title_score,
        r_att=sum(attributes) / len(attributes) if attributes else None,
        w_att=len(attributes) / size,
        r_option=sum(matched) / len(matched) if matched else None,
        w_option=len(matched) / size if matched else None,
        r_price=cheap,
        w_price=None if cheap is None else 1 / size,
        attributes=attributes,
        options=matched,
    )


def product_of(product: Product | Mapping[str, Any]) -> Product:
    """Return a product from a mapping as WebShop keeps it: the raw record, its ``Attributes`` beside.

    Raises:
        ConfigError: It is no product.
    """
    if isinstance(product, Product):
        return product
    if not isinstance(product, Mapping):
        raise ConfigError(f"a product is a Product or a mapping as WebShop keeps it, got {type(product).__name__}")
    attributes = product.get("Attributes", product.get("attributes"))
    entry = AttributeEntry(None if attributes is None else tuple(str(name) for name in attributes))
    found = read_product(product, entry)
    if found is None:
        raise ConfigError(f"not a product: its 'asin' is {product.get('asin')!r}, expected 1 to 10 characters")
    return found


# -- type ------------------------------------------------------------------------------------------


def _type(bought: Product, goal: Goal, tagger: Tagger, *, strict: bool) -> tuple[float, bool, bool, float]:
    query_match = bought.query == goal.query
    category_match = len({*bought.levels} & {*split_levels(goal.product_category)}) >= 2
    nouns = tagger(goal.name)
    # Repeated nouns count in the divisor but not in the intersection, as in WebShop's code.
    title_score = len({*tagger(bought.title)} & {*nouns}) / len(nouns) if nouns else _NO_NOUNS
    known = query_match or category_match
    kind = 1.0 if known or title_score > 0.2 else 0.5
    if not (strict and known):
        if title_score == 0.0:
            kind = 0.0
        elif title_score < 0.1:
            kind = 0.1
    return kind, query_match, category_match, title_score


# -- attributes and options ------------------------------------------------------------------------


def attribute_matches(product: Product, wanted: Sequence[str], *, mode: RewardMode) -> tuple[bool, ...]:
    """Return for each wanted attribute whether the product has it."""
    if mode == "strict":
        return _strict_attributes(product, wanted)
    texts = (product.title.lower(), " ".join(product.bullets).lower(), product.description.lower())
    return tuple(
        any(alike(name, attribute) for name in product.attributes) or any(attribute in text for text in texts)
        for attribute in wanted
    )


def _strict_attributes(product: Product, wanted: Sequence[str]) -> tuple[bool, ...]:
    names = {plain(name) for name in product.attributes}
    # The slash, which plain() never leaves, keeps a match from reaching over two texts.
    text = f" {' / '.join(map(plain, (product.title, *product.bullets, product.description)))} "
    return tuple((name := plain(attribute)) in names or f" {name} " in text for attribute in wanted)


def option_matches(chosen: Sequence[str], wanted: Sequence[str], *, mode: RewardMode) -> tuple[bool, ...]:
    """Return for each wanted option whether one of the chosen values is taken for it."""
    if mode == "strict":
        plainly = {plain(value) for value in chosen}
        return tuple(plain(option) in plainly for option in wanted)
    reduced = [first_colour(value) for value in chosen]
    return tuple(any(alike(value, first_colour(option)) for value in reduced) for option in wanted)


@lru_cache(maxsize=32_768)
def alike(one: str, two: str) -> bool:
    """Whether two texts count as equal in WebShop: their token set ratio, rounded, is above 85."""
    ratio: float = fuzz.token_set_ratio(_processed(one), _processed(two))
    return round(ratio) > _ALIKE


def _processed(text: str) -> str:
    # thefuzz, which WebShop compares with, drops what is not ASCII first.
    processed: str = utils.default_process(text.encode("ascii", "ignore").decode())
    return processed


def plain(text: str) -> str:
    """Return the words of a text in lower case, joined by blanks; punctuation does not count."""
    return " ".join(_WORDS.findall(text.lower()))
