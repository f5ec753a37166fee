from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from turnwise.envs.retrieval.dense import build_dense, load_dense
from turnwise.envs.retrieval.interface import Ranker
from turnwise.envs.retrieval.rankers import RANKERS, build_ranker, load_ranker
from turnwise.errors import ConfigError, UnknownNameError

DOCUMENTS = [
    "Vorlun Tashkir painted the lanterns of Velmora.",
    "The Velmora Institute stands beside the river.",
    "Rivers freeze in hard winters.",
    "A catalogue of lanterns, lamps and a lantern maker.",
]


def engine(name):
    if name != "bm25":
        pytest.importorskip(name)
    return name


@pytest.mark.parametrize("name", RANKERS)
def test_rankers_agree_on_what_fits(name, tmp_path):
    made = build_ranker(engine(name), DOCUMENTS)
    stored = build_ranker(name, DOCUMENTS, folder=tmp_path / name)
    for ranker in (made, stored, load_ranker(name, tmp_path / name)):
        assert isinstance(ranker, Ranker)
        found = ranker.rank(["velmora institute", "lantern", "nothing known", "river"], 3)
        assert [hit.row for hit in found[0]] == [1, 0]
        assert [hit.row for hit in found[1]] == [3, 0]
        assert found[2] == []
        assert {hit.row for hit in found[3]} == {1, 2}
        assert ranker.rank(["lantern"], 1)[0][0].row == 3
        assert all(hit.score > 0 for hits in found for hit in hits)
        with pytest.raises(ConfigError):
            ranker.rank(["x"], 0)


@pytest.mark.parametrize("name", RANKERS)
@pytest.mark.parametrize("query", ['"', "a AND OR NOT", "text:x^2 +(", "\x00\ud800", "x" * 10_000, "[* TO *]", "~3"])
def test_queries_are_words_not_a_language(name, query):
    assert isinstance(build_ranker(engine(name), DOCUMENTS).rank([query], 2), list)


def test_unknown_ranker():
    with pytest.raises(UnknownNameError, match="bm25"):
        build_ranker("bm52", DOCUMENTS)
    with pytest.raises(UnknownNameError, match="bm25"):
        load_ranker("bm52", None)


def letters(texts, kind):
    """An encoder for tests: counts of letters, which is enough to find a text again."""
    assert kind in ("query", "passage")
    rows = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]
    return np.array(rows, dtype=np.float64) + 1e-3


def test_dense_is_the_cosine(tmp_path):
    vectors = letters(DOCUMENTS, "passage")
    asked = letters(["a lantern"], "query")[0]
    cosine = vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
    for ranker in (build_dense(DOCUMENTS, letters), build_dense(DOCUMENTS, letters, folder=tmp_path, batch=3)):
        (hits,) = ranker.rank(["a lantern"], 3)
        assert [hit.row for hit in hits] == list(np.argsort(-cosine)[:3])
        assert [hit.score for hit in hits] == pytest.approx(sorted(cosine)[::-1][:3], rel=1e-5)
    assert load_dense(tmp_path, letters).rank([DOCUMENTS[2]], 1)[0][0].row == 2


def test_dense_checks_the_encoder(tmp_path):
    for wrong in (lambda texts, kind: [1.0], lambda texts, kind: np.full((len(texts), 3), np.nan)):
        with pytest.raises(ConfigError, match="one finite vector per text"):
            build_dense(DOCUMENTS, wrong)
    build_dense(DOCUMENTS, letters, folder=tmp_path)
    with pytest.raises(ConfigError, match="same encoder"):
        load_dense(tmp_path, lambda texts, kind: np.ones((len(texts), 3))).rank(["x"], 1)
    with pytest.raises(ConfigError, match="no dense index"):
        load_dense(tmp_path / "x", letters)


def test_missing_library_is_named(monkeypatch):
    if importlib.util.find_spec("bm25s") is None:
        pytest.skip("bm25s is not installed")
    monkeypatch.setitem(__import__("sys").modules, "bm25s", None)
    with pytest.raises(ConfigError, match="pip install"):
        build_ranker("bm25s", DOCUMENTS)
