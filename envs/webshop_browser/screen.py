"""What of a page an agent is shown, and in which form."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from turnwise.envs.browser.page import Scrolled
from turnwise.envs.browser.tree import CLICKED, TYPED, Tree
from turnwise.errors import ConfigError

ObservationMode = Literal["axtree", "text", "screenshot", "axtree+screenshot", "text+screenshot"]
OBSERVATION_MODES: tuple[str, ...] = get_args(ObservationMode)
# A text, or a dict of "text" and "image".
Observation: TypeAlias = "str | dict[str, Any]"
VIEWPORT = (1280, 720)
DEADLINE_S = 30.0
_SIDES = (200, 4096)  # pixels of a viewport's side


def describe(tree: Tree, mode: str, *, instruction: str, viewport: tuple[int, int], scrolled: Scrolled) -> str:
    """Return the text of an observation: what the page is, which part of it is on the screen, and what it says."""
    shown = {"axtree": tree.outline, "text": tree.text, "screenshot": f"Instruction: {instruction}"}
    width, screen = viewport
    below = min(scrolled.top + screen, scrolled.height)
    place = f"Screen: {width} x {screen} pixels, showing {scrolled.top} to {below} of {scrolled.height}"
    return f"Page: {tree.title}\n{place}\n{shown[mode.partition('+')[0]]}"


def admissible(tree: Tree, *, viewport: tuple[int, int], scrolled: Scrolled) -> list[str]:
    """Return clicks on the elements of a page, and scrolling where there is something to scroll to."""
    clicks = [f"click[{number}]" for number, element in tree.elements.items() if element.role in CLICKED | TYPED]
    down = ["scroll[down]"] if scrolled.top + viewport[1] < scrolled.height else []
    return [*clicks, *down, *(["scroll[up]"] if scrolled.top > 0 else [])]


def read_viewport(viewport: Any) -> tuple[int, int]:
    """Check the width and height of a page.

    Raises:
        ConfigError: They are not two whole numbers of pixels in range.
    """
    low, high = _SIDES
    sides = tuple(viewport) if isinstance(viewport, (list, tuple)) else ()
    if len(sides) != 2 or not all(type(side) is int and low <= side <= high for side in sides):
        raise ConfigError(f"viewport is width and height in pixels, each {low} to {high}, got {viewport!r}")
    return sides


def read_deadline(seconds: Any) -> float:
    """Check a number of seconds.

    Raises:
        ConfigError: It is no positive number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise ConfigError(f"deadline_s must be a positive number of seconds, got {seconds!r}")
    return float(seconds)
