"""A client for anybody's Search-R1 retrieval server."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from turnwise.envs.retrieval.corpus import folded, read_record
from turnwise.envs.retrieval.interface import Document, Scored
from turnwise.errors import ConfigError, MissingExtraError, TransportError

_REMEMBERED = 50_000


class RemoteEngine:
    """Searches over HTTP (keeps the Engine protocol).

    The contract can only search, so documents are looked up among those that a search of this process returned.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0, retries: int = 2) -> None:
        """Talk to a server; nothing is sent before the first search.

        Args:
            url: The server's address, with or without ``/retrieve``.
            timeout_s: Seconds for one request.
            retries: How often a request that failed on the way, or with a status of 5xx, is sent again.

        Raises:
            ConfigError: The address is not http or https.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"a retrieval server's address begins with http:// or https://, got {url!r}")
        self.url = url if url.rstrip("/").endswith("/retrieve") else url.rstrip("/") + "/retrieve"
        self._timeout_s, self._retries = timeout_s, retries
        self._seen: OrderedDict[str, Document] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remote, (self.url, self._timeout_s, self._retries)

    def search(self, queries: Sequence[str], k: int) -> list[list[Scored]]:
        """Return the best documents of each query, best first.

        Raises:
            TransportError: The server cannot be reached, refuses, or answers something else.
        """
        if not queries:
            return []
        reply = self._post({"queries": list(queries), "topk": k, "return_scores": True})
        result = reply.get("result") if isinstance(reply, dict) else None
        if not isinstance(result, list) or len(result) != len(queries):
            raise TransportError(f"{self.url} answered without one list of documents per query", kind="reply")
        found = [[self._read(item, place) for place, item in enumerate(hits)] for hits in result]
        with self._lock:
            for hits in found:
                for scored in hits:
                    self._remember(scored.document)
        return found

    def lookup(self, key: str) -> Document | None:
        """Return a document that a search has returned, by its id, address or title."""
        with self._lock:
            return self._seen.get(key) or self._seen.get(folded(key))

    def _remember(self, document: Document) -> None:
        for key in (folded(document.title), document.url, document.id):
            if key:
                self._seen[key] = document
                self._seen.move_to_end(key)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _read(self, item: Any, place: int) -> Scored:
        """Read a hit in either form of the contract; a document may also be a bare text."""
        score: Any = -float(place)
        if isinstance(item, dict) and "document" in item:
            item, score = item["document"], item.get("score", score)
        if isinstance(item, str):
            item = {"id": item.partition("\n")[0].strip().strip('"')[:200] or "?", "contents": item}
        if not isinstance(item, dict):
            raise TransportError(f"{self.url} answered a hit that is no document", kind="reply")
        if "id" not in item and "_id" not in item:
            item = {
                **item,
                "id": str(item.get("title") or item.get("contents", "")).partition("\n")[0].strip('"')[:200],
            }
        try:
            document = read_record(item, self.url)
        except ConfigError as error:
            raise TransportError(str(error), kind="reply") from error
        number = isinstance(score, int | float) and not isinstance(score, bool)
        return Scored(document, float(score) if number else -float(place))

    def _post(self, body: dict[str, Any]) -> Any:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("httpx", "serve") from error
        problem = ""
        for _ in range(self._retries + 1):
            try:
                reply = httpx.post(self.url, json=body, timeout=self._timeout_s)
                if reply.status_code < 400:
                    return reply.json()
                problem = f"status {reply.status_code}: {reply.text[:200]}"
                if reply.status_code < 500:
                    break
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            except ValueError as error:
                problem = f"no JSON: {error}"
                break
        raise TransportError(f"{self.url} cannot be searched: {problem}", kind="http")


def _remote(url: str, timeout_s: float, retries: int) -> RemoteEngine:
    return RemoteEngine(url, timeout_s=timeout_s, retries=retries)
