"""Pages: what is read of them, what can be done with them, and what cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from turnwise.envs.browser import Browser, BrowserPage, Element, borrow_browser, return_browser
from turnwise.envs.browser.page import RefusedError
from turnwise.envs.browser.tree import read_tree

pytestmark = pytest.mark.browser


def named(page: BrowserPage, name: str) -> Element:
    return next(element for element in page.read().elements.values() if element.name == name)


def test_the_tree_numbers_what_can_be_acted_on_and_says_everything_once(page: BrowserPage) -> None:
    tree = page.read()
    assert tree.title == "Form"
    assert list(tree.elements) == list(range(1, len(tree.elements) + 1))
    assert tree.outline.splitlines()[:5] == [
        "main",
        '  heading "Order" level 1',
        "  form",
        '    [1] textbox "Name"',
        '    [2] button "Send"',
    ]
    assert [line for line in tree.outline.splitlines() if "Name" in line][1:] == [
        '  [6] combobox "Sort" value "Name"',
        '    [7] option "Name" (selected)',
    ]
    assert '    [5] radio "Large" (disabled)' in tree.outline
    small = named(page, "Small")
    assert small.group == named(page, "Size").number
    assert "Hidden" not in tree.outline
    assert "words" in tree.text
    assert "main" not in tree.text


def test_typing_sending_and_going_back(page: BrowserPage, site: str) -> None:
    page.fill(named(page, "Name"), "first")
    page.fill(named(page, "Name"), "Ünï & co")
    assert named(page, "Name").value == "Ünï & co"
    page.click(named(page, "Send"))
    assert page.url == f"http://{site}/sent?name=%C3%9Cn%C3%AF+%26+co"
    assert page.back()
    assert page.url == f"http://{site}/"
    assert not page.back()
    assert page.back(forward=True)
    assert page.url.startswith(f"http://{site}/sent")


@pytest.mark.parametrize("name", ["Other page", "Jump"])
def test_links_and_scripts_that_leave_are_waited_for(page: BrowserPage, site: str, name: str) -> None:
    page.click(named(page, name))
    assert page.url == f"http://{site}/other"
    assert "Hi" in page.read().text


def test_enter_sends_a_form(page: BrowserPage) -> None:
    page.click(named(page, "Name"))
    page.write("a")
    page.press("Enter")
    assert page.url.endswith("/sent?name=a")


def test_what_is_busy_is_waited_for(page: BrowserPage) -> None:
    page.click(named(page, "Later"))
    assert "Done" in page.read().text


def test_radio_buttons_and_lists(page: BrowserPage) -> None:
    page.click(named(page, "Small"))
    assert "checked" in named(page, "Small").states
    assert page.pick(named(page, "Sort"), " price ") is None
    assert named(page, "Sort").value == "Price"
    assert page.pick(named(page, "Sort"), "weight") == ["Name", "Price"]


def test_a_link_within_the_page_and_dialogs_and_popups_do_no_harm(page: BrowserPage, site: str) -> None:
    page.click(named(page, "Same page"))
    page.click(named(page, "Alert"))
    page.click(named(page, "Ask"))
    assert page.read().title == "refused"
    page.click(named(page, "Popup"))
    page.settle()
    assert page.url == f"http://{site}/#here"
    assert len(page._context.pages) == 1


def test_elements_far_below_are_scrolled_to_and_covered_ones_refused(page: BrowserPage, site: str) -> None:
    page.click(named(page, "Far"))
    assert page.scrolled().top > 2000
    page.begin(f"http://{site}/covered")
    with pytest.raises(RefusedError, match="covered by a <div>"):
        page.click(named(page, "Below"))


@pytest.mark.parametrize("point", [(-1, 5), (800, 5), (5, 600), (1e300, 5)])
def test_points_outside_the_viewport_are_refused(page: BrowserPage, point: tuple[float, float]) -> None:
    with pytest.raises(RefusedError, match="outside the screen: x is 0 to 799, y 0 to 599"):
        page.click_at(*point)


def test_an_element_of_a_page_that_was_left_is_refused(page: BrowserPage) -> None:
    old = named(page, "Send")
    page.click(named(page, "Other page"))
    with pytest.raises(RefusedError, match="not shown"):
        page.click(old)


def test_pictures_are_the_same_every_time_and_in_every_context(browser: Browser, page: BrowserPage, site: str) -> None:
    page.click(named(page, "Name"))  # the caret would blink
    first = page.screenshot()
    assert first.shape == (600, 800, 3)
    assert first.dtype == np.uint8
    assert len(np.unique(first)) > 10
    assert all(np.array_equal(first, page.screenshot()) for _ in range(3))
    other = browser.new_page(size=(800, 600), origins=[site])
    try:
        other.begin(f"http://{site}/")
        other.click(named(other, "Name"))
        assert np.array_equal(first, other.screenshot())
    finally:
        other.close()


def test_beginning_again_leaves_no_history_and_no_cookies(page: BrowserPage, site: str) -> None:
    page.evaluate("() => { document.cookie = 'seen=1' }")
    page.click(named(page, "Other page"))
    page.begin(f"http://{site}/")
    assert not page.back()
    assert page.evaluate("() => document.cookie") == ""


@pytest.mark.parametrize(
    "address",
    ["http://{other}/secret", "http://localhost:{port}/secret", "http://10.255.255.1/", "http://example.com/"],
)
def test_a_page_reaches_its_own_server_only(
    page: BrowserPage, site: str, other_site: str, asked: list[str], address: str
) -> None:
    target = address.format(other=other_site, port=other_site.split(":")[1])
    page.begin(f"http://{site}/leaky?{target}")
    fetched = page.evaluate("(url) => fetch(url, {mode: 'no-cors'}).then(() => 'reached', () => 'refused')", target)
    assert fetched == "refused"
    assert [path for path in asked if path != "/favicon.ico"] == [f"/leaky?{target}"]


def test_contexts_do_not_share_cookies(browser: Browser, page: BrowserPage, site: str) -> None:
    page.evaluate("() => { document.cookie = 'mine=1' }")
    other = browser.new_page(size=(300, 300), origins=[site])
    try:
        other.begin(f"http://{site}/")
        assert other.evaluate("() => document.cookie") == ""
    finally:
        other.close()


def test_a_thread_has_one_browser(browser: Browser) -> None:
    again = borrow_browser()
    assert again is browser
    return_browser(again)
    assert browser.alive


def test_a_tree_deeper_than_python_calls_may_nest() -> None:
    def node(number: int) -> dict[str, Any]:
        return {
            "nodeId": str(number),
            "role": {"value": "region"},
            "name": {"value": f"n{number}"},
            "childIds": [str(number + 1)],
        }

    tree = read_tree([node(number) for number in range(3000)])
    assert tree.outline.count("region") == 3000
    assert read_tree([]).outline == ""
