"""What can be done where the agent stands: the admissible commands besides ``go to``.

They depend on little of the state, so a scene remembers them for the states its games come through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnwise.envs.household.scene import LocalMoves, Move, bits

if TYPE_CHECKING:
    from turnwise.envs.household.game import Game

# Local states remembered per scene; beyond it the memory starts afresh. A state takes about 1.5 kB.
_MAX_LOCAL_MOVES = 128
_ALWAYS = {"help": Move("help"), "inventory": Move("inventory"), "look": Move("look")}


def local_moves(game: Game) -> LocalMoves:
    """Return what can be done now, and all admissible commands in order."""
    cache, key = game.scene.local_moves, _key(game)
    local = cache.get(key)
    if local is None:
        if len(cache) >= _MAX_LOCAL_MOVES:
            cache.clear()
        local = cache[key] = _find(game)
    return local


def _key(game: Game) -> tuple[int, ...]:
    """Everything that the admissible commands depend on."""
    scene, here = game.scene, game.location
    receptacles = scene.receptacles_at[here]
    near = game.lying[here] if game.held & scene.knives else 0
    key = (here, game.held, game.hands_full, near)
    if len(receptacles) == 1:
        only = receptacles[0]
        return (*key, game.contents[only], game.opened >> only & 1)
    return (*key, *[game.contents[r] for r in receptacles], *[game.opened >> r & 1 for r in receptacles])


def _find(game: Game) -> LocalMoves:
    scene, moves = game.scene, dict(_ALWAYS)
    for receptacle in scene.receptacles_at[game.location]:
        _add_receptacle(game, moves, receptacle)
    for item in bits(game.held):
        moves[f"examine {scene.object_names[item]}"] = Move("examine object", item)
        for receptacle in scene.receptacles_at[game.location]:
            _add_held(game, moves, item, receptacle)
        if scene.knives >> item & 1:
            _add_slices(game, moves, item)
    # "go to ..." sorts as one block, because no other command begins with these letters.
    local = sorted(moves)
    before = sum(command < "go to" for command in local)
    return LocalMoves(moves, (*local[:before], *scene.goto_commands[game.location], *local[before:]))


def _add_receptacle(game: Game, moves: dict[str, Move], receptacle: int) -> None:
    scene, name, items = game.scene, game.scene.receptacle_names[receptacle], game.contents[receptacle]
    moves[f"examine {name}"] = Move("examine receptacle", -1, receptacle)
    if scene.openable >> receptacle & 1:
        verb = "close" if game.opened >> receptacle & 1 else "open"
        moves[f"{verb} {name}"] = Move(verb, -1, receptacle)
    for item in bits(items & scene.toggleable):
        moves[f"use {scene.object_names[item]}"] = Move("use", item, receptacle)
    if game.accessible(receptacle):
        # ALFRED's domain means to allow "examine" here too, but a comma in its quantifier
        # ("?l - location, ?r") names a type without members: only held objects can be examined.
        for item in bits(0 if game.hands_full else items & scene.pickupable):
            moves[f"take {scene.object_names[item]} from {name}"] = Move("take", item, receptacle)


def _add_held(game: Game, moves: dict[str, Move], item: int, receptacle: int) -> None:
    scene, name, place = game.scene, game.scene.object_names[item], game.scene.receptacle_names[receptacle]
    if scene.accepts[receptacle] >> item & 1 and game.accessible(receptacle):
        moves[scene.words.put_command.format(o=name, r=place)] = Move("put", item, receptacle)
    for verb, able, where in (
        ("heat", scene.heatable, scene.heaters),
        ("cool", scene.coolable, scene.coolers),
        ("clean", scene.cleanable, scene.cleaners),
    ):
        if able >> item & 1 and where >> receptacle & 1:
            moves[f"{verb} {name} with {place}"] = Move(verb, item, receptacle)


def _add_slices(game: Game, moves: dict[str, Move], knife: int) -> None:
    names = game.scene.object_names
    for item in bits(game.lying[game.location] & game.scene.sliceable):
        moves[f"slice {names[item]} with {names[knife]}"] = Move("slice", item, knife)
