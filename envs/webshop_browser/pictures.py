"""Pictures of products, drawn from what they are and their colour: the same product always looks the same."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import yaml

from turnwise.envs.webshop.product import Product

_OVERLAYS = {"D": 'fill="#000000" opacity=".32"', "L": 'fill="#ffffff" opacity=".42"'}
_WORDS = re.compile(r"[a-z]+")
_COLOUR_GROUPS = ("color", "colour", "shade")
_BOX = "box"


class Stencils(NamedTuple):
    """What ``pictures.yaml`` holds.

    Attributes:
        shapes: Outline name to its layers, each a kind (P, D or L) and an SVG path.
        words: Word of a product's type to the outline.
        categories: Department to the outline of what no word names.
        paint: Colour word to ``#rrggbb``.
        calm: Paints for what names no colour.
    """

    shapes: dict[str, tuple[tuple[str, str], ...]]
    words: dict[str, str]
    categories: dict[str, str]
    paint: dict[str, str]
    calm: tuple[str, ...]


@cache
def stencils() -> Stencils:
    """Read ``pictures.yaml``."""
    raw = yaml.safe_load(Path(__file__).with_name("pictures.yaml").read_text(encoding="utf-8"))
    return Stencils(
        {name: tuple((layer[0], layer[2:]) for layer in layers) for name, layers in raw["shapes"].items()},
        {word: shape for shape, words in raw["words"].items() for word in words.split()},
        raw["categories"],
        raw["paint"],
        tuple(raw["calm"]),
    )


@lru_cache(maxsize=4096)
def paint_of(text: str) -> str | None:
    """Return the paint for the first colour word of a text, as ``#rrggbb``, or None."""
    paint = stencils().paint
    return next((paint[word] for word in _WORDS.findall(text.lower()) if word in paint), None)


def colour_of(product: Product, chosen: str = "") -> str:
    """Return what a product is painted with.

    Args:
        product: The product.
        chosen: The values that were chosen, which come first.
    """
    first = [values[0] for group, values in product.options.items() if values and group in _COLOUR_GROUPS]
    for text in (chosen, *first, product.title):
        paint = paint_of(text)
        if paint is not None:
            return paint
    calm = stencils().calm
    return calm[crc32(product.asin.encode()) % len(calm)]


def shape_of(product: Product) -> str:
    """Return the name of the outline that comes nearest to a product."""
    words = stencils().words
    for text in (product.query, product.title.lower()):
        for word in reversed(_WORDS.findall(text)):
            if word in words:
                return words[word]
    return stencils().categories.get(product.category, _BOX)


def picture(product: Product, chosen: str = "") -> str:
    """Return a product's picture as the inside of an SVG of 100 by 100; holds nothing of the product's own words."""
    drawn = []
    for kind, line in stencils().shapes[shape_of(product)]:
        if kind != "L":
            drawn.append(f'<path d="{line}"/>')
        if kind in _OVERLAYS:
            drawn.append(f'<path d="{line}" {_OVERLAYS[kind]}/>')
    return f'<g fill="{colour_of(product, chosen)}">{"".join(drawn)}</g>'
