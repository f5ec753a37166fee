from __future__ import annotations

import gzip
import json

import pytest

from turnwise.envs.retrieval.corpus import write_jsonl
from turnwise.envs.retrieval.interface import Document
from turnwise.envs.searchqa import SearchQAEnv
from turnwise.envs.searchqa.loaders import load_questions
from turnwise.errors import ConfigError, UnknownNameError

HOTPOT = {
    "_id": "h1",
    "question": "Who wrote it?",
    "answer": "Ann",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["A", 1], ["B", 0], ["B", 9]],
    "context": [["A", ["First. ", " It is by B."]], ["B", ["Ann is B."]], ["C", ["Nothing."]]],
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Who?",
    "answer": "Ann",
    "answer_aliases": ["Anna"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "A", "paragraph_text": "It is by B. Really.", "is_supporting": True},
        {"idx": 1, "title": "B", "paragraph_text": "Ann is B.", "is_supporting": True},
        {"idx": 2, "title": "C", "paragraph_text": "Nothing.", "is_supporting": False},
    ],
    "question_decomposition": [
        {"id": 1, "question": "By whom?", "answer": "B", "paragraph_support_idx": 0},
        {"id": 2, "question": "Who is #1?", "answer": "Ann", "paragraph_support_idx": 1},
    ],
}
FLASHRAG = {"id": "test_0", "question": "who wrote it", "golden_answers": ["Ann", "Anna B"], "metadata": {}}
SEARCH_R1 = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Answer ... <answer> and </answer>. Question: who wrote it?\n"}],
    "ability": "fact-reasoning",
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann", "Anna B"]}},
    "extra_info": {"split": "train", "index": 7},
}
CARR = {
    "label": "Ann",
    "metadata": {
        "remote_env_info": {"search_forbidden_strs": ["Who wrote it?"], "rubrics": ["<E1> is by <E0>."]},
    },
}


def write(path, *records):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        path.write_text(json.dumps(list(records)))
    return str(path)


def only(tasks):
    (task_id,) = tasks.ids()
    return tasks.get(task_id)


def play_expert(env, task_id, kind=None):
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    expert = env.expert(kind)
    while True:
        observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
        if terminated or truncated:
            return info


@pytest.mark.parametrize("corpus", ["own", "pooled"])
@pytest.mark.parametrize("kind", ["expert", "tags"])
def test_the_100_real_hotpot_questions(shared_data, corpus, kind):
    env = SearchQAEnv(data=str(shared_data / "hotpotqa" / "distractor_100.json.gz"), split="val", corpus=corpus)
    assert len(env.tasks) == 100
    for task_id in env.tasks.ids():
        info = play_expert(env, task_id, kind)
        assert info["success"], task_id
        grade = info["extra"]["grade"]
        assert grade["f1"] == 1.0
        assert info["extra"]["supporting_facts"] == len(info["extra"]["supporting_facts_found"]) >= 2
        if kind == "expert":
            assert grade["citation_precision"] == grade["citation_recall"] == 1.0
        if corpus == "own":
            own = {document.id for document in env.tasks.documents(task_id)}
            assert set(info["extra"]["documents_shown"]) <= own
            assert len(own) <= 10
    if corpus == "pooled":
        assert len(env.engine.corpus) > 900


def test_hotpot_facts_point_at_the_sentences(shared_data):
    path = shared_data / "hotpotqa" / "distractor_100.json.gz"
    raw = {record["id"]: record for record in json.loads(gzip.decompress(path.read_bytes()))}
    tasks = load_questions(str(path), "val")
    for task_id in tasks.ids():
        documents = {document.id: document for document in tasks.documents(task_id)}
        record = raw[task_id]
        sentences = dict(zip(record["context"]["title"], record["context"]["sentences"], strict=True))
        expected = [
            " ".join(sentences[title][number].split())
            for title, number in zip(
                record["supporting_facts"]["title"], record["supporting_facts"]["sent_id"], strict=True
            )
        ]
        facts = tasks.get(task_id).data["supporting_facts"]
        assert [documents[name].sentences[number] for name, number in facts] == expected


def test_hotpot_original_form(tmp_path):
    tasks = load_questions(write(tmp_path / "dev.json", HOTPOT), "val")
    task = only(tasks)
    assert (task.id, task.split, task.type, task.instruction) == ("h1", "val", "bridge", "Who wrote it?")
    a, b, _c = tasks.documents("h1")
    assert a.sentences == ("First.", "It is by B.")
    assert task.data["supporting_facts"] == [[a.id, 1], [b.id, 0]]
    assert task.data["supporting_facts_lost"] == 1
    assert play_expert(SearchQAEnv(data=str(tmp_path), split="val"), "h1")["success"]


def test_2wiki(tmp_path):
    record = HOTPOT | {"evidences": [["A", "author", "B"]], "answer_id": "Q1"}
    task = only(load_questions(write(tmp_path / "x.json", record), "train"))
    assert task.data["evidences"] == [["A", "author", "B"]]


