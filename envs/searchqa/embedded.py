"""The embedded data: made from a seed on first use, kept in the cache under a hash of what makes it."""

from __future__ import annotations

import gc
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import msgspec

from turnwise.envs.retrieval import bm25, bm25_build
from turnwise.envs.retrieval.cache import build_once, cache_root
from turnwise.envs.retrieval.corpus import JsonlCorpus, write_jsonl, write_tables
from turnwise.envs.retrieval.interface import LocalEngine
from turnwise.envs.retrieval.open import index_of
from turnwise.envs.searchqa.documents import write_documents
from turnwise.envs.searchqa.forms import Facts
from turnwise.envs.searchqa.graph import Edge, Entity, make_entities, make_graph
from turnwise.envs.searchqa.questions import QUESTIONS, Maker
from turnwise.envs.searchqa.tasksets import Question, SearchTasks
from turnwise.errors import unknown_name
from turnwise.records import Task

SEED = 20_260_101
DOCUMENTS = 20_000
SPLIT_ALIASES = {
    "train": "train",
    "val": "val",
    "dev": "val",
    "validation": "val",
    "val_seen": "val",
    "test": "test",
    "val_unseen": "test",
}
_CORPUS = "corpus.jsonl"
# The content is a function of these modules and of the three numbers.
_MADE_BY = (
    "turnwise.envs.retrieval.analysis",
    "turnwise.envs.retrieval.bm25",
    "turnwise.envs.retrieval.bm25_build",
    "turnwise.envs.retrieval.corpus",
    "turnwise.envs.searchqa.beliefs",
    "turnwise.envs.searchqa.documents",
    "turnwise.envs.searchqa.drafts",
    "turnwise.envs.searchqa.embedded",
    "turnwise.envs.searchqa.forms",
    "turnwise.envs.searchqa.graph",
    "turnwise.envs.searchqa.names",
    "turnwise.envs.searchqa.questions",
    "turnwise.envs.searchqa.schema",
)


class _Stored(NamedTuple):
    """The graph as it is kept."""

    entities: list[Entity]
    edges: list[Edge]


def search_split(split: str) -> str:
    """Return the canonical name of a split: train, val or test.

    Raises:
        UnknownNameError: Nobody calls a split that.
    """
    try:
        return SPLIT_ALIASES[split]
    except KeyError:
        raise unknown_name("split", split, SPLIT_ALIASES) from None


@lru_cache(maxsize=1)
def content_key() -> str:
    """Return the hash under which the embedded data are kept."""
    digest = sha256(f"{SEED}|{DOCUMENTS}|{sorted(QUESTIONS.items())}".encode())
    for name in _MADE_BY:
        digest.update(Path(import_module(name).__file__ or "").read_bytes())
    return digest.hexdigest()[:24]


def embedded_folder() -> Path:
    """Return the folder of the embedded data, making it on first use."""
    return build_once(cache_root() / "searchqa", content_key(), generate)


def generate(folder: Path, *, seed: int = SEED, documents: int = DOCUMENTS) -> None:
    """Write the world: its graph, its documents, an index over them and the questions of each split.

    Args:
        folder: An empty folder.
        seed: Of all draws.
        documents: How many documents the world has.
    """
    # A world is millions of objects without cycles; the collector would walk them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        _generate(folder, seed, documents)
    finally:
        if collecting:
            gc.enable()


def _generate(folder: Path, seed: int, documents: int) -> None:
    entities = make_entities(seed, documents)
    pages, edges = write_documents(entities, seed)
    facts = Facts(make_graph(entities, edges))
    by_id = {page.id: page for page in pages}
    encoder = msgspec.msgpack.Encoder()
    (folder / "graph.msgpack").write_bytes(encoder.encode(_Stored(entities, edges)))
    share = min(1.0, documents / DOCUMENTS)
    for split, count in QUESTIONS.items():
        tasks = Maker(facts, by_id, split, seed).make(max(1, round(count * share)))
        (folder / f"{split}.msgpack").write_bytes(encoder.encode(tasks))
    write_jsonl(folder / _CORPUS, pages)
    write_tables(folder / _CORPUS, folder)
    bm25_build.build((f"{page.title} {page.text}" for page in pages), folder=folder / "bm25")


@lru_cache(maxsize=3)
def embedded_tasks(split: str) -> SearchTasks:
    """Return the questions of a split (train, val or test)."""
    raw = (embedded_folder() / f"{split}.msgpack").read_bytes()
    tasks = msgspec.msgpack.decode(raw, type=list[Task])
    return SearchTasks([Question(task) for task in tasks], split=split, source="the embedded world")


@lru_cache(maxsize=4)
def embedded_engine(ranker: str = "bm25") -> LocalEngine:
    """Open the embedded documents; environments of a process share them, processes share the pages.

    Args:
        ranker: ``bm25`` (made with the data), or another one of :func:`~turnwise.envs.retrieval.open.open_engine`.
    """
    folder = embedded_folder()
    corpus = JsonlCorpus(folder / _CORPUS, folder)
    if ranker == "bm25":
        return LocalEngine(corpus, bm25.load(folder / "bm25"))
    return LocalEngine(corpus, index_of(corpus, folder, ranker))


@lru_cache(maxsize=1)
def embedded_facts() -> Facts:
    """Return the graph of the embedded world with its look-ups; takes seconds, environments do not need it."""
    raw = (embedded_folder() / "graph.msgpack").read_bytes()
    stored = msgspec.msgpack.decode(raw, type=_Stored)
    return Facts(make_graph(stored.entities, stored.edges))
