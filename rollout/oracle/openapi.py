"""The OpenAPI document, from the same structs that check the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

import turnwise
from turnwise.rollout.oracle.exchange import JSON, Endpoint
from turnwise.rollout.oracle.schema import ErrorReply, ScoreReply, ScoreRequest, StreamLine

_ERRORS = {
    400: "The body is no JSON with finite numbers, or is nested too deeply.",
    401: "The token is missing or wrong.",
    405: "The path takes POST.",
    409: "There is no session or world for this, or the Idempotency-Key came with another body.",
    413: "The body is too large, or has too many items.",
    415: "The body is no plain JSON.",
    422: "The body is JSON of another form; `place` says where.",
    429: "Too many items are pending; `Retry-After` says when to try again.",
}
_SMALL = {
    "/health": ("Whether the oracle serves.", JSON, {"type": "object"}),
    "/metrics": ("Counters in Prometheus' text form.", "text/plain", {"type": "string"}),
    "/v1/schema": ("JSON Schema of every native body.", JSON, {"type": "object"}),
}


@cache
def _components() -> dict[str, Any]:
    shapes = (ScoreRequest, ScoreReply, StreamLine, ErrorReply)
    _, definitions = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return definitions


def document(endpoints: Sequence[Endpoint], *, guarded: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        endpoints: The scoring endpoints.
        guarded: Whether a token is asked for.
    """
    paths: dict[str, Any] = {one.path: {"post": _operation(one)} for one in endpoints}
    for path, (summary, kind, schema) in _SMALL.items():
        reply = {"description": "As it is.", "content": {kind: {"schema": schema}}}
        operation: dict[str, Any] = {"summary": summary, "tags": ["service"], "responses": {"200": reply}}
        if path == "/health":
            operation["security"] = []
        elif guarded:
            operation["responses"]["401"] = _error(_ERRORS[401])
        paths[path] = {"get": operation}
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "turnwise oracle", "version": turnwise.__version__},
        "paths": paths,
        "components": {"schemas": _components()},
    }
    if guarded:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    done = {"description": "The scores.", "content": {endpoint.reply_type: {"schema": dict(endpoint.reply)}}}
    return {
        "summary": endpoint.summary,
        "tags": [endpoint.dialect],
        "requestBody": {"required": True, "content": {JSON: {"schema": dict(endpoint.request)}}},
        "responses": {"200": done} | {str(status): _error(text) for status, text in _ERRORS.items()},
    }


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}}
