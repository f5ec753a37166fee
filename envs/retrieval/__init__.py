"""Retrieval for the worlds that search: corpora on disk, rankers behind one interface, Search-R1's HTTP contract.

The default ranker is this package's own BM25 (:mod:`~turnwise.envs.retrieval.bm25`), exact to Lucene's scoring;
bm25s and tantivy are options, and any encoder is pluggable through :mod:`~turnwise.envs.retrieval.dense`.
"""
