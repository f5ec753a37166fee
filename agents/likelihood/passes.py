"""Three ways to score answers in growing contexts with a causal language model; all give the same numbers.

============== ======================================================================================
``sequential`` Each context with each answer is encoded anew: quadratic in the number of turns. What
               IGPO's code does; the reference.
``incremental`` The trajectory is encoded once, turn by turn; after each turn the answers are run against
               the cache and taken out again. Works with every attention kernel.
``one_pass``   A causal pass over the whole trajectory fills the cache; then all answers of all contexts
               are run in one masked pass against it. The copy for context ``t`` sees the trajectory up
               to the end of ``t`` and itself, and its positions begin there.
============== ======================================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from turnwise.agents.likelihood.encode import Encoded, Target
from turnwise.protocols import AnswerLogProbs

Method = Literal["one_pass", "incremental", "sequential"]
Scores = list[list[tuple[float, ...]]]
_MASKED_SHARE = 4  # by how much the masked pass is smaller than the causal one


@dataclass(frozen=True)
class _Copy:
    """One answer in one context, as queries of the masked pass.

    Attributes:
        context: Which context.
        answer: Which answer.
        ids: The ids to run; all but the last of the answer.
        visible: How many tokens of the trajectory it sees; its positions begin there.
        first: Which of ``ids`` predicts the answer's first token.
        wanted: The answer's tokens.
    """

    context: int
    answer: int
    ids: tuple[int, ...]
    visible: int
    first: int
    wanted: tuple[int, ...]


class Passes:
    """Runs a model over encoded queries.

    Attributes:
        tokens: How many tokens the model was run on so far, padding included.
    """

    def __init__(self, model: Any, *, max_tokens: int) -> None:
        """Run a causal language model.

        Args:
            model: In evaluation mode; its logits must not depend on anything but ids and positions.
            max_tokens: Most tokens in one causal forward pass (rows times columns), which bounds the
                memory for activations; the masked pass takes a quarter of it at a time.
        """
        self.tokens = 0
        self._model = model
        self._max_tokens = max_tokens
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the model."""
        dtype: torch.dtype = self._model.dtype
        return dtype

    def run(self, method: Method, batch: Sequence[Encoded]) -> list[AnswerLogProbs]:
        """Score a batch; the sequential and the incremental way take its queries one by one."""
        with torch.inference_mode():
            if method == "one_pass":
                scores = self._one_pass(batch)
            else:
                each = self._incremental if method == "incremental" else self._sequential
                scores = [each(encoded) for encoded in batch]
        return [AnswerLogProbs(tokens=tuple(tuple(row) for row in rows)) for rows in scores]

    # -- the model ---------------------------------------------------------------------------------

    def _forward(self, ids: Tensor, *, keep: Sequence[int], **inputs: Any) -> Tensor:
        """Return the logits of the columns ``keep``, float32 of shape (rows, len(keep), vocabulary)."""
        self.tokens += ids.numel()
        columns = torch.tensor(keep, dtype=torch.long, device=ids.device)
        if self._keeps_logits:
            logits = self._model(input_ids=ids, logits_to_keep=columns, **inputs).logits
        else:
            logits = self._model(input_ids=ids, **inputs).logits[:, columns]
        kept: Tensor = logits.float()
        return kept

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._model.device)

    def _positions(self, start: int, length: int, rows: int = 1) -> Tensor:
        return torch.arange(start, start + length, device=self._model.device).expand(rows, length)

    def _fill(self, cache: DynamicCache, rows: Sequence[Sequence[int]], start: int = 0) -> Tensor:
        """Encode rows of equal length behind ``start`` cached tokens; return the last column's logits.

        Rows are padded on the right, where causal attention needs no mask: no real token looks there.
        """
        ids = self._tensor(rows)
        width = max(1, self._max_tokens // len(rows))
        logits = torch.empty(0)
        for begin in range(0, ids.shape[1], width):
            piece = ids[:, begin : begin + width]
            length = piece.shape[1]
            where = self._positions(start + begin, length, len(rows))
            logits = self._forward(piece, keep=[length - 1], past_key_values=cache, position_ids=where, use_cache=True)
        return logits[:, -1]

    # -- one after the other -----------------------------------------------------------------------

    def _sequential(self, encoded: Encoded) -> Scores:
        return [[self._anew(encoded.ids[:end], target) for target in encoded.targets] for end in encoded.ends]

    def _anew(self, context: Sequence[int], target: Target) -> tuple[float, ...]:
        ids = self._tensor([[*context, *target.ids[:-1]]])
        first = len(context) + target.start - 1
        wanted = target.ids[target.start :]
        logits = self._forward(ids, keep=range(first, first + len(wanted)), use_cache=False)
        return _log_probs(logits[0], wanted)

    def _incremental(self, encoded: Encoded) -> Scores:
        cache = DynamicCache()
        scores: Scores = []
        done = 0
        last = torch.empty(0)
        for end in encoded.ends:
            if end > done:
                last = self._fill(cache, [encoded.ids[done:end]], done)
                done = end
            scores.append([self._behind(cache, done, last, target) for target in encoded.targets])
        return scores

    def _behind(self, cache: DynamicCache, context: int, last: Tensor, target: Target) -> tuple[float, ...]:
        """Score an answer behind a cached context, and leave the cache as it was."""
        ids = target.ids[:-1]
        logits = last[:, None]
        if ids:
            where = self._positions(context, len(ids))
            # The answer's first token is predicted by the one before it, which may be the context's last.
            keep = range(max(0, target.start - 1), len(ids))
            inside = self._forward(
                self._tensor([ids]), keep=keep, past_key_values=cache, position_ids=where, use_cache=True
            )
            cache.crop(-len(ids))
            logits = inside if target.start else torch.cat([logits, inside], dim=1)
        return _log_probs(logits[0], target.ids[target.start :])

    # -- all at once -------------------------------------------------------------------------------

    def _one_pass(self, batch: Sequence[Encoded]) -> list[Scores]:
        length = max(encoded.ends[-1] for encoded in batch)
        cache = DynamicCache()
        self._fill(cache, [[*encoded.ids, *[0] * (length - len(encoded.ids))] for encoded in batch])
        # A query of this pass also has a mask over the whole trajectory, and most have logits.
        width = max(1, self._max_tokens // _MASKED_SHARE // len(batch))
        bins = [_bins(_copies(encoded), width) for encoded in batch]
        scores: list[Scores] = [[[()] * len(encoded.targets) for _ in encoded.ends] for encoded in batch]
        for step in range(max(len(row) for row in bins)):
            copies = [row[step] if step < len(row) else [] for row in bins]
            for row, found in enumerate(self._masked(cache, length, copies)):
                for copy, logprobs in zip(copies[row], found, strict=True):
                    scores[row][copy.context][copy.answer] = logprobs
        return scores

    def _masked(self, cache: DynamicCache, length: int, copies: list[list[_Copy]]) -> list[list[tuple[float, ...]]]:
        """Run some copies of each row against the cached trajectories, and leave the cache as it was."""
        columns = max(sum(len(copy.ids) for copy in row) for row in copies)
        ids, owner, visible, where = ([[fill] * columns for _ in copies] for fill in (0, -1, 0, 0))
        begins: list[list[int]] = []
        for r, row in enumerate(copies):
            at = 0
            begins.append([])
            for number, copy in enumerate(row):
                part = slice(at, at + len(copy.ids))
                size = len(copy.ids)
                ids[r][part] = copy.ids
                owner[r][part] = [number] * size
                visible[r][part] = [copy.visible] * size
                where[r][part] = range(copy.visible, copy.visible + size)
                begins[-1].append(at)
                at += size
        picks = [
            [range(at + copy.first, at + len(copy.ids)) for at, copy in zip(begins[r], row, strict=True)]
            for r, row in enumerate(copies)
        ]
        keep = sorted({column for row in picks for part in row for column in part})
        place = {column: index for index, column in enumerate(keep)}
        logits = self._forward(
            self._tensor(ids),
            keep=keep,
            past_key_values=cache,
            position_ids=self._tensor(where),
            attention_mask=self._mask(length, self._tensor(owner), self._tensor(visible)),
            use_cache=True,
        )
        cache.crop(-columns)
        return [
            [
                _log_probs(logits[r, place[part[0]] : place[part[-1]] + 1], copy.wanted)
                for part, copy in zip(picks[r], row, strict=True)
            ]
            for r, row in enumerate(copies)
        ]

    def _mask(self, length: int, owner: Tensor, visible: Tensor) -> Tensor:
        """Return the additive mask of shape (rows, 1, queries, length + queries)."""
        queries = owner.shape[1]
        trajectory = torch.arange(length, device=owner.device) < visible[:, :, None]
        order = torch.arange(queries, device=owner.device)
        itself = (owner[:, :, None] == owner[:, None, :]) & (order[None, :] <= order[:, None])
        allowed = torch.cat([trajectory, itself], dim=2)[:, None]
        # The lowest number, not -inf: eager kernels would make NaN of it.
        blocked = torch.finfo(self.dtype).min
        return torch.zeros_like(allowed, dtype=self.dtype).masked_fill_(~allowed, blocked)


def _copies(encoded: Encoded) -> list[_Copy]:
    copies = []
    for context, end in enumerate(encoded.ends):
        for answer, target in enumerate(encoded.targets):
            # Without a prefix the context's last token predicts the answer's first one: run it again.
            lead = 0 if target.start else 1
            before = encoded.ids[end - lead : end]
            ids = (*before, *target.ids[:-1])
            first = target.start - 1 + lead
            copies.append(_Copy(context, answer, ids, end - lead, first, target.ids[target.start :]))
    return copies


def _bins(copies: Sequence[_Copy], width: int) -> list[list[_Copy]]:
    """Split copies, in order, so that each part has at most ``width`` tokens (or is a single copy)."""
    bins: list[list[_Copy]] = []
    used = width
    for copy in copies:
        if used + len(copy.ids) > width:
            bins.append([])
            used = 0
        bins[-1].append(copy)
        used += len(copy.ids)
    return bins


def _log_probs(logits: Tensor, wanted: Sequence[int]) -> tuple[float, ...]:
    """Return the log-probability of each wanted id under its row of logits."""
    chosen = logits[torch.arange(len(wanted)), torch.tensor(wanted, device=logits.device)]
    return tuple((chosen - torch.logsumexp(logits, dim=-1)).tolist())
