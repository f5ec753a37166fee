"""Bounded breadth-first search over a game's states, for what the planner has no recipe for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from turnwise.envs.household.game import Game
from turnwise.envs.household.scene import GameState, bits

MAX_STATES = 30_000

_LOCAL = ("open", "take", "put", "heat", "cool", "clean", "slice", "use")


def search(game: Game, *, max_states: int = MAX_STATES) -> list[str] | None:
    """Return the shortest commands to the goal that the search finds, or None.

    Only objects whose type the goal names (all of them if it names none), knives (for goals about
    slices) and what the agent holds are touched; nothing is closed, and no walk leads to another
    walk. The game is left in some other state: restore it afterwards.

    Args:
        game: The game in the state to begin from.
        max_states: How many states to look at.
    """
    start = game.state()
    if start.won:
        return []
    relevant = _relevant(game)
    came_from: dict[GameState, tuple[GameState, str] | None] = {start: None}
    queue: deque[tuple[GameState, bool]] = deque([(start, False)])
    while queue and len(came_from) < max_states:
        state, walked = queue.popleft()
        game.restore(state)
        for command, walks in list(_commands(game, relevant, walked)):
            game.restore(state)
            game.step(command)
            reached = game.state()
            if reached in came_from:
                continue
            came_from[reached] = (state, command)
            if reached.won:
                return _trace(came_from, reached)
            queue.append((reached, walks))
    return None


def _relevant(game: Game) -> int:
    """Return the mask of the objects that the search touches."""
    scene = game.scene
    mask = game.held
    if not scene.goal.object_types:
        return (1 << len(scene.objects)) - 1
    for kind in scene.goal.object_types:
        mask |= scene.of_object_type.get(kind, 0)
    if mask & scene.sliceable and scene.goal.spec is None:
        mask |= scene.knives
    return mask


def _commands(game: Game, relevant: int, walked: bool) -> Iterator[tuple[str, bool]]:
    """Yield (command, whether it is a walk) worth trying in the current state."""
    scene = game.scene
    for command in game.admissible():
        move = game.find(command)
        if move is not None and move.verb in _LOCAL and (move.item < 0 or relevant >> move.item & 1):
            yield command, False
    if walked:
        return
    holds = relevant & game.held
    for receptacle, where in enumerate(scene.receptacle_location):
        useful = game.contents[receptacle] & relevant or any(scene.accepts[receptacle] >> n & 1 for n in bits(holds))
        devices = scene.heaters | scene.coolers | scene.cleaners
        if where not in (-1, game.location) and (useful or (holds and devices >> receptacle & 1)):
            yield f"go to {scene.receptacle_names[receptacle]}", True


def _trace(came_from: dict[GameState, tuple[GameState, str] | None], reached: GameState) -> list[str]:
    commands: list[str] = []
    step = came_from[reached]
    while step is not None:
        state, command = step
        commands.append(command)
        step = came_from[state]
    return commands[::-1]
