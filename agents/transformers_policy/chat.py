"""Chat messages as token ids, each turn appended to what stands already and nothing written twice."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnwise.errors import ConfigError
from turnwise.messages import ToolCall, UnreadableError, find_action
from turnwise.records import Json

# Writes "System: ...", "User: ..." and "Assistant:" in paragraphs; an assistant's message ends with the
# end-of-text token where the tokenizer has one.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
# Stand for contents while a template is rendered: words that no template trims, splits or knows.
_SYSTEM, _USER, _ASSISTANT, _REPLY = (f"zq{name}slotqz" for name in ("system", "user", "assistant", "reply"))
_SLOT = re.compile(f"({_SYSTEM}|{_USER}|{_ASSISTANT}|{_REPLY})")
_HARMLESS = "x"
_PROBE_NAME = "zqprobetoolqz"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE_NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"x": {"type": "string", "description": "x"}}},
    },
}

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class _Piece:
    """A run of text: the template's own, or a message's content, which is never read as control tokens."""

    text: str
    content: bool = False


class ChatFormat:
    """Writes what stands between sampled messages, by the tokenizer's chat template.

    The template is rendered with placeholders for the contents, which then are put in as they are, so a
    template that trims contents or drops earlier thoughts changes nothing: what was sampled is never
    written again. A tokenizer without a template gets :data:`PLAIN_TEMPLATE`::

        System: ...

        User: ...

        Assistant:

    Contents cannot imitate the template: where a special token's text stands in one, the content is
    tokenised as plain text. So is the text of any other added token that the template itself uses.

    Attributes:
        plain: Whether the tokenizer has no template of its own.
        takes_tools: Whether the template writes tools.
        tool_role: Whether it writes a tool's answer as a message of its own kind.
        system_role: Whether it takes a system message; if not, that text stands before the first
            user message.
        end_id: The token that the template ends an assistant's message with, or None.
    """

    def __init__(self, tokenizer: Any, *, tools: bool = True) -> None:
        """Write with a tokenizer.

        Args:
            tokenizer: A Hugging Face tokenizer.
            tools: Whether tools are given to the template, if it takes any.

        Raises:
            ConfigError: The template cannot be written message by message.
        """
        self._tokenizer = tokenizer
        self.plain = not getattr(tokenizer, "chat_template", None)
        self._template = PLAIN_TEMPLATE if self.plain else _pick_template(tokenizer.chat_template, tools)
        self._control = _control_tokens(tokenizer, self._template)
        texts = sorted(map(re.escape, self._control.values()), key=len, reverse=True)
        self._control_text = re.compile("|".join(texts)) if texts else None
        self._bos = self._own_bos() if self.plain else []
        self.takes_tools = tools and self._writes_tools()
        self.system_role = self._check(self._opening_text([{"role": "system", "content": _SYSTEM}]), _SYSTEM, _USER)
        user = self._tail("user")
        if user is None or not self._check(self._opening_text([]), _USER):
            raise ConfigError(
                "the chat template cannot be written message by message: it does not write a user's message, an "
                "assistant's and the next user's one after the other with their contents as they are. Set a plainer "
                "tokenizer.chat_template, or None for turnwise's own"
            )
        tool = self._tail("tool") if self.takes_tools else None
        self.tool_role = tool is not None
        self._tails = {"user": user, "tool": tool or user}
        first = self._ids(user[0].text)[:1]
        self.end_id = first[0] if first and first[0] in self._control else None

    # -- what is written ---------------------------------------------------------------------------

    def opening(self, system: str, tools: Sequence[Mapping[str, Json]], observation: str) -> list[int]:
        """Return the ids from the beginning to the header of the first assistant message.

        Raises:
            ConfigError: A tool's description holds the text of a special token, or the template cannot
                write these tools.
        """
        given = list(tools) if tools and self.takes_tools else None
        self._check_tools(given)
        head = [{"role": "system", "content": _SYSTEM}] if system and self.system_role else []
        text = self._opening_text(head, given)
        if text is None or not self._check(text, *([_SYSTEM] if head else []), _USER):
            raise ConfigError("the chat template cannot write these tools: pass tools=false to leave them out")
        if system and not head:
            observation = f"{system}\n\n{observation}"
        return [*self._bos, *self._encode(_split(text, {_SYSTEM: system, _USER: observation}))]

    def continuation(self, observation: str, sampled: Sequence[int]) -> list[int]:
        """Return the ids between a sampled message and the next one.

        The observation is written as a tool's answer where the message is a JSON tool call and the
        template has such answers, else as a user's message.

        Args:
            observation: What came back.
            sampled: The message's ids; if the last one already ends the message, the end is not repeated.
        """
        ended = bool(sampled) and sampled[-1] in self._control
        role = "tool" if _is_tool_call(self.decode(sampled[:-1] if ended else sampled)) else "user"
        ids = self._encode([_Piece(observation, True) if piece.content else piece for piece in self._tails[role]])
        return ids[1:] if sampled and ids[:1] == [sampled[-1]] and ids[0] == self.end_id else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    # -- the template ------------------------------------------------------------------------------

    def _render(self, messages: Messages, tools: Any = None) -> str | None:
        """Render, or return None where the template refuses."""
        import jinja2

        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tools=tools, chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None
        return str(text)

    def _opening_text(self, head: Messages, tools: Any = None) -> str | None:
        return self._render([*head, {"role": "user", "content": _USER}], tools)

    def _check(self, text: str | None, *slots: str) -> bool:
        """Whether the slots stand in a text once each, in this order, and no others."""
        return text is not None and tuple(_SLOT.findall(text)) == slots

    def _writes_tools(self) -> bool:
        text = self._opening_text([], [_PROBE_TOOL])
        return text is not None and _PROBE_NAME in text and self._check(text, _USER)

    def _tail(self, role: str) -> list[_Piece] | None:
        """Return what follows an assistant's message: its end, the answer in this role, the next header."""
        talk = (("user", _USER), ("assistant", _ASSISTANT), (role, _REPLY))
        text = self._render([{"role": who, "content": content} for who, content in talk])
        if text is None or not self._check(text, _USER, _ASSISTANT, _REPLY):
            return None
        return _split(text[text.index(_ASSISTANT) + len(_ASSISTANT) :], {_REPLY: _HARMLESS})

    def _check_tools(self, tools: Sequence[Mapping[str, Json]] | None) -> None:
        for text in _strings(tools):
            if self._control_text is not None and (found := self._control_text.search(text)):
                raise ConfigError(f"a tool's description holds the special token {found.group()!r}: reword it")

    # -- tokens ------------------------------------------------------------------------------------

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _own_bos(self) -> list[int]:
        bos = getattr(self._tokenizer, "bos_token_id", None)
        return [bos] if bos is not None and list(self._tokenizer("x")["input_ids"])[:1] == [bos] else []

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._control]

    def _encode(self, pieces: Sequence[_Piece]) -> list[int]:
        """Tokenise the whole text; piece by piece only where contents would bring control tokens."""
        pieces = [_Piece(_encodable(piece.text), piece.content) for piece in pieces]
        ids = self._ids("".join(piece.text for piece in pieces))
        expected = self._ids("".join(_HARMLESS if piece.content else piece.text for piece in pieces))
        if self._controls(ids) == self._controls(expected):
            return ids
        parts = [self._as_text(piece.text) if piece.content else self._ids(piece.text) for piece in pieces]
        return [i for part in parts for i in part]

    def _as_text(self, text: str) -> list[int]:
        """Tokenise without any control token, whatever the text says."""
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids = list(encoded["input_ids"])
        if self._controls(ids):
            # Added tokens that are not marked special: cut their texts in two.
            ids = [i for part in self._cut(text) for i in self._ids(part)]
        return [i for i in ids if i not in self._control]

    def _cut(self, text: str) -> list[str]:
        assert self._control_text is not None  # noqa: S101 - there are control tokens, or it is not called
        cuts = [0, *((m.start() + m.end() + 1) // 2 for m in self._control_text.finditer(text)), len(text)]
        return [text[low:high] for low, high in itertools.pairwise(cuts) if low < high]


def _pick_template(template: Any, tools: bool) -> str:
    """Return the template to use of a tokenizer that may have several by name."""
    if not isinstance(template, Mapping):
        return str(template)
    for name in ("tool_use", "default") if tools else ("default",):
        if name in template:
            return str(template[name])
    raise ConfigError(f"the tokenizer has chat templates {sorted(template)} but no 'default': set one of them")


def _control_tokens(tokenizer: Any, template: str) -> dict[int, str]:
    """Return id and text of the tokens that only the template may write."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    found = {int(i): str(token) for i, token in added.items() if token.special or str(token) in template}
    specials = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=False)
    return {text_id: text for text_id, text in {**found, **dict(specials)}.items() if text}


def _split(text: str, contents: Mapping[str, str]) -> list[_Piece]:
    """Cut a rendered text at its slots and put the contents in."""
    parts = (_Piece(contents[part], True) if part in contents else _Piece(part) for part in _SLOT.split(text))
    return [part for part in parts if part.text]


def _strings(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    return [text for item in value for text in _strings(item)] if isinstance(value, (list, tuple)) else []


def _is_tool_call(text: str) -> bool:
    try:
        return isinstance(find_action(text).action, ToolCall)
    except UnreadableError:
        return False


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
