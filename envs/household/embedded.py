"""The embedded tasks: 2,274 generated games in three splits, made anew from seeds on every machine.

The splits keep to the proportions of the original data: ``val_seen`` holds other tasks in the rooms of
``train``, ``val_unseen`` tasks in rooms that ``train`` never uses. No two tasks of all the splits share
task type, target, destination and room.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

from turnwise.envs.household.catalog import ROOMS, Room
from turnwise.envs.household.draws import Draws
from turnwise.envs.household.generator import Recipe, build, goals_in
from turnwise.envs.household.layouts import room_layouts
from turnwise.envs.household.problem import Problem
from turnwise.envs.household.tasktypes import TASK_TYPES
from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Task
from turnwise.tasks import canonical_split

# Tasks of each type, in the order of TASK_TYPES (place, look, clean, heat, cool, two). The validation
# splits are those of the original data; train is its 3,553 games (790/308/650/459/533/813), scaled to 2,000.
COMPOSITION = {
    "train": (445, 173, 366, 258, 300, 458),
    "val_seen": (35, 13, 27, 16, 25, 24),
    "val_unseen": (24, 18, 31, 23, 21, 17),
}
SPLITS = tuple(COMPOSITION)

_SEED = 7073
_KITCHEN: tuple[Room, ...] = ("kitchen",)
_ROOMS_OF: dict[str, tuple[Room, ...]] = {
    "pick_and_place_simple": ROOMS,
    "look_at_obj_in_light": ("livingroom", "bedroom"),
    "pick_clean_then_place_in_recep": ("kitchen", "kitchen", "bathroom"),
    "pick_heat_then_place_in_recep": _KITCHEN,
    "pick_cool_then_place_in_recep": _KITCHEN,
    "pick_two_obj_and_place": ROOMS,
}


class EmbeddedTasks:
    """The embedded tasks of one split (keeps the TaskSet protocol)."""

    def __init__(self, split: str) -> None:
        """List the tasks of a split; the games themselves are built on demand.

        Args:
            split: ``train``, ``val_seen``, ``val_unseen`` or one of their usual aliases.

        Raises:
            UnknownNameError: Nobody calls a split that.
        """
        self._split = canonical_split(split)

    @property
    def split(self) -> str:
        """The split's canonical name."""
        return self._split

    @cached_property
    def _recipes(self) -> dict[str, Recipe]:
        return {task_id(self._split, number, recipe): recipe for number, recipe in enumerate(recipes(self._split))}

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return tuple(self._recipes)

    def ids(self) -> Sequence[str]:
        """All task ids, in order; the task types are mixed."""
        return self._ids

    def get(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            UnknownNameError: No task has this id; the message lists near misses.
        """
        recipe = self._recipes.get(task_id)
        if recipe is None:
            raise unknown_name("task", task_id, self._ids)
        return Task(
            id=task_id,
            split=self._split,
            instruction=recipe.instruction,
            type=recipe.task_type,
            data={
                "layout": recipe.layout,
                "target": recipe.target,
                "receptacle": recipe.receptacle,
                "lamp": recipe.lamp,
                "template": recipe.template,
                "stream": list(recipe.stream),
            },
        )

    def __len__(self) -> int:
        """Number of tasks."""
        return sum(COMPOSITION[self._split])


def task_id(split: str, number: int, recipe: Recipe) -> str:
    """Return a readable id, such as ``train/pick_heat_then_place_in_recep-Potato-SinkBasin-kitchen07/0012``."""
    place = recipe.receptacle or recipe.lamp
    return f"{split}/{recipe.task_type}-{recipe.target}-{place}-{recipe.layout}/{number:04d}"


def recipe_of(task: Task) -> Recipe:
    """Return the recipe of an embedded task.

    Raises:
        ConfigError: The task is not an embedded one.
    """
    data = task.data
    try:
        return Recipe(
            task_type=task.type,
            layout=data["layout"],
            target=data["target"],
            receptacle=data["receptacle"],
            lamp=data["lamp"],
            template=data["template"],
            stream=tuple(data["stream"]),
        )
    except KeyError as error:
        raise ConfigError(
            f"task {task.id!r} is not an embedded household task: its data has no {error.args[0]!r}. "
            "Take it from EmbeddedTasks(split).get(task_id)"
        ) from None


def build_problem(task: Task) -> Problem:
    """Return the game of an embedded task.

    Raises:
        ConfigError: The task is not an embedded one.
    """
    return build(recipe_of(task))


@cache
def recipes(split: str) -> tuple[Recipe, ...]:
    """Return the recipes of a canonical split, in the order of its tasks."""
    code = SPLITS.index(split)
    held_out = split == "val_unseen"
    chosen = [goal for kind in range(len(TASK_TYPES)) for goal in _choose_goals(kind, held_out)[_share(split, kind)]]
    draws = Draws(_SEED, code)
    return tuple(
        Recipe(*goal, template=draws.below(2), stream=(code, number))
        for number, goal in enumerate(draws.shuffled(chosen))
    )


def _share(split: str, kind: int) -> slice:
    """Return which of the chosen goals are the split's: train and val_seen share one list."""
    count = COMPOSITION[split][kind]
    start = COMPOSITION["train"][kind] if split == "val_seen" else 0
    return slice(start, start + count)


Goal = tuple[str, str, str, str, str]  # task type, layout, target, receptacle, lamp


@cache
def _choose_goals(kind: int, held_out: bool) -> list[Goal]:
    """Draw distinct goals of a task type: first the room, then the layout, then target and place."""
    task_type = TASK_TYPES[kind]
    needed = COMPOSITION["val_unseen"][kind] if held_out else COMPOSITION["train"][kind] + COMPOSITION["val_seen"][kind]
    draws = Draws(_SEED, len(SPLITS) + kind, int(held_out))
    goals: dict[Goal, None] = {}
    while len(goals) < needed:
        room = draws.pick(_ROOMS_OF[task_type])
        layout = draws.pick([layout for layout in room_layouts(room) if layout.held_out == held_out])
        options = goals_in(layout.name, task_type)
        if options:
            target = draws.pick(sorted({option[0] for option in options}))
            picked = draws.pick([option for option in options if option[0] == target])
            goals[(task_type, layout.name, *picked)] = None
    return list(goals)
