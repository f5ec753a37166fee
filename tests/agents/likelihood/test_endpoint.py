"""Prompt log-probabilities over HTTP, against a small server of our own that keeps the same contract."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from turnwise.agents.likelihood import EndpointLogProbs
from turnwise.errors import ConfigError, JudgeError, TransportError
from turnwise.protocols import AnswerLogProbs, AnswerQuery, ForcedAnswer, LogProbSource

ANSWER = ForcedAnswer(answer="Ilsa Tarn", prefix="<answer> ", suffix=" </answer>")
QUERY = AnswerQuery(segments=("who founded it? ", "search says Ilsa. ", "sure. "), answers=(ANSWER,))
_WORD = re.compile(r"\s*\S+\s?|\s+")


class Fake(ThreadingHTTPServer):
    """Words are tokens; a word's log-probability says how long the prompt before it is."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Any] = []
        self.failures: list[tuple[int, str]] = []
        self.style = "echo"
        self.bos = ""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            failure = self.server.failures.pop(0) if self.server.failures else None
        if failure is not None:
            return self.reply(failure[0], failure[1].encode())
        pieces = _WORD.findall(body["prompt"])
        assert "".join(pieces) == body["prompt"]
        starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
        values = [None, *(-float(start) for start in starts[1:])]
        if self.server.bos:
            pieces, values = [self.server.bos, *pieces], [None, *(v if v is not None else -0.5 for v in values)]
        return self.reply(200, json.dumps({"choices": [self.choice(body, pieces, values)]}).encode())

    def choice(self, body: Any, pieces: list[str], values: list[float | None]) -> Any:
        if self.server.style == "echo" and body.get("echo"):
            return {"text": "x", "logprobs": {"tokens": [*pieces, "more"], "token_logprobs": [*values, -1.0]}}
        if self.server.style == "vllm" and "prompt_logprobs" in body:
            entries = [
                None if v is None else {"17": {"logprob": v, "rank": 1, "decoded_token": p}}
                for p, v in zip(pieces, values, strict=True)
            ]
            return {"text": "x", "prompt_logprobs": entries}
        if self.server.style == "garbled":
            return {"text": "x", "logprobs": {"tokens": ["?"], "token_logprobs": [-1.0]}}
        return {"text": "x", "logprobs": None}

    def reply(self, status: int, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Fake]:
    with Fake() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield fake
        fake.shutdown()
        thread.join(5)


def expected(query: AnswerQuery) -> list[tuple[float, ...]]:
    rows = []
    context = ""
    for segment in query.segments:
        context += str(segment)
        at = len(context) + len(ANSWER.prefix)
        rows.append((-float(at), -float(at + len("Ilsa "))))
    return rows


@pytest.mark.parametrize(("dialect", "style"), [("echo", "echo"), ("prompt_logprobs", "vllm")])
@pytest.mark.parametrize("bos", ["", "<s>"])
def test_only_the_answers_tokens_are_read(server: Fake, dialect: Any, style: str, bos: str) -> None:
    server.style, server.bos = style, bos
    source = EndpointLogProbs(server.url, model="m", dialect=dialect)
    assert isinstance(source, LogProbSource)
    (got,) = source.answer_logprobs([QUERY])
    assert isinstance(got, AnswerLogProbs)
    assert [row[0] for row in got.tokens] == expected(QUERY)
    assert {path for path, _, _ in server.seen} == {"/v1/completions"}
    prompts = sorted((body["prompt"] for _, _, body in server.seen), key=len)
    assert prompts[-1] == "who founded it? search says Ilsa. sure. <answer> Ilsa Tarn </answer>"
    assert len(prompts) == 3


def test_several_queries_and_aliases_come_back_in_order(server: Fake) -> None:
    aliases = AnswerQuery(segments=("a ", "b "), answers=(ANSWER, ForcedAnswer(answer="Tarn", prefix="<answer> ")))
    source = EndpointLogProbs(server.url, model="m", concurrency=3)
    first, second = source.answer_logprobs([QUERY, aliases])
    assert isinstance(first, AnswerLogProbs)
    assert isinstance(second, AnswerLogProbs)
    assert [row[0] for row in first.tokens] == expected(QUERY)
    assert [len(row) for row in second.tokens] == [2, 2]
    assert second.tokens[1][1] == (-float(len("a b <answer> ")),)


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Fake) -> None:
    query = AnswerQuery(segments=("a ",), answers=(ANSWER,))
    source = EndpointLogProbs(server.url, model="m", pause_s=0.0, retries=2)
    server.failures = [(503, "busy"), (429, "slow down")]
    assert isinstance(source.answer_logprobs([query])[0], AnswerLogProbs)
    server.failures = [(500, "x")] * 3
    (error,) = source.answer_logprobs([query])
    assert isinstance(error, TransportError)
    assert "3 attempts" in str(error)
    server.seen.clear()
    server.failures = [(400, "no such model")]
    (refused, good) = EndpointLogProbs(server.url, model="m", concurrency=1).answer_logprobs([query, query])
    assert isinstance(refused, JudgeError)
    assert "no such model" in str(refused)
    assert isinstance(good, AnswerLogProbs)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("style", "dialect", "words"),
    [
        ("none", "echo", "log-probabilities"),
        ("none", "prompt_logprobs", "vLLM"),
        ("garbled", "echo", "do not spell"),
    ],
)
def test_servers_that_cannot_score_a_prompt_say_so(server: Fake, style: str, dialect: Any, words: str) -> None:
    server.style = style
    (error,) = EndpointLogProbs(server.url, model="m", dialect=dialect).answer_logprobs([QUERY])
    assert isinstance(error, JudgeError)
    assert words in str(error)


def test_nobody_listens() -> None:
    source = EndpointLogProbs("http://127.0.0.1:9/v1", model="m", retries=1, pause_s=0.0)
    (error,) = source.answer_logprobs([QUERY])
    assert isinstance(error, TransportError)


def test_ids_cannot_be_sent_as_text(server: Fake) -> None:
    (error,) = EndpointLogProbs(server.url, model="m").answer_logprobs(
        [AnswerQuery(segments=((1, 2, 3),), answers=(ANSWER,))]
    )
    assert isinstance(error, JudgeError)
    assert not server.seen


def test_the_key_is_sent_but_never_described(server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    source = EndpointLogProbs(server.url, model="m", key_env="MY_KEY")
    source.answer_logprobs([AnswerQuery(segments=("a ",), answers=(ANSWER,))])
    assert server.seen[0][1]["Authorization"] == "Bearer sesame"
    assert "sesame" not in json.dumps(source.describe())
    assert EndpointLogProbs(**source.describe()).describe() == source.describe()


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match="http"):
        EndpointLogProbs("localhost:8000", model="m")
    with pytest.raises(ConfigError, match="dialect"):
        EndpointLogProbs("http://x", model="m", dialect="ehco")  # type: ignore[arg-type]
