"""The options of an endpoint policy, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal
from urllib.parse import urlsplit

from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Json

MODES = ("tools", "text", "auto")
# Fields of the request that the policy sets itself, or that would make the reply another one.
_OWN_FIELDS = frozenset({"messages", "model", "n", "stream", "stream_options", "tools"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of :class:`turnwise.agents.openai_policy.OpenAIPolicy`, which says what they mean."""

    model: str
    mode: Literal["tools", "text", "auto"]
    temperature: float
    top_p: float
    max_tokens: int
    max_total_tokens: int
    stop: tuple[str, ...]
    stream: bool
    logprobs: bool
    token_ids: bool
    seed: bool
    key_env: str
    timeout_s: float
    retries: int
    pause_s: float
    concurrency: int
    rate: float
    version: str | None
    extra: dict[str, Json]

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.mode not in MODES:
            raise unknown_name("mode", str(self.mode), MODES)
        _check_number("temperature", self.temperature, low=0.0)
        _check_number("top_p", self.top_p, low=0.0, high=1.0, above=True)
        _check_number("timeout_s", self.timeout_s, low=0.0, above=True)
        _check_number("pause_s", self.pause_s, low=0.0)
        _check_number("rate", self.rate, low=0.0)
        for name, low in (("max_tokens", 1), ("max_total_tokens", 0), ("retries", 0), ("concurrency", 1)):
            _check_whole(name, getattr(self, name), low=low)

    def as_text(self) -> dict[str, Json]:
        """Return the options as a specification writes them: stop strings and further fields as one text each."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        stop = _write_stop(self.stop) if self.stop else None
        extra = json.dumps(self.extra, sort_keys=True, ensure_ascii=False) if self.extra else ""
        return {**values, "stop": stop, "extra": extra}


def _check_number(name: str, value: float, *, low: float, high: float = math.inf, above: bool = False) -> None:
    fits = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not fits or value < low or value > high or (above and value == low):
        bounds = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
        raise ConfigError(f"{name} must be a number {bounds}, got {value!r}")


def _check_whole(name: str, value: int, *, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} must be a whole number of at least {low}, got {value!r}")


def read_url(url: str) -> str:
    """Return an API's address without a slash at its end.

    Raises:
        ConfigError: It is no address that a request may be sent to, or holds a secret.
    """
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigError(f"an endpoint's address begins with http:// or https://, got {url!r}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no address: {error}") from error
    if parts.username is not None or parts.password is not None:
        # The address is recorded with every trajectory, so it is not shown here either.
        raise ConfigError("an endpoint's address holds no user or password: keys go into an environment variable")
    if not host or parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise ConfigError(f"an endpoint's address is such as 'http://localhost:8000/v1', got {url!r}")
    return url.rstrip("/")


def read_stop(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the stop strings: one as it stands, several as a sequence or as a JSON list.

    Raises:
        ConfigError: One is empty or no text.
    """
    if stop is None or stop == "":
        return ()
    if isinstance(stop, str):
        listed = _json(stop) if stop.startswith("[") else None
        texts = isinstance(listed, list) and bool(listed) and all(isinstance(one, str) for one in listed)
        stop = listed if isinstance(listed, list) and texts else [stop]
    if not all(isinstance(one, str) and one for one in stop):
        raise ConfigError(f"stop must be one or more texts that are not empty, got {stop!r}")
    return tuple(stop)


def _write_stop(stop: Sequence[str]) -> str:
    """Return stop strings as :func:`read_stop` reads them again."""
    return stop[0] if len(stop) == 1 and not stop[0].startswith("[") else json.dumps(list(stop), ensure_ascii=False)


def read_extra(extra: str | Mapping[str, Json]) -> dict[str, Json]:
    """Return further fields of the request.

    Raises:
        ConfigError: It is no JSON object, or sets a field that is the policy's own.
    """
    given = _json(extra or "{}") if isinstance(extra, str) else extra
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"extra must be a JSON object with fields of the request, got {extra!r}")
    taken = sorted(_OWN_FIELDS.intersection(given))
    if taken:
        raise ConfigError(f"extra cannot set {', '.join(map(repr, taken))}: the policy sets that itself")
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"extra cannot be sent as JSON: {error}") from None
    return dict(given)


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
