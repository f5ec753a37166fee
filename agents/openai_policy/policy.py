"""``OpenAIPolicy``: an agent behind an OpenAI-compatible chat endpoint."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

from turnwise.agents.openai_policy.ask import Asker, finish, server_version
from turnwise.agents.openai_policy.endpoint import Endpoint
from turnwise.agents.openai_policy.history import History, resume, world_text
from turnwise.agents.openai_policy.limits import Clock, WallClock
from turnwise.agents.openai_policy.options import Options, read_extra, read_stop, read_url
from turnwise.agents.openai_policy.replies import Reply
from turnwise.agents.openai_policy.tokens import KnownIds, continued
from turnwise.agents.spec_options import read_target, write_target
from turnwise.errors import BudgetSpentError, ConfigError, MissingExtraError, PolicyError
from turnwise.policy import PolicyReply, PolicyRequest
from turnwise.records import Json, TurnTokens

ResultT = TypeVar("ResultT")


class OpenAIPolicy:
    """Asks a chat endpoint for messages (keeps the :class:`~turnwise.policy.Policy` protocol).

    The conversation is the policy's state, so any replica goes on with any episode. Token ids are recorded where
    the server sends those of the prompt and of the completion (vLLM's ``return_token_ids``) and each prompt goes on
    exactly where the sequence known so far ended. Where it does not, because the server tokenised an earlier
    message anew and otherwise, or sends no ids, that turn and the following ones have none: no id is ever made up.
    Log-probabilities are recorded beside ids only; without ids there is nothing to pair them with. They are the
    server's: whether they are those before or after the temperature is its setting.
    """

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        model: str = "",
        mode: Literal["tools", "text", "auto"] = "auto",
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 512,
        max_total_tokens: int = 0,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        logprobs: bool = False,
        token_ids: bool = False,
        seed: bool = True,
        key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 300.0,
        retries: int = 5,
        pause_s: float = 0.5,
        concurrency: int = 64,
        rate: float = 0.0,
        version: str | None = None,
        extra: str | Mapping[str, Json] = "",
    ) -> None:
        """Describe the endpoint; nothing is opened before the first message is asked for.

        Args:
            url: Address of the API, such as ``"http://localhost:8000/v1"``.
            clock: Where the limits take the time from; None for the real one.
            model: Name of the model there; empty asks the server, which must then serve a single one.
            mode: How actions are asked for: ``"tools"`` by function calling, ``"text"`` as text in the world's
                grammar, ``"auto"`` by function calling until the server says that it takes no tools.
            temperature: Sampling temperature, at least 0.
            top_p: Nucleus sampling threshold, above 0 and at most 1.
            max_tokens: Longest message in tokens.
            max_total_tokens: Longest conversation in tokens, as the server counts prompt and completion; each token
                counts once, however often it is sent again. 0 for no limit.
            stop: A text that ends a message; several as a sequence, or as a JSON list.
            stream: Whether to ask for the message piece by piece; the reply is the same.
            logprobs: Whether to ask for the log-probability of each sampled token.
            token_ids: Whether to ask for token ids, as vLLM gives them.
            seed: Whether to send a seed for each message, derived from the episode's.
            key_env: Environment variable that holds the API key; empty, or a variable without a value, sends none.
            timeout_s: Seconds for one request.
            retries: How often a request is sent again that failed on the way, met a busy server or failed in it.
            pause_s: Seconds before the first retry; doubles each time, up to a minute.
            concurrency: Most requests at a time, of each replica.
            rate: Most requests per second, of each replica; 0 for no limit.
            version: What turns are stamped with; None takes the model's name and fingerprint from the server.
            extra: Further fields of the request, as a mapping or as the text of a JSON object, such as
                ``{"chat_template_kwargs": {"enable_thinking": false}}``. They are recorded with the agent's
                specification: no place for secrets.

        Raises:
            ConfigError: An option is out of range.
            MissingExtraError: The library ``openai`` is not installed.
        """
        self._options = Options(
            model=model,
            mode=mode,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            max_total_tokens=max_total_tokens,
            stop=read_stop(stop),
            stream=stream,
            logprobs=logprobs,
            token_ids=token_ids,
            seed=seed,
            key_env=key_env,
            timeout_s=timeout_s,
            retries=retries,
            pause_s=pause_s,
            concurrency=concurrency,
            rate=rate,
            version=version,
            extra=read_extra(extra),
        )
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("openai", "llm")
        self.url = read_url(url)
        self.spec = write_target("openai", self.url, _given(self._options.as_text()))
        self._endpoint = Endpoint(self.url, self._options, clock or WallClock())
        self._asker = Asker(self._endpoint, self._options)
        self._label = version
        self._seen_version: str | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.drifted = 0

    @classmethod
    def from_spec(cls, rest: str) -> OpenAIPolicy:
        """Make the policy of ``openai:URL?option=value&...``; nothing is opened.

        Raises:
            ConfigError: The address or an option is wrong.
        """
        url, options = read_target("openai", rest, cls)
        return cls(url, **options)

    @property
    def version(self) -> str | None:
        """The version that turns are stamped with: the one given, or what the server said last."""
        return self._label if self._label is not None else self._seen_version

    def describe(self) -> dict[str, Json]:
        """Return the options, and what was learned about the server; never the key."""
        asker = self._asker
        learned = {"left_out": sorted(asker.left_out), "takes_tools": asker.takes_tools, "drifted": self.drifted}
        return {"url": self.url, **self._options.as_text(), **learned}

    # -- the Policy protocol -------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Open the client, and ask for the model's name where none was given.

        Raises:
            ConfigError: The key cannot be sent, or the server does not serve exactly one model.
            PolicyError: The server failed.
            TransportError: The server was not reached.
        """
        await self._unless_closed(self._asker.prepare())

    async def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message of an episode.

        Raises:
            BudgetSpentError: The conversation fills the token budget or the model's context.
            ConfigError: The server refuses the key, the model or the address.
            PolicyError: The server failed, or the policy was closed.
            TransportError: The server was not reached, or stayed busy.
        """
        return await self._unless_closed(self._act(request))

    async def forget(self, session: str) -> None:
        """Do nothing: nothing is kept for an episode here."""

    async def update(self, weights: Any, version: str) -> None:
        """Take a new version label; messages being sampled keep the old one.

        Raises:
            ConfigError: ``weights`` is not None: the server loads its weights itself.
        """
        if weights is not None:
            raise ConfigError(
                f"the weights behind {self.url} are the server's own: load them there, and then tell only the "
                f"version, as update(None, {version!r})"
            )
        self._label = version

    async def close(self) -> None:
        """Close the connections; messages being asked for fail with a PolicyError."""
        self._closed = True
        waiting = tuple(self._running)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        await self._endpoint.close()

    async def _unless_closed(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run ``work`` so that both the caller and :meth:`close` can end it, and can be told apart."""
        if self._closed:
            work.close()
            raise PolicyError(f"the policy of {self.url} was closed", kind="closed")
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})  # its slot is free when this returns
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not report it
            raise
        if task.cancelled():
            raise PolicyError(f"the policy of {self.url} was closed", kind="closed")
        return task.result()

    # -- one message -----------------------------------------------------------------------------------

    async def _act(self, request: PolicyRequest) -> PolicyReply:
        label = self._label
        history = resume(request.state) if request.turn else self._asker.begin(request)
        left = self._tokens_left(history)
        history, reply = await self._asker.ask(history.asked(request.observation), request, left)
        spent = self._spent(reply)
        tokens, ids = self._tokens(history, reply)
        said = server_version(reply)
        self._seen_version = said or self._seen_version
        return PolicyReply(
            text=world_text(reply),
            state=history.answered(reply, request.turn, spent=spent, ids=ids).pack(),
            tokens=tokens,
            policy_version=label if label is not None else said,
            finish=finish(reply, self._options.stop),
        )

    def _tokens_left(self, history: History) -> int:
        """Return how long the message may be."""
        budget = self._options.max_total_tokens
        if not budget:
            return self._options.max_tokens
        if history.spent >= budget:
            raise BudgetSpentError(f"the conversation has {history.spent} of {budget} tokens", cause="tokens")
        return min(self._options.max_tokens, budget - history.spent)

    def _spent(self, reply: Reply) -> int:
        if reply.usage is not None:
            return sum(reply.usage)
        if reply.prompt_ids is not None and reply.completion_ids is not None:
            return len(reply.prompt_ids) + len(reply.completion_ids)
        if self._options.max_total_tokens:
            raise ConfigError(f"{self.url} does not count tokens ('usage'), so max_total_tokens cannot be kept: set 0")
        return 0

    def _tokens(self, history: History, reply: Reply) -> tuple[TurnTokens | None, KnownIds | None]:
        if history.ids is None or reply.prompt_ids is None or reply.completion_ids is None:
            return None, None
        found = continued(history.ids, reply.prompt_ids, reply.completion_ids, reply.logprobs)
        if found is None:
            self._note_drift()
            return None, None
        return found

    def _note_drift(self) -> None:
        self.drifted += 1
        if str(self.drifted).strip("0") == "1":  # the 1st, the 10th, the 100th
            warnings.warn(
                f"{self.url} tokenised the conversation so far otherwise than it was sampled, in {self.drifted} "
                "episodes up to now: their turns from there on have no token ids",
                RuntimeWarning,
                stacklevel=2,
            )


def _given(options: dict[str, Json]) -> dict[str, Json]:
    """Return the options that differ from the defaults."""
    defaults = {name: one.default for name, one in inspect.signature(OpenAIPolicy).parameters.items()}
    return {name: value for name, value in options.items() if value != defaults[name]}
