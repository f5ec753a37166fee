"""Retrieval on 100,000 documents: our BM25 beside bm25s, tantivy and sqlite FTS5, in one run.

Documents of 40 to 100 words from a 50,000-word Zipf vocabulary, queries of 6 words, top 5; one process per engine, so
that memory is its own. Two kinds of queries: words as frequent as in the documents (most of them common), and rare
words (any of the 40,000 rarest, each in 10 to 60 documents; about 150 postings a query). No query is asked twice.
Prints a table and writes ``benchmarks/results/retrieval.json``.

    python benchmarks/retrieval.py [--documents 100000] [--queries 1000]
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# The peers as their own documentation uses them, on the raw words; then the same two as options of our interface.
PEERS = ("bm25s", "tantivy", "sqlite-fts5")
ENGINES = ("turnwise", *PEERS, "bm25s-option", "tantivy-option")
KINDS = ("zipf", "rare")
WARM_UP = 20  # queries asked before the clock runs
RESULTS = Path(__file__).parent / "results" / "retrieval.json"
Search = Callable[[str], object]


def made_texts(count: int, low: int, high: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    vocabulary = 50_000
    weights = 1.0 / np.arange(1, vocabulary + 1)
    lengths = rng.integers(low, high + 1, size=count)
    words = rng.choice(vocabulary, size=int(lengths.sum()), p=weights / weights.sum())
    ends = np.cumsum(lengths)
    return [" ".join(f"w{word}" for word in part) for part in np.split(words, ends[:-1])]


def rare_queries(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in words) for words in rng.integers(10_000, 50_000, size=(count, 6))]


def build(engine: str, texts: list[str], folder: Path) -> Search:
    if engine in PEERS:
        return {"bm25s": build_bm25s, "tantivy": build_tantivy, "sqlite-fts5": build_fts}[engine](texts, folder)
    from turnwise.envs.retrieval.rankers import build_ranker

    name = "bm25" if engine == "turnwise" else engine.removesuffix("-option")
    ranker = build_ranker(name, texts, folder=folder / engine)
    return lambda query: ranker.rank([query], 5)


def build_bm25s(texts: list[str], folder: Path) -> Search:
    import bm25s

    index = bm25s.BM25(method="lucene")
    index.index([text.split() for text in texts], show_progress=False)
    return lambda query: index.retrieve([query.split()], k=5, show_progress=False)


def build_tantivy(texts: list[str], folder: Path) -> Search:
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("text").add_unsigned_field("row", stored=True).build()
    folder = folder / "tantivy"
    folder.mkdir()
    index = tantivy.Index(schema, path=str(folder))
    writer = index.writer(heap_size=256_000_000)
    for row, text in enumerate(texts):
        writer.add_document(tantivy.Document(text=text, row=row))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(query: str) -> object:
        hits = searcher.search(index.parse_query(query, ["text"]), 5).hits
        return [(score, searcher.doc(address)["row"][0]) for score, address in hits]

    return search


def build_fts(texts: list[str], folder: Path) -> Search:
    base = sqlite3.connect(":memory:")
    base.execute("create virtual table d using fts5(t, tokenize='porter')")
    base.executemany("insert into d(t) values (?)", ((text,) for text in texts))
    sql = "select rowid from d where d match ? order by rank limit 5"
    return lambda query: base.execute(sql, (" OR ".join(query.split()),)).fetchall()


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def timed(search: Search, asked: list[str]) -> dict[str, float]:
    for query in asked[:WARM_UP]:
        search(query)
    times = []
    for query in asked[WARM_UP:]:
        start = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - start)
    return {
        "p50_ms": float(np.percentile(times, 50)) * 1e3,
        "mean_ms": float(np.mean(times)) * 1e3,
        "p95_ms": float(np.percentile(times, 95)) * 1e3,
    }


def measure(engine: str, documents: int, queries: int) -> dict[str, Any]:
    texts = made_texts(documents, 40, 100, 1)
    before = memory_mb()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        search = build(engine, texts, Path(folder))
        index_s = time.perf_counter() - start
        return {
            "index_s": index_s,
            "zipf": timed(search, made_texts(queries + WARM_UP, 6, 6, 2)),
            "rss_mb": memory_mb() - before,
            "rare": timed(search, rare_queries(queries + WARM_UP, 3)),
        }


def best_ratios(table: dict[str, Any]) -> dict[str, float]:
    """Return our times beside the best of the others, for each kind of query and percentile."""
    return {
        f"{kind}_{key[:3]}": table["turnwise"][kind][key] / min(table[peer][kind][key] for peer in PEERS)
        for kind in KINDS
        for key in ("p50_ms", "p95_ms")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--engine", choices=ENGINES, help="measure one engine in this process and print JSON")
    options = parser.parse_args()
    if options.engine:
        queries = min(options.queries, 100) if options.engine == "sqlite-fts5" else options.queries
        print(json.dumps(measure(options.engine, options.documents, queries)))
        return
    table: dict[str, Any] = {}
    heads = "".join(f" {kind + ' ' + key:>10}" for kind in KINDS for key in ("p50 ms", "mean ms", "p95 ms"))
    print(f"{'engine':14} {'index s':>8} {'RSS MB':>8}{heads.replace(' ms', '')}   (times in ms)")
    for engine in ENGINES:
        command = [sys.executable, __file__, "--engine", engine, "--documents", str(options.documents)]
        done = subprocess.run([*command, "--queries", str(options.queries)], capture_output=True, text=True, check=True)
        table[engine] = row = json.loads(done.stdout.splitlines()[-1])
        times = "".join(f" {row[kind][key]:10.3f}" for kind in KINDS for key in ("p50_ms", "mean_ms", "p95_ms"))
        print(f"{engine:14} {row['index_s']:8.3f} {row['rss_mb']:8.1f}{times}")
    ratios = best_ratios(table)
    for name, ratio in ratios.items():
        print(f"{name.replace('_', ' ')} beside the best of the others: {ratio:.2f}  (goal: at most 1.2)")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"documents": options.documents, "queries": options.queries}
    RESULTS.write_text(json.dumps({**sizes, "engines": table, "beside_best": ratios}, indent=1))


if __name__ == "__main__":
    main()
