"""A page as HTML: our own plain markup, with the hooks by which WebShop's agents find their way.

The search field has the id ``search_input``; buttons have the class ``btn``, links to products ``product-link``, and
the values of options are radio buttons with the group for a name. Everything from the data is escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from turnwise.envs.webshop.text import View, nodes

_FRAME = """<!DOCTYPE html>
<html lang="en">
<head><title>WebShop</title></head>
<body>
{body}
</body>
</html>
"""
_SEARCH_FORM = (
    '<form class="search"><input id="search_input" name="search_query" type="text" aria-label="Search words">'
)


def html(view: View) -> str:
    """Return a page as an HTML document."""
    show: Callable[[View], list[str]] = {
        "search": _first,
        "results": _results,
        "item": _item,
        "sub": _sub,
        "done": _done,
    }[view.page.kind]
    return _FRAME.format(body="\n".join(show(view)))


def _button(label: str) -> str:
    name = label.lower().strip("<> ").replace(" ", "-")
    return f'<button type="submit" class="btn" id="{name}">{escape(label)}</button>'


def _instruction(view: View) -> str:
    return f'<div id="instruction-text"><h4>Instruction:<br>{escape(view.instruction)}</h4></div>'


def _first(view: View) -> list[str]:
    return ["<h3>WebShop</h3>", _instruction(view), f"{_SEARCH_FORM}{_button('Search')}</form>"]


def _head(view: View, *labels: str) -> list[str]:
    return [_instruction(view), _button("Back to Search"), *map(_button, labels)]


def _results(view: View) -> list[str]:
    page = view.page
    lines = _head(view)
    lines.append(f'<h3 class="results">Page {page.number} (Total results: {len(page.found)})</h3>')
    lines += [_button(label) for label in (("< Prev", "Next >") if page.number > 1 else ("Next >",))]
    for row in page.listed:
        product = view.shop.catalogue.product(row)
        link = f'<h4><a class="product-link" href="#{escape(product.asin)}">{escape(product.asin)}</a></h4>'
        title = f'<h4 class="product-title">{escape(product.title)}</h4>'
        price = f'<h5 class="product-price">{escape(product.price_tag)}</h5>'
        lines.append(f'<div class="product">{link}{title}{price}</div>')
    return lines


def _item(view: View) -> list[str]:
    lines = _head(view, "< Prev")
    chosen = {node.text for node in nodes(view) if node.kind == "option" and node.clicked}
    product = view.shop.product(view.page)
    for number, (group, values) in enumerate(product.options.items()):
        lines.append(f'<fieldset class="options"><h4>{escape(group)}</h4>')
        for place, value in enumerate(values):
            key = f"option-{number}-{place}"
            checked = " checked" if value in chosen else ""
            radio = f'<input type="radio" id="{key}" name="{escape(group)}" value="{escape(value)}"{checked}>'
            lines.append(f'{radio}<label for="{key}">{escape(value)}</label>')
        lines.append("</fieldset>")
    lines.append(f'<h2 class="product-title">{escape(product.title)}</h2>')
    rest = [node for node in nodes(view) if node.kind == "text"][-2:]
    lines += [f"<h4>{escape(node.text)}</h4>" for node in rest]
    return lines + [_button(label) for label in ("Description", "Features", "Reviews", "Buy Now")]


def _sub(view: View) -> list[str]:
    lines = _head(view, "< Prev")
    product = view.shop.product(view.page)
    if view.page.sub == "description":
        lines.append(f'<p class="product-info">{escape(product.description)}</p>')
    elif view.page.sub == "features":
        items = "".join(f'<li><p class="product-info"> {escape(bullet)}</p></li>' for bullet in product.bullets)
        lines.append(f"<ul>{items}</ul>")
    return lines


def _done(view: View) -> list[str]:
    return [f"<p>{escape(node.text)}</p>" for node in nodes(view)]
