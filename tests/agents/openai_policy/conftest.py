"""A scripted chat server on loopback, a clock that is never waited for, and a real server with a tiny model."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from turnwise.policy import PolicyRequest

pytest.importorskip("openai", reason="needs the extra llm")

# -- a scripted server -----------------------------------------------------------------------------------------


class StubServer:
    """Answers with the scripted replies in order, the last one again and again.

    A reply is a text (of a completion), a dict (the completion's JSON), a list (the chunks of a stream; what is
    no dict is sent as it stands), ``(status, headers, body)``, ``"hang up"``, or a callable of the request that
    returns one of these.
    """

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.models: Any = {"object": "list", "data": [{"id": "tiny"}]}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = self.broken_off = 0
        self.release = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def hold(self, reply: Any) -> Callable[[Any], Any]:
        """Make a reply that comes when ``release`` is set."""

        def wait(_: Any) -> Any:
            self.release.wait(20)
            return reply

        return wait

    def next_reply(self, request: dict[str, Any], headers: dict[str, str]) -> Any:
        with self.lock:
            self.requests.append(request)
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.arrived.release()
        return reply(request) if callable(reply) else reply

    async def request_came(self) -> None:
        """Return when one more request has come; a test that waits in vain fails."""
        assert await asyncio.to_thread(self.arrived.acquire, timeout=20)

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def completion(text: str | None = "go to desk 1", **fields: Any) -> dict[str, Any]:
    """Return a completion; ``message`` and ``choice`` are merged into those parts of it."""
    message = {"role": "assistant", "content": text, **fields.pop("message", {})}
    choice = {"index": 0, "finish_reason": "stop", "message": message, **fields.pop("choice", {})}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {"object": "chat.completion", "model": "tiny", "choices": [choice], "usage": usage, **fields}


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return one chunk of a stream; ``choice`` is merged into its choice, None leaves the choice out."""
    choice = fields.pop("choice", {})
    choices = [] if choice is None else [{"index": 0, "delta": delta or {}, **choice}]
    return {"object": "chat.completion.chunk", "model": "tiny", "choices": choices, **fields}


def tool_call(call_id: str = "c1", name: str = "open", arguments: str = '{"object": "door"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def error(status: int, message: str = "no", **fields: Any) -> tuple[int, dict[str, str], bytes]:
    headers = fields.pop("headers", {})
    return status, headers, json.dumps({"error": {"message": message, **fields}}).encode()


def _handler(stub: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with stub.lock:
                stub.paths.append(self.path)
            self._whole(200, {}, json.dumps(stub.models).encode())

        def do_POST(self) -> None:
            with stub.lock:
                stub.paths.append(self.path)
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                reply = stub.next_reply(request, {name.title(): value for name, value in self.headers.items()})
            finally:
                with stub.lock:
                    stub.at_once -= 1
            try:
                self._answer(reply)
            except OSError:  # the client went away
                self.close_connection = True

        def _answer(self, reply: Any) -> None:
            if reply == "hang up":
                self.close_connection = True
            elif isinstance(reply, list):
                self._stream(reply)
            elif isinstance(reply, tuple):
                self._whole(*reply)
            else:
                self._whole(200, {}, json.dumps(completion(reply) if isinstance(reply, str) else reply).encode())

        def _whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            if int(headers.get("Content-Length", "0")) > len(body):
                self.close_connection = True  # a body that ends too early

        def _stream(self, chunks: list[Any]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for one in chunks:
                data = f"data: {json.dumps(one)}\n\n".encode() if isinstance(one, dict) else one
                try:
                    self.wfile.write(data() if callable(data) else data)
                    self.wfile.flush()
                except OSError:
                    with stub.lock:
                        stub.broken_off += 1
                    return

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def stub() -> Iterator[StubServer]:
    server = StubServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def say() -> Any:
    """The makers of scripted replies."""

    class Say:
        completion = staticmethod(completion)
        chunk = staticmethod(chunk)
        tool_call = staticmethod(tool_call)
        error = staticmethod(error)
        done = b"data: [DONE]\n\n"

    return Say


# -- time that nobody waits for --------------------------------------------------------------------------------


class FakeClock:
    """Jumps ahead when somebody sleeps, and notes for how long."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def make_clock() -> type[FakeClock]:
    return FakeClock


TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "open",
            "description": "Open something.",
            "parameters": {"type": "object", "properties": {"object": {"type": "string"}}, "required": ["object"]},
        },
    },
)


@pytest.fixture(scope="session")
def ask() -> Callable[..., PolicyRequest]:
    def make(
        observation: str = "You see a door.", *, turn: int = 0, state: bytes = b"", **fields: Any
    ) -> PolicyRequest:
        first = {"system": "You open doors.", "tools": TOOLS} if not turn else {}
        return PolicyRequest(
            **{"session": "e", "turn": turn, "observation": observation, "state": state, "seed": 7, **first, **fields}
        )

    return make


@pytest.fixture(scope="session")
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine to its end, and no longer than a minute."""
    return lambda work: asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# -- a real server ---------------------------------------------------------------------------------------------

CHATML = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% elif m['content'] %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}<tool_call>\n{{ c['function'] | tojson }}\n</tool_call>"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = {"name": "open", "arguments": {"object": "door"}}


def conversation(tokenizer: Any, tools: bool, turns: int, opening: str) -> str:
    """Return a conversation in which the agent does the one right thing every time."""
    said: dict[str, Any] = {"role": "assistant", "content": "open the door"}
    if tools:
        said = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]}
    after = {"role": "tool" if tools else "user", "content": "The door is open."}
    messages = [{"role": "system", "content": "You open doors."}, {"role": "user", "content": opening}]
    for _ in range(turns - 1):
        messages += [said, after]
    written = tokenizer.apply_chat_template([*messages, said], tools=list(TOOLS) if tools else None, tokenize=False)
    return str(written)


