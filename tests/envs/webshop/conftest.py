"""A small shop of our own, the recordings of the real one, and a cache for the session."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from turnwise.envs.webshop.nouns import NounRule


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TURNWISE_CACHE")
    os.environ["TURNWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TURNWISE_CACHE"]
    else:
        os.environ["TURNWISE_CACHE"] = before


@pytest.fixture(scope="session")
def recordings(shared_data: Path) -> Path:
    """The recordings of the real WebShop."""
    return shared_data / "webshop"


@pytest.fixture(scope="session")
def recorded(recordings: Path) -> Callable[[str], list[Any]]:
    """Read the lines of a recording."""

    def read(name: str) -> list[Any]:
        with gzip.open(recordings / name, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def recorded_tagger(recordings: Path) -> NounRule:
    """The rule that stood in for spaCy's tagger in the recordings."""
    return NounRule(json.loads((recordings / "noun_rule_stop_words.json").read_text()))


def item(number: int, **changes: Any) -> dict[str, Any]:
    """A product as WebShop's file holds it."""
    raw = {
        "asin": f"B00000000{number}",
        "name": f"Steel kettle number {number} for tea",
        "full_description": f"It boils water. Lot {number}.",
        "small_description": ["boils fast", "bpa free"],
        "pricing": "$34.50",
        "images": ["https://images.example/k.jpg"],
        "category": "garden",
        "query": " Electric Kettle ",
        "product_category": "Home \u203a Kitchen \u203a Kettles",
        "customization_options": {
            "Color": [{"value": "Navy/Blue "}, {"value": "Wine Red", "image": None}],
            "Size": [{"value": "Large"}, {"value": "X-Large"}],
            "Gone": None,
        },
    }
    return raw | changes


ITEMS = [
    item(1),
    item(2, pricing="$9.99$15.99", customization_options=""),
    item(
        3, pricing="", name="Felt slippers", query="slippers", product_category="Shoes \u203a Men", category="fashion"
    ),
    item(1, name="a second one with the same id"),
    item(4, asin="nan"),
    item(5, asin="B0000000055"),
    *(item(number, customization_options={"Next >": [{"value": "buy now"}]}) for number in (6,)),
]
ENTRIES = {
    "B000000001": {
        "attributes": ["stainless steel", "bpa free"],
        "instruction": "Find me stainless steel kettles",
        "instruction_attributes": ["stainless steel"],
    },
    "B000000002": {"attributes": ["natural hair"]},
}
HUMAN = {
    "B000000001": [
        {
            "asin": "B000000001",
            "instruction": "i need a steel kettle.",
            "instruction_attributes": ["stainless steel"],
            "instruction_options": ["navy/blue", "x-large"],
        },
        {"asin": "B000000001", "instruction": "skipped", "instruction_attributes": [], "instruction_options": []},
    ]
}


@pytest.fixture(scope="session")
def shop_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shop of four products, two records that are dropped and a second one of an id."""
    return write_data(tmp_path_factory.mktemp("shop"))


def write_data(folder: Path, items: Any = ITEMS, entries: Any = ENTRIES, human: Any = HUMAN) -> Path:
    """Write data files."""
    files = (("items_shuffle", items), ("items_ins_v2", entries), ("items_human_ins", human))
    for name, content in files:
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Path]:
    """Write data files into a folder."""
    return write_data


@pytest.fixture(scope="session")
def make_item() -> Callable[..., dict[str, Any]]:
    """A product as WebShop's file holds it."""
    return item
