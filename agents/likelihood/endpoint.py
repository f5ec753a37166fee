"""Answer log-probabilities from an OpenAI-compatible completions endpoint that scores its prompt.

Two dialects: ``"echo"`` (the OpenAI form, also SGLang's and vLLM's: the prompt is sent back with the
log-probability of each token) and ``"prompt_logprobs"`` (vLLM's own). Each context with each answer is
one request; servers with a prefix cache compute the common beginning once.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from turnwise.agents.likelihood.encode import answer_span
from turnwise.errors import ConfigError, JudgeError, TransportError, TurnwiseError, attribute_to, unknown_name
from turnwise.protocols import AnswerLogProbs, AnswerQuery, ForcedAnswer
from turnwise.records import Json

DIALECTS = ("echo", "prompt_logprobs")
_BUSY = (408, 409, 429, 500, 502, 503, 504)
_LONGEST_PAUSE_S = 20.0


class EndpointLogProbs:
    """Scores answers over HTTP (keeps the LogProbSource protocol)."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        dialect: Literal["echo", "prompt_logprobs"] = "echo",
        key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_s: float = 60.0,
        retries: int = 4,
        pause_s: float = 0.5,
    ) -> None:
        """Talk to a server; nothing is sent before the first answer is scored.

        Args:
            url: Address of the API, such as ``"http://localhost:8000/v1"``.
            model: Name of the model there.
            dialect: ``"echo"`` or ``"prompt_logprobs"``.
            key_env: Environment variable that holds the API key; without it no key is sent.
            concurrency: Most requests at a time.
            timeout_s: Seconds for one request.
            retries: How often a request is sent again that failed on the way or met a busy server.
            pause_s: Seconds before the first retry; doubles each time.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ConfigError(f"an endpoint's address begins with http:// or https://, got {url!r}")
        if dialect not in DIALECTS:
            raise unknown_name("dialect", str(dialect), DIALECTS)
        for name, value, low in (("concurrency", concurrency, 1), ("retries", retries, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"{name} must be a whole number of at least {low}, got {value!r}")
        if not timeout_s > 0.0 or not pause_s >= 0.0:
            raise ConfigError(f"timeout_s must be above 0 and pause_s at least 0, got {timeout_s!r} and {pause_s!r}")
        self.url = url.rstrip("/")
        self.model = model
        self.dialect = dialect
        self.key_env = key_env
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.retries = retries
        self.pause_s = pause_s

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> list[AnswerLogProbs | TurnwiseError]:
        """Score answers; a query one of whose requests fails gets the reason in its place."""
        jobs = [
            (number, prompt, begin, forced)
            for number, query in enumerate(queries)
            for prompt, begin, forced in _requests(query)
        ]
        with ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="logprobs") as pool:
            scored = list(pool.map(lambda job: self._scored(*job[1:]), jobs))
        replies: list[list[tuple[float, ...] | TurnwiseError]] = [[] for _ in queries]
        for (number, *_), result in zip(jobs, scored, strict=True):
            replies[number].append(result)
        return [_rows(query, found) for query, found in zip(queries, replies, strict=True)]

    def _scored(self, prompt: str, begin: int, forced: ForcedAnswer) -> tuple[float, ...] | TurnwiseError:
        if not prompt:
            return JudgeError("a completions endpoint is sent text: write contexts as chat or plain text, not as ids")
        try:
            with attribute_to("judge", "reading the endpoint's answer"):
                pieces, logprobs = self._read(self._post(self._body(prompt)))
                low, high = answer_span(_offsets(pieces, prompt), begin, begin + len(forced.answer))
                found = logprobs[low:high]
        except TurnwiseError as error:
            return error
        if not found or any(value is None for value in found):
            return JudgeError(f"the endpoint gave no log-probability for the answer {forced.answer[:80]!r}")
        return tuple(float(value) for value in found if value is not None)

    # -- the wire ----------------------------------------------------------------------------------

    def _body(self, prompt: str) -> dict[str, Json]:
        body: dict[str, Json] = {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        return {**body, **({"echo": True, "logprobs": 1} if self.dialect == "echo" else {"prompt_logprobs": 0})}

    def _post(self, body: dict[str, Json]) -> Any:
        """Send a request, again where that may help.

        Raises:
            TransportError: The server was not reached, or stayed busy.
            JudgeError: It refused, or its answer is no JSON.
        """
        key = os.environ.get(self.key_env, "")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.url}/completions", data=json.dumps(body).encode(), headers=headers, method="POST"
        )
        attempt = 0
        while True:
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:  # noqa: S310
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                text = error.read(2000).decode("utf-8", "replace")
                if error.code not in _BUSY:
                    raise JudgeError(f"{self.url} refused with status {error.code}: {text[:300]}") from error
                problem = f"status {error.code}: {text[:300]}"
                asked = error.headers.get("Retry-After", "")
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                problem, asked = f"{type(error).__name__}: {error}", ""
            except ValueError as error:
                raise JudgeError(f"{self.url} answered with something that is no JSON: {error}") from error
            if attempt >= self.retries:
                raise TransportError(f"{self.url} did not answer in {attempt + 1} attempts; the last: {problem}")
            pause = float(asked) if asked.isdigit() else self.pause_s * 2.0**attempt
            time.sleep(min(pause, _LONGEST_PAUSE_S))
            attempt += 1

    def _read(self, reply: Any) -> tuple[list[str], list[float | None]]:
        """Return the prompt's tokens as text, and the log-probability of each (None for the first)."""
        choice = reply["choices"][0]
        if self.dialect == "echo":
            block = choice.get("logprobs")
            if not block or not block.get("token_logprobs"):
                raise JudgeError(f"{self.url} does not send the prompt back with log-probabilities (echo, logprobs)")
            return list(block["tokens"]), list(block["token_logprobs"])
        entries = choice.get("prompt_logprobs", reply.get("prompt_logprobs"))
        if not entries:
            raise JudgeError(f"{self.url} does not know 'prompt_logprobs', which is vLLM's: try dialect='echo'")
        # The first token is predicted by nothing, and its text is known only as what the others leave.
        known = [next(iter(entry.values())) if entry else None for entry in entries]
        return (
            ["" if token is None else str(token.get("decoded_token") or "") for token in known],
            [None if token is None else float(token["logprob"]) for token in known],
        )

    def describe(self) -> dict[str, Json]:
        """Return the options, without the key."""
        return {
            "url": self.url,
            "model": self.model,
            "dialect": self.dialect,
            "key_env": self.key_env,
            "concurrency": self.concurrency,
            "timeout_s": self.timeout_s,
            "retries": self.retries,
            "pause_s": self.pause_s,
        }


