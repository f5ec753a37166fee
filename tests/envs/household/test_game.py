"""The engine: what can be done, what comes of it, and how it is told."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.household.game import NOTHING_HAPPENS, Game
from turnwise.envs.household.problem import OLD_DIALECT, Problem
from turnwise.envs.household.scene import Scene

MakeGame = Callable[..., Game]


def play(game: Game, *commands: str) -> str:
    """Play commands that must all be admissible; returns the last answer."""
    answer = ""
    for command in commands:
        assert command in game.admissible(), f"{command!r} not in {game.admissible()}"
        answer = game.step(command)
        assert answer != NOTHING_HAPPENS
    return answer


# -- properties ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(make_problem: Callable[..., Problem]) -> Scene:
    """A scene with odd facts: two places for one thing, lights, and things sliced and opened already."""
    return Scene(
        make_problem(
            goal="(and (exists (?o - object) (and (objectType ?o PotatoType) (isSliced ?o) (isClean ?o))))",
            add="(inReceptacle Potato_bar_1 Fridge_bar_1) (objectAtLocation Mug_bar_1 loc_bar_3) (isSliced Mug_bar_1) "
            "(opened Microwave_bar_1) (inReceptacleObject Mug_bar_1 Box_bar_1) (toggleable Mug_bar_1)",
        )
    )


def words_of(scene: Scene) -> list[str]:
    """Every command that could be meant in a scene, and some that could not."""
    things, places = scene.object_names, scene.receptacle_names
    one = [f"{verb} {place}" for verb in ("go to", "open", "close", "examine") for place in places]
    one += [f"{verb} {thing}" for verb in ("examine", "use") for thing in things]
    two = [f"take {thing} from {place}" for thing in things for place in places]
    two += [f"move {thing} to {place}" for thing in things for place in places]
    two += [f"{verb} {t} with {p}" for verb in ("heat", "cool", "clean") for t in things for p in places]
    two += [f"slice {thing} with {knife}" for thing in things for knife in things]
    return [*one, *two, "look", "inventory", "help", "", "dance", "go to", "take  mug 1 from cabinet 1", "Look"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_exactly_the_admissible_commands_do_something(crowded: Scene, seed: int) -> None:
    rng, game = random.Random(seed), Game(crowded)
    game.step("look")
    for _ in range(25):
        admissible = game.admissible()
        assert admissible == sorted(set(admissible))
        before = game.state()
        for command in words_of(crowded):
            answer = game.step(command)
            assert (answer != NOTHING_HAPPENS) == (command in admissible), command
            if command not in admissible:
                assert game.state() == before
                assert game.last is None
            game.restore(before)
        game.step(rng.choice(admissible))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 30))
def test_a_restored_game_goes_on_as_the_first_did(crowded: Scene, seed: int, cut: int) -> None:
    rng, game = random.Random(seed), Game(crowded)
    states, told = [game.state()], [("", game.admissible(), game.won)]
    commands = []
    for _ in range(30):
        commands.append(rng.choice(game.admissible()))
        told.append((game.step(commands[-1]), game.admissible(), game.won))
        states.append(game.state())
    other = Game(crowded)
    for start in (game, other):
        start.restore(states[cut])
        assert start.state() == states[cut]
        assert (start.admissible(), start.won) == told[cut][1:]
        for number in range(cut, 30):
            assert (start.step(commands[number]), start.admissible(), start.won) == told[number + 1]
        assert start.state() == states[-1]


def test_games_of_one_scene_do_not_touch_each_other(crowded: Scene) -> None:
    first, second = Game(crowded), Game(crowded)
    begin = second.state()
    play(first, "go to shelf 1", "take knife 1 from shelf 1", "slice potato 2 with knife 1")
    assert second.state() == begin == crowded.initial
    assert first.reset() == second.intro
    assert first.state() == begin


def test_the_callers_list_is_its_own(make_game: MakeGame) -> None:
    game = make_game()
    game.admissible().clear()
    assert "look" in game.admissible()


def test_memory_of_local_moves_is_bounded_and_does_not_change_the_game(
    crowded: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk() -> list[object]:
        rng, game, told = random.Random(3), Game(crowded), []
        for _ in range(200):
            told.append((game.admissible(), game.step(rng.choice(game.admissible()))))
            assert len(crowded.local_moves) <= 128
        return told

    first = walk()
    crowded.local_moves.clear()
    monkeypatch.setattr("turnwise.envs.household.moves._MAX_LOCAL_MOVES", 2)
    assert walk() == first
    assert len(crowded.local_moves) <= 2


# -- what is told ----------------------------------------------------------------------------------


def test_the_intro_lists_the_receptacles_and_the_task(make_game: MakeGame) -> None:
    assert make_game().reset() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a cabinet 2, a cabinet 1, a fridge 1, a microwave 1, a shelf 1, and a sinkbasin 1.\n\n"
        "Your task is to: heat some potato."
    )


def test_looking_again_at_the_start_shows_nothing(make_game: MakeGame) -> None:
    assert play(make_game(), "look") == (
        "You are in the middle of a room. Looking quickly around you, you see nothing."
    )


def test_an_agent_that_starts_at_a_receptacle_faces_it(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    facts = [f if f[0] != "atlocation" else (*f[:2], "loc_bar_3") for f in problem.facts]
    game = Game(Scene(type(problem)(facts=tuple(facts), goal=problem.goal, objects=problem.objects, instruction="x")))
    assert "You are facing the fridge 1. Next to it, you see nothing." in game.intro
    assert "go to fridge 1" not in game.admissible()


def test_commands_are_taken_to_the_letter_but_for_blanks_around(make_game: MakeGame) -> None:
    game = make_game()
    assert game.step("Go to shelf 1") == game.step("go to  shelf 1") == game.step("go to shelf 77") == NOTHING_HAPPENS
    assert game.step(" go to shelf 1\n").startswith("You arrive at shelf 1. On the shelf 1, you see a knife 1, ")
    assert game.step("go to shelf 1") == NOTHING_HAPPENS


def test_several_receptacles_at_one_place(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to cabinet 2")
    assert {"open cabinet 2", "take potato 2 from shelf 1", "take box 1 from cabinet 1"} <= set(game.admissible())
    assert "take mug 1 from cabinet 2" not in game.admissible(), "the cabinet is closed"
    assert play(game, "look") == ("You are facing the cabinet 2, cabinet 1, and shelf 1. Next to it, you see nothing.")
    play(game, "open cabinet 2", "take potato 2 from shelf 1", "move potato 2 to cabinet 2")
    # What was taken from the shelf and is still here is "next to it", though it is in the cabinet.
    assert play(game, "look").endswith("Next to it, you see a potato 2.")
    play(game, "take potato 2 from cabinet 2", "move potato 2 to cabinet 1")
    assert play(game, "look").endswith("Next to it, you see a potato 2, and a potato 2.")
    play(game, "take potato 2 from cabinet 1")
    assert play(game, "look").endswith("Next to it, you see nothing.")
    play(game, "move potato 2 to shelf 1")
    assert play(game, "look").endswith("Next to it, you see a potato 2, and a potato 2.")
    play(game, "take potato 2 from shelf 1", "go to sinkbasin 1", "move potato 2 to sinkbasin 1", "go to shelf 1")
    assert play(game, "look").endswith("Next to it, you see nothing.")


def test_opening_and_closing(make_game: MakeGame) -> None:
    game = make_game()
    assert play(game, "go to fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."
    assert play(game, "open fridge 1") == "You open the fridge 1. The fridge 1 is open. In it, you see a potato 1."
    assert "open fridge 1" not in game.admissible()
    assert play(game, "close fridge 1") == "You close the fridge 1."
    assert play(game, "examine fridge 1") == "The fridge 1 is closed."


def test_hands_hold_one_thing(make_game: MakeGame) -> None:
    game = make_game()
    assert play(game, "inventory") == "You are not carrying anything."
    play(game, "go to shelf 1")
    assert play(game, "take knife 1 from shelf 1") == "You pick up the knife 1 from the shelf 1."
    assert play(game, "inventory") == "You are carrying: a knife 1."
    assert not [command for command in game.admissible() if command.startswith("take")]
    assert "move knife 1 to cabinet 2" not in game.admissible(), "cabinets hold no knives"
    assert play(game, "move knife 1 to shelf 1") == "You move the knife 1 to the shelf 1."


def test_only_what_is_held_can_be_examined(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to shelf 1")
    assert "examine potato 2" not in game.admissible()
    assert play(game, "take potato 2 from shelf 1", "examine potato 2") == "There's nothing special about potato 2."


def test_heat_cool_and_clean(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to shelf 1", "take potato 2 from shelf 1", "go to microwave 1")
    assert play(game, "heat potato 2 with microwave 1") == "You heat the potato 2 using the microwave 1."
    assert play(game, "examine potato 2") == "This is a hot potato 2."
    play(game, "go to sinkbasin 1")
    assert play(game, "clean potato 2 with sinkbasin 1") == "You clean the potato 2 using the sinkbasin 1."
    assert play(game, "examine potato 2") == "This is a hot and clean potato 2."
    play(game, "go to fridge 1")
    assert play(game, "cool potato 2 with fridge 1") == "You cool the potato 2 using the fridge 1."
    assert play(game, "examine potato 2") == "This is a cool and clean potato 2."
    assert (game.hot, game.cool.bit_count()) == (0, 1)
    play(game, "go to microwave 1", "heat potato 2 with microwave 1")
    assert play(game, "examine potato 2") == "This is a hot and clean potato 2."
    assert (game.hot.bit_count(), game.cool) == (1, 0)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("", "There's nothing special about potato 2."),
        ("isHot", "This is a hot potato 2."),
        ("isCool", "This is a cold potato 2."),
        ("isClean", "This is a clean potato 2."),
        ("isSliced", "This is a sliced potato 2."),
        ("isHot isSliced", "This is a hot sliced potato 2."),
        ("isCool isSliced", "This is a cool sliced potato 2."),
        ("isClean isSliced", "This is a clean sliced potato 2."),
        ("isHot isClean", "This is a hot and clean potato 2."),
        ("isCool isClean", "This is a cool and clean potato 2."),
        ("isHot isClean isSliced", "This is a hot and clean sliced potato 2."),
        ("isCool isClean isSliced", "This is a cool and clean sliced potato 2."),
        ("isHot isCool isClean", "This is a hot and clean potato 2."),
        ("toggleable isToggled isHot", "This is a hot potato 2."),
        ("toggleable isToggled isSliced", "This potato 2 is on."),
        ("toggleable isSliced", "This is a sliced potato 2."),
        ("isReceptacleObject isHot", "This is a normal potato 2. In it, you see nothing."),
    ],
)
def test_what_examining_tells(make_game: MakeGame, flags: str, text: str) -> None:
    game = make_game(add=" ".join(f"({flag} Potato_bar_1)" for flag in flags.split()))
    assert play(game, "go to shelf 1", "take potato 2 from shelf 1", "examine potato 2") == text


def test_what_is_in_a_box(make_game: MakeGame) -> None:
    game = make_game(
        add="(inReceptacleObject Mug_bar_1 Box_bar_1) (inReceptacleObject Knife_bar_1 Box_bar_1) "
        "(inReceptacleObject Box_bar_1 Box_bar_1)"
    )
    assert play(game, "go to cabinet 1", "take box 1 from cabinet 1", "examine box 1") == (
        "This is a normal box 1. In it, you see a knife 1, and a mug 1."
    )


def test_slicing_needs_a_knife_in_hand_and_the_thing_at_the_place(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to shelf 1")
    assert not [command for command in game.admissible() if command.startswith("slice")]
    assert play(game, "take knife 1 from shelf 1", "slice potato 2 with knife 1") == (
        "You sliced the potato 2 with the knife 1."
    )
    play(game, "go to fridge 1", "slice potato 1 with knife 1")  # through the closed door, as in ALFRED


def test_slicing_goes_by_where_a_thing_has_its_place_not_by_what_is_in_the_receptacle(make_game: MakeGame) -> None:
    game = make_game(add="(objectAtLocation Potato_bar_2 loc_bar_4)")
    fetch = ("go to shelf 1", "take knife 1 from shelf 1", "go to sinkbasin 1")
    play(game, *fetch)
    assert "slice potato 1 with knife 1" in game.admissible()
    play(game, "go to shelf 1", "move knife 1 to shelf 1", "go to fridge 1", "open fridge 1")
    play(game, "take potato 1 from fridge 1", "go to sinkbasin 1", "move potato 1 to sinkbasin 1")
    play(game, "take potato 1 from sinkbasin 1", "go to fridge 1", "move potato 1 to fridge 1", *fetch)
    assert "slice potato 1 with knife 1" not in game.admissible()


def test_a_lamp_only_ever_turns_on(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to shelf 1")
    for on in (True, False, True):
        assert play(game, "use lamp 1") == "You turn on the lamp 1."
        assert bool(game.on) == on
    assert game.toggled.bit_count() == 1


def test_the_old_dialect(make_game: MakeGame) -> None:
    game = make_game(dialect=OLD_DIALECT)
    assert play(game, "go to shelf 1").startswith("You arrive at loc 4. On the shelf 1, you see a knife 1")
    play(game, "take potato 2 from shelf 1")
    assert game.step("move potato 2 to shelf 1") == NOTHING_HAPPENS
    assert play(game, "put potato 2 in/on shelf 1") == "You put the potato 2 in/on the shelf 1."
    assert "put (object) in/on (receptacle)" in play(game, "help")


def test_what_is_held_at_the_start(make_game: MakeGame) -> None:
    game = make_game(add="(holds agent1 Mug_bar_1) (holdsAny agent1)")
    assert play(game, "inventory") == "You are carrying: a mug 1."
    odd = make_game(add="(holds agent1 Mug_bar_1)")
    assert play(odd, "inventory") == "You are not carrying anything.", "only holdsAny counts, as in the grammar"


def test_winning_is_a_matter_of_the_present_state(make_game: MakeGame) -> None:
    game = make_game()
    play(game, "go to shelf 1", "take potato 2 from shelf 1", "go to microwave 1", "heat potato 2 with microwave 1")
    play(game, "go to sinkbasin 1")
    assert (game.won, game.score) == (False, 0)
    play(game, "move potato 2 to sinkbasin 1")
    assert (game.won, game.score) == (True, 1)
    play(game, "take potato 2 from sinkbasin 1")
    assert (game.won, game.score) == (False, 0)