def test_musique(tmp_path):
    twin = MUSIQUE | {"answerable": False, "paragraphs": MUSIQUE["paragraphs"][1:]}
    data = write(tmp_path / "musique_full_dev.jsonl", MUSIQUE, twin)
    tasks = load_questions(str(tmp_path), "val")
    assert tasks.ids() == ("2hop__1_2", "2hop__1_2/unanswerable")
    task = tasks.get("2hop__1_2")
    a, b, _ = tasks.documents(task.id)
    assert task.data["supporting_facts"] == [[a.id, -1], [b.id, -1]]
    assert [part["document"] for part in task.data["decomposition"]] == [a.id, b.id]
    env = SearchQAEnv(data=data)
    for task_id in tasks.ids():
        for kind in env.experts:
            info = play_expert(env, task_id, kind)
            assert info["success"]
    env.reset(seed=0, options={"task_id": "2hop__1_2"})
    assert env.step("answer[anna]")[1] == 1.0


def test_flashrag_and_search_r1_with_a_corpus_file(tmp_path):
    corpus = tmp_path / "wiki.jsonl"
    corpus.write_text('{"id": "0", "contents": "\\"A\\"\\nIt was written by Ann."}\n')
    for name, record, task_id in (
        ("nq.jsonl", FLASHRAG, "test_0"),
        ("r1.json", SEARCH_R1, "nq_train_7"),
    ):
        env = SearchQAEnv(data=write(tmp_path / name, record), corpus=str(corpus))
        task = only(env.tasks)
        assert task.id == task_id
        assert task.instruction.rstrip("?") == "who wrote it"
        assert task.data["aliases"] == ["Ann", "Anna B"]
        for kind in env.experts:
            assert play_expert(env, task_id, kind)["success"]


def test_search_r1_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([SEARCH_R1]), tmp_path / "train.parquet")
    task = only(load_questions(str(tmp_path), "train"))
    assert task.id == "nq_train_7"
    assert task.data["aliases"] == ["Ann", "Anna B"]


def test_deepdive_and_carr(tmp_path):
    plain = {"id": 3, "question": "Who?", "answer": "Ann", "conversations": []}
    task = only(load_questions(write(tmp_path / "deepdive.jsonl", plain), "train"))
    assert (task.id, task.data["answer"], task.data["rubrics"]) == ("3", "Ann", [])
    task = only(load_questions(write(tmp_path / "carr.jsonl", CARR), "train"))
    assert (task.instruction, task.data["rubrics"]) == ("Who wrote it?", ["<E1> is by <E0>."])


@pytest.mark.parametrize(
    ("rubrics", "error"),
    [
        (["<E1> is by <E0>.", "Ann is tall."], r"rubrics\[1\], 'Ann is tall.', has no placeholder"),
        (["<E1> is <E2>."], "no rubric speaks of <E0>"),
        ([None], r"rubrics\[0\] must be a text, got None"),
    ],
)
def test_rubrics_that_could_never_count_are_refused_as_they_are_loaded(tmp_path, rubrics, error):
    good = {"id": "a0", "question": "Who?", "answer": "Ann", "rubrics": ["<E0> is tall."]}
    deepdive = {"id": "a1", "question": "Who?", "answer": "Ann", "rubrics": rubrics}
    remote = {"search_forbidden_strs": ["Who?"], "rubrics": rubrics}
    carr = {"prompt": [], "label": "Ann", "metadata": {"remote_env_info": remote}}
    for bad, record in ((deepdive, r"question 2 \('a1'\): "), (carr, "question 2: ")):
        path = tmp_path / "x.jsonl"
        path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
        with pytest.raises(ConfigError, match=record + error):
            load_questions(str(path), "train")
        with pytest.raises(ConfigError, match=record + error):  # and so a run does not begin
            SearchQAEnv(data=str(path), split="train")
        path.unlink()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("x.json", "[", "cannot be read"),
        ("x.jsonl", "{}\n", "unknown format"),
        ("x.json", "3", "list of questions"),
        ("x.jsonl", "[1]\n", "expected an object"),
        ("x.json", '[{"question": "q", "context": 3}]', "answer"),
        ("x.json", '[{"question": "q", "answer": "a", "context": 3, "id": 1}]', "pairs"),
        ("x.jsonl", '{"question": "q", "golden_answers": [], "id": 1}\n', "golden answer"),
        ("x.jsonl", '{"question": "q", "golden_answers": ["a"], "id": 1}\n' * 2, "duplicate"),
        ("x.jsonl", "", "no tasks"),
        ("x.json.gz", "no gzip", "cannot be read"),
    ],
)
def test_bad_files_are_config_errors(tmp_path, name, content, error):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=error):
        load_questions(str(tmp_path / name), "train")


def test_folders_need_one_file_per_split(tmp_path):
    with pytest.raises(ConfigError, match="one file for the split 'val'"):
        load_questions(str(tmp_path), "val")
    with pytest.raises(ConfigError, match="no question file"):
        load_questions(str(tmp_path / "x"), "val")
    with pytest.raises(UnknownNameError):
        SearchQAEnv.make_task_set(data=str(tmp_path), split="tset")


def test_expert_reads_on_to_the_page_of_the_fact(tmp_path):
    long = Document("x", "Long", tuple(f"Sentence number {i} says nothing." for i in range(300)), "https://x.example/")
    write_jsonl(tmp_path / "corpus.jsonl", [long])
    record = HOTPOT | {"context": [["Long", list(long.sentences)]], "supporting_facts": [["Long", 250]]}
    env = SearchQAEnv(data=write(tmp_path / "h.json", record))
    assert play_expert(env, "h1")["success"]
