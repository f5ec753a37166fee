"""An HTTP server with Search-R1's ``/retrieve`` contract over any engine.

``POST /retrieve {"queries": [...], "topk": 3, "return_scores": true}`` answers ``{"result": [[{"document": {"id",
"contents", ...}, "score": ...}]]}``, or with ``return_scores`` false ``{"result": [[{"id", "contents", ...}]]}``.

    python -m turnwise.envs.retrieval.server CORPUS.jsonl [--ranker bm25] [--host 127.0.0.1] [--port 8000]
"""

from __future__ import annotations

import argparse
import math
from typing import Any

from turnwise.envs.retrieval.interface import Engine, Scored
from turnwise.errors import ConfigError, MissingExtraError

DEFAULT_TOPK = 3
MAX_QUERIES = 512
MAX_TOPK = 100
MAX_QUERY_CHARS = 4_096
MAX_BODY_BYTES = 4 * 1024 * 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BadRequestError(ValueError):
    """A request that breaks the contract or a limit; the text says how."""

    status = 400


class TooLargeError(BadRequestError):
    """A body over the size limit."""

    status = 413


def answer(engine: Engine, request: Any) -> dict[str, Any]:
    """Answer a decoded request.

    Args:
        engine: Where to search.
        request: The body: ``queries`` (list of texts), ``topk`` (default 3), ``return_scores`` (default false).

    Raises:
        BadRequestError: It breaks the contract or a limit.
    """
    if not isinstance(request, dict):
        raise BadRequestError('the body must be a JSON object with "queries"')
    queries, topk = request.get("queries"), request.get("topk", DEFAULT_TOPK)
    scores = request.get("return_scores", False)
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise BadRequestError('"queries" must be a list of texts')
    if len(queries) > MAX_QUERIES or any(len(query) > MAX_QUERY_CHARS for query in queries):
        raise BadRequestError(f"at most {MAX_QUERIES} queries of at most {MAX_QUERY_CHARS} characters are taken")
    topk = DEFAULT_TOPK if topk is None else topk
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= MAX_TOPK:
        raise BadRequestError(f'"topk" must be a whole number from 1 to {MAX_TOPK}')
    if not isinstance(scores, bool):
        raise BadRequestError('"return_scores" must be true or false')
    found = engine.search(queries, topk) if queries else []
    return {"result": [[_shown(scored, scores=scores) for scored in hits] for hits in found]}


def _shown(scored: Scored, *, scores: bool) -> dict[str, Any]:
    document = scored.document
    record = {
        "id": document.id,
        "contents": f'"{document.title}"\n{document.text}',
        "url": document.url,
        "sentences": list(document.sentences),
    }
    if not scores:
        return record
    return {"document": record, "score": scored.score if math.isfinite(scored.score) else 0.0}


def make_app(engine: Engine) -> Any:
    """Return a FastAPI application that serves an engine.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import JSONResponse
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve") from error
    import msgspec

    app = FastAPI(title="turnwise retrieval", docs_url=None, redoc_url=None)

    async def body(request: Any) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise TooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    async def retrieve(request: Any) -> Any:
        try:
            decoded = msgspec.json.decode(await body(request))
            return JSONResponse(await run_in_threadpool(answer, engine, decoded))
        except BadRequestError as error:
            return JSONResponse({"detail": str(error)}, status_code=error.status)
        except (msgspec.DecodeError, RecursionError) as error:
            return JSONResponse({"detail": f"the body is no JSON: {error}"}, status_code=400)

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    # The annotation is set by hand: under postponed evaluation FastAPI could not resolve a local import.
    retrieve.__annotations__ = {"request": Request}
    app.post("/retrieve")(retrieve)
    app.get("/health")(health)
    return app


def serve(engine: Engine, *, host: str = "127.0.0.1", port: int = 8000, allow_remote: bool = False) -> None:
    """Serve an engine until interrupted.

    Args:
        engine: Where to search.
        host: Address to bind; others than loopback need ``allow_remote``.
        port: Port to bind.
        allow_remote: Whether other machines may reach it: the contract has no authentication.

    Raises:
        ConfigError: A foreign address without ``allow_remote``.
        MissingExtraError: FastAPI or uvicorn is not installed.
    """
    if host not in _LOOPBACK and not allow_remote:
        raise ConfigError(f"{host!r} lets other machines search without authentication: pass --allow-remote to do so")
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve") from error
    uvicorn.run(make_app(engine), host=host, port=port, log_level="warning")


def main(arguments: list[str] | None = None) -> None:
    """Serve a corpus file."""
    from turnwise.envs.retrieval.open import open_engine
    from turnwise.envs.retrieval.rankers import RANKERS

    parser = argparse.ArgumentParser(description="Serve a JSONL corpus with Search-R1's /retrieve contract.")
    parser.add_argument("corpus", help="JSONL file with id and contents")
    parser.add_argument("--ranker", default="bm25", choices=RANKERS)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--allow-remote", action="store_true", help="bind to other addresses than loopback")
    options = parser.parse_args(arguments)
    serve(
        open_engine(options.corpus, ranker=options.ranker),
        host=options.host,
        port=options.port,
        allow_remote=options.allow_remote,
    )


if __name__ == "__main__":
    main()
