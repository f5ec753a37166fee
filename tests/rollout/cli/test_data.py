"""``turnwise data``: generated data in the original formats."""

from __future__ import annotations

import json


def test_a_shop_is_written_and_played(cli, tmp_path) -> None:
    text = cli("data", "webshop", "--products", 30, "--out", tmp_path / "shop").output
    assert "items_shuffle.json" in text
    files = json.loads(cli("data", "webshop", "--products", 30, "--out", tmp_path / "again", "--json").stdout)
    assert [entry["bytes"] > 0 for entry in files] == [True] * 3
    for path in (tmp_path / "shop").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    other = cli("data", "webshop", "--products", 30, "--out", tmp_path / "other", "--seed", 1)
    assert other.exit_code == 0
    assert (tmp_path / "other/items_shuffle.json").read_bytes() != (tmp_path / "shop/items_shuffle.json").read_bytes()


def test_mistakes_end_in_one_line(cli, tmp_path) -> None:
    assert "1 to 10,000,000 products" in cli("data", "webshop", "--products", 0, "--out", tmp_path, code=2).stderr
