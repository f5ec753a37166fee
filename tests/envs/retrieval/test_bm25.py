from __future__ import annotations

import gzip
import json
import math
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.retrieval import bm25, bm25_build
from turnwise.envs.retrieval.analysis import terms
from turnwise.errors import ConfigError

words = st.sampled_from([f"w{i}" for i in range(12)] + ["the", "running", "runs"])
texts = st.lists(st.lists(words, max_size=70).map(" ".join), min_size=1, max_size=40)


def reference(documents, query, k1=0.9, b=0.4):
    """BM25 written out, in double precision."""
    bags = [Counter(terms(text)) for text in documents]
    lengths = [sum(bag.values()) for bag in bags]
    average = max(sum(lengths) / len(lengths), 1e-9)
    coded = bm25_build.quantise_length(np.array(lengths))
    scores = []
    for bag, length in zip(bags, coded, strict=True):
        score = 0.0
        for word, count in Counter(terms(query)).items():
            df = sum(word in other for other in bags)
            if bag[word]:
                idf = math.log(1 + (len(bags) - df + 0.5) / (df + 0.5))
                score += count * idf * bag[word] / (bag[word] + k1 * (1 - b + b * length / average))
        scores.append(score)
    return scores


@settings(max_examples=60, deadline=None)
@given(texts, st.lists(words, min_size=1, max_size=8).map(" ".join), st.integers(1, 50))
def test_scores_are_those_of_the_formula(documents, query, k):
    hits = bm25_build.build(documents).rank([query], k)[0]
    expected = reference(documents, query)
    assert len(hits) == min(k, sum(score > 0 for score in expected))
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.row], rel=1e-5)
    left_out = [score for row, score in enumerate(expected) if row not in {hit.row for hit in hits}]
    if hits and left_out:
        assert max(left_out) <= hits[-1].score * (1 + 1e-5)
    assert [(-hit.score, hit.row) for hit in hits] == sorted((-hit.score, hit.row) for hit in hits)


def test_ties_come_in_row_order_and_k_bounds():
    index = bm25_build.build(["same words"] * 1_000)
    assert [hit.row for hit in index.rank(["words"], 7)[0]] == list(range(7))
    assert len(index.rank(["words"], 5_000)[0]) == 1_000
    assert index.rank(["unknown", "the", ""], 3) == [[], [], []]
    with pytest.raises(ConfigError):
        index.rank(["words"], 0)


def test_top_k_among_many_rows():
    rng = np.random.default_rng(0)
    documents = [" ".join(f"w{i}" for i in rng.zipf(1.3, size=30) % 5_000) for _ in range(3_000)]
    index = bm25_build.build(documents)
    for query in ("w1 w2 w3", "w17 w40", "w4999 w3 w3"):
        expected = reference(documents, query)
        best = sorted(range(len(expected)), key=lambda row: -expected[row])[:10]
        hits = index.rank([query], 10)[0]
        assert [hit.score for hit in hits] == pytest.approx([expected[row] for row in best], rel=1e-4)


@pytest.mark.parametrize("group", [16, 2, 10_000])
def test_rare_terms_rank_the_same_with_and_without_a_pass_over_all_rows(monkeypatch, group):
    rng = np.random.default_rng(1)
    documents = [" ".join(f"w{i}" for i in rng.integers(0, 600, size=12)) for _ in range(4_000)]
    index = bm25_build.build(documents)
    queries = [" ".join(f"w{i}" for i in rng.integers(0, 700, size=n)) for n in (1, 2, 3, 5) for _ in range(20)]
    queries += [query + " w7 w7" for query in queries]
    monkeypatch.setattr(bm25, "_SPARSE_SHARE", 0)  # by the postings alone
    monkeypatch.setattr(bm25, "_GROUP", group)
    found = {k: index.rank(queries, k) for k in (1, 5, 30, 1_000)}
    monkeypatch.setattr(bm25, "_SPARSE_SHARE", 1e9)
    for k, few_by_few in found.items():
        assert index.rank(queries, k) == few_by_few
        assert max(map(len, few_by_few)) == min(k, max(map(len, found[1_000])))
    assert any(len({hit.score for hit in hits}) < len(hits) for hits in found[30]), "no ties: the test is too weak"


