"""Writing embedded tasks as game folders of the original engine, so that TextWorld can play them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from turnwise.envs.household.embedded import build_problem, recipe_of
from turnwise.envs.household.generator import Recipe
from turnwise.envs.household.pddl import write_problem
from turnwise.errors import ConfigError
from turnwise.records import Json, Task

_TASK = re.compile(r'"Your task is to: [^"\n]*"')


def export_game(
    task: Task, folder: str | Path, *, domain: str, grammar: str, walkthrough: list[str] | None = None
) -> Path:
    """Write an embedded task as ``game.tw-pddl`` and ``traj_data.json``.

    Args:
        task: A task of :class:`~turnwise.envs.household.embedded.EmbeddedTasks`.
        folder: Where the two files go; made if it is not there.
        domain: Text of ALFRED's PDDL domain (``alfred.pddl`` of the alfworld package).
        grammar: Text of the TextWorld grammar (``alfred.twl2`` of the alfworld package); its task
            sentence is replaced by the task's.
        walkthrough: Commands that solve the game, for the file's key of that name.

    Returns:
        Path of the game file.

    Raises:
        ConfigError: The task is not an embedded one, or the grammar has no task sentence.
    """
    recipe = recipe_of(task)
    problem = build_problem(task)
    sentence = json.dumps(f"Your task is to: {problem.instruction}.")
    told, found = _TASK.subn(lambda _: sentence, grammar)
    if not found:
        raise ConfigError('the grammar has no sentence "Your task is to: ...": pass the text of alfred.twl2')
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", task.id)
    game = {
        "pddl_domain": domain,
        "grammar": told,
        "pddl_problem": write_problem(problem, name),
        "solvable": True,
        "walkthrough": walkthrough,
    }
    (target / "game.tw-pddl").write_text(json.dumps(game), encoding="utf-8")
    (target / "traj_data.json").write_text(json.dumps(_trajectory_data(task, recipe), indent=1), encoding="utf-8")
    return target / "game.tw-pddl"


def _trajectory_data(task: Task, recipe: Recipe) -> dict[str, Json]:
    return {
        "task_id": task.id,
        "task_type": recipe.task_type,
        "scene": {"floor_plan": recipe.layout},
        "pddl_params": {
            "object_target": recipe.target,
            "parent_target": recipe.receptacle,
            "toggle_target": recipe.lamp,
            "mrecep_target": "",
            "object_sliced": False,
        },
    }
