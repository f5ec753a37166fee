"""What can be done with a page: by the numbers of its elements, by coordinates, and by keyboard."""

from __future__ import annotations

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.envs.browser.page import KEYS

ROLE = (
    "You shop in a web shop, in a browser, for somebody whose instruction stands on every page. Search for what is "
    "needed, open products, look at their description and features, choose the options that were asked for, and buy "
    "the product that fits best. Buying ends the session. Elements that can be acted on have a number in brackets, "
    "which holds for the page as you see it now."
)
SCROLLS = ("up", "down", "top", "bottom")
_ELEMENT = {"element": "Its number, such as 12."}

GRAMMAR = ActionGrammar(
    (
        ActionSpec(
            name="click",
            template="click[{element}]",
            description="Click an element; it is scrolled into view.",
            parameters=_ELEMENT,
        ),
        ActionSpec(
            name="click_at",
            template="click_at[{x}, {y}]",
            description="Click a point of the screen, in pixels from its upper left corner.",
            parameters={"x": "Pixels from the left.", "y": "Pixels from the top."},
        ),
        ActionSpec(
            name="type",
            template="type[{element}, {text}]",
            description="Replace what a text field holds.",
            parameters={**_ELEMENT, "text": "What to type."},
        ),
        ActionSpec(
            name="write",
            template="write[{text}]",
            description="Type into the field that has the focus, such as one that was clicked.",
            parameters={"text": "What to type."},
        ),
        ActionSpec(
            name="select",
            template="select[{element}, {option}]",
            description="Choose an option of a group of radio buttons or of a list, by its words.",
            parameters={"element": "Number of the group or list.", "option": "The option's words."},
        ),
        ActionSpec(
            name="press",
            template="press[{key}]",
            description=f"Press a key: {', '.join(KEYS)}.",
            parameters={"key": "Name of the key."},
        ),
        ActionSpec(
            name="scroll",
            template="scroll[{direction}]",
            description=f"Scroll the page: {', '.join(SCROLLS)}.",
            parameters={"direction": "Where to."},
        ),
        ActionSpec(name="back", template="back", description="Go back to the page before."),
        ActionSpec(name="forward", template="forward", description="Undo the last back."),
    )
)
