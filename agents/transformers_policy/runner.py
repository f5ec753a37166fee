"""The model's computations: rows join, get a token each, and leave.

======================== ==========================================================================
:class:`PackedRunner`    All rows in one batch and one cache, rows of several lengths at its right
                         edge. For models whose cache holds one growing run of keys and values.
:class:`SingleRunner`    Every row by itself, with a cache of the model's own kind for the length of a
                         message, or, where that does not hold what the model needs, from the beginning
                         for every token: slow, and never wrong.
======================== ==========================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from turnwise.agents.likelihood.local import cache_problem
from turnwise.agents.transformers_policy.cache import Row, new_cache, pack, take_row, widen
from turnwise.agents.transformers_policy.cache import narrow as narrow_cache

_CHUNK = 4096  # most tokens in one forward pass, padding included; bounds the memory for activations


@dataclass(frozen=True)
class Joining:
    """Rows that were read and are not in the batch yet.

    Attributes:
        logits: What follows each, float32 of shape (rows, vocabulary).
        own: A cache of the model's own kind for each, where rows run by themselves.
        cache: Their keys and values, where rows share a batch.
        held: Columns of ``cache`` that were there before, at most.
        old: How many each row had.
        new: How many were added to each.
    """

    logits: Tensor
    own: tuple[Any, ...] = ()
    cache: DynamicCache | None = None
    held: int = 0
    old: tuple[int, ...] = ()
    new: tuple[int, ...] = ()


class Runner(Protocol):
    """Runs a model over a changing set of rows; whoever calls keeps their ids, in the same order.

    Attributes:
        tokens: How many tokens the model was run on so far, without padding.
    """

    tokens: int

    def read(self, rows: Sequence[Sequence[int]], kept: Sequence[Row | None]) -> Joining:
        """Read rows of ids, each but for what is kept of its beginning; the batch stays as it is."""
        ...

    def join(self, joining: Joining) -> None:
        """Put the rows read at the end of the batch."""
        ...

    def advance(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read the last id of every row of the batch; returns the logits of what follows."""
        ...

    def leave(self, rows: Sequence[int], keep: Sequence[int]) -> dict[int, Row]:
        """Take rows out of the batch; returns the keys and values of those in ``keep``, if any can be kept."""
        ...

    def width(self) -> int:
        """How many tokens the batch holds, padding included."""
        ...

    def reset(self) -> None:
        """Empty the batch."""
        ...


class _Model:
    def __init__(self, model: Any) -> None:
        self.tokens = 0
        self._model = model
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def _last(self, ids: Tensor, **inputs: Any) -> tuple[Tensor, Any]:
        """Return the logits of the last column, float32 of shape (rows, vocabulary), and all of the output."""
        options = {"logits_to_keep": 1} if self._keeps_logits else {}
        output = self._model(input_ids=ids, **inputs, **options)
        return output.logits[:, -1].float(), output

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)


