"""The native endpoints: a batch in, a result per item out, all at once or line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec

from turnwise.errors import ConfigError
from turnwise.rollout.oracle.bodies import RejectedError, decode, rejected, within
from turnwise.rollout.oracle.cache import Scored
from turnwise.rollout.oracle.credit import make_credit
from turnwise.rollout.oracle.exchange import NDJSON, Endpoint, Incoming, Reply
from turnwise.rollout.oracle.schema import CreditSpec, EvidenceLevel, Wire
from turnwise.rollout.oracle.service import OracleService

_REF = "#/components/schemas/"


class _Batch(Wire, frozen=True, kw_only=True):
    """A ``ScoreRequest`` whose items are left to the workers to decode."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    credit: CreditSpec | None = None
    evidence: EvidenceLevel = "total"
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class _Ids(msgspec.Struct):
    """Enough of a token sequence to count it."""

    ids: msgspec.Raw = msgspec.Raw(b"[]")


class _Head(msgspec.Struct):
    """What of an item is needed beside its score."""

    id: str = ""
    group: str = ""
    tokens: _Ids | None = None


def _heads(items: Sequence[msgspec.Raw]) -> list[_Head]:
    heads = []
    for place, item in enumerate(items):
        try:
            heads.append(decode(_Head, bytes(item)))
        except RejectedError as error:
            raise within(error, f"items[{place}]") from error
    return heads


async def score(request: Incoming, service: OracleService) -> Reply:
    """Answer ``POST /v1/score``."""
    batch = decode(_Batch, request.body)
    service.admit(len(batch.items))
    _check_key(request, service)
    heads = _heads(batch.items)
    credit = None
    if batch.credit is not None:
        try:
            credit = make_credit(batch.credit)
        except ConfigError as error:
            raise rejected(error) from error
        for place, head in enumerate(heads):
            if not head.group:
                raise RejectedError(
                    422, "invalid", "credit compares the items of one group", place=f"items[{place}].group"
                )
    scored = await service.score_all(
        "native",
        [bytes(item) for item in batch.items],
        evidence=batch.evidence,
        deadline_s=batch.deadline_s,
        ids=[head.id for head in heads],
    )
    if credit is not None:
        lengths = [_length(item) for item in batch.items]
        try:
            scored = await service.with_credit(scored, [head.group for head in heads], lengths, credit)
        except ConfigError as error:
            raise RejectedError(422, "invalid", str(error), place="credit") from error
    for one in scored:
        service.metrics.item("native", one.status)
    return Reply(b'{"results":[' + b",".join(one.body for one in scored) + b"]}")


async def score_stream(request: Incoming, service: OracleService) -> Reply:
    """Answer ``POST /v1/score/stream``: one line per item, as each is done."""
    batch = decode(_Batch, request.body)
    if batch.credit is not None:
        raise RejectedError(422, "invalid", "needs all results of a group: use /v1/score", place="credit")
    service.admit(len(batch.items))
    _check_key(request, service)
    heads = _heads(batch.items)
    return Reply(stream=_lines(batch, heads, service), content_type=NDJSON)


async def _lines(batch: _Batch, heads: Sequence[_Head], service: OracleService) -> AsyncIterator[bytes]:
    async def one(place: int, item: msgspec.Raw) -> tuple[int, Scored]:
        try:
            scored = await service.score(
                "native",
                bytes(item),
                evidence=batch.evidence,
                deadline_s=batch.deadline_s,
                inside=f"items[{place}]",
                item_id=heads[place].id,
            )
        except RejectedError as error:
            # The status line is long gone: what is wrong with one item is said in its own line.
            reason = f"config: {error.place}: {error}"
            scored = service.lost(heads[place].id, "invalid", reason)
        return place, scored

    tasks = [asyncio.ensure_future(one(place, item)) for place, item in enumerate(batch.items)]
    try:
        for next_done in asyncio.as_completed(tasks):
            place, scored = await next_done
            service.metrics.item("native", scored.status)
            yield b'{"index":%d,"result":%s}\n' % (place, scored.body)
    finally:
        for task in tasks:
            task.cancel()


def _check_key(request: Incoming, service: OracleService) -> None:
    key = request.headers.get("idempotency-key")
    if key:
        service.keys.check(key, request.body)


class _OfTrajectory(msgspec.Struct):
    """A trajectory's tokens."""

    tokens: _Ids | None = None


class _Counted(msgspec.Struct):
    """Where an item's ids may be."""

    tokens: _Ids | None = None
    trajectory: _OfTrajectory | None = None


def _length(item: msgspec.Raw) -> int:
    counted = decode(_Counted, bytes(item))
    tokens = counted.tokens or (counted.trajectory.tokens if counted.trajectory else None)
    return 0 if tokens is None else len(decode(list, bytes(tokens.ids)))


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"{_REF}{name}"}


ENDPOINTS = (
    Endpoint(
        dialect="native",
        path="/v1/score",
        answer=score,
        summary="Score items, all at once.",
        request=_ref("ScoreRequest"),
        reply=_ref("ScoreReply"),
    ),
    Endpoint(
        dialect="native",
        path="/v1/score/stream",
        answer=score_stream,
        summary="Score items; one line of JSON per item as each is done.",
        request=_ref("ScoreRequest"),
        reply=_ref("StreamLine"),
        reply_type=NDJSON,
    ),
)
