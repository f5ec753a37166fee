"""What a failed request means: whether it is worth another try, and whose failure it is in the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from turnwise.errors import BudgetSpentError, ConfigError, PolicyError, TransportError

Blame = Literal["transport", "policy", "config", "context"]

_BUSY = frozenset({408, 409, 425, 429, 502, 503, 504, 529})
_READ_CHARS = 4000
_SHOWN_CHARS = 300

# How servers say that the conversation does not fit the model. One line per server, as their sources or
# their answers have it; the last one is for hosted endpoints and text-generation-inference.
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length"  # OpenAI, older vLLM, DeepSeek
    r"|longer than the maximum model length|model's context length|exceeds? (the )?model's (maximum )?context"  # vLLM
    r"|max_tokens must be at least 1, got -"  # vLLM, where the prompt alone leaves no room
    r"|exceeds the maximum allowed length|longer than the model's context"  # SGLang
    r"|exceed_context_size|available context size|context size has been exceeded"  # llama.cpp
    r"|input length of input_ids is|longer than the specified maximum sequence length"  # transformers serve
    r"|prompt is too long|input token count .* exceeds|inputs.{0,3} tokens \+ .{0,3}max_new_tokens",
    re.IGNORECASE | re.DOTALL,
)
_CONTEXT_STATUS = frozenset({None, 400, 413, 422, 500})

_REFUSES = re.compile(
    r"unexpected|unknown|unrecogni[sz]ed|unsupported|not (currently )?support|n't support|extra (inputs|fields)"
    r"|extra_forbidden|not permitted|not allowed|not available|requires?\b|enable|no endpoints found",
    re.IGNORECASE,
)
_TOOLS = re.compile(r"\btools?\b|tool[_ -](choice|calls?|use)|function[_ -]call", re.IGNORECASE)
# "tools" is no field to leave out quietly: without them the conversation is another one.
_TOOLS_STATUS = frozenset({400, 404, 422, 500, 501})
_FIELD_STATUS = frozenset({400, 422})
_NO_MODEL = re.compile(r"model\b.*(not found|does not exist|not exist|no such)|model_not_found|pinned to", re.I | re.S)


class OversizedError(Exception):
    """A response that may be larger than what we read; the text says why it is not read."""


class Said(NamedTuple):
    """What a server said about an error: the message, and its code and type where it has them."""

    message: str
    code: str = ""


class Failure(Exception):  # noqa: N818 - it is what became of a request, turned into an error in the end
    """A request that failed.

    Attributes:
        problem: What happened, in one line, without secrets.
        blame: What kind of error it ends as.
        kind: The error's ``kind``.
        fix: What the caller can do about it, as the end of a sentence.
        retry: Whether another try may help.
        after_s: How many seconds the server asks us to wait, or None.
        status: The HTTP status, or None where there was none.
        attempts: How often the request was sent.
    """

    def __init__(
        self,
        problem: str,
        *,
        blame: Blame,
        kind: str = "exception",
        fix: str = "",
        retry: bool = False,
        after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.blame = blame
        self.kind = kind
        self.fix = fix
        self.retry = retry
        self.after_s = after_s
        self.status = status
        self.attempts = 1

    def error(self, url: str) -> Exception:
        """Return what is raised when the request is given up.

        Args:
            url: Where it went.
        """
        problem = one_line(self.problem, limit=_SHOWN_CHARS)
        if self.blame == "context":
            return BudgetSpentError(f"the model's context is full: {problem}", cause="context")
        often = f" in {self.attempts} attempts; the last" if self.attempts > 1 else ""
        if self.blame == "transport":
            return TransportError(f"{url} did not answer{often}: {problem}", kind=self.kind)
        if self.blame == "policy":
            return PolicyError(f"{url} failed{often}: {problem}", kind=self.kind)
        return ConfigError(f"{url} refused: {problem}{self.fix}")


def by_status(
    status: int, said: Said, *, key_env: str, has_key: bool, model: str = "", after_s: float | None = None
) -> Failure:
    """Classify a response that is no success.

    Args:
        status: HTTP status.
        said: What its body says.
        key_env: Name of the variable that holds the key, for the message.
        has_key: Whether a key was sent.
        model: Name of the model that was asked for; empty where none was.
        after_s: Seconds the server asks us to wait.
    """
    problem = f"status {status}: {said.message}"
    if is_context(said, status):
        return Failure(problem, blame="context", status=status)
    if status == 429 and said.code == "insufficient_quota":
        fix = f"; the quota of the key in {key_env} is used up"
        return Failure(problem, blame="config", fix=fix, status=status)
    if status in _BUSY:
        return Failure(problem, blame="transport", kind="busy", retry=True, after_s=after_s, status=status)
    if status >= 500:
        failure = Failure(problem, blame="policy", kind="server", retry=True, after_s=after_s, status=status)
        failure.retry = not refuses_tools(failure)  # as llama.cpp does, with a status that says that it broke
        return failure
    if status in (401, 403):
        sent = f"the key in {key_env} is not accepted" if has_key else f"no key was sent: set {key_env or 'key_env'}"
        return Failure(problem, blame="config", fix=f"; {sent}", status=status)
    if 300 <= status < 400:
        fix = "; redirects are not followed: give the final address"
        return Failure(problem, blame="config", fix=fix, status=status)
    if status in (400, 404) and _NO_MODEL.search(f"{said.code} {said.message}"):
        fix = f"; it serves no model {model!r}: its /models lists what it serves"
        return Failure(problem, blame="config", fix=fix, status=status)
    if status in (404, 405):
        fix = "; there is no such API: addresses mostly end in /v1"
        return Failure(problem, blame="config", fix=fix, status=status)
    return Failure(problem, blame="policy", kind="refused", status=status)


def in_stream(said: Said, *, key_env: str, has_key: bool) -> Failure:
    """Classify an error that came within a stream, after a status of success."""
    if said.code.isdigit() and 400 <= int(said.code) < 600:
        return by_status(int(said.code), said, key_env=key_env, has_key=has_key)
    if is_context(said, None):
        return Failure(said.message, blame="context")
    return Failure(f"error in the stream: {said.message}", blame="policy", kind="server", retry=True)


def is_context(said: Said, status: int | None) -> bool:
    """Whether an error means that the conversation is longer than the model's context."""
    return status in _CONTEXT_STATUS and bool(_CONTEXT.search(f"{said.code} {said.message}"))


