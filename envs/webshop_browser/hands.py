"""Actions carried out on a page. What cannot be done is explained; only a failing browser is an error."""

from __future__ import annotations

import math

from turnwise.envs.browser.page import KEYS, BrowserPage, RefusedError
from turnwise.envs.browser.tree import CHOSEN, TYPED, Element, Tree
from turnwise.envs.webshop_browser.grammar import SCROLLS
from turnwise.errors import did_you_mean
from turnwise.records import Action

_SCREENFUL = 0.8  # of the viewport that a scroll moves by, so that something familiar stays in view
_QUOTED = 60
_DIGITS = 9


def carry_out(action: Action, page: BrowserPage, tree: Tree) -> None:
    """Carry out an action.

    Args:
        action: An action of the grammar.
        page: The page.
        tree: The page as the agent saw it last: what its numbers mean.

    Raises:
        RefusedError: It cannot be done; the text says why.
        SandboxError: The browser fails.
    """
    said = action.arguments
    if action.name == "click":
        page.click(_element(said["element"], tree))
    elif action.name == "click_at":
        page.click_at(_number(said["x"], "x"), _number(said["y"], "y"))
    elif action.name == "type":
        _type(page, _element(said["element"], tree), said["text"])
    elif action.name == "write":
        _write(page, said["text"])
    elif action.name == "select":
        _select(page, tree, _element(said["element"], tree), said["option"])
    elif action.name == "press":
        page.press(_one_of(said["key"], KEYS, "key"))
    elif action.name == "scroll":
        _scroll(page, _one_of(said["direction"], SCROLLS, "direction"))
    elif not page.back(forward=action.name == "forward"):
        raise RefusedError(f"there is nothing to go {action.name} to")


def _quote(said: str) -> str:
    return repr(said) if len(said) <= _QUOTED else repr(said[:_QUOTED]) + "..."


def _element(said: str, tree: Tree) -> Element:
    digits = said.strip().strip("[]").strip()
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else 0
    element = tree.elements.get(number)
    if element is None:
        last = len(tree.elements)
        there = f"they go from 1 to {last}" if last else "there are none"
        raise RefusedError(f"no element of this page has the number {_quote(said)}: {there}")
    if "disabled" in element.states:
        raise RefusedError(f"[{number}] is disabled")
    return element


def _number(said: str, name: str) -> float:
    try:
        number = float(said[:_QUOTED])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RefusedError(f"{name} must be a number of pixels, got {_quote(said)}")
    return number


def _one_of(said: str, known: tuple[str, ...], what: str) -> str:
    folded = said.strip().lower()
    for name in known:
        if name.lower() == folded:
            return name
    raise RefusedError(f"unknown {what} {_quote(said)}.{did_you_mean(said[:_QUOTED], known)}")


def _type(page: BrowserPage, element: Element, text: str) -> None:
    if element.role not in TYPED:
        raise RefusedError(f"[{element.number}] is a {element.role}, not a text field")
    page.fill(element, text)
    _check_typed(page, text)


def _write(page: BrowserPage, text: str) -> None:
    focused = [element for element in page.read().elements.values() if "focused" in element.states]
    if not any(element.role in TYPED for element in focused):
        raise RefusedError("no text field has the focus: click one first")
    page.write(text)
    _check_typed(page, text)


def _check_typed(page: BrowserPage, text: str) -> None:
    """Say so where a field took only a part."""
    held = page.evaluate("() => document.activeElement?.value ?? null")
    if isinstance(held, str) and text not in held:
        raise RefusedError(f"the field takes only {len(held)} characters; it holds the beginning of the text now")


def _select(page: BrowserPage, tree: Tree, element: Element, option: str) -> None:
    wanted = " ".join(option.split()).lower()
    if element.role not in CHOSEN:
        raise RefusedError(f"[{element.number}] is a {element.role}, not a group of options or a list")
    members = [member for member in tree.elements.values() if member.group == element.number]
    if element.role == "radiogroup":
        for member in members:
            if " ".join(member.name.split()).lower() == wanted:
                return page.click(member)
        known: list[str] | None = [member.name for member in members]
    else:
        known = page.pick(element, option)
    if known is not None:
        raise RefusedError(f"[{element.number}] has no option {_quote(option)}.{did_you_mean(option[:_QUOTED], known)}")
    return None


def _scroll(page: BrowserPage, direction: str) -> None:
    top, height = page.scrolled()
    screen = page.size[1]
    by = round(_SCREENFUL * screen)
    aims = {"up": top - by, "down": top + by, "top": 0, "bottom": height}
    aim = max(0, min(aims[direction], height - screen))
    if aim == top:
        raise RefusedError(f"the page cannot be scrolled {direction}: its {_end(direction)} is in view")
    page.scroll_to(aim)


def _end(direction: str) -> str:
    return "top" if direction in ("up", "top") else "bottom"
