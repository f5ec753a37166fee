"""BM25 with Lucene's own arithmetic, in numpy arrays that processes share by memory mapping.

The score of a term in a document is ``idf - idf / (1 + tf / norm)`` with ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``
and ``norm = k1 (1 - b + b dl / avgdl)``, where ``dl`` goes through Lucene's one-byte length code (``SmallFloat
.intToByte4``: exact to 40, then 3 bits of mantissa). It is computed once per posting; a query adds up its terms' rows.
Equal scores come in the order of the rows, as Lucene breaks ties.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.analysis import terms
from turnwise.envs.retrieval.interface import Hit
from turnwise.errors import ConfigError

BLOCK = 128  # scores per block of the top-k search
_SPARSE_SHARE = 32  # a query with fewer than N / 32 postings is ranked without an accumulator over all rows
_PARTS = ("terms", "starts", "rows", "impacts", "dense", "dense_of", "size")

Floats = npt.NDArray[np.float32]


def digest(text: str) -> int:
    """Return the 64-bit hash under which a term is kept, the same in every process."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


class Bm25Index:
    """A BM25 index over the rows of a corpus (keeps the Ranker protocol)."""

    def __init__(self, parts: dict[str, npt.NDArray[Any]]) -> None:
        """Take the arrays of :func:`~turnwise.envs.retrieval.bm25_build.build` or :func:`load`."""
        self._parts = parts
        self._terms, self._starts = parts["terms"], parts["starts"]
        self._rows, self._impacts, self._dense = parts["rows"], parts["impacts"], parts["dense"]
        self._dense_of = {int(number): place for place, number in enumerate(parts["dense_of"])}
        self._size = int(parts["size"][0])
        self._spans: dict[str, tuple[int, int, int] | None] = {}
        self._local = threading.local()

    def __len__(self) -> int:
        """Number of rows."""
        return self._size

    def __getstate__(self) -> dict[str, npt.NDArray[Any]]:
        return self._parts

    def __setstate__(self, parts: dict[str, npt.NDArray[Any]]) -> None:
        self.__init__(parts)  # type: ignore[misc]

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the best rows of each query, best first, ties in row order; rows that share no term are left out."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        return [self._rank(query, k) for query in queries]

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in self._parts.items():
            np.save(folder / f"{name}.npy", part)

    # -- one query ---------------------------------------------------------------------------------

    def _span(self, text: str) -> tuple[int, int, int] | None:
        """Return where a term's postings begin and end and its dense row (or -1), or None for an unknown term."""
        try:
            return self._spans[text]
        except KeyError:
            pass
        key = np.uint64(digest(text))
        number = int(np.searchsorted(self._terms, key))
        span = None
        if number < len(self._terms) and self._terms[number] == key:
            span = int(self._starts[number]), int(self._starts[number + 1]), self._dense_of.get(number, -1)
        if len(self._spans) < 100_000:
            self._spans[text] = span
        return span

    def _scores(self) -> Floats:
        """Return this thread's zeroed accumulator, padded to whole blocks."""
        buffer: Floats | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = np.zeros(-(-self._size // BLOCK) * BLOCK, dtype=np.float32)
        else:
            buffer.fill(0.0)
        return buffer

    def _rank(self, query: str, k: int) -> list[Hit]:
        counted = Counter(terms(query))
        spans = [(span, count) for span, count in ((self._span(t), c) for t, c in counted.items()) if span is not None]
        if not spans:
            return []
        postings = sum(end - begin for (begin, end, _), _ in spans)
        if postings * _SPARSE_SHARE < self._size:
            return self._rank_few(spans, k)
        scores = self._scores()
        for (begin, end, dense), count in spans:
            impacts = self._dense[dense] if dense >= 0 else self._impacts[begin:end]
            if count > 1:
                impacts = impacts * np.float32(count)
            if dense >= 0:
                scores[: self._size] += impacts
            else:
                scores[self._rows[begin:end]] += impacts
        return _top(scores, k)

    def _rank_few(self, spans: list[tuple[tuple[int, int, int], int]], k: int) -> list[Hit]:
        """Rank by the postings alone: for rare terms, touching every row would cost the most."""
        rows = np.concatenate([self._rows[begin:end] for (begin, end, _), _ in spans])
        impacts = np.concatenate([self._impacts[begin:end] * np.float32(count) for (begin, end, _), count in spans])
        order = np.argsort(rows, kind="stable")  # so that a row's terms are added in the query's order, as above
        rows = rows[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        scores = np.add.reduceat(impacts[order], first)
        best = np.argsort(-scores, kind="stable")[:k]
        return [Hit(row, score) for row, score in zip(rows[first[best]].tolist(), scores[best].tolist(), strict=True)]


def _top(scores: Floats, k: int) -> list[Hit]:
    """Return the k best positive scores.

    The k-th largest block maximum bounds the k-th score from below, so only blocks that reach it are looked into.
    """
    blocks = scores.reshape(-1, BLOCK)
    maxima = blocks.max(axis=1)
    floor = np.float32(0.0)
    if k < len(maxima):
        floor = np.partition(maxima, len(maxima) - k)[len(maxima) - k]
    if floor > 0:
        chosen = np.flatnonzero(maxima >= floor)
        inside = blocks[chosen]
        block, column = np.nonzero(inside >= floor)
    else:
        chosen = np.flatnonzero(maxima > 0)
        inside = blocks[chosen]
        block, column = np.nonzero(inside > 0)
    values = inside[block, column]
    order = np.argsort(-values, kind="stable")[:k]
    rows = chosen[block[order]] * BLOCK + column[order]
    return [Hit(row, score) for row, score in zip(rows.tolist(), values[order].tolist(), strict=True)]


def load(folder: Path) -> Bm25Index:
    """Open a saved index by memory mapping: processes that open it share one copy.

    Raises:
        ConfigError: The folder holds no index.
    """
    return Bm25Index({name: _map(folder / f"{name}.npy") for name in _PARTS})


def _map(path: Path) -> npt.NDArray[Any]:
    try:
        mapped = np.load(path, mmap_mode="r")
    except ValueError:  # an array without elements cannot be mapped
        return np.asarray(np.load(path))
    except OSError as error:
        raise ConfigError(f"no BM25 index at {path.parent}: {error}") from error
    # A plain view: numpy's memmap class costs microseconds on every slice.
    return np.asarray(mapped).view(np.ndarray)
