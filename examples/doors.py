"""A small world to train in: three rooms, in each the door that the key fits.

A room shows a key and four doors. The door of the key's colour leads on; every other one is locked and
costs a turn. Four turns for three rooms allow one mistake, so guessing solves about one task in twenty.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.env import StepResult, TurnEnv
from turnwise.protocols import Expert, Info, TaskSet
from turnwise.records import Action, Task
from turnwise.registry import register_env
from turnwise.tasks import ListTaskSet, canonical_split

ENV_ID = "examples/Doors-v0"
COLOURS = ("red", "blue", "green", "yellow")
ROOMS = 3
_HELD_OUT = 16  # of the 64 sequences of keys
_GRAMMAR = ActionGrammar(
    (
        ActionSpec(
            name="open",
            template="open {colour}",
            description="Open the door of a colour.",
            parameters={"colour": "The door's colour, such as 'red'."},
        ),
    )
)


class DoorsEnv(TurnEnv[str]):
    """Open the door that the key fits, room by room. The reward is 1.0 on leaving the last room."""

    grammar: ClassVar[ActionGrammar] = _GRAMMAR
    default_max_turns: ClassVar[int] = ROOMS + 1

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> TaskSet:
        """Return 48 tasks to train on, or the 16 held-out ones (``val_unseen``, also ``test``)."""
        split = canonical_split(split)
        sequences = list(itertools.product(COLOURS, repeat=ROOMS))
        order = np.random.default_rng(7).permutation(len(sequences))
        chosen = order[_HELD_OUT:] if split == "train" else order[:_HELD_OUT]
        tasks = [
            Task(id="-".join(sequences[i]), split=split, instruction="Get out.", data={"keys": list(sequences[i])})
            for i in sorted(map(int, chosen))
        ]
        return ListTaskSet(tasks, split=split)

    def _begin(self, task: Task) -> StepResult[str]:
        self._keys: list[str] = list(task.data["keys"])
        # By the task alone, so that all samples of a task see the same rooms.
        order = np.random.default_rng([COLOURS.index(key) for key in self._keys])
        self._doors = [[COLOURS[i] for i in order.permutation(len(COLOURS))] for _ in range(ROOMS)]
        self._room = 0
        return StepResult(observation=self._room_text(), admissible=self._commands())

    def _apply(self, action: Action) -> StepResult[str]:
        colour = action.arguments["colour"]
        if colour not in COLOURS:
            return self._answer(f"There is no {colour} door.", valid=False)
        if colour != self._keys[self._room]:
            return self._answer(f"Locked. {self._room_text()}")
        self._room += 1
        return self._answer("You are out." if self._room == ROOMS else self._room_text())

    def _answer(self, text: str, *, valid: bool = True) -> StepResult[str]:
        out = self._room == ROOMS
        return StepResult(
            observation=text,
            reward=float(out),
            terminated=out,
            valid=valid,
            error=None if valid else text,
            progress=self._room / ROOMS,
            success=out,
            admissible=[] if out else self._commands(),
        )

    def _room_text(self) -> str:
        doors = " ".join(self._doors[self._room])
        return f"Room {self._room + 1}. Doors: {doors}. Key: {self._keys[self._room]}."

    def _commands(self) -> list[str]:
        return [f"open {colour}" for colour in COLOURS]

    @property
    def system_prompt(self) -> str:
        """How to answer, in few words."""
        return "Answer: open COLOUR"

    def expert(self, kind: str | None = None) -> Expert:
        """Return a solver: it reads the key."""
        return _KeyReader()


class _KeyReader:
    def act(self, observation: Any, info: Info) -> str:
        return f"open {str(observation).rpartition('Key: ')[2].rstrip('.')}"


def register() -> None:
    """Make the world known as :data:`ENV_ID`; again does nothing."""
    register_env(ENV_ID, f"{__name__}:DoorsEnv")
