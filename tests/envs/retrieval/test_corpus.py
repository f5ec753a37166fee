from __future__ import annotations

import multiprocessing
import pickle
import sys

import pytest

from turnwise.envs.retrieval.cache import build_once, cache_root
from turnwise.envs.retrieval.corpus import ListCorpus, default_url, open_corpus, read_record, write_jsonl
from turnwise.envs.retrieval.interface import Document, split_sentences
from turnwise.envs.retrieval.open import open_engine
from turnwise.errors import ConfigError, UnknownNameError

WIKI = [
    '{"id": "0", "contents": "\\"Velmora\\"\\nVelmora is a city. It lies by a river."}',
    '{"id": 1, "contents": "\\"Tash & Co\\"\\nA firm."}',
    '{"id": "x/2", "title": "Émile", "text": "Wrote it.", "url": "https://e.example/"}',
]


def write(tmp_path, lines=WIKI):
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_wiki18_lines(tmp_path):
    corpus, _ = open_corpus(write(tmp_path))
    assert len(corpus) == 3
    first = corpus.document(0)
    assert first == Document("0", "Velmora", ("Velmora is a city.", "It lies by a river."), default_url("0"))
    assert corpus.document(1).title == "Tash & Co"
    for row, keys in enumerate(
        (("0", "velmora", default_url("0")), ("1", "TASH &  co"), ("x/2", "https://e.example/"))
    ):
        assert {corpus.find(key) for key in keys} == {row}
    assert corpus.find(default_url("x/2")) == 2
    assert [corpus.find(key) for key in ("", "2", "https://e.example", "https://corpus.example/doc/")] == [None] * 4
    assert list(corpus.texts())[1] == "Tash & Co A firm."
    assert pickle.loads(pickle.dumps(corpus)).document(2) == corpus.document(2)


def test_round_trip(tmp_path):
    documents = [Document("a", "A “title”", ("One.", "", "Two \n lines."), "https://x.example/a")]
    write_jsonl(tmp_path / "c.jsonl", documents)
    corpus, _ = open_corpus(tmp_path / "c.jsonl")
    assert corpus.document(0) == documents[0]
    assert ListCorpus(documents).find("a “TITLE”") == 0


def test_changed_file_is_read_anew(tmp_path):
    path = write(tmp_path)
    assert len(open_corpus(path)[0]) == 3
    path.write_text(WIKI[0] + "\n")
    assert len(open_corpus(path)[0]) == 1


def test_engine_over_a_file(tmp_path):
    path = write(tmp_path)
    engine = open_engine(str(path))
    ((hit,),) = engine.search(["river"], 3)
    assert hit.document.id == "0"
    assert engine.lookup("velmora") == hit.document
    assert engine.lookup("nowhere") is None
    assert open_engine(str(path)) is engine


def letters(texts, kind):
    return [[text.count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def test_dense_engine_by_import_string(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_encoder", sys.modules[__name__])
    engine = open_engine(str(write(tmp_path)), ranker="dense:my_encoder:letters")
    assert engine.search(["Velmora is a city. It lies by a river."], 1)[0][0].document.id == "0"
    for ranker, error in (("dense:nowhere:x", "cannot import"), ("dense:my_encoder:WIKI", "not callable")):
        with pytest.raises(ConfigError, match=error):
            open_engine(str(tmp_path / "corpus.jsonl"), ranker=ranker)
    with pytest.raises(UnknownNameError):
        open_engine(str(tmp_path / "corpus.jsonl"), ranker="colbert")


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["{"], "line 1 is no JSON"),
        ([WIKI[0], "[1]"], "line 2 is no JSON object"),
        ([WIKI[0], ""], "line 2 is empty"),
        (['{"contents": "x"}'], "needs an 'id'"),
        (['{"id": "1"}'], "needs 'contents'"),
        ([""], "line 1 is empty"),
    ],
)
def test_bad_corpora(tmp_path, lines, error):
    with pytest.raises(ConfigError, match=error):
        open_corpus(write(tmp_path, lines))
    assert not [path for path in (cache_root() / "corpora").iterdir() if not path.name.endswith(".lock")]


def test_missing_and_empty_corpus(tmp_path):
    with pytest.raises(ConfigError, match="no corpus file"):
        open_corpus(tmp_path / "x")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no documents"):
        open_corpus(tmp_path / "empty.jsonl")


def test_split_sentences():
    assert split_sentences(" One.  Two? Three!\nFour") == ("One.", "Two?", "Three!", "Four")
    assert split_sentences("  ") == ()


def test_records_without_title():
    assert read_record({"id": 1, "contents": "just text"}, "here").sentences == ("just text",)


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        build_once(tmp_path, "k", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".k.lock"]
    assert build_once(tmp_path, "k", lambda folder: (folder / "x").touch()).is_dir()


def test_what_a_dead_process_left_is_removed(tmp_path):
    (tmp_path / ".k-dead").mkdir()
    build_once(tmp_path, "k", lambda folder: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".k.lock", "k"]


def test_unwritable_cache_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TURNWISE_CACHE", str(tmp_path / "file" / "x"))
    with pytest.raises(ConfigError, match="TURNWISE_CACHE"):
        cache_root()


def _rank(path, queue):
    engine = open_engine(path)
    queue.put([scored.document.id for scored in engine.search(["river city"], 3)[0]])


def test_an_open_engine_survives_a_fork(tmp_path):
    path = str(write(tmp_path))
    open_engine(path).search(["river"], 1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=30) for _ in processes] == [["0"]] * 3
    for process in processes:
        process.join(timeout=30)
