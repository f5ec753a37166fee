"""A language model as judge, over any OpenAI-compatible endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import JudgeCase, JudgePage, Verdict
from turnwise.records import Json
from turnwise.rewards.carr.rubrics import Rubrics
from turnwise.rewards.judges import prompts, replies
from turnwise.rewards.judges.cache import ReplyCache, cache_key
from turnwise.rewards.judges.endpoint import ChatEndpoint, request_body
from turnwise.rewards.options import OptionError, number, show, whole
from turnwise.rewards.validity import cut

ReplyT = TypeVar("ReplyT")
_SHOWN_BACK = 4_000  # characters of a bad reply that the model sees again


class LLMJudge:
    """Asks a language model, reads its reply strictly, and raises when there is no verdict to be had.

    A reply that is not of the form asked for is answered with what is wrong with it, and asked for again. Only
    replies that were understood are cached, by the whole request: model, sampling options and messages.
    """

    remote = True

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float | None = 0.0,
        max_tokens: int | None = 4_096,
        extra: Mapping[str, Json] | None = None,
        attempts: int = 5,
        retries: int = 4,
        timeout_s: float = 120.0,
        deadline_s: float = 300.0,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        max_page_chars: int | None = None,
        cache: str | None = None,
    ) -> None:
        """Describe the judge; nothing is opened before the first question.

        Args:
            base_url: Address of the API, such as ``"http://127.0.0.1:8000/v1"``.
            model: Name of the model there.
            api_key_env: Environment variable that holds the key; without one, none is sent.
            temperature: Sampling temperature; None leaves it out, for models that take none.
            max_tokens: Longest reply; None leaves it out, for models that want another field (put it into ``extra``).
            extra: Further fields of the request, such as ``{"reasoning_effort": "low"}``.
            attempts: How often a verdict is asked for until a reply is of the right form.
            retries: How often a request that failed for a reason that may pass is sent again.
            timeout_s: Seconds that one request may wait for the next piece of its reply.
            deadline_s: Seconds that one verdict may take, with all attempts, retries and waiting. (A reply that
                trickles in may take up to ``timeout_s`` more.)
            max_concurrency: Requests under way at once, in this process.
            requests_per_minute: Rate, in this process; None for no limit.
            max_page_chars: Characters of a page that the model sees; None for all.
            cache: Path of the sqlite file that keeps replies; None keeps none.

        Raises:
            ConfigError: An option is out of range.
            MissingExtraError: httpx is not installed.
        """
        if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
            raise OptionError("base_url", f"must begin with http:// or https://, got {show(base_url)}")
        if not isinstance(model, str) or not model:
            raise OptionError("model", f"must be the name of a model, got {show(model)}")
        self.base_url = base_url
        self.model = model
        self.api_key_env = api_key_env
        self.temperature = None if temperature is None else number("temperature", temperature, low=0.0)
        self.max_tokens = None if max_tokens is None else whole("max_tokens", max_tokens, low=1)
        self.extra = _fields(extra)
        self.attempts = whole("attempts", attempts, low=1)
        self.retries = whole("retries", retries, low=0)
        self.timeout_s = number("timeout_s", timeout_s, low=0.001)
        self.deadline_s = number("deadline_s", deadline_s, low=0.001)
        self.max_concurrency = whole("max_concurrency", max_concurrency, low=1)
        self.requests_per_minute = (
            None if requests_per_minute is None else number("requests_per_minute", requests_per_minute, low=0.01)
        )
        self.max_page_chars = None if max_page_chars is None else whole("max_page_chars", max_page_chars, low=1)
        self.cache = cache
        self._prepare()

    def _prepare(self) -> None:
        self._cache = None if self.cache is None else ReplyCache(self.cache)
        self._endpoint = ChatEndpoint(
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            retries=self.retries,
            max_concurrency=self.max_concurrency,
            requests_per_minute=self.requests_per_minute,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the options only: connections and files are opened anew where it arrives."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from the options."""
        self.__dict__.update(state)
        self._prepare()

    def close(self) -> None:
        """Close connections and cache; a later question opens them again."""
        self._endpoint.close()
        if self._cache is not None:
            self._cache.close()

    def answer(self, case: JudgeCase) -> Verdict:
        """Ask whether the final answer is right."""
        if not case.answers:
            raise JudgeError(f"task {case.task.id!r} has no answer in its data to compare with")
        return self._ask(prompts.ask_answer(case), replies.read_answer)

    def entities(self, case: JudgeCase) -> Mapping[str, str | None]:
        """Ask which names the report gives."""
        slots = _slots(case)
        return self._ask(prompts.ask_entities(case, slots), lambda reply: replies.read_entities(reply, slots))

    def support(
        self, case: JudgeCase, statements: Mapping[int, str], pages: Sequence[JudgePage]
    ) -> Mapping[int, Verdict]:
        """Ask which statements the pages support, all in one question."""
        shown = self._shown(pages)
        prompt = prompts.ask_support(case, list(statements.values()), shown)
        return self._ask(prompt, lambda reply: replies.read_support(reply, list(statements), shown))

    def useful(self, case: JudgeCase, query: str, found: Sequence[JudgePage], earlier: Sequence[JudgePage]) -> Verdict:
        """Ask whether a search helped."""
        prompt = prompts.ask_useful(case, query, self._shown(found), self._shown(earlier))
        return self._ask(prompt, replies.read_useful)

    def _shown(self, pages: Sequence[JudgePage]) -> list[JudgePage]:
        limit = self.max_page_chars
        return [
            page
            if limit is None or len(page.text) <= limit
            else JudgePage(url=page.url, id=page.id, title=page.title, text=page.text[:limit], sentences=page.sentences)
            for page in pages
        ]

    def _ask(self, prompt: str, read: Callable[[str], ReplyT]) -> ReplyT:
        deadline = time.monotonic() + self.deadline_s
        # Lone surrogates, which a policy may write, cannot be sent.
        opening = prompts.messages(prompt.encode("utf-8", "replace").decode("utf-8"))
        conversation = opening
        problem = ""
        for _ in range(self.attempts):
            body = request_body(self._request(conversation))
            key = cache_key(body) if self._cache is not None else ""
            kept = self._cache.get(key) if self._cache is not None else None
            reply = kept
            try:
                if reply is None:
                    completion = self._endpoint.complete(body, deadline)
                    reply = completion.text
                    if completion.cut:
                        limit = "the limit" if self.max_tokens is None else self.max_tokens
                        raise replies.ReplyError(f"it was cut off at {limit} tokens: be brief")
                verdict = read(reply)
            except replies.ReplyError as error:
                problem = str(error)
                said = (reply or "").encode("utf-8", "replace").decode("utf-8")
                again = [
                    {"role": "assistant", "content": cut(said, limit=_SHOWN_BACK)},
                    {"role": "user", "content": prompts.repair(problem)},
                ]
                conversation = [*opening, *again]
                continue
            if kept is None and self._cache is not None:
                self._cache.put(key, self.model, reply)
            return verdict
        raise JudgeError(f"{self.model} gave no usable reply in {self.attempts} attempts; the last one: {problem}")

    def _request(self, conversation: Sequence[Mapping[str, str]]) -> dict[str, Json]:
        request: dict[str, Json] = {"model": self.model, "messages": list(conversation)}
        if self.max_tokens is not None:
            request["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            request["temperature"] = self.temperature
        return {**request, **self.extra}

    def describe(self) -> dict[str, Json]:
        """Return the options; the key itself is none of them."""
        return {"use": "llm", **self.__getstate__()}


def _fields(extra: object) -> dict[str, Json]:
    if extra is None:
        return {}
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        raise OptionError("extra", f"must be a mapping of request fields, got {show(extra)}")
    fields = dict(extra)
    try:
        request_body(fields)
    except (TypeError, ValueError) as error:
        raise OptionError("extra", f"cannot be sent as JSON: {error}") from None
    return fields


def _slots(case: JudgeCase) -> tuple[str, ...]:
    try:
        return Rubrics.read(case.rubrics).ids
    except ConfigError as error:
        raise JudgeError(f"task {case.task.id!r}: {error}") from error
