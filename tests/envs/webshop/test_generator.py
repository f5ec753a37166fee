"""The generated shop: what is in it, that a seed makes it, and that the real WebShop could load it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from turnwise.envs.webshop import WebShopEnv
from turnwise.envs.webshop.embedded import PRODUCTS, embedded_catalogue
from turnwise.envs.webshop.generator import (
    MAX_HUMAN_GOALS,
    attribute_record,
    drafts,
    human_records,
    product_record,
    write_shop,
)
from turnwise.envs.webshop.instructions import bare
from turnwise.envs.webshop.vocabulary import kinds
from turnwise.errors import ConfigError


def test_the_embedded_shop_has_a_thousand_products_of_forty_kinds() -> None:
    catalogue = embedded_catalogue()
    products = [catalogue.product(row) for row in range(len(catalogue))]
    assert len(products) == len({product.asin for product in products}) == PRODUCTS == 1000
    assert len({product.query for product in products}) == len(kinds()) == 40
    assert Counter(kind.department for kind in kinds()) == dict.fromkeys(
        ("beauty", "garden", "fashion", "electronics", "grocery"), 8
    )
    assert all(len(product.asin) == 10 and product.asin.isalnum() for product in products)
    assert all(len(product.levels) == 3 for product in products)
    assert all(4 <= len(product.attributes) <= 6 for product in products)
    assert {len(product.prices) for product in products} == {0, 1, 2}
    assert {len(product.options) for product in products} == {0, 1, 2}


def test_near_duplicates_differ_in_what_counts() -> None:
    families = defaultdict(list)
    for draft in drafts(1000):
        families[draft.brand, draft.series, draft.kind.query].append(draft)
    sizes = Counter(map(len, families.values()))
    assert set(sizes) >= {1, 2, 3, 4}
    for family in families.values():
        for one, two in pairwise(family):
            assert set(one.attributes) != set(two.attributes)


def test_there_are_two_thousand_goals_in_three_splits() -> None:
    tasks = {split: WebShopEnv(split=split).tasks for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in tasks.items()} == {"train": 1600, "val": 200, "test": 200}
    ids = [task_id for found in tasks.values() for task_id in found.ids()]
    assert len(set(ids)) == 2000
    instructions = [found.get(task_id).instruction for found in tasks.values() for task_id in found.ids()]
    assert len(set(instructions)) > 1950
    assert len({" ".join(text.split()[:3]) for text in instructions}) >= 10


def test_instructions_name_all_that_is_wanted() -> None:
    for draft in drafts(200):
        for record in human_records(draft):
            text = record["instruction"]
            assert draft.kind.query in text
            assert all(attribute in text for attribute in record["instruction_attributes"])
            assert all(option in text for option in record["instruction_options"])
            assert set(record["instruction_attributes"]) <= {bare(name) for name in draft.attributes}


def test_a_bigger_shop_begins_with_the_smaller_one() -> None:
    small, big = list(drafts(30)), list(drafts(300))
    assert big[:30] == small
    assert [product_record(draft) for draft in small] == [product_record(draft) for draft in drafts(30)]
    assert list(drafts(30, seed=1)) != small


def test_the_files_have_what_webshop_reads(tmp_path: Path) -> None:
    """WebShop's own loader indexes these keys without asking whether they are there."""
    paths = write_shop(tmp_path / "shop", products=120)
    items, entries, human = (json.loads(path.read_text()) for path in paths)
    assert [path.name for path in paths] == ["items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"]
    assert len(items) == len(entries) == len(human) == 120
    for raw in items:
        for key in ("asin", "category", "query", "product_category", "name", "full_description", "small_description"):
            assert raw[key], key
        assert len(raw["asin"]) <= 10
        assert raw["images"][0]
        assert isinstance(raw["small_description"][0], str)
        for price in raw["pricing"].split("$")[1:]:
            assert Decimal(price) > 0
        for name, contents in (raw["customization_options"] or {}).items():
            assert name.lower()
            assert all(content["value"].strip() for content in contents)
        entry = entries[raw["asin"]]
        assert entry["attributes"]
        assert ("instruction" in entry) == bool(entry.get("instruction_attributes"))
        for record in human[raw["asin"]]:
            assert record["instruction"].strip(".")
            assert record["instruction_attributes"]
            assert isinstance(record["instruction_options"], list)


def test_files_and_embedded_shop_are_the_same(tmp_path: Path) -> None:
    write_shop(tmp_path, products=60)
    env = WebShopEnv(data=str(tmp_path), split="test")
    embedded = embedded_catalogue()
    catalogue = env.shop.catalogue
    assert [catalogue.product(row) for row in range(60)] == [embedded.product(row) for row in range(60)]
    assert catalogue.human_entries() == embedded.human_entries()[:120]


def test_a_big_shop_has_as_many_human_goals_as_the_real_one(tmp_path: Path) -> None:
    *_, path = write_shop(tmp_path, products=7_000)
    goals = sum(map(len, json.loads(path.read_text()).values()))
    assert MAX_HUMAN_GOALS / 2 <= goals <= MAX_HUMAN_GOALS


@pytest.mark.parametrize("count", [0, -1, True, 1.5, 10**8])
def test_sizes_are_checked(tmp_path: Path, count: object) -> None:
    with pytest.raises(ConfigError):
        write_shop(tmp_path, products=count)  # type: ignore[arg-type]


def test_attributes_for_synthetic_goals() -> None:
    records = [attribute_record(draft) for draft in drafts(300)]
    with_instruction = [record for record in records if "instruction" in record]
    assert 0.3 < len(with_instruction) / len(records) < 0.5
    assert all(set(record["instruction_attributes"]) <= set(record["attributes"]) for record in with_instruction)