def test_a_query_that_fails_half_way_leaves_nothing_behind(monkeypatch):
    rng = np.random.default_rng(2)
    index = bm25_build.build([" ".join(f"w{i}" for i in rng.integers(0, 40, size=12)) for _ in range(500)])
    queries = ["w1 w2 w3", "w4"]
    for share in (0, 1e9):
        monkeypatch.setattr(bm25, "_SPARSE_SHARE", share)
        expected = index.rank(queries, 9)
        for name in ("_best", "_top"):
            with monkeypatch.context() as broken:
                broken.setattr(bm25, name, lambda *_, **__: 1 / 0)
                if (name == "_best") == (share == 0):
                    with pytest.raises(ZeroDivisionError):
                        index.rank(queries, 9)
        assert index.rank(queries, 9) == expected


def test_lucene_rankings_of_the_real_webshop(shared_data):
    folder = shared_data / "webshop"
    products = json.loads(gzip.decompress((folder / "items_shuffle_1000.json.gz").read_bytes()))
    recorded = json.loads(gzip.decompress((folder / "lucene_rankings.json.gz").read_bytes()))
    products.sort(key=lambda product: product["asin"])  # Anserini breaks ties by the external id
    names = [product["asin"] for product in products]
    index = bm25_build.build(map(_contents, products))
    right = 0
    for query, expected in recorded.items():
        hits = index.rank([query], 50)[0]
        right += [names[hit.row] for hit in hits] == [asin for asin, _ in expected]
        # Lucene's scores are recorded to four digits, less a millionth per tie.
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=2e-4)
    assert len(recorded) == 202
    assert right == 202


def _contents(product):
    """What WebShop indexes of a product."""
    options = []
    for name, values in (product.get("customization_options") or {}).items():
        shown = [value["value"].strip().replace("/", " | ").lower() for value in values or []]
        listed = ", and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
        options.append(f"{name.lower()}: {listed}")
    bullets = product["small_description"]
    bullet = bullets[0] if isinstance(bullets, list) and bullets else bullets or ""
    return " ".join([product["name"], product["full_description"], bullet, ", and ".join(options)]).lower()


@pytest.mark.parametrize("length", [0, 1, 23, 24, 39, 40, 41, 55, 56, 57, 100, 1_000, 100_000])
def test_length_codes_round_down_by_less_than_an_eighth(length):
    coded = int(bm25_build.quantise_length(np.array([length]))[0])
    assert coded <= length
    assert coded == length or (length >= 40 and length - coded < length / 8)


def test_saved_index_is_mapped_and_equal(tmp_path, monkeypatch):
    documents = [f"w{i % 7} w{i % 11} common" for i in range(2_000)] + [""]
    monkeypatch.setattr(bm25_build, "_CHUNK_TOKENS", 500)
    index = bm25_build.build(documents, folder=tmp_path / "index")
    monkeypatch.undo()
    memory = bm25_build.build(documents)
    queries = ["w3 common", "w1 w10", "common"]
    assert index.rank(queries, 20) == memory.rank(queries, 20)
    assert bm25.load(tmp_path / "index").rank(queries, 20) == memory.rank(queries, 20)
    assert not list((tmp_path / "index").glob(".chunks*"))
    assert pickle.loads(pickle.dumps(memory)).rank(queries, 20) == memory.rank(queries, 20)
    memory.save(tmp_path / "saved")
    assert bm25.load(tmp_path / "saved").rank(queries, 20) == memory.rank(queries, 20)


def test_threads_do_not_share_a_buffer():
    index = bm25_build.build([f"w{i % 50} w{i % 31}" for i in range(5_000)])
    queries = [f"w{i} w{i + 1}" for i in range(40)] * 5
    expected = index.rank(queries, 5)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: index.rank([query], 5)[0], queries)) == expected


def test_bad_input():
    with pytest.raises(ConfigError, match="empty"):
        bm25_build.build([])
    with pytest.raises(ConfigError, match="k1"):
        bm25_build.build(["a"], b=2)
    with pytest.raises(ConfigError, match="no BM25 index"):
        bm25.load(Path("/nowhere"))
    assert bm25_build.build(["", "the"]).rank(["the word"], 2) == [[]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats' toys", ["cat", "toi"]),
        ("Anna's U.S.A. 3.5 1,000.", ["anna", "u.s.a", "3.5", "1,000"]),
        ("assembly assembled assemblies", ["assembl"] * 3),
        ("psychology biology", ["psycholog", "biologi"]),
        ("probably", ["probabl"]),
        ("state-of-the-art x_y", ["state", "art", "x_y"]),
        ("ÄPFEL Äpfel", ["äpfel"] * 2),
    ],
)
def test_terms(text, expected):
    assert terms(text) == expected
