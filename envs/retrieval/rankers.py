"""The rankers by name. ``bm25`` is the default: measured beside the others in ``benchmarks/retrieval.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from turnwise.envs.retrieval import bm25, bm25_build
from turnwise.envs.retrieval.analysis import terms
from turnwise.envs.retrieval.interface import Hit, Ranker
from turnwise.errors import ConfigError, MissingExtraError, unknown_name


class Bm25sRanker:
    """bm25s (Lucene's BM25 with exact lengths) over the same terms."""

    def __init__(self, index: Any) -> None:
        """Wrap a ``bm25s.BM25`` object."""
        self._index = index
        self._size = int(index.scores["num_docs"])

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the best rows of each query, best first; rows that share no term are left out."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        return [self._rank(query, min(k, self._size)) for query in queries]

    def _rank(self, query: str, k: int) -> list[Hit]:
        known = [term for term in terms(query) if term in self._index.vocab_dict]
        if not known:
            return []
        rows, scores = self._index.retrieve([known], k=k, show_progress=False)
        found = [Hit(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]
        return sorted(found, key=lambda hit: (-hit.score, hit.row))


def _build_bm25s(texts: Iterable[str], folder: Path | None) -> Ranker:
    index = _bm25s().BM25(method="lucene", k1=bm25_build.K1, b=bm25_build.B)
    index.index([terms(text) for text in texts], show_progress=False)
    if folder is None:
        return Bm25sRanker(index)
    index.save(str(folder))
    return _load_bm25s(folder)


def _load_bm25s(folder: Path) -> Ranker:
    return Bm25sRanker(_bm25s().BM25.load(str(folder), mmap=True))


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise MissingExtraError("bm25s", "search") from error
    return bm25s


class TantivyRanker:
    """tantivy (BM25 with k1 = 1.2, b = 0.75, which it does not let one change) with its English stemmer."""

    def __init__(self, index: Any, folder: Path | None) -> None:
        """Wrap a ``tantivy.Index`` with the fields ``text`` and ``row``."""
        self._index, self._folder = index, folder
        self._searcher = index.searcher()

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the best rows of each query, best first; rows that share no term are left out."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        return [self._rank(query, k) for query in queries]

    def _rank(self, query: str, k: int) -> list[Hit]:
        # The query language is not for agents: only words reach it, and none of its keywords in capitals.
        words = " ".join(word for word in terms(query) if word.isalnum())
        if not words:
            return []
        found = self._searcher.search(self._index.parse_query(words, ["text"]), k).hits
        hits = [Hit(int(self._searcher.doc(address)["row"][0]), float(score)) for score, address in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.row))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is None:
            raise TypeError("a tantivy index in memory cannot be pickled: give it a folder")
        return _load_tantivy, (self._folder,)


def _tantivy() -> Any:
    try:
        import tantivy
    except ImportError as error:
        raise MissingExtraError("tantivy", "search") from error
    return tantivy


def _build_tantivy(texts: Iterable[str], folder: Path | None) -> Ranker:
    tantivy = _tantivy()
    schema = tantivy.SchemaBuilder().add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    schema = schema.add_unsigned_field("row", stored=True).build()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    index = tantivy.Index(schema, path=None if folder is None else str(folder))
    # One indexing thread, so that rows and ties keep their order; it ends with the writer.
    writer = index.writer(heap_size=128_000_000, num_threads=1)
    for row, text in enumerate(texts):
        writer.add_document(tantivy.Document(text=" ".join(terms(text)), row=row))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return TantivyRanker(index, folder)


def _load_tantivy(folder: Path) -> Ranker:
    return TantivyRanker(_tantivy().Index.open(str(folder)), folder)


def _build_bm25(texts: Iterable[str], folder: Path | None) -> Ranker:
    return bm25_build.build(texts, folder=folder)


_BUILD: dict[str, Callable[[Iterable[str], Path | None], Ranker]] = {
    "bm25": _build_bm25,
    "bm25s": _build_bm25s,
    "tantivy": _build_tantivy,
}
_LOAD: dict[str, Callable[[Path], Ranker]] = {
    "bm25": bm25.load,
    "bm25s": _load_bm25s,
    "tantivy": _load_tantivy,
}
RANKERS = tuple(_BUILD)


def build_ranker(name: str, texts: Iterable[str], *, folder: Path | None = None) -> Ranker:
    """Index texts, one row each.

    Args:
        name: ``bm25``, ``bm25s`` or ``tantivy``.
        texts: The rows, in order.
        folder: Where to write the index, or None to keep it in memory.

    Raises:
        UnknownNameError: No such ranker.
        MissingExtraError: Its library is not installed.
    """
    if name not in _BUILD:
        raise unknown_name("ranker", name, _BUILD)
    return _BUILD[name](texts, folder)


def load_ranker(name: str, folder: Path) -> Ranker:
    """Open an index that :func:`build_ranker` wrote; its big arrays are memory-mapped.

    Raises:
        UnknownNameError: No such ranker.
        ConfigError: The folder holds no index of it.
    """
    if name not in _LOAD:
        raise unknown_name("ranker", name, _LOAD)
    return _LOAD[name](folder)
