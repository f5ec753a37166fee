"""CaRR's reward server, drop-in: ``POST /evaluate`` with its history, its fields and its reply.

The share of the rubrics in the reward is the request's ``rubric_reward_ratio``, whatever the configuration says; the
judge and all else are the configuration's. Where a judge fails, ``reward`` is the configured fallback, ``status``
says so and ``fallback`` is true, instead of a silent 0 or a 500.
"""

from __future__ import annotations

import copy
from dataclasses import replace as with_changes
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory, replace
from turnwise.rewards import RewardTree
from turnwise.rewards.carr import read_history
from turnwise.rewards.citation_rubric import CitationRubric
from turnwise.rollout.oracle.bodies import RejectedError, decode, rejected
from turnwise.rollout.oracle.dialects.base import encode, read_result
from turnwise.rollout.oracle.exchange import Endpoint, Incoming, Reply
from turnwise.rollout.oracle.items import MAX_DEPTH, too_deep
from turnwise.rollout.oracle.kinds import encode_result
from turnwise.rollout.oracle.results import make_result
from turnwise.rollout.oracle.schema import EvidenceLevel, ItemResult, Status
from turnwise.rollout.oracle.scorer import Oracle
from turnwise.rollout.oracle.service import OracleService

NAME = "carr"
_NO_RUBRIC = ("<E0> answers the question.",)  # stands in where none is asked for; the ratio is then 0


class EnvInfo(msgspec.Struct, rename={"question": "search_forbidden_strs", "ratio": "rubric_reward_ratio"}):
    """``remote_env_info``.

    Attributes:
        question: Its first entry is the question.
        rubrics: The rubrics.
        ratio: Their share in the reward.
    """

    question: Annotated[list[str], msgspec.Meta(min_length=1)]
    rubrics: list[str] = []
    ratio: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0


class Request(msgspec.Struct):
    """What CaRR's fork of slime posts."""

    history: Annotated[list[dict[str, Json]], msgspec.Meta(min_length=1)]
    label: str | int | float
    task_unfinished: bool
    remote_env_info: dict[str, Json]


def score(payload: bytes, oracle: Oracle, evidence: EvidenceLevel) -> tuple[Status, bytes]:
    """Score one episode."""
    body = decode(Request, payload)
    for place in ("history", "remote_env_info"):
        if too_deep(getattr(body, place), MAX_DEPTH):
            raise RejectedError(400, "too_deep", f"is nested deeper than {MAX_DEPTH} levels", place=place)
    info = _info(body)
    trajectory = _episode(body, info)
    tree = _with_ratio(oracle.tree, info.ratio if info.rubrics else 0.0)
    result = make_result("", trajectory, tree, oracle.shape, evidence=evidence)
    return result.status, encode_result(result)


def _info(body: Request) -> EnvInfo:
    try:
        return msgspec.convert(body.remote_env_info, EnvInfo)
    except msgspec.ValidationError as error:
        raise RejectedError(422, "invalid", str(error), place="remote_env_info") from error


def _episode(body: Request, info: EnvInfo) -> Trajectory:
    try:
        trajectory = read_history(
            body.history,
            rubrics=info.rubrics or _NO_RUBRIC,
            label=str(body.label),
            question=info.question[0],
            task_unfinished=body.task_unfinished,
        )
    except ConfigError as error:
        raise rejected(error) from error
    # Further facts, such as the rule judge's rubric_support, may come along.
    data = {**body.remote_env_info, **trajectory.task.data, "rubrics": info.rubrics}
    if isinstance(body.remote_env_info.get("aliases"), list):
        data["aliases"] = body.remote_env_info["aliases"]
    made: Trajectory = replace(trajectory, task=replace(trajectory.task, data=data))
    return made


