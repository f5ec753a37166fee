"""The embedded splits: what they hold, and that they are the same everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from turnwise.envs.household.embedded import COMPOSITION, SPLITS, EmbeddedTasks, build_problem, recipe_of
from turnwise.envs.household.export import export_game
from turnwise.envs.household.layouts import get_layout
from turnwise.envs.household.pddl import parse_problem
from turnwise.envs.household.tasktypes import TASK_TYPES
from turnwise.errors import ConfigError, UnknownNameError
from turnwise.protocols import TaskSet
from turnwise.records import Task

SIZES = {"train": 2000, "val_seen": 140, "val_unseen": 134}

# sha256 over all ids and games of the splits: the published tasks. A change here is a new data set.
GOLDEN = "ae070175491c6941e725b5b1c17c86b91ef1c0003409ba9d8721a84fca4244bf"

_DIGEST = """
import hashlib, json
from turnwise.envs.household.embedded import SPLITS, EmbeddedTasks, build_problem
digest = hashlib.sha256()
for split in SPLITS:
    tasks = EmbeddedTasks(split)
    for task_id in tasks.ids():
        problem = build_problem(tasks.get(task_id))
        text = json.dumps([task_id, problem.facts, problem.goal, problem.objects, problem.instruction])
        digest.update(text.encode())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_and_composition(split: str) -> None:
    tasks = EmbeddedTasks(split)
    assert isinstance(tasks, TaskSet)
    assert len(tasks) == len(tasks.ids()) == SIZES[split]
    assert tasks.split == split
    kinds = Counter(tasks.get(task_id).type for task_id in tasks.ids())
    assert tuple(kinds[kind] for kind in TASK_TYPES) == COMPOSITION[split]


@pytest.mark.parametrize(
    ("alias", "split"),
    [
        ("val", "val_seen"),
        ("valid_seen", "val_seen"),
        ("test", "val_unseen"),
        ("eval_out_of_distribution", "val_unseen"),
    ],
)
def test_aliases(alias: str, split: str) -> None:
    assert EmbeddedTasks(alias).ids() == EmbeddedTasks(split).ids()


def test_unknown_split_and_task() -> None:
    with pytest.raises(UnknownNameError, match="train"):
        EmbeddedTasks("trian")
    tasks = EmbeddedTasks("train")
    with pytest.raises(UnknownNameError, match="unknown task"):
        tasks.get("train/nothing/9999")


def test_splits_use_different_rooms_and_goals() -> None:
    layouts = {}
    goals = {}
    for split in SPLITS:
        tasks = EmbeddedTasks(split)
        recipes = [recipe_of(tasks.get(task_id)) for task_id in tasks.ids()]
        layouts[split] = {recipe.layout for recipe in recipes}
        goals[split] = {(r.task_type, r.layout, r.target, r.receptacle, r.lamp) for r in recipes}
        assert len(goals[split]) == len(recipes), "two tasks of a split ask the same in the same room"
    assert not layouts["val_unseen"] & (layouts["train"] | layouts["val_seen"])
    assert all(get_layout(name).held_out for name in layouts["val_unseen"])
    assert layouts["val_seen"] <= layouts["train"]
    assert not goals["val_seen"] & goals["train"]


def test_no_two_games_are_the_same() -> None:
    games = set()
    for split in SPLITS:
        tasks = EmbeddedTasks(split)
        games |= {hash((p.facts, p.goal)) for p in (build_problem(tasks.get(i)) for i in tasks.ids())}
    assert len(games) == sum(SIZES.values())


def test_a_slice_of_a_split_mixes_the_task_types() -> None:
    tasks = EmbeddedTasks("train")
    kinds = Counter(tasks.get(task_id).type for task_id in tasks.ids()[:64])
    assert set(kinds) == set(TASK_TYPES)


def test_a_task_says_what_it_is() -> None:
    tasks = EmbeddedTasks("train")
    task = tasks.get(tasks.ids()[0])
    recipe = recipe_of(task)
    assert task.id == f"train/{task.type}-{recipe.target}-{recipe.receptacle}-{recipe.layout}/0000"
    assert task.instruction == build_problem(task).instruction
    assert recipe.target.lower() in task.instruction
    json.dumps(task.data)


def test_both_instructions_of_every_type_occur() -> None:
    tasks = EmbeddedTasks("train")
    seen = {(r.task_type, r.template) for r in (recipe_of(tasks.get(i)) for i in tasks.ids())}
    assert len(seen) == 12


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_games_are_the_same_in_every_process(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == GOLDEN


def test_building_touches_no_global_generator() -> None:
    import random

    import numpy as np

    tasks = EmbeddedTasks("val_seen")
    before = random.getstate(), np.random.get_state()[1].tolist()
    build_problem(tasks.get(tasks.ids()[0]))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_foreign_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="not an embedded household task"):
        build_problem(Task(id="x", split="train", instruction="put a mug in shelf", type=TASK_TYPES[0]))


def test_export_writes_what_our_own_reader_reads(tmp_path: Path) -> None:
    tasks = EmbeddedTasks("val_unseen")
    task = tasks.get(tasks.ids()[5])
    grammar = 'grammar :: "task": [{"rhs": "Your task is to: UNKNOWN GOAL."}]'
    path = export_game(
        task, tmp_path / "game", domain="(define (domain alfred))", grammar=grammar, walkthrough=["look"]
    )
    game = json.loads(path.read_text())
    problem = build_problem(task)
    assert f'"Your task is to: {task.instruction}."' in game["grammar"]
    assert parse_problem(game["pddl_problem"], instruction=task.instruction) == problem
    assert game["solvable"] is True
    trajectory = json.loads((path.parent / "traj_data.json").read_text())
    assert trajectory["task_type"] == task.type
    assert trajectory["pddl_params"]["object_target"] == recipe_of(task).target


def test_export_needs_a_grammar_with_a_task(tmp_path: Path) -> None:
    tasks = EmbeddedTasks("train")
    with pytest.raises(ConfigError, match="Your task is to"):
        export_game(tasks.get(tasks.ids()[0]), tmp_path, domain="", grammar="grammar")


def test_the_digest_of_this_process_is_the_published_one() -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        tasks = EmbeddedTasks(split)
        for task_id in tasks.ids():
            problem = build_problem(tasks.get(task_id))
            text = json.dumps([task_id, problem.facts, problem.goal, problem.objects, problem.instruction])
            digest.update(text.encode())
    assert digest.hexdigest() == GOLDEN
