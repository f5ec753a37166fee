"""Keys and values: rows of several lengths packed into one cache, taken out again, kept between turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Keys and values of one row, layer by layer, each of shape (heads, tokens, width).
Row = list[tuple[Tensor, Tensor]]
_ROOM = 64  # columns allocated ahead


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that grows in steps, where transformers' own copies everything for every token."""

    _layer_type = None  # registers nothing with transformers

    def __init__(self, **options: Any) -> None:
        """Hold nothing yet."""
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.keys: Any
        self.values: Any
        self._stores: list[Tensor] = []
        self._shown: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns; returns all keys and values."""
        if self.keys is None or not self.is_initialized:
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        held = self.keys.shape[-2]
        end = held + key_states.shape[-2]
        # Whoever selects rows or crops puts other tensors in place of ours.
        if not self._ours() or end > self._stores[0].shape[-2]:
            self._stores = [_roomier(old, end + _ROOM) for old in (self.keys, self.values)]
        for store, new in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, held:end] = new
        self._shown = [store[:, :, :end] for store in self._stores]
        self.keys, self.values = self._shown
        return self.keys, self.values

    def _ours(self) -> bool:
        return bool(self._shown) and self.keys is self._shown[0] and self.values is self._shown[1]


def _roomier(old: Tensor, width: int) -> Tensor:
    new = old.new_zeros((*old.shape[:2], width, old.shape[3]))
    new[:, :, : old.shape[2]] = old
    return new


def new_cache() -> DynamicCache:
    """Return an empty cache whose layers grow in steps."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    return cache


def pack(rows: Sequence[Row | None], width: int) -> DynamicCache:
    """Return a cache of ``width`` columns with the rows at its right edge, zeros before them."""
    cache = new_cache()
    known = next((row for row in rows if row), None)
    for layer in range(len(known) if known else 0):
        pair = [_padded([row[layer][side] if row else None for row in rows], width) for side in (0, 1)]
        cache.update(pair[0], pair[1], layer)
    return cache


def _padded(parts: Sequence[Tensor | None], width: int) -> Tensor:
    like = next(part for part in parts if part is not None)
    whole = like.new_zeros((len(parts), like.shape[0], width, like.shape[2]))
    for row, part in enumerate(parts):
        if part is not None and part.shape[1]:
            whole[row, :, width - part.shape[1] :] = part
    return whole


def widen(cache: DynamicCache, rows: Sequence[Row], width: int) -> None:
    """Add rows to a cache and make it ``width`` columns wide, everything at the right edge.

    Layer by layer, so that no second copy of the whole cache is ever held.
    """
    for number, layer in enumerate(_layers(cache)):
        for name, side in (("keys", 0), ("values", 1)):
            old = getattr(layer, name)
            whole = old.new_zeros((old.shape[0] + len(rows), old.shape[1], width, old.shape[3]))
            whole[: old.shape[0], :, width - old.shape[2] :] = old
            for place, row in enumerate(rows, old.shape[0]):
                part = row[number][side]
                whole[place, :, width - part.shape[1] :] = part
            setattr(layer, name, whole)


def narrow(cache: DynamicCache, rows: Sequence[int], width: int) -> None:
    """Keep some rows, and the ``width`` columns at the right edge."""
    for layer in _layers(cache):
        where = torch.tensor(rows, dtype=torch.long, device=layer.keys.device)
        layer.keys = layer.keys[:, :, layer.keys.shape[2] - width :].index_select(0, where)
        layer.values = layer.values[:, :, layer.values.shape[2] - width :].index_select(0, where)


def take_row(cache: DynamicCache, row: int, *spans: tuple[int, int]) -> Row:
    """Return one row's columns in the half-open ``spans``, one after the other, copied."""

    def copied(part: Tensor) -> Tensor:
        return torch.cat([part[row, :, low:high] for low, high in spans], dim=1)

    return [(copied(layer.keys), copied(layer.values)) for layer in _layers(cache)]


def _layers(cache: DynamicCache) -> list[Any]:
    """All are of our own class; transformers' type of the list is wider."""
    return list(cache.layers)


@dataclass(frozen=True)
class _Kept:
    ids: NDArray[np.int64]
    row: Row


class SessionCaches:
    """Keys and values of episodes that wait for their world; the least recently used go first.

    Attributes:
        tokens: How many tokens are kept.
    """

    def __init__(self, most: int) -> None:
        """Keep at most ``most`` tokens."""
        self.tokens = 0
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def put(self, session: str, ids: Sequence[int], row: Row) -> None:
        """Keep what was computed for the beginning ``ids`` of a session."""
        self.forget(session)
        if len(ids) > self._most:
            return
        self._kept[session] = _Kept(np.array(ids, dtype=np.int64), row)
        self.tokens += len(ids)
        while self.tokens > self._most:
            self.forget(next(iter(self._kept)))

    def take(self, session: str, ids: Sequence[int]) -> Row | None:
        """Return what is kept for the longest common beginning with ``ids``, at least one id short of them."""
        kept = self._kept.get(session)
        if kept is None:
            return None
        self.forget(session)
        most = min(len(kept.ids), len(ids) - 1)
        differ = np.flatnonzero(kept.ids[:most] != np.array(ids[:most], dtype=np.int64))
        common = int(differ[0]) if len(differ) else most
        return [(keys[:, :common], values[:, :common]) for keys, values in kept.row] if common else None

    def forget(self, session: str) -> None:
        """Drop a session's; unknown ones are fine."""
        kept = self._kept.pop(session, None)
        if kept is not None:
            self.tokens -= len(kept.ids)

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.tokens = 0
