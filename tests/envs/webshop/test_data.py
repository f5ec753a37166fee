"""WebShop's files, read as a stream into a catalogue that processes share."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.webshop import WebShopEnv, jsonstream, sources
from turnwise.envs.webshop.goals import NO_CEILING, draw_ceiling, shuffled
from turnwise.envs.webshop.jsonstream import read_entries, read_list
from turnwise.envs.webshop.product import read_options, read_prices, read_product
from turnwise.envs.webshop.sources import find_files, load_catalogue
from turnwise.envs.webshop.tasksets import WEBSHOP_SPLITS, shop_split
from turnwise.errors import ConfigError, UnknownNameError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonstream, "_CHUNK", 7)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_streams_equal_whole_files(tmp_path: Path, indent: Any, ascii_only: bool) -> None:
    path = tmp_path / "x.json"

    @settings(max_examples=60, deadline=None)
    @given(st.lists(JSON, max_size=5), st.dictionaries(st.text(max_size=5), JSON, max_size=5))
    def same(items: list[Any], entries: dict[str, Any]) -> None:
        path.write_text(json.dumps(items, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        assert list(read_list(path)) == items
        path.write_text(json.dumps(entries, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        assert dict(read_entries(path)) == entries

    same()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("content", ["", "{}", "[1, 2", "[1 2]", "[1,]", '["a', "[[[[[", "[nope]", "7", "\xff"])
def test_broken_lists_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_list(path))


@pytest.mark.parametrize("content", ["[]", '{"a" 1}', '{"a": 1', "{1: 2}", '{"a": 1,}'])
def test_broken_objects_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_entries(path))


def test_a_torn_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps(list(range(10_000))).encode())[:-100])
    with pytest.raises(ConfigError):
        list(read_list(path))


# -- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pricing", "prices"),
    [
        ("$34.00", (34.0,)),
        ("$9.99$15.99", (9.99, 15.99)),
        ("$1,299.50", (1299.5,)),
        ("$1$2$3", (1.0, 2.0)),
        ("", ()),
        (None, ()),
        ("12", ()),
        ("$", ()),
        ("$1.2.3", ()),
    ],
)
def test_prices(pricing: Any, prices: tuple[float, ...]) -> None:
    assert read_prices(pricing) == prices


def test_options() -> None:
    raw = {"Color ": [{"value": " Navy/Blue "}, {"value": "RED"}], "None": None, "Odd": "x", "Empty": []}
    assert read_options(raw) == {"color ": ("navy | blue", "red"), "empty": ()}
    assert read_options("") == {}
    assert read_options(None) == {}


def test_records_that_webshop_drops(make_item: Any) -> None:
    for asin in ("nan", "B0000000055", "", None, 7):
        assert read_product(make_item(1, asin=asin)) is None
    bare = read_product({"asin": "B1"})
    assert bare is not None
    assert (bare.price_tag, bare.attributes, bare.bullets) == ("$100.0", ("DUMMY_ATTR",), ("",))


# -- catalogues ------------------------------------------------------------------------------------


def test_the_small_shop(shop_data: Path) -> None:
    catalogue = load_catalogue(shop_data)
    products = [catalogue.product(row) for row in range(len(catalogue))]
    assert [product.asin[-1] for product in products] == ["1", "2", "3", "6"]
    assert products[0].title == "Steel kettle number 1 for tea"
    assert [product.price_tag for product in products[:3]] == ["$34.5", "$9.99 to $15.99", "$100.0"]
    assert products[0].query == "electric kettle"
    assert products[0].index_text.endswith("boils fast color: navy | blue, wine red, and size: large, x-large")
    assert catalogue.find("B00000000X") is None
    with pytest.raises(UnknownNameError, match="B000000003"):
        catalogue.row("B0000000003"[:9])


def test_one_seed_draws_prices_ceilings_and_order(shop_data: Path) -> None:
    catalogue = load_catalogue(shop_data)
    prices = {seed: catalogue.price(1, seed) for seed in range(20)}
    assert all(9.99 <= price <= 15.99 for price in prices.values())
    assert len(set(prices.values())) == 20
    env = WebShopEnv(data=str(shop_data), split="test")
    again = WebShopEnv(data=str(shop_data), split="test", shop_seed=7)
    assert env.tasks.get("human-0") == env.tasks.get("human-0")
    assert {
        WebShopEnv(data=str(shop_data), split="test", shop_seed=s).tasks.get("human-0").data["goal"]["price_upper"]
        for s in range(12)
    } <= {50.0, 60.0, 70.0}
    assert again.tasks.seed == 7
    assert shuffled(6, 1).tolist() != shuffled(6, 2).tolist()
    assert sorted(shuffled(6, 1).tolist()) == list(range(6))


def test_draws_are_the_same_in_another_process(shop_data: Path) -> None:
    code = (
        "import sys; from turnwise.envs.webshop import WebShopEnv;"
        "env = WebShopEnv(data=sys.argv[1], split='test');"
        "print(env.tasks.get('human-0'), env.shop.catalogue.price(1, 233))"
    )
    env = WebShopEnv(data=str(shop_data), split="test")
    expected = f"{env.tasks.get('human-0')} {env.shop.catalogue.price(1, 233)}"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(shop_data)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("price", "choices"),
    [(34.5, {50, 60, 70}), (40.0, {60, 70, 80}), (5.0, {20, 30, 40}), (975.0, {990}), (985.0, set())],
)
def test_ceilings_leave_room(price: float, choices: set[float]) -> None:
    import numpy as np

    drawn = {draw_ceiling(price, np.random.default_rng(seed)) for seed in range(100)}
    assert drawn == (choices or {NO_CEILING})


def test_human_and_synthetic_goals(shop_data: Path) -> None:
    human = WebShopEnv(data=str(shop_data), split="test").tasks
    assert list(human.ids()) == ["human-0"]  # the one without attributes is skipped
    goal = human.get("human-0").data["goal"]
    assert goal["instruction_text"].startswith("i need a steel kettle, and price lower than ")
    assert (goal["goal_options"], goal["weight"]) == (["navy/blue", "x-large"], 1.0)
    synthetic = WebShopEnv(data=str(shop_data), split="test", goals="synthetic").tasks
    goals = [synthetic.get(task_id).data["goal"] for task_id in synthetic.ids()]
    assert sorted(tuple(goal["goal_options"].items()) for goal in goals) == [
        (("color", color), ("size", size)) for color in ("navy | blue", "wine red") for size in ("large", "x-large")
    ]
    assert {goal["weight"] for goal in goals} == {0.25}
    texts = sorted(goal["instruction_text"].partition(", and price")[0] for goal in goals)
    assert texts[0] == "Find me stainless steel kettles with color: navy | blue, and size: large"
    assert len({goal["price_upper"] for goal in goals}) == 1


def test_files_are_found(shop_data: Path, tmp_path: Path, make_data: Any) -> None:
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    for path in shop_data.iterdir():
        name = "items_ins_v2_1000.json" if path.name.startswith("items_ins") else path.name.replace("fle.", "fle_1000.")
        (zipped / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert find_files(zipped).attributes == zipped / "items_ins_v2_1000.json.gz"
    catalogue = load_catalogue(zipped / "items_shuffle_1000.json.gz")
    assert [catalogue.product(row) for row in range(4)] == [load_catalogue(shop_data).product(row) for row in range(4)]
    make_data(zipped)
    with pytest.raises(ConfigError, match="pass the path of the file itself"):
        find_files(zipped)
    with pytest.raises(ConfigError, match="items_shuffle"):
        find_files(tmp_path)
    with pytest.raises(ConfigError, match="/no/such/place"):
        WebShopEnv(data="/no/such/place")


def test_splits_that_are_not_there_are_named(shop_data: Path, tmp_path: Path, make_data: Any) -> None:
    with pytest.raises(ConfigError, match="has 1 human goals, but the split 'train' begins at number 1500"):
        WebShopEnv(data=str(shop_data))
    alone = make_data(tmp_path, entries=None, human=None)
    with pytest.raises(ConfigError, match="0 human goals"):
        WebShopEnv(data=str(alone), split="test")
    with pytest.raises(ConfigError, match="0 synthetic goals"):
        WebShopEnv(data=str(alone), split="synthetic-test")


@pytest.mark.parametrize("items", [[], {}, [7], [{"asin": "nan"}]])
def test_data_of_another_shape_are_refused(items: Any, tmp_path: Path, make_data: Any) -> None:
    with pytest.raises(ConfigError):
        WebShopEnv(data=str(make_data(tmp_path, items)), split="test")
    (tmp_path / "items_human_ins.json").write_text("[")
    with pytest.raises(ConfigError, match="items_human_ins"):
        WebShopEnv(data=str(tmp_path), split="test")


def test_the_catalogue_is_made_once_for_one_content(
    shop_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_catalogue(shop_data)
    copy = shutil.copytree(shop_data, tmp_path / "copy")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was made already")

    with monkeypatch.context() as patch:
        patch.setattr(sources, "build_catalogue", never)
        assert load_catalogue(copy) is first
        (copy / "items_human_ins.json").write_text("{}")
        with pytest.raises(AssertionError):
            load_catalogue(copy)
    assert load_catalogue(copy).human_entries() == []
    assert load_catalogue(shop_data) is first


def test_a_catalogue_travels_by_its_path(shop_data: Path) -> None:
    catalogue = load_catalogue(shop_data)
    assert pickle.loads(pickle.dumps(catalogue)) is catalogue


def test_big_shops_are_mapped_not_read(shop_data: Path) -> None:
    import numpy as np

    catalogue = load_catalogue(shop_data)
    for name in ("_offsets", "_asins", "_asin_rows"):
        array = getattr(catalogue, name)
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert isinstance(array, np.ndarray)


def test_the_splits_of_published_results() -> None:
    baselines = {"test": (0, 500), "val": (500, 1500), "train": (1500, None)}
    assert baselines | {"verl-val": (0, 500), "verl-train": (500, None)} == {**WEBSHOP_SPLITS}
    assert (shop_split("eval"), shop_split("synthetic-dev")) == ("val", "synthetic-val")


def test_task_ids_are_made_on_demand(shop_data: Path) -> None:
    ids = WebShopEnv(data=str(shop_data), split="synthetic-test").tasks.ids()
    assert list(ids) == [ids[number] for number in range(len(ids))] == ids[:]
    assert "synthetic-1" in ids
    for unknown in ("synthetic-01", "synthetic-4", "synthetic--1", "human-0", "synthetic-", "", 3, "synthetic-\u00b2"):
        assert unknown not in ids
