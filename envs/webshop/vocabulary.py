"""What the generated shop sells: five departments, forty kinds of products, their attributes and options."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from turnwise.envs.webshop.product import CATEGORY_SEPARATOR

VOCABULARY = Path(__file__).with_suffix(".yaml")


class OptionGroup(NamedTuple):
    """A group of options: its name, and the values that products have some of, as sellers write them."""

    name: str
    values: tuple[str, ...]


class Kind(NamedTuple):
    """A kind of product.

    Attributes:
        department: One of WebShop's five.
        query: What customers call it.
        path: Its categories.
        prices: The lowest and highest price, in dollars.
        groups: What can be chosen.
        attributes: What a product of this kind may be or, with a ``+`` before it, come with.
        uses: What it is for; goes into titles.
    """

    department: str
    query: str
    path: tuple[str, ...]
    prices: tuple[float, float]
    groups: tuple[OptionGroup, ...]
    attributes: tuple[str, ...]
    uses: tuple[str, ...]

    @property
    def product_category(self) -> str:
        """The path as WebShop writes it."""
        return f" {CATEGORY_SEPARATOR} ".join(self.path)


@lru_cache(maxsize=1)
def kinds() -> tuple[Kind, ...]:
    """Return all kinds of products, department by department."""
    import yaml  # only whoever generates a shop pays for it

    with VOCABULARY.open(encoding="utf-8") as file:
        content = yaml.safe_load(file)
    groups = {key: OptionGroup(group["name"], _parts(group["values"])) for key, group in content["groups"].items()}
    return tuple(
        _kind(name, department, raw, groups)
        for name, department in content["departments"].items()
        for raw in department["kinds"]
    )


def _kind(name: str, department: dict[str, Any], raw: dict[str, Any], groups: dict[str, OptionGroup]) -> Kind:
    low, high = raw["prices"].split("-")
    return Kind(
        department=name,
        query=raw["query"],
        path=(department["category"], *_parts(raw["path"], ">")),
        prices=(float(low), float(high)),
        groups=tuple(groups[key] for key in raw["groups"].split()),
        attributes=(*_parts(raw["attributes"]), *_parts(department["attributes"])),
        uses=_parts(raw["uses"]),
    )


def _parts(text: str, separator: str = ";") -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator))
