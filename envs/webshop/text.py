"""What a page says: WebShop's observation modes ``text``, ``text_rich`` and ``url``.

The words of the pages, including their slips, are part of the interface: agents are trained on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from turnwise.envs.webshop.product import RATING
from turnwise.envs.webshop.shop import Page, Shop

BASE_URL = "http://127.0.0.1:3000"
SEPARATOR = " [SEP] "


class View(NamedTuple):
    """All that a renderer needs to show a page.

    Attributes:
        shop: The shop.
        page: The page.
        instruction: What the customer is asked for.
        session: Name of the session, as it stands in addresses.
        score: The reward, once something was bought.
    """

    shop: Shop
    page: Page
    instruction: str
    session: str
    score: float = 0.0


class Node(NamedTuple):
    """A piece of a page's text.

    Attributes:
        kind: Plain text, a button, the value of an option, or a link to a product.
        text: Its text.
        clicked: Whether an option is chosen, or a product was opened before.
    """

    kind: Literal["text", "button", "option", "link"]
    text: str
    clicked: bool = False


# Shows a page; one per observation mode.
Renderer = Callable[[View], str]

_BACK, _PREV, _NEXT = Node("button", "Back to Search"), Node("button", "< Prev"), Node("button", "Next >")
_ITEM_BUTTONS = tuple(Node("button", label) for label in ("Description", "Features", "Reviews", "Buy Now"))
_WELCOME = (Node("text", "WebShop"), Node("text", "Instruction: "))
_INSTRUCTION = Node("text", "Instruction:")


def nodes(view: View) -> Iterator[Node]:
    """Iterate over the pieces of a page, from its top to its bottom."""
    if view.page.kind == "done":
        return _done(view)
    if view.page.kind == "search":
        return iter((*_WELCOME, Node("text", view.instruction), Node("button", "Search")))
    return _inner(view)


def _inner(view: View) -> Iterator[Node]:
    yield _INSTRUCTION
    yield Node("text", view.instruction)
    yield _BACK
    if view.page.kind == "results":
        yield from _results(view)
        return
    yield _PREV
    product = view.shop.product(view.page)
    if view.page.kind == "item":
        yield from _item(view)
    elif view.page.sub == "description":
        yield Node("text", product.description)
    elif view.page.sub == "features":
        yield from (Node("text", f" {bullet}") for bullet in product.bullets)


def _results(view: View) -> Iterator[Node]:
    page = view.page
    yield Node("text", f"Page {page.number} (Total results: {len(page.found)})")
    if page.number > 1:
        yield _PREV
    yield _NEXT
    for row in page.listed:
        product = view.shop.catalogue.product(row)
        yield Node("link", product.asin, row in page.visited)
        yield Node("text", product.title)
        yield Node("text", product.price_tag)


def _item(view: View) -> Iterator[Node]:
    product = view.shop.product(view.page)
    address = url(view) if view.page.options or '"' in view.page.keywords else ""
    for group, values in product.options.items():
        yield Node("text", group)
        for value in values:
            # WebShop looks for the quoted value in the address, so a quoted keyword counts as a choice, too.
            yield Node("option", value, bool(address) and f'"{value}"' in address)
    yield Node("text", product.title)
    yield Node("text", f"Price: {product.price_tag}")
    yield Node("text", f"Rating: {RATING}")
    yield from _ITEM_BUTTONS


def _done(view: View) -> Iterator[Node]:
    page = view.page
    yield Node("text", "Thank you for shopping with us!")
    yield from (Node("text", text) for text in ("Your code: ", "None", " (Paste it in your MTurk interface.)"))
    yield from (Node("text", text) for text in ("Purchased", "asin", view.shop.product(page).asin))
    yield from (Node("text", text) for text in ("options", json.dumps(dict(page.options), sort_keys=True)))
    for name in ("attrs", "category", "query", "product category"):
        yield Node("text", name)
        yield Node("text", "None")
    names = ("Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category")
    yield from (Node("text", text) for text in (*names, "query", "Goal ", "None"))
    yield from (Node("text", text) for text in ("Reward", "Your score (min 0.0, max 1.0)", str(view.score)))
    yield from (Node("text", text) for text in ("Reward Details ", "None"))


def _shown(view: View) -> Iterator[Node]:
    """Iterate over the nodes that a browser would keep: an empty one is none, a lone line feed is layout."""
    return (node for node in nodes(view) if node.text not in ("", "\n"))


def text(view: View) -> str:
    """Show a page as its pieces, trimmed, with ``[SEP]`` between them."""
    return SEPARATOR.join(node.text.strip() for node in _shown(view))


def text_rich(view: View) -> str:
    """Show a page with its buttons, links and options marked, one piece a line."""
    lines: list[str] = []
    chosen = ""
    for kind, content, clicked in _shown(view):
        mark = "clicked button" if clicked else "button"
        if kind == "text":
            lines.append(f"{content}\n")
        elif kind == "button":
            lines.append(f"[button] {content} [button_]\n")
        elif kind == "link":
            lines.append(f"\n[{mark}] {content} [{mark}_]\n")
        else:
            lines.append(f"  [{mark}] {content} [{mark}_]\n")
            if clicked:
                chosen = f"You have clicked {content}.\n{chosen}"
    return chosen + "".join(lines)


def url(view: View) -> str:
    """Return the address of a page, as the original's simulated site forms it."""
    page = view.page
    if page.kind == "search":
        return f"{BASE_URL}/{view.session}"
    keywords = "+".join(page.keywords.split(" "))
    if page.kind == "results":
        return f"{BASE_URL}/search_results/{view.session}/{keywords}/{page.number}"
    asin, options = view.shop.product(page).asin, dict(page.options)
    if page.kind == "item":
        chosen = json.dumps(options)
        return f"{BASE_URL}/item_page/{view.session}/{asin}/{keywords}/{page.number}/{chosen}"
    if page.kind == "sub":
        place = f"{asin}/{keywords}/{page.number}/{page.sub.capitalize()}"
        return f"{BASE_URL}/item_sub_page/{view.session}/{place}/{options}"
    return f"{BASE_URL}/done/{view.session}/{asin}/{options}"
