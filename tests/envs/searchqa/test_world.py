from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.envs.searchqa import embedded
from turnwise.envs.searchqa.embedded import embedded_engine, embedded_facts, embedded_tasks, generate
from turnwise.envs.searchqa.forms import evaluate
from turnwise.envs.searchqa.graph import make_entities
from turnwise.envs.searchqa.questions import QUESTIONS
from turnwise.errors import ConfigError

SPLITS = tuple(QUESTIONS)
TYPES = {"bridge", "comparison", "intersection", "count", "temporal", "unanswerable"}


def all_tasks():
    return [embedded_tasks(split).get(task_id) for split in SPLITS for task_id in embedded_tasks(split).ids()]


def test_world_has_20000_documents_with_names_of_their_own():
    corpus = embedded_engine().corpus
    assert len(corpus) == 20_000
    titles = [corpus.document(row).title for row in range(len(corpus))]
    urls = {corpus.document(row).url for row in range(len(corpus))}
    assert len(set(titles)) == len(urls) == 20_000


def test_every_edge_is_stated_by_its_sentence():
    facts, corpus = embedded_facts(), embedded_engine().corpus
    checked = 0
    for subject, target, data in list(facts.graph.edges(data=True))[::7]:
        sentence = corpus.document(corpus.find(subject)).sentences[data["sentence"]]
        assert facts.name(target).casefold() in sentence.casefold()
        checked += 1
    assert checked > 10_000


def test_near_duplicates_differ_in_one_letter_and_nothing_refers_to_them():
    nodes, graph = embedded_facts().graph.nodes, embedded_facts().graph
    duplicates = [node for node, data in nodes(data=True) if data.get("duplicate_of")]
    assert len(duplicates) >= 5_000
    for node in duplicates:
        mine, other = nodes[node]["name"], nodes[nodes[node]["duplicate_of"]]["name"]
        assert len(mine) - len(other) in (0, 1)
        assert sum(a != b for a, b in zip(mine, other, strict=False)) <= 1
        assert graph.in_degree(node) == 0
        assert nodes[node]["split"] == nodes[nodes[node]["duplicate_of"]]["split"]


def test_splits_share_no_entity():
    nodes = embedded_facts().graph.nodes
    used = {split: set() for split in SPLITS}
    for task in all_tasks():
        used[task.split] |= set(task.data["entities"])
        assert {nodes[node]["split"] for node in task.data["entities"]} == {task.split}
    assert all(not used[a] & used[b] for a in SPLITS for b in SPLITS if a != b)
    assert all(used.values())


def test_no_edge_leaves_its_split():
    graph = embedded_facts().graph
    for subject, target in graph.edges():
        if isinstance(target, str):
            assert graph.nodes[subject]["split"] == graph.nodes[target]["split"]


def test_types_hops_and_counts():
    for split, count in QUESTIONS.items():
        tasks = [embedded_tasks(split).get(task_id) for task_id in embedded_tasks(split).ids()]
        assert len(tasks) == count
        assert {task.type for task in tasks} == TYPES
        assert {task.data["hops"] for task in tasks} == {1, 2, 3, 4}
        assert len({task.instruction for task in tasks}) == count


def test_answers_are_unique_on_the_graph():
    facts = embedded_facts()
    for task in all_tasks():
        values = evaluate(facts, task.data["form"])
        if task.type == "unanswerable":
            assert values == frozenset()
            assert not task.data["answerable"]
        else:
            (value,) = values
            assert facts.name(value) == task.data["answer"]
            assert task.data["answer"] in task.data["aliases"]


def _brute(edges, form):
    """Evaluate a form a second way: by scanning all edges."""
    operator, *rest = form
    if operator == "entity":
        return {rest[0]}
    if operator == "hop":
        inner = _brute(edges, rest[1])
        return {o for s, o, d in edges if s in inner and d["relation"] == rest[0]}
    if operator == "inverse":
        inner = _brute(edges, rest[1])
        return {s for s, o, d in edges if o in inner and d["relation"] == rest[0]}
    if operator == "and":
        return _brute(edges, rest[0]) & _brute(edges, rest[1])
    if operator == "during":
        where, (when,) = _brute(edges, rest[0]), _brute(edges, rest[1])
        return {
            o for s, o, d in edges if s in where and d["relation"] == "directed_by" and d["since"] <= when <= d["until"]
        }
    if operator == "earlier":
        nodes = _brute(edges, rest[1]) | _brute(edges, rest[2])
        dated = {s: o for s, o, d in edges if s in nodes and d["relation"] == rest[0]}
        return {node for node, year in dated.items() if year == min(dated.values())}
    if operator == "count":
        return {len(_brute(edges, rest[0]))}
    if operator == "before":
        nodes = _brute(edges, rest[1])
        return {s for s, o, d in edges if s in nodes and d["relation"] == rest[0] and o < rest[2]}
    (later,), (earlier,) = _brute(edges, rest[0]), _brute(edges, rest[1])
    return {later - earlier}


