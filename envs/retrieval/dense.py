"""Dense retrieval with any encoder: a callable from texts to vectors, kept as a memory-mapped matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.interface import Hit
from turnwise.errors import ConfigError

Encoder = Callable[[list[str], Literal["query", "passage"]], Any]
_BLOCK_ROWS = 65_536


class DenseRanker:
    """Ranks by inner product of unit vectors, that is by cosine (keeps the Ranker protocol)."""

    def __init__(self, vectors: npt.NDArray[np.float32], encoder: Encoder) -> None:
        """Take the unit vectors of the rows and the encoder that made them."""
        self._vectors, self._encoder = vectors, encoder

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the best rows of each query, best first, ties in row order."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        if not queries:
            return []
        asked = encode(self._encoder, list(queries), "query")
        if asked.shape[1] != self._vectors.shape[1]:
            raise ConfigError(
                f"the index holds vectors of {self._vectors.shape[1]} numbers, the encoder returns {asked.shape[1]}: "
                "index with the same encoder"
            )
        best: list[list[Hit]] = [[] for _ in queries]
        for start in range(0, len(self._vectors), _BLOCK_ROWS):  # so that a mapped matrix never is in memory at once
            scores = asked @ self._vectors[start : start + _BLOCK_ROWS].T
            for number, row_scores in enumerate(scores):
                count = min(k, len(row_scores))
                floor = np.partition(row_scores, len(row_scores) - count)[len(row_scores) - count]
                rows = np.flatnonzero(row_scores >= floor)
                best[number] += [Hit(start + int(row), float(row_scores[row])) for row in rows]
        return [sorted(hits, key=lambda hit: (-hit.score, hit.row))[:k] for hits in best]


def encode(encoder: Encoder, texts: list[str], kind: Literal["query", "passage"]) -> npt.NDArray[np.float32]:
    """Return the unit vectors of texts, shape (texts, dimensions), float32.

    Raises:
        ConfigError: The encoder does not return one finite vector per text.
    """
    vectors = np.asarray(encoder(texts, kind), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ConfigError(f"an encoder returns one finite vector per text: got shape {vectors.shape} for {len(texts)}")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = vectors / np.maximum(norms, 1e-12)
    return unit


def build_dense(texts: Iterable[str], encoder: Encoder, *, folder: Path | None = None, batch: int = 64) -> DenseRanker:
    """Encode texts, one row each.

    Args:
        texts: The rows, in order; read once, ``batch`` at a time.
        encoder: Takes texts and ``"query"`` or ``"passage"`` (E5 wants different prefixes), returns an array of shape
            (texts, dimensions).
        folder: Where to write the vectors, or None to keep them in memory.
        batch: How many texts to encode at once.
    """
    parts = _encoded(iter(texts), encoder, batch)
    if folder is None:
        vectors = list(parts)
        if not vectors:
            raise ConfigError("there are no documents to index: the corpus is empty")
        return DenseRanker(np.concatenate(vectors), encoder)
    folder.mkdir(parents=True, exist_ok=True)
    size = dimensions = 0
    with (folder / "vectors.f32").open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
            size, dimensions = size + len(part), part.shape[1]
    if not size:
        raise ConfigError("there are no documents to index: the corpus is empty")
    np.save(folder / "shape.npy", np.array([size, dimensions]))
    return load_dense(folder, encoder)


def _encoded(texts: Iterator[str], encoder: Encoder, batch: int) -> Iterator[npt.NDArray[np.float32]]:
    while block := list(islice(texts, batch)):
        yield encode(encoder, block, "passage")


def load_dense(folder: Path, encoder: Encoder) -> DenseRanker:
    """Open vectors by memory mapping.

    Raises:
        ConfigError: The folder holds none.
    """
    try:
        size, dimensions = np.load(folder / "shape.npy").tolist()
        vectors = np.memmap(folder / "vectors.f32", dtype=np.float32, mode="r", shape=(size, dimensions))
    except (OSError, ValueError) as error:
        raise ConfigError(f"no dense index at {folder}: {error}") from error
    return DenseRanker(np.asarray(vectors), encoder)
