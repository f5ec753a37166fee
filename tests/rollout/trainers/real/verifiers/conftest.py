"""A scripted OpenAI server on loopback, the taskset package on the path, and ``uv`` as a pip package."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

ROOT = Path(__file__).resolve().parents[5]
sys.path[:0] = [str(ROOT / "examples" / "verifiers_package"), str(Path(__file__).resolve().parent)]
# The harness is a uv script; uv came with pip and stands beside this Python.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
os.environ.setdefault("OPENAI_API_KEY", "none")


def scripted(replies: list[str]) -> FastAPI:
    """A chat model that says its lines in order, by the number of replies in the request."""
    app = FastAPI()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> dict[str, Any] | StreamingResponse:
        body = await request.json()
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        text = replies[min(turn, len(replies) - 1)]
        usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
        base = {"id": f"c{turn}", "created": int(time.time()), "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}

        def events() -> Iterator[str]:
            chunk = {**base, "object": "chat.completion.chunk"}
            for delta, finish in (({"role": "assistant", "content": text}, None), ({}, "stop")):
                choice = {"index": 0, "delta": delta, "finish_reason": finish}
                yield f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"
            yield f"data: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "scripted", "object": "model"}]}

    return app


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serve scripts; returns the base URL of each."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(replies: list[str]) -> str:
        server = uvicorn.Server(uvicorn.Config(scripted(replies), host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(timeout=10)
