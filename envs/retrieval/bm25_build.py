"""Builds BM25 indices: chunk by chunk, with stemming out of the loop and memory bounded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.analysis import term, tokens
from turnwise.envs.retrieval.bm25 import BLOCK, Bm25Index, digest, load
from turnwise.errors import ConfigError

K1, B = 0.9, 0.4  # Anserini's defaults
_CHUNK_TOKENS = 2_000_000  # tokens held in memory while indexing
_DENSE_SHARE = 8  # a term in more than N / 8 documents is kept as a full row: adding it needs no gather

Ints = npt.NDArray[np.int64]


def _length_codes() -> Ints:
    """Return the 256 lengths that Lucene's byte code can tell apart, ascending."""

    def decode(code: int) -> int:
        bits, shift = code & 7, (code >> 3) - 1
        return bits if shift < 0 else (bits | 8) << shift

    free = 24  # 255 - the code of 2^31 - 1
    return np.array([code if code < free else free + decode(code - free) for code in range(256)], dtype=np.int64)


_LENGTHS = _length_codes()


def quantise_length(length: Ints) -> Ints:
    """Return document lengths as Lucene remembers them: rounded down to what one byte can say."""
    return _LENGTHS[np.searchsorted(_LENGTHS, length, side="right") - 1]


class _Numbers(dict[str, int]):
    """Numbers texts in the order of their first appearance, and remembers which are new."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        self.new.append(key)
        return number


class _Postings:
    """Sorted postings of a part of the corpus, in memory or in a file."""

    def __init__(self, term_numbers: Ints, rows: Ints, counts: Ints, spill: Path | None) -> None:
        self._spill = spill
        packed = np.stack([term_numbers.astype(np.int32), rows.astype(np.int32), counts.astype(np.int32)])
        if spill is not None:
            np.save(spill, packed)
        self._packed = packed if spill is None else None

    def read(self) -> npt.NDArray[np.int32]:
        """Return the rows ``term, row, count``, sorted by term, then row."""
        if self._packed is not None:
            return self._packed
        loaded: npt.NDArray[np.int32] = np.load(f"{self._spill}")
        return loaded


class _Tokenizer:
    """Turns texts into chunks of postings; a vocabulary of raw tokens keeps stemming out of the loop."""

    def __init__(self, spill: Path | None) -> None:
        self.numbers = _Numbers()  # raw token -> number
        self.term_of: list[int] = []  # raw number -> term number, -1 for stop words
        self.terms = _Numbers()
        self.lengths: list[Ints] = []
        self.chunks: list[_Postings] = []
        self._spill = spill

    def run(self, texts: Iterable[str]) -> None:
        raw, ends, first = array("i"), array("q"), 0
        number = self.numbers.__getitem__
        for text in texts:
            raw.extend(map(number, tokens(text.lower())))
            ends.append(len(raw))
            if len(raw) >= _CHUNK_TOKENS:
                self._close(raw, ends, first)
                first += len(ends)
                raw, ends = array("i"), array("q")
        if ends:
            self._close(raw, ends, first)

    def _close(self, raw: array[int], ends: array[int], first: int) -> None:
        for token in self.numbers.new:
            text = term(token)
            self.term_of.append(-1 if text is None else self.terms[text])
        self.numbers.new.clear()
        self.terms.new.clear()
        found = np.asarray(self.term_of, dtype=np.int64)[np.frombuffer(raw, dtype=np.int32)]
        documents = len(ends)
        bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.frombuffer(ends, dtype=np.int64)])
        lengths = bounds[1:] - bounds[:-1]
        rows = np.repeat(np.arange(documents, dtype=np.int64), lengths)
        kept = found >= 0
        keys = np.sort(found[kept] * documents + rows[kept])
        self.lengths.append(np.bincount(rows[kept], minlength=documents).astype(np.int64))
        new = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(new, append=len(keys))
        keys = keys[new]
        spill = None if self._spill is None else self._spill / f"chunk{len(self.chunks)}.npy"
        self.chunks.append(_Postings(keys // documents, keys % documents + first, counts, spill))


def build(texts: Iterable[str], *, folder: Path | None = None, k1: float = K1, b: float = B) -> Bm25Index:
    """Index texts, one row each.

    Memory stays bounded by the vocabulary, the document lengths and one chunk when a folder is given.

    Args:
        texts: The rows, in order; read once.
        folder: Where to write the index, or None to keep it in memory.
        k1: How soon repetitions of a term stop counting, at least 0.
        b: How much long documents are held against, in [0, 1].

    Raises:
        ConfigError: A parameter is out of range, or there are no texts.
    """
    if not (k1 >= 0 and 0 <= b <= 1):
        raise ConfigError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, got k1={k1}, b={b}")
    if folder is None:
        return _assemble(texts, None, None, k1, b)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".chunks-") as spill:
        _assemble(texts, folder, Path(spill), k1, b)
    return load(folder)


def _assemble(texts: Iterable[str], folder: Path | None, spill: Path | None, k1: float, b: float) -> Bm25Index:
    tokenizer = _Tokenizer(spill)
    tokenizer.run(texts)
    if not tokenizer.lengths:
        raise ConfigError("there are no documents to index: the corpus is empty")
    lengths = np.concatenate(tokenizer.lengths)
    size = len(lengths)
    digests = np.fromiter(map(digest, tokenizer.terms), dtype=np.uint64, count=len(tokenizer.terms))
    order = np.argsort(digests, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    frequency = np.zeros(len(order), dtype=np.int64)
    for chunk in tokenizer.chunks:
        frequency += np.bincount(place[chunk.read()[0]], minlength=len(order))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(frequency)])

    def make(name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        if folder is None or 0 in shape:
            return np.zeros(shape, dtype=dtype)
        return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    total = int(starts[-1])
    rows, impacts = make("rows", np.int32, (total,)), make("impacts", np.float32, (total,))
    idf = np.log1p((size - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    average = max(float(lengths.sum()) / size, 1e-9)
    norm = (1.0 / (k1 * ((1 - b) + b * quantise_length(lengths) / average) + 1e-30)).astype(np.float32)
    cursor = starts[:-1].copy()
    for chunk in tokenizer.chunks:
        numbers, where, count = chunk.read()
        sorted_numbers = place[numbers]
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        inside = np.arange(len(numbers)) - np.repeat(first, np.diff(first, append=len(numbers)))
        target = cursor[sorted_numbers] + inside
        weight = idf[sorted_numbers]
        rows[target] = where
        impacts[target] = weight - weight / (1 + count.astype(np.float32) * norm[where])
        np.add.at(cursor, place[numbers[first]], np.diff(first, append=len(numbers)))
    frequent = np.flatnonzero(frequency > max(size // _DENSE_SHARE, 4 * BLOCK))
    dense = make("dense", np.float32, (len(frequent), size))
    for line, number in enumerate(frequent):
        span = slice(starts[number], starts[number + 1])
        dense[line, rows[span]] = impacts[span]
    parts = {
        "terms": digests[order],
        "starts": starts,
        "rows": rows,
        "impacts": impacts,
        "dense": dense,
        "dense_of": frequent,
        "size": np.array([size], dtype=np.int64),
    }
    if folder is not None:
        for name, part in parts.items():
            if isinstance(part, np.memmap):
                part.flush()
            else:
                np.save(folder / f"{name}.npy", part)
    return Bm25Index(parts)
