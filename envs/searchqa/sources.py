"""What an environment searches: the embedded documents, a corpus, a server, or the questions' own paragraphs."""

from __future__ import annotations

from collections import OrderedDict

from turnwise.envs.retrieval.corpus import ListCorpus
from turnwise.envs.retrieval.dense import build_dense
from turnwise.envs.retrieval.interface import Document, Engine, LocalEngine
from turnwise.envs.retrieval.open import load_encoder, open_engine
from turnwise.envs.retrieval.rankers import build_ranker
from turnwise.envs.searchqa.embedded import embedded_engine
from turnwise.envs.searchqa.tasksets import SearchTasks
from turnwise.errors import ConfigError

_KEPT = 32  # indices over paragraphs that a process keeps; its environments share them
_DENSE = "dense:"

_engines: OrderedDict[tuple[int, str, str], tuple[SearchTasks, Engine]] = OrderedDict()


def shared_engine(tasks: SearchTasks, corpus: str | None, ranker: str, *, embedded: bool) -> Engine | None:
    """Return the engine of all episodes, or None where each question brings its own paragraphs.

    Args:
        tasks: The questions.
        corpus: None, ``"own"``, ``"pooled"``, a path or an address.
        ranker: Name of the ranker.
        embedded: Whether the questions are those of the embedded world.

    Raises:
        ConfigError: There is nothing to search.
    """
    if corpus is None and embedded:
        return embedded_engine(ranker)
    if corpus not in (None, "own", "pooled"):
        return open_engine(str(corpus), ranker=ranker)
    if not tasks.has_documents:
        raise ConfigError(
            f"{tasks.source} brings no paragraphs to search: pass corpus=PATH of a JSONL file "
            "({'id', 'contents'} on each line) or corpus='http://...' of a Search-R1 server"
        )
    return _kept(tasks, "", ranker) if corpus == "pooled" else None


def own_engine(tasks: SearchTasks, task_id: str, ranker: str) -> Engine:
    """Return an engine over the paragraphs of one question."""
    return _kept(tasks, task_id, ranker)


def _kept(tasks: SearchTasks, task_id: str, ranker: str) -> Engine:
    place = (id(tasks), task_id, ranker)
    kept = _engines.get(place)
    if kept is not None and kept[0] is tasks:
        _engines.move_to_end(place)
        return kept[1]
    engine = _index(tasks.documents(task_id) if task_id else tuple(tasks.pooled()), ranker)
    _engines[place] = (tasks, engine)
    while len(_engines) > _KEPT:
        _engines.popitem(last=False)
    return engine


def _index(documents: tuple[Document, ...], ranker: str) -> Engine:
    corpus = ListCorpus(documents)
    if ranker.startswith(_DENSE):
        return LocalEngine(corpus, build_dense(corpus.texts(), load_encoder(ranker[len(_DENSE) :])))
    return LocalEngine(corpus, build_ranker(ranker, corpus.texts()))
