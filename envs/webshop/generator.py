"""The generated shop: products, attributes and customers' instructions in WebShop's own file formats.

Products come in families of one to four near-duplicates: the same brand and series, but one differs from the next in an
attribute, its options or its price, so the cheapest look at a page of results does not tell them apart. A family is a
function of the seed and its number alone, so a bigger shop begins with the smaller one's products.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from turnwise.envs.webshop.draws import Draws
from turnwise.envs.webshop.instructions import bare, joined, write_instruction, write_synthetic
from turnwise.envs.webshop.vocabulary import Kind, kinds
from turnwise.errors import ConfigError
from turnwise.records import Json

SEED = 20_260_301
GOALS_PER_PRODUCT = 2
# About as many as people wrote for the real shop; a bigger shop has some for every n-th product.
MAX_HUMAN_GOALS = 12_000
MAX_PRODUCTS = 10_000_000
_FAMILY = 4  # products of a family at most
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASINS = 36**8
_ASIN_STEP = 1_562_399_999_981  # coprime to 36^8: steps through all numbers below it
_SYLLABLES = (
    *("ba", "be", "bo", "da", "de", "do", "fa", "fi", "ga", "ka", "ke", "ko", "la", "le", "li", "lo", "lu", "ma", "me"),
    *("mi", "mo", "na", "ne", "ni", "no", "pa", "ra", "re", "ri", "ro", "sa", "se", "si", "so", "ta", "te", "ti", "to"),
    *("va", "ve", "vi", "vo", "za", "zo"),
)
_CLOSINGS = ("l", "n", "r", "s", "x", "th", "nd", "rk", "ll", "m")
_SERIES = (
    *("Aria", "Bolt", "Crest", "Drift", "Ember", "Fable", "Glint", "Haven", "Iris", "Jolt", "Kite", "Lumen", "Mesa"),
    *("Nova", "Onyx", "Pixel", "Quill", "Ridge", "Sable", "Tide", "Unity", "Vista", "Willow", "Zephyr"),
)
_PRAISE = (
    "We made it for people who notice details",
    "Small changes over several years made it what it is",
    "It arrives ready for its first day",
    "Customers tell us that they bought a second one",
)
_NO_PRICE, _PRICE_RANGE = 0.05, 0.08  # shares of products


class Draft(NamedTuple):
    """A product before it is written down.

    Attributes:
        number: Its number in the shop.
        kind: What it is.
        brand: Its brand.
        series: Its series.
        attributes: What it is and comes with, marked; the first two stand in its title.
        use: What it is for.
        pricing: Its price as sellers write it.
        options: Group name to values.
    """

    number: int
    kind: Kind
    brand: str
    series: str
    attributes: tuple[str, ...]
    use: str
    pricing: str
    options: dict[str, tuple[str, ...]]

    @property
    def asin(self) -> str:
        """Its id: different for different numbers."""
        left, digits = (self.number * _ASIN_STEP + _ASIN_STEP // 2) % _ASINS, ""
        for _ in range(8):
            left, digit = divmod(left, 36)
            digits += _DIGITS[digit]
        return "B0" + digits

    @property
    def title(self) -> str:
        """Its name."""
        being = [name for name in self.attributes[:2] if not name.startswith("+")]
        having = [bare(name) for name in self.attributes[:2] if name.startswith("+")]
        comes = f"with {' and '.join(having)}" if having else ""
        words = f"{self.brand} {self.series} {' '.join(being)} {self.kind.query} {comes} for {self.use}"
        return " ".join(word if word in ("with", "for", "and") else word.capitalize() for word in words.split())


def drafts(count: int, seed: int = SEED) -> Iterator[Draft]:
    """Iterate over the first ``count`` products of a shop.

    Args:
        count: How many.
        seed: Seed of the shop.
    """
    made = family = 0
    while made < count:
        for draft in _family(family, made, seed)[: count - made]:
            yield draft
            made += 1
        family += 1


def _brand(draws: Draws) -> str:
    middle = "".join(draws.pick(_SYLLABLES) for _ in range(draws.between(2, 3)))
    return (middle + draws.pick(_CLOSINGS)).capitalize()


def _family(family: int, first: int, seed: int) -> list[Draft]:
    draws = Draws(seed, family)
    # Kinds take turns, so that a small shop has all of them.
    kind = kinds()[(family * 7) % len(kinds())]
    size = draws.between(1, _FAMILY)
    attributes = tuple(draws.some(kind.attributes, draws.between(4, 6)))
    use, options = draws.pick(kind.uses), _options(kind, draws)
    price = round(kind.prices[0] + (kind.prices[1] - kind.prices[0]) * draws.random() ** 2, 2)
    brand, series = _brand(draws), draws.pick(_SERIES)
    made = [Draft(first, kind, brand, series, attributes, use, _pricing(price, draws), options)]
    while len(made) < size:
        made.append(_variant(made[-1], draws))
    return made


def _variant(one: Draft, draws: Draws) -> Draft:
    """Return a near-duplicate."""
    twin = one._replace(number=one.number + 1)
    # One attribute always differs, or two products would be the same to the reward.
    others = [name for name in one.kind.attributes if name not in one.attributes]
    attributes = list(one.attributes)
    attributes[draws.between(0, len(attributes) - 1)] = draws.pick(others)
    twin = twin._replace(attributes=tuple(attributes))
    if draws.chance(0.5):
        twin = twin._replace(options=_options(one.kind, draws))
    if draws.chance(0.5):
        low, high = one.kind.prices
        twin = twin._replace(pricing=_pricing(round(low + (high - low) * draws.random(), 2), draws))
    return twin


def _pricing(price: float, draws: Draws) -> str:
    kind = draws.random()
    if kind < _NO_PRICE:
        return ""
    if kind < _NO_PRICE + _PRICE_RANGE:
        return f"${price:.2f}${price * (1.1 + draws.random() * 0.6):.2f}"
    return f"${price:.2f}"


def _options(kind: Kind, draws: Draws) -> dict[str, tuple[str, ...]]:
    """Draw the options of a product; some have one group only, a few none."""
    count = draws.pick((0, 1, 1, 2, 2, 2, 2, 2))
    chosen = {}
    for name, values in kind.groups[:count]:
        kept = set(draws.some(values, draws.between(2, 6)))
        chosen[name] = tuple(value for value in values if value in kept)
    return chosen


# -- as WebShop's records --------------------------------------------------------------------------


def product_record(draft: Draft, seed: int = SEED) -> dict[str, Json]:
    """Return a product as ``items_shuffle.json`` holds it."""
    draws = Draws(seed, draft.number, 1)
    names = [bare(name) for name in draft.attributes]
    query, brand = draft.kind.query, draft.brand
    bullets = [f"{name.capitalize()}: {_claim(name, query, draws)}" for name in names[1:]]
    bullets.append(f"Made for {draft.use}, and at home anywhere else")
    sentences = [
        f"The {brand} {draft.series} {query} is {_clause(draft.attributes)}.",
        f"{draws.pick(_PRAISE)}.",
        f"Whether you need it for {draft.use} or for every day, this {query} is made to stay with you.",
        f"{brand} tests every {query} before it leaves the workshop.",
    ]
    options = {
        name: [{"value": value, "image": None, "is_selected": False} for value in values]
        for name, values in draft.options.items()
    }
    return {
        "name": draft.title,
        "product_information": {},
        "brand": f"Brand: {brand}",
        "brand_url": "",
        "full_description": " ".join(sentences),
        "pricing": draft.pricing,
        "list_price": "",
        "availability_quantity": None,
        "availability_status": "In Stock.",
        "images": [f"https://images.example/{draft.asin}.svg"],
        "product_category": draft.kind.product_category,
        "average_rating": "",
        "small_description": bullets,
        "total_reviews": "",
        "total_answered_questions": "",
        "customization_options": options or "",
        "seller_id": "",
        "seller_name": "",
        "fulfilled_by_amazon": "",
        "fast_track_message": "",
        "aplus_present": "",
        "asin": draft.asin,
        "category": draft.kind.department,
        "query": query,
        "page": 1 + draft.number % 5,
        "small_description_old": "",
    }


def _claim(name: str, query: str, draws: Draws) -> str:
    return draws.pick(
        (
            f"what you expect of this {query}",
            "tested many times, so you can rely on it",
            "a difference that you notice at once",
            "nothing to think about any more",
        )
    )


def _clause(attributes: Sequence[str]) -> str:
    being = [name for name in attributes if not name.startswith("+")]
    having = [bare(name) for name in attributes if name.startswith("+")]
    parts = [joined(being)] if being else []
    return " and ".join([*parts, *([f"comes with {joined(having)}"] if having else [])])


def attribute_record(draft: Draft, seed: int = SEED) -> dict[str, Json]:
    """Return what ``items_ins_v2.json`` says of a product; four in ten have an instruction for synthetic goals."""
    draws = Draws(seed, draft.number, 2)
    record: dict[str, Json] = {"attributes": [bare(name) for name in draft.attributes]}
    if draws.chance(0.4):
        asked = draws.some(draft.attributes, draws.between(1, 3))
        record["instruction"] = write_synthetic(draft.kind, asked)
        record["instruction_attributes"] = [bare(name) for name in asked]
    return record


def human_records(draft: Draft, seed: int = SEED) -> list[dict[str, Json]]:
    """Return the instructions for a product, as ``items_human_ins.json`` holds them."""
    draws = Draws(seed, draft.number, 3)
    return [_human_record(draft, number, draws) for number in range(GOALS_PER_PRODUCT)]


def _human_record(draft: Draft, number: int, draws: Draws) -> dict[str, Json]:
    asked = draws.some(draft.attributes, draws.between(1, 3))
    wanted = [(name, draws.pick(values)) for name, values in draft.options.items() if draws.chance(0.8)]
    return {
        "asin": draft.asin,
        "instruction": f"{write_instruction(draft.kind, asked, wanted, draws)}.",
        "attributes": [bare(name) for name in draft.attributes],
        "options": [f"{name}: {value}".lower() for name, value in wanted],
        "instruction_attributes": [bare(name) for name in asked],
        "instruction_options": [value.lower() for _, value in wanted],
        "assignment_id": f"T{draft.number}-{number}",
        "worker_id": "turnwise",
    }


# -- files -----------------------------------------------------------------------------------------


def write_shop(folder: Path, *, products: int, seed: int = SEED) -> tuple[Path, ...]:
    """Write a generated shop as files that this world and the real WebShop load.

    Args:
        folder: Where they go; made if it is not there.
        products: How many products, at least 1.
        seed: Seed of the shop.

    Returns:
        The paths of ``items_shuffle.json``, ``items_ins_v2.json`` and ``items_human_ins.json``.

    Raises:
        ConfigError: The number is out of range.
    """
    if isinstance(products, bool) or not isinstance(products, int) or not 1 <= products <= MAX_PRODUCTS:
        raise ConfigError(f"a shop has 1 to {MAX_PRODUCTS:,} products, got {products!r}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{stem}.json" for stem in ("items_shuffle", "items_ins_v2", "items_human_ins"))
    every = -(-products * GOALS_PER_PRODUCT // MAX_HUMAN_GOALS)
    with paths[0].open("w") as items, paths[1].open("w") as attributes, paths[2].open("w") as human:
        for number, draft in enumerate(drafts(products, seed)):
            items.write(("[" if number == 0 else ",\n") + json.dumps(product_record(draft, seed)))
            start = "{" if number == 0 else ",\n"
            attributes.write(f'{start}"{draft.asin}": {json.dumps(attribute_record(draft, seed))}')
            if number % every == 0:
                human.write(f'{start}"{draft.asin}": {json.dumps(human_records(draft, seed))}')
        items.write("]\n")
        attributes.write("}\n")
        human.write("}\n")
    return paths
