"""NeMo-Gym's rows: what a data set's row and an OpenAI response object say about an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from turnwise.records import Json
from turnwise.rollout.oracle.bodies import RejectedError, decode_object
from turnwise.rollout.oracle.dialects.base import encode
from turnwise.rollout.oracle.kinds import score_item
from turnwise.rollout.oracle.schema import EvidenceLevel, Item, Status
from turnwise.rollout.oracle.scorer import Oracle

_LABELS = ("label", "expected_answer", "ground_truth", "answer")


def score(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score a row with its response."""
    row = decode_object(payload)
    return score_item(row_item(row), oracle, evidence)


def row_item(row: Mapping[str, Json]) -> Item:
    """Return the item that a row with its response describes.

    Raises:
        RejectedError: The row is malformed.
    """
    facts = row.get("verifier_metadata")
    known = {**(facts if isinstance(facts, dict) else {}), **row}
    metadata = {k: v for k, v in known.items() if k not in ("response", "responses_create_params", "verifier_metadata")}
    raw = {
        "id": str(known.get("id", ""))[:512],
        "messages": read_messages(row),
        "task_id": known.get("task_id") or "",
        "seed": known.get("seed") or 0,
        "label": next((known[name] for name in _LABELS if known.get(name) is not None), None),
        "metadata": metadata,
    }
    try:
        return msgspec.convert(raw, Item)
    except msgspec.ValidationError as error:
        raise RejectedError(422, "invalid", str(error)) from error


def read_messages(row: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the conversation of a row: its input, and the output items of the response.

    Raises:
        RejectedError: Either is malformed.
    """
    params = row.get("responses_create_params")
    response = row.get("response")
    if not isinstance(params, dict):
        raise RejectedError(422, "invalid", "must be an object", place="responses_create_params")
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise RejectedError(422, "invalid", "must be a response object with a list 'output'", place="response")
    asked = params.get("input", [])
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list):
        raise RejectedError(422, "invalid", "must be a text or a list", place="responses_create_params.input")
    before = _messages(items, "responses_create_params.input")
    return before + _messages(response["output"], "response.output")


def _messages(items: Sequence[Json], place: str) -> list[dict[str, Json]]:
    messages: list[dict[str, Json]] = []
    for number, item in enumerate(items):
        where = f"{place}[{number}]"
        if not isinstance(item, dict):
            raise RejectedError(422, "invalid", "must be an object", place=where)
        kind = item.get("type", "message")
        if kind == "message":
            role = item.get("role", "assistant")
            if not isinstance(role, str):
                raise RejectedError(422, "invalid", "must be a text", place=f"{where}.role")
            messages.append({"role": role, "content": _content(item.get("content"), where)})
        elif kind == "function_call":
            call = {"name": item.get("name"), "arguments": item.get("arguments")}
            if not isinstance(call["name"], str):
                raise RejectedError(422, "invalid", "must be a text", place=f"{where}.name")
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = item.get("output")
            messages.append(
                {"role": "tool", "content": output if isinstance(output, str) else str(encode(output), "utf-8")}
            )
    return messages


def _content(content: Json, where: str) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise RejectedError(422, "invalid", "must be a text or a list of parts", place=f"{where}.content")
    texts = [part.get("text", part.get("refusal", "")) for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def said_in(row: Mapping[str, Json]) -> str:
    """Return the agent's message of a step's response, as a world takes it."""
    spoken = [m for m in read_messages({**row, "responses_create_params": {"input": []}}) if m["role"] == "assistant"]
    texts = [str(message["content"]) for message in spoken if message["content"]]
    calls = [call for message in spoken for call in message.get("tool_calls", ())]
    if not calls:
        return "\n".join(texts)
    return encode({"content": "\n".join(texts), "tool_calls": calls}).decode()