def _requests(query: AnswerQuery) -> list[tuple[str, int, ForcedAnswer]]:
    """Return prompt, first character of the answer in it, and the answer, context by context."""
    requests = []
    context: str | None = ""
    for segment in query.segments:
        context = context + segment if context is not None and isinstance(segment, str) else None
        for forced in query.answers:
            front = None if context is None else context + forced.prefix
            # What follows the answer is sent too: it decides how the answer's last characters are tokenised.
            prompt = "" if front is None else front + forced.answer + forced.suffix
            requests.append((prompt, len(front or ""), forced))
    return requests


def _rows(query: AnswerQuery, found: list[tuple[float, ...] | TurnwiseError]) -> AnswerLogProbs | TurnwiseError:
    scores: list[tuple[float, ...]] = []
    for result in found:
        if isinstance(result, TurnwiseError):
            return result
        scores.append(result)
    width = len(query.answers)
    return AnswerLogProbs(tokens=tuple(tuple(scores[i : i + width]) for i in range(0, len(scores), width)))


def _offsets(pieces: Sequence[str], prompt: str) -> list[tuple[int, int]]:
    """Return the character range in the prompt of each of its tokens.

    The pieces are counted from the end of the prompt where they make it up, whatever special token the
    server put in front; a sampled token behind it is left over.

    Raises:
        JudgeError: The pieces do not make up the prompt, as when a token is part of a character.
    """
    text = "".join(pieces)
    # vLLM leaves out the text of the first token; it then stands for what is missing in front.
    shift = text.find(prompt)
    if shift < 0 and pieces and not pieces[0] and text and prompt.endswith(text):
        pieces, shift = [prompt[: len(prompt) - len(text)], *pieces[1:]], 0
    if shift < 0:
        raise JudgeError("the endpoint's tokens do not spell the prompt, so the answer's cannot be told apart")
    offsets = []
    at = -shift
    for piece in pieces:
        offsets.append((at, at + len(piece)))
        at += len(piece)
    return offsets
