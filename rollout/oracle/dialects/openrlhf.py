"""OpenRLHF's ``--reward.remote_url``: lists of texts in, lists of numbers out.

Token spans are not in its request, so this dialect has one reward per sample; turn rewards need
``--train.agent_func_path`` in process.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from turnwise.records import Json
from turnwise.rollout.oracle.bodies import RejectedError, decode
from turnwise.rollout.oracle.dialects.base import encode, read_result, text_item
from turnwise.rollout.oracle.exchange import Endpoint, Incoming, Reply
from turnwise.rollout.oracle.kinds import score_item
from turnwise.rollout.oracle.schema import EvidenceLevel, Status
from turnwise.rollout.oracle.scorer import Oracle
from turnwise.rollout.oracle.service import OracleService

NAME = "openrlhf"


class Request(msgspec.Struct):
    """What OpenRLHF 0.11 posts.

    Attributes:
        query: Prompt and response as one text, special tokens kept.
        prompts: The prompts.
        labels: The right answers, or None.
    """

    query: Annotated[list[str], msgspec.Meta(min_length=1)]
    prompts: list[str]
    labels: list[Json]


def score(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score one sample."""
    query, prompt, label = decode(list, payload)
    response = query[len(prompt) :] if query.startswith(prompt) else query
    return score_item(convert(prompt, response, label), oracle, evidence)


def convert(prompt: Any, response: str, label: Json) -> Any:
    """Return the item; what is wrong with its label is the caller's fault.

    Raises:
        RejectedError: It is malformed.
    """
    try:
        return text_item(prompt, response, label)
    except msgspec.ValidationError as error:
        raise RejectedError(422, "invalid", str(error), place="label") from error


async def answer(request: Incoming, service: OracleService) -> Reply:
    """Answer ``POST /get_reward``."""
    body = decode(Request, request.body)
    for name, values in (("prompts", body.prompts), ("labels", body.labels)):
        if len(values) != len(body.query):
            message = f"must be as long as query: got {len(values)} for {len(body.query)}"
            raise RejectedError(422, "invalid", message, place=name)
    service.admit(len(body.query))
    rows = zip(body.query, body.prompts, body.labels, strict=True)
    scored = await service.score_all(NAME, [encode(row) for row in rows], evidence="none", inside="query")
    rewards: list[float] = []
    scores: list[float] = []
    # The keys are the same for every sample of a run: OpenRLHF concatenates them.
    logs: dict[str, list[float]] = {name: [] for name in ("outcome", "turns", "fallback")}
    logs |= {f"component/{name}": [] for name in service.oracle.shape.components}
    for one in scored:
        result, reward, fell_back = read_result(one, service, NAME)
        rewards.append(reward)
        outcome = reward if result.outcome is None else result.outcome
        scores.append(min(max(outcome, 0.0), 1.0))
        logs["outcome"].append(result.outcome or 0.0)
        logs["turns"].append(float(len(result.turn_rewards)))
        logs["fallback"].append(float(fell_back))
        for name, share in result.components.items():
            logs[f"component/{name}"].append(share or 0.0)
    return Reply(encode({"rewards": rewards, "scores": scores, "extra_logs": logs}))


_NUMBERS = {"type": "array", "items": {"type": "number"}}
ENDPOINTS = (
    Endpoint(
        dialect=NAME,
        path="/get_reward",
        answer=answer,
        summary="OpenRLHF's remote reward model.",
        request={
            "type": "object",
            "required": ["query", "prompts", "labels"],
            "properties": {
                "query": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "prompts": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "array", "items": {}},
            },
        },
        reply={
            "type": "object",
            "required": ["rewards", "scores", "extra_logs"],
            "properties": {
                "rewards": _NUMBERS,
                "scores": _NUMBERS,
                "extra_logs": {"type": "object", "additionalProperties": _NUMBERS},
            },
        },
    ),
)
