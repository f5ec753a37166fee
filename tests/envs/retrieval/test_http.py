from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from turnwise.envs.retrieval import server
from turnwise.envs.retrieval.bm25_build import build
from turnwise.envs.retrieval.client import RemoteEngine
from turnwise.envs.retrieval.corpus import ListCorpus
from turnwise.envs.retrieval.interface import Document, LocalEngine
from turnwise.errors import ConfigError, TransportError

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

DOCUMENTS = [
    Document("a", "Velmora", ("Velmora is a city.", "It lies by a river."), "https://x.example/a"),
    Document("b", "Tash", ("Tash is a river.",), "https://x.example/b"),
]


@pytest.fixture(scope="module")
def url():
    import uvicorn

    corpus = ListCorpus(DOCUMENTS)
    app = server.make_app(LocalEngine(corpus, build(corpus.texts())))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        running.should_exit = True
        thread.join(timeout=10)


def test_search_r1_contract(url):
    body = {"queries": ["velmora", "river", "nothing"], "topk": 1, "return_scores": True}
    result = httpx.post(f"{url}/retrieve", json=body).json()["result"]
    assert [len(hits) for hits in result] == [1, 1, 0]
    document, score = result[0][0]["document"], result[0][0]["score"]
    assert document["id"] == "a"
    assert document["contents"] == '"Velmora"\nVelmora is a city. It lies by a river.'
    assert score > 0
    bare = httpx.post(f"{url}/retrieve", json={"queries": ["river"]}).json()["result"]
    assert {hit["id"] for hit in bare[0]} == {"a", "b"}
    assert httpx.post(f"{url}/retrieve", json={"queries": []}).json() == {"result": []}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "queries"),
        ([], "object"),
        ({"queries": "velmora"}, "list of texts"),
        ({"queries": [1]}, "list of texts"),
        ({"queries": ["x"], "topk": 0}, "topk"),
        ({"queries": ["x"], "topk": True}, "topk"),
        ({"queries": ["x"], "topk": 101}, "topk"),
        ({"queries": ["x"], "return_scores": "yes"}, "return_scores"),
        ({"queries": ["x" * 5_000]}, "at most"),
        ({"queries": ["x"] * 600}, "at most"),
    ],
)
def test_bad_requests(url, body, error):
    reply = httpx.post(f"{url}/retrieve", json=body)
    assert reply.status_code == 400
    assert error in reply.json()["detail"]


def test_broken_and_large_bodies(url):
    large = b" " * (server.MAX_BODY_BYTES + 1)
    for body, status, error in ((b"{", 400, "no JSON"), (large, 413, "larger"), (b"[" * 100_000, 400, "no JSON")):
        reply = httpx.post(f"{url}/retrieve", content=body)
        assert reply.status_code == status
        assert error in reply.json()["detail"]
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


def test_client_against_our_server(url):
    engine = RemoteEngine(url)
    assert engine.lookup("a") is None
    velmora, nothing = engine.search(["velmora", "nothing"], 2)
    assert [scored.document for scored in velmora] == [DOCUMENTS[0]]
    assert nothing == []
    assert engine.lookup("a") == engine.lookup("https://x.example/a") == engine.lookup("VELMORA") == DOCUMENTS[0]
    assert pickle.loads(pickle.dumps(engine)).search(["tash"], 1)[0][0].document == DOCUMENTS[1]


def test_concurrent_requests(url):
    from concurrent.futures import ThreadPoolExecutor

    engine = RemoteEngine(url)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: engine.search(["tash river"], 2)[0][0].document.id, range(64)))
    assert found == ["b"] * 64


@contextmanager
def somebody(replies):
    """A server of somebody else's, which answers with the given (status, body) in turn, then with the last."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = replies[min(len(seen), len(replies)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *args):
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/retrieve", seen
    finally:
        running.shutdown()
        running.server_close()
        thread.join(timeout=10)


@pytest.mark.parametrize(
    "hit",
    [
        {"document": {"id": "7", "contents": '"T"\nOne. Two.'}, "score": 0.5},
        {"id": "7", "contents": '"T"\nOne. Two.'},
        {"document": {"contents": '"T"\nOne. Two.'}, "score": 0.5},
        '"T"\nOne. Two.',
    ],
)
def test_client_reads_every_form_of_the_contract(hit):
    with somebody([(200, {"result": [[hit]]})]) as (url, seen):
        ((scored,),) = RemoteEngine(url).search(["q"], 4)
    assert scored.document.title == "T"
    assert scored.document.sentences == ("One.", "Two.")
    assert seen == [{"queries": ["q"], "topk": 4, "return_scores": True}]


def test_client_retries_5xx_but_not_4xx():
    good = (200, {"result": [[]]})
    with somebody([(503, b"busy"), good]) as (url, seen):
        assert RemoteEngine(url).search(["q"], 1) == [[]]
        assert len(seen) == 2
    with somebody([(422, b"no"), good]) as (url, seen):
        with pytest.raises(TransportError, match="422"):
            RemoteEngine(url).search(["q"], 1)
        assert len(seen) == 1


@pytest.mark.parametrize("body", [b"<html>", {"result": []}, {"result": [[3]]}, {"result": [[{"id": "1"}]]}, {}])
def test_other_answers_are_transport_errors(body):
    with somebody([(200, body)]) as (url, _), pytest.raises(TransportError):
        RemoteEngine(url).search(["q"], 1)


def test_unreachable_and_foreign_addresses():
    with pytest.raises(TransportError, match="cannot be searched"):
        RemoteEngine("http://127.0.0.1:9", retries=0, timeout_s=2).search(["q"], 1)
    with pytest.raises(ConfigError, match="http"):
        RemoteEngine("ftp://x")
    with pytest.raises(ConfigError, match="allow-remote"):
        server.serve(LocalEngine(ListCorpus(DOCUMENTS), build(["x"])), host="0.0.0.0")


def test_env_searches_a_server(url, tmp_path):
    from turnwise.envs.searchqa import SearchQAEnv

    data = tmp_path / "nq.jsonl"
    data.write_text('{"id": "1", "question": "what is tash", "golden_answers": ["a river"]}\n')
    env = SearchQAEnv(data=str(data), corpus=url)
    env.reset(seed=0)
    assert "Tash" in env.step("search[tash]")[0]
    assert "Tash is a river." in env.step("open[1]")[0]
    _, reward, _, _, info = env.step("answer[River [[b](https://x.example/b)]]")
    assert reward == 1.0
    assert info["extra"]["grade"]["cited"] == ["b"]
