"""Colours in the names of options: what WebShop's rule makes of them.

The rule takes the first word of an alphabetical palette that occurs *anywhere* in the text, so that ``"standard"``
becomes ``"tan"`` and ``"washed denim"`` becomes ``"ash"``. The palette here is our own.
"""

from __future__ import annotations

from functools import lru_cache

PALETTE = (
    *("amber", "apricot", "aqua", "ash", "azure", "beige", "black", "blue", "blush", "bronze", "brown", "burgundy"),
    *("camel", "caramel", "champagne", "charcoal", "cherry", "chocolate", "cobalt", "coffee", "copper", "coral"),
    *("cream", "crimson", "cyan", "denim", "ebony", "emerald", "espresso", "fuchsia", "gold", "graphite", "gray"),
    *("green", "grey", "indigo", "ivory", "jade", "khaki", "lavender", "lemon", "lilac", "lime", "magenta", "maroon"),
    *("mauve", "mint", "mocha", "multicolor", "mustard", "natural", "navy", "nude", "olive", "orange", "peach"),
    *("pearl", "pink", "plum", "purple", "rainbow", "red", "rose", "ruby", "rust", "sand", "sapphire", "scarlet"),
    *("silver", "slate", "steel", "tan", "taupe", "teal", "turquoise", "violet", "walnut", "wheat", "white", "wine"),
    "yellow",
)


@lru_cache(maxsize=8192)
def first_colour(text: str) -> str:
    """Return the first palette word that is a substring of ``text``, or ``text`` itself if none is."""
    for colour in PALETTE:
        if colour in text:
            return colour
    return text
