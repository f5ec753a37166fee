"""What the dialects share: rewards where there may be none, and labels that say more than an answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnwise.records import Json
from turnwise.rollout.oracle.bodies import decode
from turnwise.rollout.oracle.cache import Scored
from turnwise.rollout.oracle.schema import Item, ItemResult, Message
from turnwise.rollout.oracle.service import OracleService

# Trainers that send text keep the special tokens that end a message.
_END = re.compile(r"(?:<\|[^<>|\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|\s)+\Z")
_ITEM_FIELDS = ("task", "task_id", "seed", "group")


def read_result(scored: Scored, service: OracleService, dialect: str) -> tuple[ItemResult, float, bool]:
    """Decode a result, and count it.

    Returns:
        The result; its reward, or the dialect's fallback; and whether that is the fallback.
    """
    result = decode(ItemResult, scored.body)
    service.metrics.item(dialect, result.status)
    if result.reward is not None:
        return result, result.reward, False
    service.metrics.fallback(dialect)
    return result, service.settings.fallback(dialect), True


def text_item(prompt: str | list[Message], response: str, label: Json) -> Item:
    """Return the item of a dialect that knows a prompt, a response and a label.

    A label that is an object (or JSON text of one) is the task's data: ``label`` or ``answer`` in it is the right
    answer, and ``task``, ``task_id``, ``seed`` and ``group`` are the item's own.
    """
    asked = [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
    data = _as_object(label)
    fields: dict[str, Any] = {}
    if data is not None:
        label = data.get("label", data.get("answer", data.get("ground_truth")))
        known = {name: data[name] for name in _ITEM_FIELDS if data.get(name) is not None}
        fields = msgspec.to_builtins(known) | {"metadata": data}
    raw = {"messages": [*asked, Message(role="assistant", content=_END.sub("", response))], "label": label, **fields}
    return msgspec.convert(raw, Item, from_attributes=True)


def _as_object(label: Json) -> dict[str, Json] | None:
    if isinstance(label, dict):
        return label
    if isinstance(label, str) and label.lstrip().startswith("{"):
        try:
            decoded = msgspec.json.decode(label)
        except (msgspec.DecodeError, RecursionError):
            return None
        return decoded if isinstance(decoded, dict) else None
    return None


def encode(reply: Any) -> bytes:
    """Return a reply as JSON."""
    return msgspec.json.encode(reply)
