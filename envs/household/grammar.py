"""What an agent can do in a household, as one grammar for commands, tool calls and ReAct text."""

from __future__ import annotations

from turnwise.actions import ActionGrammar, ActionSpec

_RECEPTACLE = {"receptacle": "A place, such as 'cabinet 3'."}
_OBJECT = {"object": "A thing, such as 'mug 1'."}
_HELD = {"object": "The thing in your hands, such as 'mug 1'."}


def _treat(verb: str, how: str, device: str) -> ActionSpec:
    return ActionSpec(
        name=verb,
        template=f"{verb} {{object}} with {{receptacle}}",
        description=f"{how} the thing in your hands with the {device} you stand at.",
        parameters={**_HELD, "receptacle": f"Where to, such as '{device} 1'."},
    )


_MOVE = "Put the thing in your hands down, in or on the place you stand at."

GRAMMAR = ActionGrammar(
    (
        ActionSpec(name="look", template="look", description="See where you are and what lies about."),
        ActionSpec(name="inventory", template="inventory", description="See what you carry."),
        ActionSpec(
            name="go_to",
            template="go to {receptacle}",
            description="Walk to a place and see what is in or on it.",
            parameters=_RECEPTACLE,
        ),
        ActionSpec(
            name="open",
            template="open {receptacle}",
            description="Open the place you stand at and see what is in it.",
            parameters=_RECEPTACLE,
        ),
        ActionSpec(
            name="close",
            template="close {receptacle}",
            description="Close the place you stand at.",
            parameters=_RECEPTACLE,
        ),
        ActionSpec(
            name="take",
            template="take {object} from {receptacle}",
            description="Take a thing, if your hands are empty.",
            parameters={**_OBJECT, **_RECEPTACLE},
        ),
        # Games say either of the two; both are understood in every game.
        ActionSpec(
            name="move",
            template="move {object} to {receptacle}",
            description=_MOVE,
            parameters={**_HELD, **_RECEPTACLE},
        ),
        ActionSpec(
            name="move",
            template="put {object} in/on {receptacle}",
            description=_MOVE,
            parameters={**_HELD, **_RECEPTACLE},
        ),
        ActionSpec(
            name="examine",
            template="examine {thing}",
            description="Look closely at the place you stand at, or at the thing in your hands.",
            parameters={"thing": "A place or a thing, such as 'cabinet 3' or 'mug 1'."},
        ),
        ActionSpec(name="use", template="use {object}", description="Switch on a lamp.", parameters=_OBJECT),
        _treat("heat", "Heat", "microwave"),
        _treat("cool", "Cool", "fridge"),
        _treat("clean", "Clean", "sinkbasin"),
        ActionSpec(
            name="slice",
            template="slice {object} with {knife}",
            description="Slice a thing with the knife in your hands.",
            parameters={**_OBJECT, "knife": "The knife, such as 'knife 1' or 'butterknife 1'."},
        ),
        ActionSpec(name="help", template="help", description="See the list of commands."),
    )
)

ROLE = (
    "You are in a house and have a task to carry out, step by step. Things are in or on places such as "
    "'cabinet 3'; go to a place to see what is there, open it if it is closed, and carry one thing at a time. "
    "A command that cannot be carried out is answered 'Nothing happens.'"
)
