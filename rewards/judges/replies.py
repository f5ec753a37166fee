"""Strict reading of a language model's replies: one JSON object, exactly the keys and types asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from turnwise.protocols import JudgePage, Passage, Verdict

_BLOCK = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)
_NOTHING = ("null", "none")


class ReplyError(ValueError):
    """A reply is not what was asked for; the text says what is wrong with it, for the model to read."""


def read_object(reply: str) -> dict[str, Any]:
    """Return the one JSON object of a reply.

    Raises:
        ReplyError: There is none, there are several, or it is no object.
    """
    text = _THOUGHT.sub("", reply).strip()
    blocks = [text] if text.startswith("{") else _BLOCK.findall(text)
    if len(blocks) != 1:
        raise ReplyError(f"it must hold exactly one ```json block, it has {len(blocks)}")
    try:
        value = json.loads(blocks[0], object_pairs_hook=_once)
    except RecursionError:
        raise ReplyError("its JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ReplyError(f"its JSON is broken: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise ReplyError("its JSON must be an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ReplyError("its JSON has a key twice")
    return made


def _check_keys(value: Mapping[str, Any], wanted: Collection[str], what: str) -> None:
    missing, extra = [k for k in wanted if k not in value], [k for k in value if k not in wanted]
    if missing or extra:
        problems = [f"lacks {missing}"] * bool(missing) + [f"has the unknown keys {extra[:5]}"] * bool(extra)
        raise ReplyError(f"{what} {' and '.join(problems)}")


def read_answer(reply: str) -> Verdict:
    """Read ``{"final_answer": str | null, "correct": bool, "reason": str}``.

    Raises:
        ReplyError: It is something else.
    """
    value = read_object(reply)
    _check_keys(value, ("final_answer", "correct", "reason"), "the object")
    extracted, correct = value["final_answer"], value["correct"]
    if not isinstance(correct, bool):
        raise ReplyError("'correct' must be true or false")
    if not isinstance(extracted, str | None) or not isinstance(value["reason"], str):
        raise ReplyError("'final_answer' must be text or null, and 'reason' text")
    if correct and extracted is None:
        raise ReplyError("an answer that is not there cannot be correct")
    return Verdict(holds=correct, passages=(Passage(url="", quote=extracted or ""),), reason=value["reason"])


def read_entities(reply: str, slots: Collection[str]) -> dict[str, str | None]:
    """Read ``{"E0": str | null, ..}`` with exactly the given ids.

    Raises:
        ReplyError: It is something else, or a name is empty or the word "null".
    """
    value = read_object(reply)
    _check_keys(value, slots, "the object")
    for slot, name in value.items():
        if name is not None and (not isinstance(name, str) or not name.strip() or name.strip().lower() in _NOTHING):
            raise ReplyError(f"{slot!r} must be a name or the JSON null, not {name!r}")
    return {slot: None if value[slot] is None else value[slot].strip() for slot in slots}


def read_support(reply: str, statements: Collection[int], pages: list[JudgePage]) -> dict[int, Verdict]:
    """Read ``{"S1": {"supported": bool, "passages": [{"page": int, "quote": str}], "reason": str}, ..}``.

    Args:
        reply: The reply; statements and pages are counted from 1 in it.
        statements: Indices of the rubrics, S1 standing for the first.
        pages: The pages shown to the model.

    Raises:
        ReplyError: It is something else.
    """
    value = read_object(reply)
    labels = {f"S{number}": index for number, index in enumerate(statements, 1)}
    _check_keys(value, labels, "the object")
    return {index: _supported(label, value[label], pages) for label, index in labels.items()}


def _supported(label: str, entry: Any, pages: list[JudgePage]) -> Verdict:
    if not isinstance(entry, dict):
        raise ReplyError(f"{label!r} must be an object")
    _check_keys(entry, ("supported", "passages", "reason"), label)
    if not isinstance(entry["supported"], bool):
        raise ReplyError(f"'supported' of {label} must be true or false")
    if not isinstance(entry["passages"], list) or not isinstance(entry["reason"], str):
        raise ReplyError(f"'passages' of {label} must be a list, and 'reason' text")
    if entry["supported"] and not entry["passages"]:
        raise ReplyError(f"{label} is said to be supported, but no passage is quoted")
    passages = tuple(_passage(label, passage, pages) for passage in entry["passages"])
    return Verdict(holds=entry["supported"], passages=passages, reason=entry["reason"])


def _passage(label: str, passage: Any, pages: list[JudgePage]) -> Passage:
    if not isinstance(passage, dict):
        raise ReplyError(f"a passage of {label} must be an object")
    _check_keys(passage, ("page", "quote"), f"a passage of {label}")
    number, quote = passage["page"], passage["quote"]
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(pages):
        raise ReplyError(f"'page' of {label} must be a number from 1 to {len(pages)}, not {number!r}")
    if not isinstance(quote, str):
        raise ReplyError(f"'quote' of {label} must be text")
    return Passage(url=pages[number - 1].url, quote=quote)


def read_useful(reply: str) -> Verdict:
    """Read ``{"useful": bool, "reason": str}``.

    Raises:
        ReplyError: It is something else.
    """
    value = read_object(reply)
    _check_keys(value, ("useful", "reason"), "the object")
    if not isinstance(value["useful"], bool) or not isinstance(value["reason"], str):
        raise ReplyError("'useful' must be true or false, and 'reason' text")
    return Verdict(holds=value["useful"], reason=value["reason"])
