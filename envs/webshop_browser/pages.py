"""Pages of the site as HTML: jinja2 templates, everything escaped. They are given what a customer may see, no more."""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from turnwise.envs.webshop.product import RATING
from turnwise.envs.webshop.shop import Page
from turnwise.envs.webshop.visit import Visit
from turnwise.envs.webshop_browser.pictures import picture
from turnwise.errors import MissingExtraError

_FOLDER = Path(__file__).parent
STATIC = {"shop.css": "text/css; charset=utf-8", "shop.js": "text/javascript; charset=utf-8"}


@cache
def static_file(name: str) -> bytes:
    """Return one of the :data:`STATIC` files."""
    return (_FOLDER / "static" / name).read_bytes()


@lru_cache(maxsize=1)
def _templates() -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "browser") from error
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["version"] = sha256(b"".join(map(static_file, sorted(STATIC)))).hexdigest()[:12]
    return made


def render(visit: Visit, page: Page, here: str, notice: str = "") -> str:
    """Return a page as an HTML document.

    Args:
        visit: Whose page it is.
        page: The page.
        here: Its address, which those of its links begin with.
        notice: What to tell the customer besides.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    shown = {"search": _search, "results": _results, "item": _item, "sub": _sub, "done": _done}[page.kind](visit, page)
    html: str = (
        _templates()
        .get_template(f"{page.kind}.html")
        .render(
            here=here,
            notice=notice,
            open=page.kind != "done",
            words=page.keywords,
            instruction=visit.goal.instruction_text,
            **shown,
        )
    )
    return html


def choice_of(page: Page) -> str:
    """Say in words what was chosen."""
    return "; ".join(f"{group}: {value}" for group, value in page.options)


def drawn(visit: Visit, page: Page) -> Any:
    """Return the picture of a page's product with the options that were chosen."""
    from markupsafe import Markup

    chosen = " ".join(value for _, value in page.options)
    return Markup(picture(visit.shop.product(page), chosen))  # noqa: S704 - holds no text of the data


def _search(visit: Visit, page: Page) -> dict[str, Any]:
    return {"heading": "Search"}


def _results(visit: Visit, page: Page) -> dict[str, Any]:
    from markupsafe import Markup

    products = []
    for row in page.listed:
        product = visit.shop.catalogue.product(row)
        products.append(
            {
                "asin": product.asin,
                "label": quote_plus(product.asin.lower()),
                "title": product.title or product.asin,
                "price": product.price_tag,
                "visited": row in page.visited,
                "picture": Markup(picture(product)),  # noqa: S704 - holds no text of the data
            }
        )
    heading = f"Results for {page.keywords}"
    return {"heading": heading, "number": page.number, "total": len(page.found), "products": products}


def _item(visit: Visit, page: Page) -> dict[str, Any]:
    product, chosen = visit.shop.product(page), dict(page.options)
    groups = [
        {"name": group, "choices": [{"label": value, "chosen": chosen.get(group) == value} for value in values]}
        for group, values in product.options.items()
    ]
    return {
        "heading": product.title or product.asin,
        "asin": product.asin,
        "price": product.price_tag,
        "rating": RATING,
        "groups": groups,
        "choice": choice_of(page),
        "picture": drawn(visit, page),
    }


def _sub(visit: Visit, page: Page) -> dict[str, Any]:
    product = visit.shop.product(page)
    paragraphs = [line for line in product.description.split("\n") if line.strip()] if page.sub == "description" else []
    bullets = [line for line in product.bullets if line.strip()] if page.sub == "features" else []
    return {"heading": page.sub.capitalize(), "paragraphs": paragraphs, "bullets": bullets}


def _done(visit: Visit, page: Page) -> dict[str, Any]:
    product = visit.shop.product(page)
    return {"heading": "Thank you", "bought": product.title, "asin": product.asin, "choice": choice_of(page)}