def refused_fields(failure: Failure, fields: Iterable[str]) -> frozenset[str]:
    """Return which of the request's fields a server refused by name."""
    if failure.status not in _FIELD_STATUS or not _REFUSES.search(failure.problem):
        return frozenset()
    return frozenset(field for field in fields if re.search(rf"\b{re.escape(field)}\b", failure.problem))


def refuses_tools(failure: Failure) -> bool:
    """Whether a server says that it, or its model, takes no tools."""
    return (
        failure.status in _TOOLS_STATUS
        and failure.blame != "context"
        and bool(_TOOLS.search(failure.problem) and _REFUSES.search(failure.problem))
    )


def read_error(body: str | bytes | Mapping[str, Any], *, secret: str = "") -> Said:
    """Find the message in an error's body, whatever server wrote it.

    Args:
        body: The body as it came, or the decoded error.
        secret: A text that is cut out wherever it occurs.
    """
    value: Any = body
    if isinstance(body, str | bytes):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    code: Any = ""
    if isinstance(value, dict):
        inner = value.get("error", value)
        if isinstance(inner, dict):
            code = " ".join(str(inner[key]) for key in ("code", "type") if inner.get(key) not in (None, ""))
            value = inner.get("message") or _detail(inner.get("detail")) or inner
        else:
            value = inner
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    first = str(code).partition(" ")[0]
    # The type is where llama.cpp says what kind of error it is; it is kept in sight of the patterns.
    kind = str(code).removeprefix(first).strip()
    return Said(one_line(f"{text} ({kind})" if kind and kind not in text else text, secret=secret), first)


def _detail(detail: Any) -> Any:
    """Return FastAPI's detail without the input that it quotes, which are the conversation's own words."""
    if not isinstance(detail, list):
        return detail
    entries = [entry for entry in detail if isinstance(entry, dict)]
    return "; ".join(f"{entry.get('loc')}: {entry.get('msg')} ({entry.get('type')})" for entry in entries)


def one_line(text: str, *, secret: str = "", limit: int = _READ_CHARS) -> str:
    """Return a text in one line, without the secret, and not longer than ``limit`` characters."""
    if secret:
        text = text.replace(secret, "[key]")
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that ``Retry-After`` (or ``retry-after-ms``) asks for; a date is not read."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name) or "") * scale
        except ValueError:
            continue
        if 0.0 <= seconds < float("inf"):
            return seconds
    return None
