"""Real games from files: one game, one folder, whole trees; and what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from turnwise.envs.household import HouseholdEnv, gamefile, loader
from turnwise.envs.household.loader import load_games
from turnwise.errors import ConfigError, UnknownNameError

WriteGame = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_scenes")


def bare(folder: Path, problem: str, trajectory: object) -> Path:
    """A folder without ``game.tw-pddl``."""
    folder.mkdir(parents=True)
    (folder / "initial_state.pddl").write_text(problem)
    (folder / "traj_data.json").write_text(json.dumps(trajectory))
    return folder


@pytest.fixture
def tree(tmp_path: Path, write_game: WriteGame) -> Path:
    root = tmp_path / "json_2.1.1"
    heat = "pick_heat_then_place_in_recep-Potato-None-SinkBasin-1"
    write_game(root / "train" / heat / "trial_T2")
    write_game(root / "train" / heat / "trial_T1")
    write_game(root / "train" / "pick_and_place_with_movable_recep-Mug-Box-Shelf-1" / "trial_T3")
    write_game(root / "train" / "look_at_obj_in_light-AlarmClock-None-DeskLamp-1Sliced" / "trial_T4")
    write_game(root / "train" / heat / "trial_T5", solvable=False)
    write_game(root / "valid_seen" / heat / "trial_T6")
    (root / "train" / heat / "trial_T7").mkdir()
    return root


@pytest.fixture
def pddl(tmp_path: Path, write_game: WriteGame) -> str:
    text: str = json.loads((write_game(tmp_path / "any") / "game.tw-pddl").read_text())["pddl_problem"]
    return text


# -- what is found ---------------------------------------------------------------------------------


def test_a_tree_with_splits(tree: Path) -> None:
    heat = "pick_heat_then_place_in_recep-Potato-None-SinkBasin-1"
    train = load_games(str(tree), "train")
    assert train.ids() == (f"train/{heat}/trial_T1", f"train/{heat}/trial_T2"), "sorted, without the skipped ones"
    for split in ("valid_seen", "val_seen", "eval_in_distribution", "val"):
        seen = load_games(str(tree), split)
        assert (seen.ids(), seen.split) == ((f"valid_seen/{heat}/trial_T6",), "val_seen")
    with pytest.raises(ConfigError, match=r"no folder for the split 'val_unseen'.*train"):
        load_games(str(tree), "valid_unseen")
    with pytest.raises(UnknownNameError, match="valid_sene"):
        load_games(str(tree), "valid_sene")


def test_a_task_of_a_tree(tree: Path) -> None:
    tasks = load_games(str(tree), "train")
    task = tasks.get(tasks.ids()[0])
    assert (task.split, task.type) == ("train", "pick_heat_then_place_in_recep")
    assert task.instruction == "heat some potato and put it in sinkbasin"
    assert json.loads(json.dumps(task.data)) == task.data
    with pytest.raises(UnknownNameError, match="Did you mean"):
        tasks.get(tasks.ids()[0][:-1])


def test_the_folder_above_the_tree_will_do(tree: Path, write_game: WriteGame) -> None:
    (tree.parent / "logic").mkdir()
    assert len(load_games(str(tree.parent), "val_seen")) == 1
    write_game(tree.parent / "json_2.1.3" / "valid_seen" / "x" / "trial")
    with pytest.raises(ConfigError, match="several data sets"):
        load_games(str(tree.parent), "train")


def test_a_tree_without_splits_stands_for_every_split(tree: Path) -> None:
    ids = {load_games(str(tree / "train"), split).ids() for split in ("train", "val_seen", "val_unseen")}
    assert len(ids) == 1
    assert len(ids.pop()) == 2


def test_one_game_by_its_file_or_folder(tree: Path) -> None:
    folder = next(tree.glob("valid_seen/*/trial_T6"))
    for path in (folder, folder / "game.tw-pddl"):
        tasks = load_games(str(path), "val_unseen")
        assert tasks.ids() == ("trial_T6",)
        assert tasks.problem(tasks.get("trial_T6")).instruction.startswith("heat")


def test_a_game_named_outright_may_be_movable_or_sliced(tree: Path) -> None:
    folder = next(tree.glob("train/*Sliced/trial_T4"))
    assert len(load_games(str(folder), "train")) == 1


def test_links_that_lead_back_are_not_followed(tree: Path) -> None:
    os.symlink(tree / "train", tree / "train" / "loop", target_is_directory=True)
    os.symlink(next(tree.glob("valid_seen/*")), tree / "train" / "more", target_is_directory=True)
    assert [Path(task_id).name for task_id in load_games(str(tree), "train").ids()] == [
        "trial_T6",
        "trial_T1",
        "trial_T2",
    ]


def test_listing_a_tree_reads_no_game(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(gamefile, "_read_bytes", read)
    tasks = load_games(str(tree), "train")
    assert len(tasks) == 2
    with pytest.raises(AssertionError, match="was read"):
        tasks.get(tasks.ids()[0])


def test_a_large_tree_is_listed_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        folder = tmp_path / "tree" / "train" / f"type-{number // 10}" / f"trial_{number}"
        folder.mkdir(parents=True)
        (folder / "game.tw-pddl").write_text("{")
    scanned: list[str] = []
    real = os.scandir
    monkeypatch.setattr(loader.os, "scandir", lambda path: scanned.append(str(path)) or real(path))
    assert len(load_games(str(tmp_path / "tree"), "train")) == 300
    in_train = [path for path in scanned if "type-" in path]
    assert len(in_train) == len(set(in_train)) == 330


def test_environments_over_one_tree_share_its_listing(tree: Path, write_game: WriteGame) -> None:
    first, second = HouseholdEnv(data=str(tree)), HouseholdEnv(data=str(tree), split="train")
    assert first.tasks is second.tasks
    del first, second
    write_game(tree / "train" / "new" / "trial_T9")
    assert len(load_games(str(tree), "train")) == 3, "a new listing, when nobody holds the old one"


# -- folders without game.tw-pddl ------------------------------------------------------------------


def test_a_folder_with_the_initial_state_takes_the_first_template(tmp_path: Path, pddl: str) -> None:
    parameters = {"object_target": "Potato", "parent_target": "SinkBasin", "toggle_target": "", "object_sliced": False}
    folder = bare(
        tmp_path / "tree" / "g",
        pddl,
        {"task_type": "pick_heat_then_place_in_recep", "pddl_params": parameters, "images": []},
    )
    for path in (folder, folder / "initial_state.pddl", tmp_path / "tree"):
        tasks = load_games(str(path), "train")
        task = tasks.get(tasks.ids()[0])
        assert task.instruction == "put a hot potato in sinkbasin"
    env = HouseholdEnv(data=str(folder))
    assert env.reset(seed=0)[0].endswith("Your task is to: put a hot potato in sinkbasin.")


def test_without_a_template_the_first_annotation_is_taken(tmp_path: Path, pddl: str) -> None:
    annotations = {"anns": [{"task_desc": "Cook the potato. "}, {"task_desc": "no"}]}
    folder = bare(tmp_path / "g", pddl, {"task_type": "cook", "turk_annotations": annotations})
    assert load_games(str(folder), "train").get("g").instruction == "Cook the potato"


@pytest.mark.parametrize("trajectory", [{}, {"task_type": "cook"}, {"turk_annotations": {"anns": []}}])
def test_without_either_it_is_refused(tmp_path: Path, pddl: str, trajectory: object) -> None:
    folder = bare(tmp_path / "g", pddl, trajectory)
    with pytest.raises(ConfigError, match=r"traj_data\.json words no task"):
        load_games(str(folder), "train").get("g")


def test_a_bare_pddl_needs_its_trajectory(tmp_path: Path, pddl: str) -> None:
    (tmp_path / "initial_state.pddl").write_text(pddl)
    tasks = load_games(str(tmp_path / "initial_state.pddl"), "train")
    with pytest.raises(ConfigError, match=r"traj_data\.json"):
        tasks.get(tasks.ids()[0])


# -- what is wrong ---------------------------------------------------------------------------------


def damage_json(folder: Path) -> None:
    path = folder / "game.tw-pddl"
    path.write_text(path.read_text()[:500])


def damage_utf8(folder: Path) -> None:
    (folder / "game.tw-pddl").write_bytes(b"\xff\xfe{}")


def damage_pddl(folder: Path) -> None:
    path = folder / "game.tw-pddl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pddl_problem": "(define (problem"}))


def damage_keys(folder: Path) -> None:
    (folder / "game.tw-pddl").write_text('{"grammar": 3}')


def damage_shape(folder: Path) -> None:
    (folder / "game.tw-pddl").write_text("[]")


def damage_permissions(folder: Path) -> None:
    (folder / "game.tw-pddl").unlink()
    (folder / "game.tw-pddl").mkdir()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (damage_json, "no valid JSON"),
        (damage_utf8, "UTF-8"),
        (damage_pddl, "still open"),
        (damage_keys, "'grammar' is missing"),
        (damage_shape, "JSON object"),
        (damage_permissions, "cannot be read"),
    ],
)
def test_a_broken_game_is_named_and_costs_only_itself(
    tree: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(next(tree.glob("train/*/trial_T1")))
    tasks = load_games(str(tree), "train")
    broken, whole = tasks.ids()
    with pytest.raises(ConfigError, match=complaint) as caught:
        tasks.get(broken)
    assert "trial_T1" in str(caught.value)
    env = HouseholdEnv(data=str(tree))
    env.reset(seed=0, options={"task_id": whole})
    with pytest.raises(ConfigError, match="trial_T1"):
        env.reset(seed=0, options={"task_id": broken})
    env.reset(seed=0, options={"task_id": whole})


def test_a_game_that_breaks_in_the_scene_is_named(tmp_path: Path, write_game: WriteGame) -> None:
    write_game(tmp_path / "twice", add="(atLocation agent1 loc_bar_1)")
    with pytest.raises(ConfigError, match=r"'twice'.*one agent at one location"):
        HouseholdEnv(data=str(tmp_path / "twice")).reset(seed=0)


def test_an_unsolvable_game_named_outright_is_refused(tmp_path: Path, write_game: WriteGame) -> None:
    folder = write_game(tmp_path / "g", solvable=False)
    with pytest.raises(ConfigError, match="unsolvable"):
        load_games(str(folder), "train").get("g")


def test_wrong_paths_are_refused_with_a_hint(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist.*Did you mean 'json_2\.1\.1'"):
        load_games(str(tree.parent / "json_2.1.0"), "train")
    with pytest.raises(ConfigError, match="Neither does its parent"):
        load_games(str(tree / "no" / "where"), "train")
    other = tree / "notes.txt"
    other.write_text("")
    with pytest.raises(ConfigError, match=r"notes\.txt' is no game"):
        load_games(str(other), "train")
    empty = tree / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="alfworld-download"):
        load_games(str(empty), "train")


def test_a_tree_with_nothing_left_says_so(tmp_path: Path, write_game: WriteGame) -> None:
    write_game(tmp_path / "t" / "movable" / "trial")
    with pytest.raises(ConfigError, match="1 left out as movable"):
        load_games(str(tmp_path / "t"), "train")


def test_a_game_that_changes_is_read_again(tmp_path: Path, write_game: WriteGame, grammar: str) -> None:
    folder = write_game(tmp_path / "g")
    env = HouseholdEnv(data=str(folder))
    first, _ = env.reset(seed=0)
    digest = env.task.data["digest"]
    write_game(folder, grammar=grammar.replace("heat some potato", "please heat some potato"))
    second, _ = env.reset(seed=0)
    assert second == first.replace("heat some", "please heat some")
    assert env.task.data["digest"] != digest


# -- real files ------------------------------------------------------------------------------------


def test_a_tree_made_of_the_real_game(shared_data: Path, tmp_path: Path) -> None:
    real = shared_data / "alfworld" / "real"
    trial = (
        tmp_path / "json_2.1.1" / "valid_seen" / "pick_heat_then_place_in_recep-Potato-None-SinkBasin-14" / "trial_1"
    )
    shutil.copytree(real, trial)
    without = trial.with_name("trial_2")
    without.mkdir()
    shutil.copy(real / "traj_data.json", without)
    game = json.loads((real / "game.tw-pddl").read_text())
    (without / "initial_state.pddl").write_text(game["pddl_problem"])
    env = HouseholdEnv(data=str(tmp_path / "json_2.1.1"), split="valid_seen")
    told = {}
    for task_id in env.tasks.ids():
        observation, _ = env.reset(seed=0, options={"task_id": task_id})
        assert env.task.type == "pick_heat_then_place_in_recep"
        told[Path(task_id).name] = observation.rpartition("Your task is to: ")
    assert told["trial_1"][0] == told["trial_2"][0]
    assert told["trial_1"][2] == "heat some potato and put it in sinkbasin."
    assert told["trial_2"][2] == "put a hot potato in sinkbasin."
