"""The batch of messages being sampled: who joins, one token for each, who is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch

from turnwise.agents.transformers_policy.cache import SessionCaches
from turnwise.agents.transformers_policy.chat import ChatFormat
from turnwise.agents.transformers_policy.dialogue import Dialogue, Message, end_ids
from turnwise.agents.transformers_policy.options import PolicyOptions
from turnwise.agents.transformers_policy.runner import make_runner
from turnwise.agents.transformers_policy.sampling import sample
from turnwise.errors import BudgetSpentError, PolicyError, TurnwiseError, attribute_to

T = TypeVar("T")
_UNLIMITED = 10**9  # tokenizers without a limit say a number far above this


class Engine:
    """Samples the messages of many episodes with one model; used by one thread only.

    Attributes:
        model: The model.
        chat: How prompts are written.
        dialogue: Plans messages.
        runner: The model's computations.
        why: Why episodes do not share a batch, or None where they do.
        caches: What is kept between the turns of an episode.
        running: The messages being sampled.
        version: Version of the weights.
    """

    def __init__(self, model: Any, tokenizer: Any, options: PolicyOptions) -> None:
        """Serve a model in evaluation mode.

        Raises:
            ConfigError: The tokenizer's chat template cannot be written message by message.
        """
        self.model = model
        self.version = options.version
        self.chat = ChatFormat(tokenizer, tools=options.tools)
        self.runner, self.why = make_runner(model)
        self.caches = SessionCaches(options.cache_tokens)
        self.running: list[Message] = []
        self._options = options
        self.dialogue = Dialogue(
            self.chat,
            options,
            ends=_ends(model, tokenizer),
            context=_context(model, tokenizer),
            vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        )

    # -- joining -----------------------------------------------------------------------------------

    def admit(self, waiting: deque[Message]) -> None:
        """Take the messages from the head of the queue that the batch has room for, and begin them."""
        joining: list[Message] = []
        while waiting and self._fits([*joining, waiting[0]]):
            joining.append(waiting.popleft())
        for group in self._groups(joining):
            self._begin(group)

    def _fits(self, joining: Sequence[Message]) -> bool:
        rows = [*self.running, *joining]
        if len(rows) == 1:
            return True  # longer than allowed, it runs alone
        # The room that they may need is set aside from the start: nothing has to be put out later.
        most = max(message.longest for message in rows)
        return len(rows) <= self._options.max_batch and len(rows) * most <= self._options.max_batch_tokens

    def _groups(self, joining: Sequence[Message]) -> Iterator[list[Message]]:
        """Split into groups that are read together: at most half of what is free, while they stand beside the batch."""
        group: list[Message] = []
        for message in joining:
            most = max((other.start for other in [*group, message]), default=0)
            # Twice, as what is kept of one may stand beside what is new in another.
            if group and 2 * most * (len(group) + 1) > self._options.max_batch_tokens - self.runner.width():
                yield group
                group = []
            group.append(message)
        if group:
            yield group

    def _begin(self, group: list[Message]) -> None:
        kept = [self.caches.take(message.request.session, message.ids) for message in group]
        try:
            with computing("reading prompts"):
                joining = self.runner.read([message.ids for message in group], kept)
                picks = self._pick(group, joining.logits)
        except TurnwiseError as error:
            self._failed(group, error)
            return
        try:
            with computing("joining the batch"):
                self.runner.join(joining)
        except TurnwiseError as error:
            self._failed(group, error)
            self._empty(error)
            return
        self.running += group
        self._take(group, picks)

    # -- sampling ----------------------------------------------------------------------------------

    def step(self) -> None:
        """Sample one token for every message of the batch; those that nobody waits for any more leave."""
        try:
            with computing("sampling"):
                picks = self._pick(self.running, self.runner.advance([message.ids for message in self.running]))
        except TurnwiseError as error:
            self._empty(error)
            return
        self._take(self.running, picks)

    def _pick(self, messages: Sequence[Message], logits: torch.Tensor) -> list[tuple[int, float]]:
        options = self._options
        draws = [float(message.draws.random()) for message in messages]
        ids, logprobs = sample(logits, draws, temperature=options.temperature, top_p=options.top_p, top_k=options.top_k)
        return list(zip(ids, logprobs, strict=True))

    def _take(self, messages: Sequence[Message], picks: Sequence[tuple[int, float]]) -> None:
        gone: list[Message] = []
        done: list[Message] = []
        for message, (token, logprob) in zip(messages, picks, strict=True):
            if logprob != logprob:  # NaN
                error = PolicyError("the model's logits are not finite: its weights or number type do not hold")
                fail(message.future, error)
                gone.append(message)
                continue
            if not attempt(message.future, partial(self.dialogue.take, message, token, logprob)):
                gone.append(message)
            elif message.finish is not None:
                done.append(message)
        if gone or done:
            self._leave(done, gone)

    # -- leaving -----------------------------------------------------------------------------------

    def _leave(self, done: Sequence[Message], gone: Sequence[Message]) -> None:
        for message in done:
            settle(message.future, partial(self.dialogue.reply, message, self.version))
        place = {id(message): row for row, message in enumerate(self.running)}
        rows = [place[id(message)] for message in [*done, *gone]]
        keep = [place[id(message)] for message in done] if self._options.cache else []
        try:
            with computing("taking messages out of the batch"):
                kept = self.runner.leave(rows, keep)
        except TurnwiseError as error:
            self._empty(error)
            return
        for row, computed in kept.items():
            message = self.running[row]
            # The last id was sampled and never read.
            self.caches.put(message.request.session, message.ids[:-1], computed)
        self.running = [message for row, message in enumerate(self.running) if row not in rows]

    def _empty(self, error: TurnwiseError) -> None:
        """Fail all messages of the batch: its keys and values may be broken."""
        self.runner.reset()
        failing, self.running = self.running, []
        self._failed(failing, error)

    def _failed(self, messages: Sequence[Message], error: TurnwiseError) -> None:
        """Fail messages, and free what can be where memory ran out."""
        for message in messages:
            fail(message.future, error)
        if error.kind == "memory":
            self.forget_all()

    def forget_all(self) -> None:
        """Drop what is kept between turns."""
        self.caches.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def computing(doing: str) -> Iterator[None]:
    """Attribute what goes wrong to the policy, and tell a lack of memory apart."""
    with attribute_to("policy", doing), torch.inference_mode():
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise PolicyError(
                f"the model ran out of memory while {doing}: lower max_batch, max_batch_tokens or cache_tokens "
                f"({str(error).splitlines()[0]})",
                kind="memory",
            ) from error


def attempt(future: Future[Any], function: Callable[[], object]) -> bool:
    """Run something for who waits for a future: a failure ends the waiting; returns whether it still waits."""
    if future.done():
        return False
    try:
        with attribute_to("policy"):
            function()
    except (TurnwiseError, BudgetSpentError) as error:
        fail(future, error)
        return False
    return True


def settle(future: Future[T], function: Callable[[], T]) -> None:
    """Run something, unless nobody waits, and put its result or its failure into a future."""
    results: list[T] = []
    if attempt(future, lambda: results.append(function())) and future.set_running_or_notify_cancel():
        future.set_result(results[0])


def fail(future: Future[Any], error: Exception) -> None:
    """End the waiting for a future with an error, unless it is over."""
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    text = _text_config(model.config)
    generation = getattr(model, "generation_config", None)
    return end_ids(
        getattr(generation, "eos_token_id", None),
        getattr(text, "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
    )


def _context(model: Any, tokenizer: Any) -> int | None:
    limits = (getattr(_text_config(model.config), "max_position_embeddings", None), tokenizer.model_max_length)
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < _UNLIMITED]
    return known[0] if known else None


def _text_config(config: Any) -> Any:
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
