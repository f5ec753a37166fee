"""Opens engines from what a configuration can say; a process opens each of them once."""

from __future__ import annotations

import importlib
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import cast

from turnwise.envs.retrieval.cache import build_once
from turnwise.envs.retrieval.client import RemoteEngine
from turnwise.envs.retrieval.corpus import JsonlCorpus, open_corpus
from turnwise.envs.retrieval.dense import Encoder, build_dense, load_dense
from turnwise.envs.retrieval.interface import Engine, LocalEngine, Ranker
from turnwise.envs.retrieval.rankers import RANKERS, build_ranker, load_ranker
from turnwise.errors import ConfigError, unknown_name


@lru_cache(maxsize=16)
def open_engine(where: str, *, ranker: str = "bm25") -> Engine:
    """Open a corpus file with an index over it, or somebody's server.

    Args:
        where: Path of a JSONL corpus, or ``http(s)://...`` of a Search-R1 server.
        ranker: ``bm25``, ``bm25s``, ``tantivy``, or ``"dense:module:function"`` with an encoder's import string.

    Raises:
        ConfigError: There is no such corpus, ranker or encoder.
    """
    if where.startswith(("http://", "https://")):
        return RemoteEngine(where)
    corpus, folder = open_corpus(where)
    return LocalEngine(corpus, index_of(corpus, folder, ranker))


def index_of(corpus: JsonlCorpus, folder: Path, ranker: str) -> Ranker:
    """Open the index of a corpus, making it on first use.

    Args:
        corpus: The corpus.
        folder: The cache folder of its tables; indices go beside it.
        ranker: As in :func:`open_engine`.
    """
    if ranker.startswith("dense:"):
        encoder = load_encoder(ranker[len("dense:") :])
        key = f"{folder.name}-dense-{sha256(ranker.encode()).hexdigest()[:12]}"

        def build(work: Path) -> None:
            build_dense(corpus.texts(), encoder, folder=work)

        return load_dense(build_once(folder.parent, key, build), encoder)
    if ranker not in RANKERS:
        raise unknown_name("ranker", ranker, (*RANKERS, "dense:module:function"))

    def index(work: Path) -> None:
        build_ranker(ranker, corpus.texts(), folder=work)

    return load_ranker(ranker, build_once(folder.parent, f"{folder.name}-{ranker}", index))


def load_encoder(name: str) -> Encoder:
    """Import an encoder, ``"module:function"``.

    Raises:
        ConfigError: It cannot be imported or is not callable.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot import the encoder {name!r} ('module:function'): {error}") from error
    if not callable(found):
        raise ConfigError(f"the encoder {name!r} is not callable")
    return cast("Encoder", found)