def test_evaluator_agrees_with_a_scan_of_all_edges():
    facts, seen = embedded_facts(), set()
    edges = list(facts.graph.edges(data=True))
    for task in all_tasks():
        key = task.type, task.data["hops"], task.data["form"][0]
        if key not in seen:
            seen.add(key)
            assert _brute(edges, task.data["form"]) == set(evaluate(facts, task.data["form"])), task.id
    assert len(seen) > 10


def test_supporting_sentences_hold_the_decomposition():
    engine = embedded_engine()
    for task in all_tasks():
        data = task.data
        facts = {tuple(fact) for fact in data["supporting_facts"]}
        for step in data["decomposition"]:
            assert (step["document"], step["sentence"]) in facts
            document = engine.lookup(step["document"])
            if step["answer"] != "unanswerable":
                shown = f"{document.title} {document.sentences[step['sentence']]}"
                assert step["answer"].casefold() in shown.casefold()
        assert data["first_documents"]
        assert set(data["last_documents"]) <= {fact[0] for fact in facts}


def test_rubrics_have_placeholders_that_reach_the_answer():
    for task in all_tasks():
        data = task.data
        slots = [set(re.findall(r"<(E\d+)>", rubric)) for rubric in data["rubrics"]]
        assert all(slots)
        assert set().union(*slots) == set(data["rubric_entities"])
        assert data["rubric_entities"]["E0"] == data["aliases"]
        assert len(data["rubric_support"]) == len(slots)
        facts = {tuple(fact) for fact in data["supporting_facts"]}
        assert {tuple(fact) for support in data["rubric_support"] for fact in support} == facts
        reached, grown = {"E0"}, True
        while grown:
            grown = False
            for group in slots:
                if group & reached and not group <= reached:
                    reached |= group
                    grown = True
        assert all(group & reached for group in slots), (task.id, data["rubrics"])


def test_same_seed_same_world_other_seed_other_world():
    assert make_entities(3, 1_500) == make_entities(3, 1_500)
    names = {entity.name for entity in make_entities(3, 1_500)}
    assert not names & {entity.name for entity in make_entities(4, 1_500) if entity.kind == "person"}


def test_generated_files_are_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, seed=5, documents=6_000)
    for file in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes(), file.name


@pytest.mark.slow
def test_generation_does_not_depend_on_the_hash_seed(tmp_path: Path):
    code = (
        "import sys, pathlib; from turnwise.envs.searchqa.embedded import generate as g; f = pathlib.Path(sys.argv[1]);"
    )
    code += "f.mkdir(); g(f, seed=5, documents=6_000)"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True, timeout=120)
    for file in (path for path in (tmp_path / "1").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "2" / file.relative_to(tmp_path / "1")).read_bytes(), file.name


def test_a_world_too_small_is_refused():
    with pytest.raises(ConfigError, match="at least"):
        make_entities(0, 100)


def _open_world(cache: str, queue) -> None:
    os.environ["TURNWISE_CACHE"] = cache
    embedded.DOCUMENTS = 6_000
    folder = embedded.build_once(embedded.cache_root() / "searchqa", "small", _small)
    queue.put((str(folder), sorted(path.name for path in folder.iterdir())))


def _small(folder: Path) -> None:
    with (folder.parent / "builds").open("a") as log:
        log.write("x")
    generate(folder, seed=1, documents=6_000)


def test_many_processes_fill_the_cache_once(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_open_world, args=(str(tmp_path), queue)) for _ in range(4)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert all(result == results[0] for result in results)
    assert (tmp_path / "searchqa" / "builds").read_text() == "x"
    left = {path.name for path in (tmp_path / "searchqa").iterdir()}
    assert left == {"builds", "small", ".small.lock"}
