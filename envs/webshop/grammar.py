"""The actions of the web shop, and the original's way of reading them."""

from __future__ import annotations

from turnwise.actions import MAX_ACTION_CHARS, ActionGrammar, ActionSpec

ROLE = (
    "You shop in a web shop for somebody who tells you what is needed. Search for it, open products, look at their "
    "description and features, choose the options that were asked for, and buy the product that fits best. Buying ends "
    "the session. Labels of buttons, products and options are clicked by their text, in lower or upper case."
)
GRAMMAR = ActionGrammar(
    (
        ActionSpec(
            name="search",
            template="search[{keywords}]",
            description="Search the shop; lists ten products a page.",
            parameters={"keywords": "What to look for, in words."},
        ),
        ActionSpec(
            name="click",
            template="click[{label}]",
            description="Click a button, a product or an option of the page.",
            parameters={"label": "Its text, such as 'next >', 'b07xyz1234', 'red' or 'buy now'."},
        ),
    )
)


def read_original(text: str) -> tuple[str, str] | None:
    """Read an action as WebShop's own code does: ``name[argument]``, greedy, on the first line.

    Args:
        text: The agent's message.

    Returns:
        The name as it stands, and the argument in lower case; None where the message has another form. What follows the
        last closing bracket does not count, and the name reaches to the last opening one.
    """
    line = text[:MAX_ACTION_CHARS].partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, end - 1) if end > 2 else -1
    if start < 0:
        return None
    return line[:start], line[start + 1 : end].lower()
