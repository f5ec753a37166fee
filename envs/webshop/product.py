"""A product as the shop keeps it, and how it is read from WebShop's own JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

MAX_ASIN_CHARS = 10
DEFAULT_PRICE = 100.0  # of a product without one
NO_ATTRIBUTES = ("DUMMY_ATTR",)  # what WebShop gives a product that its attribute file does not list
RATING = "N.A."  # WebShop's public data come without reviews
CATEGORY_SEPARATOR = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
_NOT_A_PRICE = re.compile(r"[^\d.]")


class Product(msgspec.Struct, frozen=True, array_like=True):
    """A product.

    Attributes:
        asin: Its id, at most 10 characters.
        title: Its name.
        description: The text of its description page.
        bullets: The lines of its features page.
        prices: The price, or the ends of the range that it is drawn from; empty means 100.
        options: Group name to the values that can be chosen, both lower case.
        category: One of the shop's departments, such as ``"fashion"``.
        query: The query that it stands for, lower case.
        product_category: Its path of categories, from the broadest, joined by a single angle quotation mark.
        attributes: What the reward compares with a goal's attributes; never shown.
        image: Address of its picture, or "".
        instruction: The instruction that synthetic goals for it begin with, or None.
        instruction_attributes: The attributes that this instruction asks for.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    prices: tuple[float, ...]
    options: dict[str, tuple[str, ...]]
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...]
    image: str = ""
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()

    @property
    def price_tag(self) -> str:
        """The price as pages show it: ``"$9.99"`` or ``"$9.99 to $15.99"``."""
        if not self.prices:
            return f"${DEFAULT_PRICE}"
        return " to ".join(f"${price}" for price in self.prices)

    @property
    def levels(self) -> tuple[str, ...]:
        """The categories of its path."""
        return split_levels(self.product_category)

    @property
    def index_text(self) -> str:
        """What the search engine indexes: title, description, first bullet and options, lower case."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join((self.title, self.description, self.bullets[0] if self.bullets else "", options)).lower()


def split_levels(product_category: str) -> tuple[str, ...]:
    """Return the categories of a path, trimmed."""
    return tuple(level.strip() for level in product_category.split(CATEGORY_SEPARATOR))


class AttributeEntry(msgspec.Struct, frozen=True, array_like=True):
    """What ``items_ins_v2.json`` says of a product."""

    attributes: tuple[str, ...] | None = None
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()


def read_entry(raw: Mapping[str, Any]) -> AttributeEntry:
    """Read an entry of ``items_ins_v2.json``."""
    attributes = raw.get("attributes")
    instruction = raw.get("instruction")
    return AttributeEntry(
        _texts(attributes) if isinstance(attributes, list) else None,
        instruction if isinstance(instruction, str) and instruction else None,
        _texts(raw.get("instruction_attributes") or ()),
    )


def read_product(raw: Mapping[str, Any], entry: AttributeEntry | None = None) -> Product | None:
    """Read a product of ``items_shuffle.json``.

    Args:
        raw: The decoded JSON object.
        entry: What the attribute file says of it, or None.

    Returns:
        The product, or None for a record that WebShop drops: an ASIN that is missing, ``"nan"`` or too long.
    """
    asin = raw.get("asin")
    if not isinstance(asin, str) or not asin or asin == "nan" or len(asin) > MAX_ASIN_CHARS:
        return None
    bullets = raw.get("small_description")
    images = raw.get("images")
    attributes = entry.attributes if entry is not None else None
    return Product(
        asin=asin,
        title=str(raw.get("name") or ""),
        description=str(raw.get("full_description") or ""),
        bullets=_texts(bullets) if isinstance(bullets, list) else (str(bullets or ""),),
        prices=read_prices(raw.get("pricing")),
        options=read_options(raw.get("customization_options")),
        category=str(raw.get("category") or ""),
        query=str(raw.get("query") or "").lower().strip(),
        product_category=str(raw.get("product_category") or ""),
        attributes=NO_ATTRIBUTES if attributes is None else attributes,
        image=str(images[0]) if isinstance(images, list) and images else "",
        instruction=entry.instruction if entry is not None else None,
        instruction_attributes=entry.instruction_attributes if entry is not None else (),
    )


def read_prices(pricing: Any) -> tuple[float, ...]:
    """Read ``"$9.99"`` or ``"$9.99$15.99"``: the first two amounts; none of them where there is no price."""
    found = []
    for part in pricing.split("$")[1:3] if isinstance(pricing, str) else ():
        try:
            found.append(float(Decimal(_NOT_A_PRICE.sub("", part))))
        except InvalidOperation:
            continue
    return tuple(found)


def read_options(raw: Any) -> dict[str, tuple[str, ...]]:
    """Read ``customization_options``: names and values in lower case, ``"/"`` as ``" | "``."""
    options: dict[str, tuple[str, ...]] = {}
    for name, contents in raw.items() if isinstance(raw, dict) else ():
        if isinstance(contents, list):
            values = (str(content.get("value", "")) for content in contents if isinstance(content, dict))
            options[str(name).lower()] = tuple(value.strip().replace("/", " | ").lower() for value in values)
    return options


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
