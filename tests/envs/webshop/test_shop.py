"""The page state machine, and how its pages read in each observation mode."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.webshop.embedded import embedded_catalogue
from turnwise.envs.webshop.grammar import read_original
from turnwise.envs.webshop.html import html
from turnwise.envs.webshop.shop import START, Page, Shop, Target
from turnwise.envs.webshop.sources import load_catalogue
from turnwise.envs.webshop.text import SEPARATOR, View, nodes, text, text_rich, url
from turnwise.errors import ConfigError


@pytest.fixture(scope="module")
def shop(shop_data: Path) -> Shop:
    return Shop(load_catalogue(shop_data))


def walk(shop: Shop, *labels: str, page: Page = START) -> Page:
    """Search where a step begins with "?", click otherwise."""
    for label in labels:
        found = shop.search(page, label[1:]) if label.startswith("?") else shop.click(page, label)
        assert found is not None, f"{label!r} is not on {page}"
        page = found
    return page


def view(shop: Shop, page: Page, instruction: str = "i need a kettle", score: float = 0.0) -> View:
    return View(shop, page, instruction, "s1", score)


def test_the_first_page_has_a_search_bar_only(shop: Shop) -> None:
    assert list(shop.targets(START)) == ["search"]
    assert shop.click(START, "search") is None
    assert shop.click(START, "buy now") is None


def test_a_search_lists_ten_a_page_and_next_never_ends() -> None:
    shop = Shop(embedded_catalogue())
    page = walk(shop, "?some olive oil for the salad and for every day")
    assert len(page.found) == 50
    assert [len(page.listed), page.number] == [10, 1]
    assert "< prev" not in shop.targets(page)
    far = walk(shop, *["next >"] * 6, page=page)
    assert (far.number, far.listed, far.found) == (7, (), page.found)
    assert list(shop.targets(far)) == ["back to search", "< prev", "next >"]
    assert walk(shop, *["< prev"] * 6, page=far).listed == page.listed


def test_options_are_kept_by_group_and_cleared_by_a_search(shop: Shop) -> None:
    page = walk(shop, "?kettle number 1", "b000000001", "large", "wine red", "x-large")
    assert page.options == (("size", "x-large"), ("color", "wine red"))
    assert walk(shop, "features", "< prev", page=page).options == page.options
    assert walk(shop, "description", page=page).sub == "description"
    for away in (("< prev",), ("back to search",), ("?kettle",)):
        assert walk(shop, *away, page=page).options == ()
    assert walk(shop, "buy now", page=page).kind == "done"
    assert shop.targets(walk(shop, "buy now", page=page)) == {}


def test_opened_products_are_remembered_until_the_first_page(shop: Shop) -> None:
    page = walk(shop, "?kettle", "b000000001", "< prev")
    assert page.kind == "results"
    assert page.visited == {0}
    assert walk(shop, "?kettle number 2", page=page).visited == {0}
    assert walk(shop, "back to search", "?kettle", page=page).visited == frozenset()


def test_prev_on_an_item_repeats_the_search_on_its_page(shop: Shop) -> None:
    page = walk(shop, "?kettle", "b000000002", "< prev")
    assert (page.keywords, page.number, page.row) == ("kettle", 1, None)


def test_an_option_with_a_buttons_label_acts_as_the_button(shop: Shop) -> None:
    page = walk(shop, "?kettle number 6", "b000000006")
    assert shop.targets(page)["buy now"] == Target("option", -1, "next >")
    assert walk(shop, "buy now", page=page).kind == "done"


def test_prefixes_list_what_they_name(shop: Shop) -> None:
    asins = lambda page: [shop.catalogue.product(row).asin for row in page.found]  # noqa: E731
    assert asins(walk(shop, "?<c> fashion")) == ["B000000003"]
    assert asins(walk(shop, "?<q> electric kettle")) == ["B000000001", "B000000002", "B000000006"]
    assert asins(walk(shop, "?<a> BPA free")) == ["B000000001"]
    assert asins(walk(shop, "?<a> nothing")) == []
    assert asins(walk(shop, "?<b> kettle")) == asins(walk(shop, "?kettle"))
    random = walk(shop, "?<r>")
    assert sorted(random.found) == [0, 1, 2, 3]
    big = Shop(embedded_catalogue())
    one, two = (big.search(START, "<r>", draws=draws).found for draws in (1, 2))
    assert len(set(one)) == 50
    assert one != two
    assert one == big.search(START, "<R>", draws=1).found


def test_equal_scores_come_by_id(make_data, make_item, tmp_path: Path) -> None:
    names = ("B0ZZ", "B0AA", "B0MM")
    items = [make_item(1, asin=asin, name="tea pot", full_description="same") for asin in names]
    catalogue = load_catalogue(make_data(tmp_path, items))
    assert [catalogue.product(row).asin for row in catalogue.search("tea pot")] == sorted(names)


def test_nothing_is_found_for_nothing(shop: Shop) -> None:
    page = walk(shop, "?the of and")
    assert (page.found, page.listed) == ((), ())
    assert "Page 1 (Total results: 0)" in text_rich(view(shop, page))


def test_no_product_is_open_on_the_first_page(shop: Shop) -> None:
    with pytest.raises(ConfigError):
        shop.product(START)


# -- how pages read --------------------------------------------------------------------------------


def test_rich_text_marks_what_is_chosen_and_what_was_opened(shop: Shop) -> None:
    page = walk(shop, "?kettle number 1", "b000000001", "navy | blue", "large")
    shown = text_rich(view(shop, page))
    assert shown.startswith("You have clicked large.\nYou have clicked navy | blue.\nInstruction:\n")
    assert "color\n  [clicked button] navy | blue [clicked button_]\n  [button] wine red [button_]\nsize\n" in shown
    assert "Price: $34.5\nRating: N.A.\n" in shown
    back = text_rich(view(shop, walk(shop, "< prev", page=page)))
    assert "\n[clicked button] B000000001 [clicked button_]\n" in back
    assert "\n[button] B000000002 [button_]\nSteel kettle number 2 for tea\n$9.99 to $15.99\n" in back


def test_quirk_a_quoted_keyword_counts_as_a_choice(shop: Shop) -> None:
    page = walk(shop, '?kettle number 1 "large"', "b000000001")
    assert page.options == ()
    assert text_rich(view(shop, page)).startswith("You have clicked large.\n")


def test_the_last_page_names_the_reward(shop: Shop) -> None:
    page = walk(shop, "?kettle number 1", "b000000001", "x-large", "wine red", "buy now")
    shown = text(view(shop, page, score=0.25))
    assert 'options [SEP] {"color": "wine red", "size": "x-large"} [SEP]' in shown
    assert shown.endswith("Your score (min 0.0, max 1.0) [SEP] 0.25 [SEP] Reward Details [SEP] None")


def test_addresses(shop: Shop) -> None:
    base = "http://127.0.0.1:3000"
    assert url(view(shop, START)) == f"{base}/s1"
    page = walk(shop, "?number 1 kettle")
    assert url(view(shop, page)) == f"{base}/search_results/s1/number+1+kettle/1"
    page = walk(shop, "b000000001", "large", page=page)
    place = "s1/B000000001/number+1+kettle/1"
    assert url(view(shop, page)) == f'{base}/item_page/{place}/{{"size": "large"}}'
    sub = walk(shop, "features", page=page)
    assert url(view(shop, sub)) == f"{base}/item_sub_page/{place}/Features/{{'size': 'large'}}"
    assert url(view(shop, walk(shop, "buy now", page=page))) == f"{base}/done/s1/B000000001/{{'size': 'large'}}"


class Reader(HTMLParser):
    """Reads a page as WebShop's own environment does: its visible texts, and what can be clicked."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.labels: dict[str, None] = {}
        self.options: list[str] = []
        self.search_bar = False
        self._open: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.search_bar |= given.get("id") == "search_input"
        if given.get("type") == "radio":
            self.options.append(given["value"] or "")
        if tag not in ("input", "br", "meta"):
            self._open.append((tag, given.get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, "badly nested"

    def handle_data(self, data: str) -> None:
        if data.strip() and not any(tag == "title" for tag, _ in self._open):
            self.texts.append(data.strip())
            if self._open[-1][1] in ("btn", "product-link"):
                self.labels[data.lower()] = None


STEPS = st.lists(st.integers(0, 40), max_size=8)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, words=st.sampled_from(["kettle", "<r>", "shoes size 9", "a", '"large" tea']))
def test_html_says_what_the_text_says(steps: list[int], words: str) -> None:
    shop = Shop(embedded_catalogue())
    page = shop.search(START, words)
    for step in steps:
        labels = list(shop.targets(page))
        page = shop.click(page, labels[step % len(labels)]) or page
        if page.kind == "done":
            break
    shown = view(shop, page, 'i need <b>tea</b> & "more"', 0.5)
    read = Reader(html(shown))
    assert read.texts == [node.text.strip() for node in nodes(shown) if node.text.strip()]
    assert SEPARATOR.join(read.texts) == text(shown)
    assert [*read.labels, *read.options] == list(shop.targets(page))
    assert read.search_bar == (page.kind == "search")


def test_what_comes_from_the_data_is_escaped(make_data, make_item, tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>'
    data = make_data(
        tmp_path,
        [make_item(1, name=hostile, full_description=hostile, customization_options={hostile: [{"value": hostile}]})],
    )
    shop = Shop(load_catalogue(data))
    page = walk(shop, "?script", "b000000001")
    assert "<script" not in html(view(shop, page, hostile))
    assert hostile in text_rich(view(shop, page))
    assert "<script" not in html(view(shop, walk(shop, "description", page=page)))


# -- the original's reading of actions -------------------------------------------------------------

ORIGINAL = re.compile(r"(.+)\[(.+)\]")


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab[] \n]C", max_size=14) | st.text(max_size=20))
def test_messages_are_read_as_by_the_original(message: str) -> None:
    match = ORIGINAL.match(message)
    assert read_original(message) == (None if match is None else (match[1], match[2].lower()))


def test_a_hostile_message_is_read_in_linear_time() -> None:
    assert read_original("[" * 60_000) is None
    assert read_original("click" + "[" * 60_000 + "x]") is not None
