"""slime's ``--rm-type remote_rm``: one sample in; the whole reply becomes ``sample.reward``.

Use ``--reward-key reward``. The request has no history, so this dialect has one reward per sample.
"""

from __future__ import annotations

import msgspec

from turnwise.records import Json
from turnwise.rollout.oracle.bodies import decode
from turnwise.rollout.oracle.dialects.base import encode, read_result
from turnwise.rollout.oracle.dialects.openrlhf import convert
from turnwise.rollout.oracle.exchange import Endpoint, Incoming, Reply
from turnwise.rollout.oracle.kinds import score_item
from turnwise.rollout.oracle.schema import EvidenceLevel, Message, Status
from turnwise.rollout.oracle.scorer import Oracle
from turnwise.rollout.oracle.service import OracleService

NAME = "slime"


class Request(msgspec.Struct):
    """What slime posts.

    Attributes:
        prompt: A text, or the messages so far.
        response: What the model sampled.
        label: The right answer, or None.
    """

    prompt: str | list[Message]
    response: str
    label: Json = None


def score(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score one sample."""
    body = decode(Request, payload)
    return score_item(convert(body.prompt, body.response, body.label), oracle, evidence)


async def answer(request: Incoming, service: OracleService) -> Reply:
    """Answer ``POST /remote_rm``."""
    service.admit(1)
    (scored,) = await service.score_all(NAME, [request.body], evidence="none", inside="")
    result, reward, fell_back = read_result(scored, service, NAME)
    reply = {
        "reward": reward,
        "outcome": result.outcome,
        "process": result.process,
        "turn_rewards": result.turn_rewards,
        "components": result.components,
        "status": result.status,
        "reason": result.reason,
        "fallback": fell_back,
    }
    return Reply(encode(reply))


ENDPOINTS = (
    Endpoint(
        dialect=NAME,
        path="/remote_rm",
        answer=answer,
        summary="slime's remote reward model.",
        request={
            "type": "object",
            "required": ["prompt", "response"],
            "properties": {
                "prompt": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
                    ]
                },
                "response": {"type": "string"},
                "label": {},
            },
        },
        reply={
            "type": "object",
            "required": ["reward", "status", "fallback"],
            "properties": {
                "reward": {"type": "number"},
                "status": {"enum": ["ok", "judge_failed", "invalid", "timeout"]},
                "fallback": {"type": "boolean"},
            },
        },
    ),
)
