"""The policy itself: what the event loop sees of the model's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from turnwise.agents.likelihood import TransformersLogProbs
from turnwise.agents.spec_options import read_target, write_target
from turnwise.agents.transformers_policy.loading import load_model, place_of
from turnwise.agents.transformers_policy.options import PolicyOptions
from turnwise.errors import ConfigError, MissingExtraError, PolicyError, TurnwiseError
from turnwise.policy import PolicyReply, PolicyRequest
from turnwise.protocols import AnswerLogProbs, AnswerQuery

if TYPE_CHECKING:
    from turnwise.agents.transformers_policy.engine import Engine
    from turnwise.agents.transformers_policy.loop import ModelLoop

T = TypeVar("T")
_NAME = "transformers"


class TransformersPolicy:
    """Any Hugging Face causal language model (keeps the ScoringPolicy protocol).

    Tokens in, tokens out: an episode is one sequence of ids, to which every turn appends the prompt
    that the chat template puts there and what was sampled; nothing sampled is tokenised again. The
    episodes that ask at the same time share one batch, which they join and leave between two tokens;
    keys and values are kept between the turns of an episode, and are only there to be faster: the
    state of a reply is enough to go on anywhere.

    A message depends on the episode's seed, the turn and what stands before it, not on what else is in
    the batch (up to the rounding of the model's own sums). It ends with an end token of the model or
    the template (``finish`` is ``"stop"``), with a stop text (``"action"``), or when its budget is spent
    (``"length"``). The log-probability of a sampled id is the one under ``softmax(logits /
    temperature)``, before top-k and top-p cut it, as a trainer recomputes it from the ids; at
    temperature 0 it is taken at temperature 1.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_tokens: int = 512,
        max_total_tokens: int = 0,
        max_batch: int = 16,
        max_batch_tokens: int = 65_536,
        tools: bool = True,
        stop: str = "auto",
        device: str | None = None,
        dtype: str = "auto",
        cache: bool = True,
        cache_tokens: int = 65_536,
        version: str = "0",
    ) -> None:
        """Serve a model; it is loaded by :meth:`prepare` or the first request.

        Args:
            model: A model, its folder or its hub name.
            tokenizer: Its tokenizer, or the place of one; None loads the one beside the model.
            temperature: 0 takes the most probable token, else 0.01 to 100.
            top_p: Samples from the smallest set of tokens with at least this probability, in (0, 1].
            top_k: Samples from this many tokens; 0 from all.
            max_tokens: Most tokens per message, at least 1.
            max_total_tokens: Most tokens per episode, prompts and messages; 0 for the model's context.
            max_batch: Most episodes in one batch, at least 1.
            max_batch_tokens: Most tokens that the running batch may come to, its padding included, at
                least 1; an episode longer than that runs alone.
            tools: Whether the world's tools are given to the chat template, if it takes any.
            stop: ``"auto"`` (the end of a Hermes tool call, of a Search-R1 search and answer), or texts
                that end a message, separated by commas; empty for none.
            device: Where the model runs, such as ``"cuda:0"``; None leaves a model object where it is
                and puts a loaded one on a GPU if there is one.
            dtype: Number type to load the model in; ``"auto"`` is float32 on a CPU, else its own.
            cache: Whether keys and values are kept between turns.
            cache_tokens: Most tokens kept so for episodes that wait for their world, at least 1; the
                least recently used go first.
            version: Version of the weights at the start.

        Raises:
            ConfigError: An option is out of range, there is no such folder, or a model given as an
                object comes without its tokenizer.
        """
        self._options = PolicyOptions(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_tokens=max_tokens,
            max_total_tokens=max_total_tokens,
            max_batch=max_batch,
            max_batch_tokens=max_batch_tokens,
            tools=tools,
            stop=stop,
            device=device,
            dtype=dtype,
            cache=cache,
            cache_tokens=cache_tokens,
            version=version,
        )
        if tokenizer is None and not isinstance(model, str):
            raise ConfigError("a model given as an object needs its tokenizer: tokenizer=...")
        self._model = place_of(model) if isinstance(model, str) else model
        self._tokenizer = place_of(tokenizer) if isinstance(tokenizer, str) else tokenizer
        name = self._model if isinstance(model, str) else getattr(model, "name_or_path", "") or type(model).__name__
        given = self._options.given()
        if isinstance(tokenizer, str):
            given["tokenizer"] = self._tokenizer
        self.spec = write_target(_NAME, name, given)
        self._version = version
        self._scorer: TransformersLogProbs | None = None
        self._loop: ModelLoop | None = None
        self._closed = False

    @classmethod
    def from_spec(cls, rest: str) -> TransformersPolicy:
        """Make one from ``PATH`` or ``PATH?option=value&...``; loads nothing.

        Raises:
            ConfigError: There is no such folder, or an option is unknown or out of range.
        """
        target, options = read_target(_NAME, rest, cls)
        return cls(target, **options)

    # -- the Policy protocol -----------------------------------------------------------------------

    @property
    def version(self) -> str:
        """Version of the weights now."""
        return self._version

    @property
    def tokens_computed(self) -> int:
        """How many tokens the model was run on so far to sample messages, padding not counted."""
        engine = self._loaded()
        return 0 if engine is None else engine.runner.tokens

    @property
    def why(self) -> str | None:
        """Why episodes do not share a batch with this model; None where they do, or before it is loaded."""
        engine = self._loaded()
        return None if engine is None else engine.why

    async def prepare(self) -> None:
        """Load the model; further calls do nothing.

        Raises:
            ConfigError: It cannot be loaded, or its chat template cannot be written message by message.
            MissingExtraError: torch or transformers is not installed.
            PolicyError: It does not fit into memory, or the policy was closed.
        """
        await self._ready()

    async def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message of an episode; cancelling takes it out of the batch.

        Raises:
            BudgetSpentError: ``max_total_tokens`` or the model's context leaves no room.
            PolicyError: The model failed, or the state is none of this policy's.
            ConfigError: The model cannot be loaded.
        """
        loop, _ = await self._ready()
        return await asyncio.wrap_future(loop.ask(request))

    async def forget(self, session: str) -> None:
        """Free the keys and values kept for an episode."""
        engine = self._loaded()
        if self._loop is not None and engine is not None and not self._closed:
            await self._call(lambda: engine.caches.forget(session))

    async def update(self, weights: Any, version: str) -> None:
        """Take new weights; messages being sampled are finished with the old ones, new ones wait.

        Args:
            weights: A folder that ``save_pretrained`` wrote, a folder of safetensors files, or a mapping
                of name to tensor.
            version: What the turns sampled from now on are stamped with.

        Raises:
            ConfigError: They are not this model's; nothing was changed.
        """
        if not isinstance(version, str) or not version:
            raise ConfigError(f"a version is a text that is not empty, got {version!r}")
        _, engine = await self._ready()
        await self._call(lambda: self._apply(engine, weights, version), alone=True)

    async def close(self) -> None:
        """End the thread; requests that wait fail with a PolicyError."""
        self._closed = True
        if self._loop is not None:
            self._loop.close()
            await asyncio.shield(asyncio.wrap_future(self._loop.ended))

    # -- scoring -----------------------------------------------------------------------------------

    async def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers with the same model, between two steps of the batch.

        Raises:
            ConfigError: The tokenizer cannot be scored with.
            PolicyError: The model failed.
        """
        _, engine = await self._ready()
        return await self._call(lambda: self._score(engine, queries))

    async def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        """Return the ids that would stand between a sampled message and the next one."""
        _, engine = await self._ready()
        return await self._call(lambda: tuple(engine.chat.continuation(observation, sampled)))

    # -- in the model's thread ---------------------------------------------------------------------

    def _make(self) -> Engine:
        model, tokenizer = load_model(
            self._model, self._tokenizer, device=self._options.device, dtype=self._options.dtype
        )
        from turnwise.agents.transformers_policy.engine import Engine

        self._scorer = TransformersLogProbs(model, tokenizer=tokenizer)
        return Engine(model, tokenizer, self._options)

    def _apply(self, engine: Engine, weights: Any, version: str) -> None:
        from turnwise.agents.transformers_policy.weights import apply_weights, read_weights

        tensors = read_weights(weights, engine.model)
        apply_weights(tensors, engine.model)
        engine.forget_all()
        engine.version = self._version = version

    def _score(self, engine: Engine, queries: Sequence[AnswerQuery]) -> list[AnswerLogProbs | TurnwiseError]:
        from turnwise.agents.transformers_policy.engine import computing

        assert self._scorer is not None  # noqa: S101 - made with the engine
        with computing("scoring answers"):
            return self._scorer.answer_logprobs(queries)

    # -- the way there -----------------------------------------------------------------------------

    def _loaded(self) -> Engine | None:
        loaded = self._loop.loaded if self._loop is not None else None
        return loaded.result() if loaded is not None and loaded.done() and loaded.exception() is None else None

    async def _ready(self) -> tuple[ModelLoop, Engine]:
        """Return loop and engine, loading them first if need be; a failed load is tried again."""
        if self._closed:
            raise PolicyError("the policy was closed", kind="closed")
        if self._loop is None or _failed(self._loop.loaded):
            start = await asyncio.to_thread(_import_loop)
            if self._loop is None or _failed(self._loop.loaded):  # nobody else was faster
                self._loop = start(self._make)
        loop = self._loop
        if loop.loaded.done():
            return loop, loop.loaded.result()
        # Others may wait for the same model: who gives up does not take it from them.
        engine = await asyncio.shield(asyncio.wrap_future(loop.loaded))
        return loop, engine

    async def _call(self, function: Callable[[], T], *, alone: bool = False) -> T:
        assert self._loop is not None  # noqa: S101 - after _ready
        return await asyncio.wrap_future(self._loop.call(function, alone=alone))


def _import_loop() -> type[ModelLoop]:
    """Import torch and transformers, which takes seconds."""
    try:
        from turnwise.agents.transformers_policy.loop import ModelLoop
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "torch") from error
    return ModelLoop


def _failed(loaded: Future[Any]) -> bool:
    return loaded.done() and loaded.exception() is not None
