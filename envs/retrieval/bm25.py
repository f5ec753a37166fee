"""BM25 with Lucene's own arithmetic, in numpy arrays that processes share by memory mapping.

The score of a term in a document is ``idf - idf / (1 + tf / norm)`` with ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``
and ``norm = k1 (1 - b + b dl / avgdl)``, where ``dl`` goes through Lucene's one-byte length code (``SmallFloat
.intToByte4``: exact to 40, then 3 bits of mantissa). It is computed once per posting; a query adds up its terms' rows.
Equal scores come in the order of the rows, as Lucene breaks ties.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.analysis import terms
from turnwise.envs.retrieval.interface import Hit
from turnwise.errors import ConfigError

BLOCK = 128  # scores per block of the top-k search
_SPARSE_SHARE = 4  # a query with fewer than N / 4 postings is ranked by them, not by a pass over all rows
_GROUP = 16  # scores per group where only postings are ranked
_REMEMBERED = 100_000  # terms whose postings were looked up
_PARTS = ("terms", "starts", "rows", "impacts", "dense", "dense_of", "size")

Span = tuple[int, int, int]  # where a term's postings begin and end, and its dense row or -1
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer[Any]]


def digest(text: str) -> int:
    """Return the 64-bit hash under which a term is kept, the same in every process."""
    return int.from_bytes(_hashed(text), "little")


def _hashed(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


class Bm25Index:
    """A BM25 index over the rows of a corpus (keeps the Ranker protocol)."""

    def __init__(self, parts: dict[str, npt.NDArray[Any]]) -> None:
        """Take the arrays of :func:`~turnwise.envs.retrieval.bm25_build.build` or :func:`load`."""
        self._parts = parts
        self._terms, self._starts = parts["terms"], parts["starts"]
        self._rows, self._impacts, self._dense = parts["rows"], parts["impacts"], parts["dense"]
        self._dense_of = {int(number): place for place, number in enumerate(parts["dense_of"])}
        self._size = int(parts["size"][0])
        self._spans: dict[str, Span | None] = {}
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

    def _find(self, texts: Sequence[str]) -> dict[str, Span | None]:
        """Look up the postings of terms; None for an unknown term.

        Most terms of most queries are new, so this counts: one search for all of them costs half as much as one each.
        """
        keys = np.frombuffer(b"".join(map(_hashed, texts)), dtype="<u8")
        found: dict[str, Span | None] = {}
        for text, key, number in zip(texts, keys.tolist(), self._terms.searchsorted(keys).tolist(), strict=True):
            span = None
            if number < len(self._terms) and self._terms.item(number) == key:
                span = self._starts.item(number), self._starts.item(number + 1), self._dense_of.get(number, -1)
            found[text] = span
        return found

    def _zeros(self) -> Floats:
        """Take this thread's accumulator, padded to whole blocks: all 0.0, and to be handed back so.

        One that an exception left half-used is never handed back, and so never taken again.
        """
        buffer: Floats | None = getattr(self._local, "buffer", None)
        self._local.buffer = None
        return np.zeros(-(-self._size // BLOCK) * BLOCK, dtype=np.float32) if buffer is None else buffer

    def _rank(self, query: str, k: int) -> list[Hit]:
        counted: dict[str, int] = {}
        for text in terms(query):
            counted[text] = counted.get(text, 0) + 1
        known = self._spans
        if len(known) > _REMEMBERED:
            known = self._spans = {}
        new = [text for text in counted if text not in known]
        if new:
            known.update(self._find(new))
        spans = [(span, count) for text, count in counted.items() if (span := known[text]) is not None]
        if not spans:
            return []
        postings = sum(end - begin for (begin, end, _), _ in spans)
        if postings * _SPARSE_SHARE < self._size:
            return self._rank_few(spans, k)
        scores = self._zeros()
        for (begin, end, dense), count in spans:
            impacts = self._dense[dense] if dense >= 0 else self._impacts[begin:end]
            if count > 1:
                impacts = impacts * np.float32(count)
            if dense >= 0:
                scores[: self._size] += impacts
            else:
                np.add.at(scores, self._rows[begin:end].astype(np.intp), impacts)
        hits = _top(scores, k)
        scores.fill(0.0)
        self._local.buffer = scores
        return hits

    def _rank_few(self, spans: list[tuple[Span, int]], k: int) -> list[Hit]:
        """Rank by the postings alone: for rare terms, touching every row would cost the most."""
        listed = [self._rows[begin:end] for (begin, end, _), _ in spans]
        impacts = [
            self._impacts[begin:end] if count == 1 else self._impacts[begin:end] * np.float32(count)
            for (begin, end, _), count in spans
        ]
        if len(spans) == 1:
            return _best(listed[0], impacts[0], k)
        # Row numbers as numpy wants them, once: each use of others converts them again.
        rows = np.concatenate(listed).astype(np.intp)
        scores = self._zeros()
        np.add.at(scores, rows, np.concatenate(impacts))  # one after the other, as above
        totals = scores[rows]
        scores[rows] = 0.0
        self._local.buffer = scores
        return _best(rows, totals, k, copies=len(spans))


def _best(rows: Rows, scores: Floats, k: int, *, copies: int = 1) -> list[Hit]:
    """Return the k best of some rows, ties in row order.

    Args:
        rows: Rows, in any order.
        scores: Their scores; the same wherever a row is repeated.
        k: How many to return.
        copies: How often a row may be repeated.
    """
    wanted = k * copies
    if wanted < len(rows):
        bounds, groups = scores, len(scores) // _GROUP
        if wanted < groups:  # the maxima of any groups bound the score from below, as those of blocks do in _top
            bounds = scores[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
        place = len(bounds) - wanted
        chosen = np.flatnonzero(scores >= np.partition(bounds, place)[place])
        rows, scores = rows[chosen], scores[chosen]
    order = np.lexsort((rows, -scores))
    if copies == 1:
        order = order[:k]
    found = dict(zip(rows[order].tolist(), scores[order].tolist(), strict=True))
    return [Hit(row, score) for row, score in (islice(found.items(), k) if copies > 1 else found.items())]


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