@lru_cache(maxsize=64)
def _with_ratio(tree: RewardTree, ratio: float) -> RewardTree:
    """Return the tree with another share of the rubrics; the judges are the same objects."""
    parts = []
    for part in tree.rewards:
        if isinstance(part.reward, CitationRubric):
            changed = copy.copy(part.reward)
            changed.ratio = ratio
            part = with_changes(part, reward=changed)
        parts.append(part)
    return RewardTree(parts, source=tree.source)


async def answer(request: Incoming, service: OracleService) -> Reply:
    """Answer ``POST /evaluate``."""
    service.admit(1)
    (scored,) = await service.score_all(NAME, [request.body], evidence="total", inside="")
    result, reward, fell_back = read_result(scored, service, NAME)
    found = _citation_evidence(result)
    outcome, rubric, scores = _apart(result, found)
    if not fell_back and found.get("rubrics") is None and "report" not in found:
        # Without rubrics there is nothing to share the reward with, and the released server gives them 0.
        reward *= 1.0 - _asked_ratio(request.body)
    reply = {
        "reward": reward,
        "outcome_reward": outcome,
        "rubric_reward": rubric,
        "rubric_scores": scores,
        "turn_rewards": result.turn_rewards,
        "components": result.components,
        "status": result.status,
        "reason": result.reason,
        "fallback": fell_back,
    }
    return Reply(encode(reply))


class _Ratio(msgspec.Struct):
    rubric_reward_ratio: float = 0.0
    rubrics: list[str] = []


class _RatioOf(msgspec.Struct):
    remote_env_info: _Ratio = msgspec.field(default_factory=_Ratio)


def _asked_ratio(body: bytes) -> float:
    info = decode(_RatioOf, body).remote_env_info
    return 0.0 if info.rubrics else info.rubric_reward_ratio


def _citation_evidence(result: ItemResult) -> dict[str, Any]:
    found = [
        e
        for e in result.evidence.values()
        if isinstance(e, dict) and ({"rubric_share", "report", "outcome"} & e.keys())
    ]
    return dict(found[0]) if found else {}


def _apart(result: ItemResult, found: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Return outcome and rubric reward, which C-GRPO puts together itself, and the rubrics one by one."""
    outcome = result.outcome or 0.0
    share = found.get("rubric_share")
    rubric = float(share) if isinstance(share, (int, float)) else 0.0
    scores = {
        str(index): {
            "raw_rubric": rubric_found["rubric"],
            "filled_rubric": rubric_found["filled"],
            "entity_values": rubric_found["entities"],
            "all_entity_identified": rubric_found["status"] != "unidentified",
            "is_supported": bool(rubric_found["supported"]),
            "connected_to_answer": rubric_found["connected"],
            "score": rubric_found["score"] or 0.0,
            "status": rubric_found["status"],
        }
        for index, rubric_found in enumerate(found.get("rubrics") or ())
    }
    return outcome, rubric, scores


ENDPOINTS = (
    Endpoint(
        dialect=NAME,
        path="/evaluate",
        answer=answer,
        summary="CaRR's reward server.",
        request={
            "type": "object",
            "required": ["history", "label", "task_unfinished", "remote_env_info"],
            "properties": {
                "history": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["role"],
                        "properties": {"role": {"type": "string"}},
                    },
                },
                "label": {"type": ["string", "number"]},
                "task_unfinished": {"type": "boolean"},
                "remote_env_info": {
                    "type": "object",
                    "required": ["search_forbidden_strs"],
                    "properties": {
                        "search_forbidden_strs": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                        "rubrics": {"type": "array", "items": {"type": "string"}},
                        "rubric_reward_ratio": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                },
            },
        },
        reply={
            "type": "object",
            "required": ["reward", "outcome_reward", "rubric_reward", "rubric_scores", "status", "fallback"],
            "properties": {
                "reward": {"type": "number"},
                "outcome_reward": {"type": "number"},
                "rubric_reward": {"type": "number"},
                "rubric_scores": {"type": "object"},
                "status": {"enum": ["ok", "judge_failed", "invalid", "timeout"]},
                "fallback": {"type": "boolean"},
            },
        },
    ),
)
