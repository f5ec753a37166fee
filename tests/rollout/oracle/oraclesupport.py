"""A served oracle in a thread of this process, with its workers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import uvicorn

from turnwise.rollout.oracle.app import make_app
from turnwise.rollout.oracle.service import OracleService
from turnwise.rollout.oracle.settings import ServeSettings

MOODY = {
    "version": 1,
    "rewards": [
        {"name": "outcome", "weight": 1.0},
        {"name": "moody", "use": "moodyreward:Moody", "weight": 0.5},
        {"name": "format", "weight": 0.0},
    ],
}
WAITING = {"version": 1, "rewards": [{"name": "moody", "use": "moodyreward:Waiting", "weight": 1.0}]}


class Served:
    """A running oracle."""

    def __init__(self, service: OracleService, url: str) -> None:
        self.service, self.url = service, url
        self.http = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        if isinstance(body, (bytes, str)):
            options.setdefault("headers", {"content-type": "application/json"})
            return self.http.post(path, content=body, **options)
        return self.http.post(path, json=body, **options)

    def metric(self, start: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


@contextlib.contextmanager
def run_server(rewards: Any, *, token: str | None = None, **options: Any) -> Iterator[Served]:
    settings = ServeSettings(**{"workers": 1, **options.pop("settings", {})})
    service = OracleService(rewards, settings=settings, **options)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(service, token=token), log_level="error", access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    served = Served(service, f"http://127.0.0.1:{listening.getsockname()[1]}")
    try:
        for _ in range(600):
            if server.started:
                break
            threading.Event().wait(0.05)
        assert server.started
        yield served
    finally:
        served.http.close()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def episode(answer: str = "gold", label: Any = "gold", **metadata: Any) -> dict[str, Any]:
    """An item of two turns."""
    return {
        "messages": [
            {"role": "system", "content": "You search."},
            {"role": "user", "content": "where?"},
            {
                "role": "assistant",
                "content": "let me look",
                "tool_calls": [{"id": "1", "function": {"name": "search", "arguments": '{"query": "where"}'}}],
            },
            {"role": "tool", "content": "it is made of gold"},
            {"role": "assistant", "content": answer},
        ],
        "label": label,
        "metadata": metadata,
    }
