"""The thread that the model runs in: questions come in, messages go out, one step after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from turnwise.agents.transformers_policy.dialogue import Message
from turnwise.agents.transformers_policy.engine import Engine, attempt, fail, settle
from turnwise.errors import PolicyError
from turnwise.policy import PolicyReply, PolicyRequest

T = TypeVar("T")


@dataclass(frozen=True)
class _Call(Generic[T]):
    function: Callable[[], T]
    future: Future[T]
    alone: bool  # whether it waits until nothing is being sampled


@dataclass(frozen=True)
class _Ask:
    request: PolicyRequest
    future: Future[PolicyReply]


class ModelLoop:
    """Serves an engine in a thread of its own; all methods may be called from any thread.

    Everything that touches the model, its tokenizer or its caches runs there, between two steps.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        """Start the thread.

        Args:
            make: Loads the engine, in that thread.
        """
        self.loaded: Future[Engine] = Future()
        self.ended: Future[None] = Future()
        self._make = make
        self._engine: Engine | None = None
        self._inbox: deque[_Call[Any] | _Ask] = deque()
        self._waiting: deque[Message] = deque()
        self._alone: deque[_Call[Any]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="turnwise-model", daemon=True).start()

    # -- from any thread ---------------------------------------------------------------------------

    def ask(self, request: PolicyRequest) -> Future[PolicyReply]:
        """Ask for a message; cancelling the future takes it out of the batch."""
        future: Future[PolicyReply] = Future()
        self._post(_Ask(request, future))
        return future

    def call(self, function: Callable[[], T], *, alone: bool = False) -> Future[T]:
        """Run something between two steps.

        Args:
            function: What to run.
            alone: Whether messages being sampled are finished first; new ones wait meanwhile.
        """
        future: Future[T] = Future()
        self._post(_Call(function, future, alone))
        return future

    def close(self) -> None:
        """End the thread at the next step; what waits fails with a PolicyError."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _post(self, item: _Call[Any] | _Ask) -> None:
        with self._wake:
            if not self._closed:
                self._inbox.append(item)
                self._wake.notify()
                return
        fail(item.future, _closed())

    # -- in the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            settle(self.loaded, self._make)
            if self.loaded.exception() is None:
                engine = self.loaded.result()
                while self._receive(engine):
                    self._round(engine)
                self._drain([message.future for message in engine.running])
        finally:
            # Also where something unforeseen ended the thread: nobody may wait for it for ever.
            with self._wake:
                self._closed = True
            self._drain([self.loaded, *(item.future for item in (*self._inbox, *self._alone, *self._waiting))])
            self.ended.set_result(None)

    def _drain(self, futures: list[Future[Any]]) -> None:
        for future in futures:
            fail(future, _closed())

    def _receive(self, engine: Engine) -> bool:
        """Take in what came, waiting for it where there is nothing to do; False once closed."""
        with self._wake:
            while not (self._inbox or self._closed or engine.running or self._waiting or self._alone):
                self._wake.wait()
            items = [*self._inbox]
            self._inbox.clear()
            if self._closed:
                self._drain([item.future for item in items])
                return False
        for item in items:
            if isinstance(item, _Ask):
                self._plan(engine, item)
            elif item.alone:
                self._alone.append(item)
            else:
                settle(item.future, item.function)
        return True

    def _plan(self, engine: Engine, item: _Ask) -> None:
        def plan() -> None:
            self._waiting.append(engine.dialogue.plan(item.request, item.future))

        attempt(item.future, plan)

    def _round(self, engine: Engine) -> None:
        self._waiting = deque(message for message in self._waiting if not message.future.cancelled())
        if self._alone and not engine.running:
            item = self._alone.popleft()
            settle(item.future, item.function)
        elif not self._alone:
            engine.admit(self._waiting)
        if engine.running:
            engine.step()


def _closed() -> PolicyError:
    return PolicyError("the policy was closed", kind="closed")
