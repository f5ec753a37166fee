"""The accessibility tree of a page as text, with a number for everything that can be acted on.

The tree is Chromium's own (``Accessibility.getFullAXTree``): what a screen reader is told. Numbers go from 1 in reading
order, and hold for one reading of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Roles that can be acted on.
CLICKED = frozenset(
    {"button", "link", "checkbox", "radio", "switch", "tab", "menuitem", "option", "DisclosureTriangle"}
)
TYPED = frozenset({"textbox", "searchbox", "spinbutton", "combobox"})
CHOSEN = frozenset({"radiogroup", "listbox", "combobox", "ComboBoxSelect"})
_ACTED_ON = CLICKED | TYPED | CHOSEN | {"slider"}
# Roles that say nothing by themselves; what is in them counts.
_LAYOUT = frozenset(
    (
        *(
            "",
            "none",
            "generic",
            "presentation",
            "paragraph",
            "Legend",
            "list",
            "listitem",
            "ListMarker",
            "RootWebArea",
        ),
        *("strong", "emphasis", "DescriptionList", "DescriptionListTerm", "DescriptionListDetail", "time", "subscript"),
        *("superscript", "InlineTextBox", "LineBreak", "MenuListPopup", "Section", "SvgRoot", "Iframe"),
    )
)
_STATES = ("checked", "selected", "expanded", "pressed", "disabled", "required", "focused")
_ROLE_NAMES = {"DisclosureTriangle": "summary", "ComboBoxSelect": "combobox", "StaticText": "text", "img": "image"}
_MAX_TEXT = 2_000  # characters of one piece


@dataclass(frozen=True, kw_only=True)
class Element:
    """Something that can be acted on.

    Attributes:
        number: Its number on this page, from 1.
        role: Its accessibility role, such as ``"button"``.
        name: Its accessible name.
        value: What a field holds, else "".
        states: Which of checked, selected, expanded, pressed, disabled, required and focused it is.
        url: Where a link leads, else "".
        node: Chromium's number of the node behind it.
        group: Number of the radio group or list that it belongs to, else 0.
    """

    number: int
    role: str
    name: str
    value: str
    states: tuple[str, ...]
    url: str
    node: int
    group: int = 0


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A page as it was read.

    Attributes:
        title: The document's title.
        elements: By number, in reading order.
        outline: The tree, one node a line, indented by what it is in.
        text: Only what the page says, and the numbers of what can be acted on.
    """

    title: str
    elements: Mapping[int, Element]
    outline: str
    text: str


def read_tree(nodes: Sequence[Mapping[str, Any]]) -> Tree:
    """Read the answer of ``Accessibility.getFullAXTree``."""
    return _Reading(nodes).tree()


class _Reading:
    """One pass over the nodes."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        self._nodes = {str(node["nodeId"]): node for node in nodes}
        self._root = nodes[0] if nodes else {}
        self._elements: dict[int, Element] = {}
        self._outline: list[str] = []
        self._text: list[str] = []

    def tree(self) -> Tree:
        # A page may nest deeper than Python calls may.
        stack: list[tuple[Mapping[str, Any], int, str | None, int]] = [(self._root, 0, "", 0)]
        while stack:
            node, depth, spoken, group = stack.pop()
            below = self._visit(node, depth, spoken, group)
            stack.extend((child, *below) for child in reversed(list(self._children(node))))
        return Tree(
            title=_text(self._root.get("name")),
            elements=self._elements,
            outline="\n".join(self._outline),
            text="\n".join(self._text),
        )

    def _children(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return (self._nodes[key] for key in map(str, node.get("childIds", ())) if key in self._nodes)

    def _visit(
        self, node: Mapping[str, Any], depth: int, spoken: str | None, group: int
    ) -> tuple[int, str | None, int]:
        """Write a node down.

        Returns:
            For what is in it: the depth, what has been said already (None: nothing is to be said) and the group.
        """
        role, name = _text(node.get("role")), " ".join(_text(node.get("name")).split())[:_MAX_TEXT]
        if role == "LabelText":
            return depth, None, group  # the words of a label are the name of its control
        if node.get("ignored") or role in _LAYOUT:
            return depth, spoken, group
        if role == "StaticText":
            if name and spoken is not None and name not in spoken:
                self._outline.append(f"{'  ' * depth}{name}")
                self._text.append(name)
            return depth, spoken, group
        properties = {item["name"]: _text(item.get("value")) for item in node.get("properties", ())}
        states = tuple(state for state in _STATES if properties.get(state) in ("true", "mixed"))
        element = self._element(node, role, name, states, properties, group) if role in _ACTED_ON else None
        self._outline.append("  " * depth + _line(role, name, states, properties, element))
        if element is not None or (role in ("image", "img", "heading", "alert", "status") and name):
            self._text.append(_plain_line(name, states, element))
        if element is not None and role in CHOSEN:
            group = element.number
        said = "\n".join(filter(None, (name, element.value if element is not None else "")))
        return depth + 1, spoken if spoken is None or not said else f"{spoken}\n{said}", group

    def _element(
        self,
        node: Mapping[str, Any],
        role: str,
        name: str,
        states: tuple[str, ...],
        properties: Mapping[str, str],
        group: int,
    ) -> Element:
        number = len(self._elements) + 1
        self._elements[number] = element = Element(
            number=number,
            role=role,
            name=name,
            value=_text(node.get("value")),
            states=states,
            url=properties.get("url", ""),
            node=int(node.get("backendDOMNodeId", 0)),
            group=group if role in ("radio", "option") else 0,
        )
        return element


def _line(role: str, name: str, states: tuple[str, ...], properties: Mapping[str, str], element: Element | None) -> str:
    parts = [f"[{element.number}]"] if element is not None else []
    parts.append(_ROLE_NAMES.get(role, role))
    if name:
        parts.append(f'"{name}"')
    if role == "heading" and "level" in properties:
        parts.append(f"level {properties['level']}")
    if element is not None and element.value and element.value != name:
        parts.append(f'value "{element.value[:_MAX_TEXT]}"')
    return " ".join((*parts, *(f"({state})" for state in states)))


def _plain_line(name: str, states: tuple[str, ...], element: Element | None) -> str:
    mark = f"[{element.number}] " if element is not None else ""
    value = f": {element.value[:_MAX_TEXT]}" if element is not None and element.value else ""
    chosen = " (chosen)" if {"checked", "selected"} & set(states) else ""
    return f"{mark}{name}{value}{chosen}".strip()


def _text(value: Any) -> str:
    """Return the value of an accessibility property as text."""
    if isinstance(value, Mapping):
        value = value.get("value", "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