class RealServer:
    """``transformers serve`` as a child process."""

    def __init__(self, model: Path, log: Path) -> None:
        self.model = str(model)
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HOME": str(log.parent / "hub"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        program = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
        command = [sys.executable, "-c", program, "serve", self.model, "--host", "127.0.0.1", "--port", str(port)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu"], stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    def wait(self) -> None:
        """Wait until it answers; fail with its output if it dies."""
        health = self.url.removesuffix("/v1") + "/health"
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(health, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail(f"transformers serve did not start:\n{self.log.read_text()[-4000:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some ten thousand parameters with a tokenizer and a chat template, on disk.

    It has learned one thing by heart: to call the tool where it is shown tools, and to write a command where not.
    """
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra torch")
    transformers = pytest.importorskip("transformers", reason="needs the extra torch")
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHATML
    openings = ("You see a door.", *(f"You see door {number}." for number in range(6)))
    texts = [conversation(fast, tools, 3, opening) for tools in (False, True) for opening in openings]
    bpe.train_from_iterator(texts, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = CHATML
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.Qwen2Config(
                vocab_size=len(fast),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=8192,
                tie_word_embeddings=True,
                eos_token_id=fast.eos_token_id,
                pad_token_id=fast.pad_token_id,
            )
        )
        learn(torch, model, fast, texts)
    model.generation_config.do_sample = True
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def learn(torch: Any, model: Any, tokenizer: Any, texts: list[str]) -> None:
    """Train until the agent's messages are known by heart; everything else is left unlearned."""
    header = "<|im_start|>assistant\n"
    batches = []
    for text in texts:
        ids, labels = [], []
        for number, part in enumerate(text.split(header)):
            said, ended, rest = part.partition("<|im_end|>")
            pieces = [(part, False)] if number == 0 else [(header, False), (said + ended, True), (rest, False)]
            for piece, learned in pieces:
                found = tokenizer(piece, add_special_tokens=False)["input_ids"]
                ids += found
                labels += found if learned else [-100] * len(found)
        batches.append((torch.tensor([ids]), torch.tensor([labels])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for step in range(600):
        ids, labels = batches[(step * 5) % len(batches)]
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.fixture
def start_server(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[[], RealServer]]:
    """Start real servers, which are gone when the test is over, however it ends."""
    started: list[RealServer] = []

    def start() -> RealServer:
        started.append(RealServer(tiny_model, tmp_path / f"server-{len(started)}.log"))
        started[-1].wait()
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    running = RealServer(tiny_model, tmp_path_factory.mktemp("serve") / "server.log")
    try:
        running.wait()
        yield running
    finally:
        running.close()