class PackedRunner(_Model):
    """All rows in one batch (keeps the Runner protocol)."""

    def __init__(self, model: Any, *, chunk: int = _CHUNK) -> None:
        """Run a model.

        Args:
            model: In evaluation mode.
            chunk: Most tokens in one forward pass of reading, padding included.
        """
        super().__init__(model)
        self._chunk = chunk
        self._cache: DynamicCache | None = None
        self._lengths: list[int] = []
        self._columns = 0

    def width(self) -> int:
        """How many tokens the batch holds, padding included."""
        return self._columns * len(self._lengths)

    def reset(self) -> None:
        """Empty the batch."""
        self._cache, self._lengths, self._columns = None, [], 0

    def read(self, rows: Sequence[Sequence[int]], kept: Sequence[Row | None]) -> Joining:
        """Read rows in one padded batch, some columns at a time.

        What a row adds stands at the right edge, so that its last id is in the last column; the columns
        between that and what is kept of it are masked.
        """
        old = tuple(row[0][0].shape[1] if row else 0 for row in kept)
        new = tuple(len(ids) - have for ids, have in zip(rows, old, strict=True))
        held, added = max(old), max(new)
        cache = pack(kept, held) if held else new_cache()
        ids = self._tensor([[0] * (added - n) + list(row[have:]) for row, have, n in zip(rows, old, new, strict=True)])
        where = self._tensor([[0] * (added - n) + list(range(h, h + n)) for h, n in zip(old, new, strict=True)])
        mask = self._mask(old, held)
        mask = torch.cat([mask, self._mask(new, added)], dim=1)
        step = max(1, self._chunk // len(rows))
        logits = torch.empty(0)
        for begin in range(0, added, step):
            end = min(begin + step, added)
            logits = self._forward(cache, ids[:, begin:end], where[:, begin:end], mask[:, : held + end])
        self.tokens += sum(new)
        return Joining(logits, cache=cache, held=held, old=old, new=new)

    def join(self, joining: Joining) -> None:
        """Put the rows read at the end of the batch."""
        assert joining.cache is not None  # noqa: S101 - set by read
        lengths = [have + n for have, n in zip(joining.old, joining.new, strict=True)]
        width = max([*self._lengths, *lengths])
        if self._cache is None and len(set(joining.new)) == 1:
            self._cache = joining.cache  # nothing stands between what was kept and what was added
            width = joining.held + joining.new[0]
        else:
            held, end = joining.held, joining.held + max(joining.new)
            rows = [
                take_row(joining.cache, row, (held - have, held), (end - n, end))
                for row, (have, n) in enumerate(zip(joining.old, joining.new, strict=True))
            ]
            if self._cache is None:
                self._cache = pack(rows, width)
            else:
                widen(self._cache, rows, width)
        self._lengths += lengths
        self._columns = width

    def advance(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read the last id of every row."""
        ids = self._tensor([[row[-1]] for row in rows])
        where = self._tensor([[length] for length in self._lengths])
        self._lengths = [length + 1 for length in self._lengths]
        self._columns += 1
        self.tokens += len(rows)
        return self._forward(self._cache, ids, where, self._mask(self._lengths, self._columns))

    def leave(self, rows: Sequence[int], keep: Sequence[int]) -> dict[int, Row]:
        """Take rows out of the batch."""
        assert self._cache is not None  # noqa: S101 - there are rows
        cache, columns = self._cache, self._columns
        taken = {row: take_row(cache, row, (columns - self._lengths[row], columns)) for row in keep}
        staying = [row for row in range(len(self._lengths)) if row not in set(rows)]
        if not staying:
            self.reset()
            return taken
        self._lengths = [self._lengths[row] for row in staying]
        self._columns = max(self._lengths)
        narrow_cache(cache, staying, self._columns)
        return taken

    def _mask(self, lengths: Sequence[int], width: int) -> Tensor:
        """Return 1 in the last ``lengths`` columns of each row, shape (rows, width)."""
        columns = torch.arange(width, device=self._model.device)
        return (columns >= width - self._tensor(lengths)[:, None]).long()

    def _forward(self, cache: DynamicCache | None, ids: Tensor, where: Tensor, mask: Tensor) -> Tensor:
        return self._last(ids, position_ids=where, attention_mask=mask, past_key_values=cache, use_cache=True)[0]


class SingleRunner(_Model):
    """Every row by itself (keeps the Runner protocol)."""

    def __init__(self, model: Any, *, cached: bool) -> None:
        """Run a model.

        Args:
            model: In evaluation mode.
            cached: Whether its own cache is used from token to token.
        """
        super().__init__(model)
        self._cached = cached
        self._own: list[Any] = []

    def width(self) -> int:
        """Nothing is padded, and what a model's own cache holds is its own business."""
        return 0

    def reset(self) -> None:
        """Empty the batch."""
        self._own = []

    def read(self, rows: Sequence[Sequence[int]], kept: Sequence[Row | None]) -> Joining:
        """Read rows one after the other, from the beginning."""
        outputs = [self._one(row) for row in rows]
        return Joining(torch.cat([logits for logits, _ in outputs]), own=tuple(own for _, own in outputs))

    def join(self, joining: Joining) -> None:
        """Put the rows read at the end of the batch."""
        self._own += joining.own

    def advance(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read the last id of every row, or all of it."""
        if not self._cached:
            return torch.cat([self._one(row)[0] for row in rows])
        outputs = [self._one(row[-1:], own) for row, own in zip(rows, self._own, strict=True)]
        self._own = [own for _, own in outputs]
        return torch.cat([logits for logits, _ in outputs])

    def leave(self, rows: Sequence[int], keep: Sequence[int]) -> dict[int, Row]:
        """Take rows out of the batch; nothing is kept."""
        self._own = [own for row, own in enumerate(self._own) if row not in rows]
        return {}

    def _one(self, ids: Sequence[int], own: Any = None) -> tuple[Tensor, Any]:
        self.tokens += len(ids)
        inputs = {"past_key_values": own} if own is not None else {}
        logits, output = self._last(self._tensor([list(ids)]), use_cache=self._cached, **inputs)
        return logits, output.past_key_values if self._cached else None


def make_runner(model: Any) -> tuple[Runner, str | None]:
    """Return the best runner for a model, and why it is not the packed one, or None.

    Whatever a configuration does not tell (a kernel that ignores the mask, position codes that ignore
    position ids, a state besides the cache) shows in a small example, which every runner must agree on
    with reading everything from the beginning.
    """
    problem = cache_problem(model.config)
    if problem is None and "position_ids" not in inspect.signature(model.forward).parameters:
        problem = "it takes no position ids"
    problem = problem or _disagreement(PackedRunner(model, chunk=6), model)
    if problem is None:
        return PackedRunner(model), None
    why = f"episodes cannot share a batch with this model: {problem}"
    problem = _disagreement(SingleRunner(model, cached=True), model)
    if problem is None:
        return SingleRunner(model, cached=True), why
    return SingleRunner(model, cached=False), f"{why}; nor can its cache be used: {problem}"


def _disagreement(runner: Runner, model: Any) -> str | None:
    """Return how far a runner is off on an example with rows that join, leave and come back, or None."""
    text = getattr(model.config, "get_text_config", lambda: model.config)()
    ids = [(7 * i + 3) % text.vocab_size for i in range(24)]
    short, long = ids[:5], ids[6:17]
    try:
        with torch.inference_mode():
            runner.join(runner.read([long, short], [None, None]))
            runner.advance([[*long, 1], [*short, 2]])
            kept = runner.leave([1], [1]).get(1)
            runner.join(runner.read([[*short, 2, *ids[:7]], ids[3:6]], [kept, None]))
            rows = [[*long, 1, 3], [*short, 2, *ids[:7], 4], [*ids[3:6], 5]]
            got, expected = runner.advance(rows), SingleRunner(model, cached=False).advance(rows)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    off = (got.log_softmax(-1) - expected.log_softmax(-1)).abs()
    # Half-precision kernels scatter in the tails, so their mean is looked at; a wrong mask or position shows there too.
    exact = model.dtype in (torch.float32, torch.float64)
    value, allowed = (float(off.max()), 1e-3) if exact else (float(off.mean()), 0.25)
    return None if value <= allowed else f"on an example it is off by {value:.3g}"
