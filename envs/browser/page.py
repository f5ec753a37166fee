"""A page in a browser, as an agent uses it: look, point, type, scroll, go back. Every action waits until it settled.

An action has settled when the document is complete, no navigation is on its way and nothing on the page is marked
``aria-busy``. Dialogs are dismissed, and pages that a page opens are closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from turnwise.envs.browser.pixels import Pixels, read_png
from turnwise.envs.browser.tree import Element, Tree, read_tree
from turnwise.errors import SandboxError

if TYPE_CHECKING:
    from turnwise.envs.browser.browser import Browser

KEYS = (
    *("Enter", "Tab", "Escape", "Space", "Backspace", "Delete", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"),
    *("Home", "End", "PageUp", "PageDown"),
)
_WATCH = Path(__file__).with_name("watch.js")
_SETTLED = "() => window.__turnwise.settled()"
_ON_ITS_WAY = ("context was destroyed", "navigat", "Cannot find context")
_SETTLE_ROUNDS = 50
# Called on a node with a point of the viewport: is that where a click on the node would land?
_HIT = """function(x, y) {
  const hit = document.elementFromPoint(x, y);
  if (hit === null || hit === this || this.contains(hit) || hit.contains(this)) return "";
  if ([...(this.labels ?? [])].some((label) => label.contains(hit))) return "";
  return hit.tagName.toLowerCase();
}"""
_CLEAR = """function() {
  this.focus();
  if (typeof this.select === "function") this.select();
}"""
_PICK = """function(label) {
  const wanted = label.trim().toLowerCase();
  const option = [...(this.options ?? [])].find((option) => option.label.trim().toLowerCase() === wanted);
  if (option === undefined) return [...(this.options ?? [])].map((option) => option.label.trim());
  this.value = option.value;
  this.dispatchEvent(new Event("input", {bubbles: true}));
  this.dispatchEvent(new Event("change", {bubbles: true}));
  return null;
}"""
_SCROLLED = "() => [Math.round(scrollY), Math.round(document.documentElement.scrollHeight)]"


class RefusedError(Exception):
    """Something cannot be done on this page as it is; the text says why. Not a failure of the browser."""


class Scrolled(NamedTuple):
    """How far a page is scrolled, in CSS pixels.

    Attributes:
        top: From the top of the page to the top of the viewport.
        height: Of the whole page.
    """

    top: int
    height: int


class BrowserPage:
    """A page in a context of its own."""

    def __init__(self, browser: Browser, context: Any, *, size: tuple[int, int], deadline_s: float) -> None:
        """Open a page; made by :meth:`~turnwise.envs.browser.browser.Browser.new_page`."""
        self.browser, self.size, self.deadline_s = browser, size, deadline_s
        self._context = context
        self._mouse = (0.0, 0.0)
        context.add_init_script(path=_WATCH)
        self._page: Any = context.new_page()
        context.on("page", self._turn_away)
        self._page.on("dialog", lambda dialog: dialog.dismiss())
        self._cdp: Any = context.new_cdp_session(self._page)
        self._intruders: list[Any] = []

    @property
    def usable(self) -> bool:
        """Whether the browser behind it still works."""
        return self.browser.alive and self._page is not None and not self._page.is_closed()

    def _turn_away(self, page: Any) -> None:
        if page is not self._page:
            self._intruders.append(page)

    def close(self) -> None:
        """Close the page and its context; fine if the browser is gone."""
        context, self._context, self._page = self._context, None, None
        if context is not None and self.browser.alive:
            with contextlib.suppress(SandboxError), self.working("closing a page"):
                context.close()

    @contextlib.contextmanager
    def working(self, doing: str) -> Iterator[None]:
        """Bound what happens in the block by the page's deadline; see :meth:`Browser.working`."""
        with self.browser.working(doing, self.deadline_s):
            yield

    # -- going somewhere ---------------------------------------------------------------------------

    def begin(self, url: str) -> None:
        """Go to an address with no history, the mouse in the corner and no cookies.

        Raises:
            SandboxError: The browser fails, or the page does not load in time.
        """
        with self.working(f"opening {_place(url)}"):
            self._context.clear_cookies()
            self._mouse = (0.0, 0.0)
            self._page.mouse.move(*self._mouse)
            self._page.goto(url, wait_until="load", timeout=self.deadline_s * 1e3)
            self._cdp.send("Page.resetNavigationHistory")
            self.settle()

    def back(self, *, forward: bool = False) -> bool:
        """Go back, or forward, in the history; returns False where there is nothing to go to."""
        with self.working("going through the history"):
            history = self._cdp.send("Page.getNavigationHistory")
            index = history["currentIndex"] + (1 if forward else -1)
            if not 0 <= index < len(history["entries"]):
                return False
            go = self._page.go_forward if forward else self._page.go_back
            go(wait_until="load", timeout=self.deadline_s * 1e3)
            self.settle()
            return True

    @property
    def url(self) -> str:
        """The address of the document."""
        return str(self._page.url)

    def settle(self) -> None:
        """Wait until the last action has settled.

        Raises:
            SandboxError: The browser fails, or it does not settle in time.
        """
        with self.working("waiting for the page"):
            for _ in range(_SETTLE_ROUNDS):
                try:
                    self._page.evaluate(_SETTLED)
                    break
                except Exception as error:  # of a document that was left meanwhile; others are passed on
                    if not any(sign in str(error) for sign in _ON_ITS_WAY):
                        raise
            for intruder in self._intruders:
                intruder.close()
            self._intruders.clear()

    # -- looking -----------------------------------------------------------------------------------

    def read(self) -> Tree:
        """Return the accessibility tree."""
        with self.working("reading the page"):
            return read_tree(self._cdp.send("Accessibility.getFullAXTree")["nodes"])

    def screenshot(self) -> Pixels:
        """Return what is in the viewport: uint8 of height x width x 3, in device pixels."""
        with self.working("taking a screenshot"):
            # What has come under the mouse meanwhile shows it only when the mouse moves, or some time later.
            self._page.mouse.move(*self._mouse)
            shot = self._cdp.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
        return read_png(shot["data"])

    def scrolled(self) -> Scrolled:
        """Return how far the page is scrolled."""
        with self.working("reading the page"):
            return Scrolled(*self._page.evaluate(_SCROLLED))

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Return what a function of our own returns in the page; never one that an agent wrote."""
        with self.working("asking the page"):
            return self._page.evaluate(script, argument)

    # -- acting ------------------------------------------------------------------------------------

    def click_at(self, x: float, y: float) -> None:
        """Click a point of the viewport, in CSS pixels.

        Raises:
            RefusedError: It is outside the viewport.
        """
        width, height = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise RefusedError(
                f"the point ({x:g}, {y:g}) is outside the screen: x is 0 to {width - 1}, y 0 to {height - 1}"
            )
        with self.working("clicking"):
            self._press_at(x, y)

    def click(self, element: Element) -> None:
        """Click the centre of an element, scrolled into view first.

        Raises:
            RefusedError: It is not shown, or covered.
        """
        with self.working("clicking"):
            x, y = self._centre(element)
            covered = self._call(element, _HIT, x, y)
            if covered:
                raise RefusedError(f"[{element.number}] is covered by a <{covered}>: scroll, or close what covers it")
            self._press_at(x, y)

    def fill(self, element: Element, text: str) -> None:
        """Replace what a field holds."""
        with self.working("typing"):
            self.click(element)
            self._call(element, _CLEAR)
            self._page.keyboard.insert_text(text)
            self.settle()

    def pick(self, element: Element, label: str) -> list[str] | None:
        """Choose an option of a select element by its label; returns the labels there are where it is none of them."""
        with self.working("choosing"):
            known: list[str] | None = self._call(element, _PICK, label)
            self.settle()
            return known

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        with self.working("typing"):
            self._page.keyboard.insert_text(text)
            self.settle()

    def press(self, key: str) -> None:
        """Press one of :data:`KEYS`."""
        with self.working("pressing a key"):
            self._page.keyboard.press(key)
            self.settle()

    def scroll_to(self, top: int) -> None:
        """Scroll the page so that its pixel ``top`` is the first to be seen, as far as it goes."""
        with self.working("scrolling"):
            self._page.evaluate("(top) => window.scrollTo(0, top)", top)
            self.settle()

    def _press_at(self, x: float, y: float) -> None:
        self._mouse = (x, y)
        self._page.mouse.click(x, y)
        self.settle()

    def _centre(self, element: Element) -> tuple[float, float]:
        self._ask(element, "DOM.scrollIntoViewIfNeeded")
        quads = self._ask(element, "DOM.getContentQuads")["quads"]
        if not quads:
            raise RefusedError(f"[{element.number}] is not shown on the page")
        return sum(quads[0][0::2]) / 4, sum(quads[0][1::2]) / 4

    def _ask(self, element: Element, method: str) -> Any:
        """Send a command about an element's node."""
        try:
            return self._cdp.send(method, {"backendNodeId": element.node})
        except Exception as error:
            # "Node is detached from document", "No node with given id found": the page's doing, not the browser's.
            if "node" in str(error).lower() and self.usable:
                raise RefusedError(f"[{element.number}] is not shown on the page") from error
            raise

    def _call(self, element: Element, function: str, *arguments: Any) -> Any:
        """Call a function on an element's node."""
        called = self._cdp.send(
            "Runtime.callFunctionOn",
            {
                "objectId": self._ask(element, "DOM.resolveNode")["object"]["objectId"],
                "functionDeclaration": function,
                "arguments": [{"value": argument} for argument in arguments],
                "returnByValue": True,
            },
        )
        return called["result"].get("value")


def _place(url: str) -> str:
    """Return an address without its path, which may be a secret."""
    return "/".join(url.split("/")[:3])
