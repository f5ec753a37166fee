"""The action parser: what it reads, what it refuses and how it explains itself."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnwise.actions import MAX_ACTION_CHARS, ActionGrammar, ActionProblem, ActionSpec
from turnwise.errors import ConfigError
from turnwise.records import Action

GRAMMAR = ActionGrammar(
    (
        ActionSpec(
            name="go_to",
            template="go to {receptacle}",
            description="Walk to a place.",
            parameters={"receptacle": "Where to."},
        ),
        ActionSpec(
            name="take",
            template="take {object} from {receptacle}",
            description="Pick something up.",
            parameters={"object": "What.", "receptacle": "Where from."},
        ),
        ActionSpec(
            name="move",
            template="move {object} to {receptacle}",
            description="Put something down.",
            parameters={"object": "What.", "receptacle": "Where to."},
        ),
        ActionSpec(
            name="move",
            template="put {object} in/on {receptacle}",
            description="The same in the older dialect.",
            parameters={"object": "What.", "receptacle": "Where to."},
        ),
        ActionSpec(
            name="search", template="search[{query}]", description="Search.", parameters={"query": "Free text."}
        ),
        ActionSpec(name="look", template="look", description="Look around."),
        ActionSpec(name="inventory", template="inventory", description="What you carry."),
    )
)


def read(text: str) -> Action:
    action = GRAMMAR.parse(text)
    assert isinstance(action, Action), action
    return action


def problem(text: str) -> ActionProblem:
    found = GRAMMAR.parse(text)
    assert isinstance(found, ActionProblem), found
    return found


def call(name: Any, arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


# -- native ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "arguments", "command"),
    [
        ("look", "look", {}, "look"),
        ("  LOOK\n", "look", {}, "look"),
        ("go to fridge 1", "go_to", {"receptacle": "fridge 1"}, "go to fridge 1"),
        ("Go  TO   Fridge   1", "go_to", {"receptacle": "Fridge 1"}, "go to Fridge 1"),
        ("take mug 1 from desk 2", "take", {"object": "mug 1", "receptacle": "desk 2"}, "take mug 1 from desk 2"),
        ("search[red shoes]", "search", {"query": "red shoes"}, "search[red shoes]"),
        ("search[Action: a movie]", "search", {"query": "Action: a movie"}, "search[Action: a movie]"),
        ("put mug 1 in/on desk 1", "move", {"object": "mug 1", "receptacle": "desk 1"}, "move mug 1 to desk 1"),
    ],
)
def test_native_commands(text: str, name: str, arguments: dict[str, str], command: str) -> None:
    assert read(text) == Action(name=name, arguments=arguments, command=command)


def test_the_first_spec_wins_where_several_fit() -> None:
    def grammar(*templates: str) -> ActionGrammar:
        return ActionGrammar(
            tuple(
                ActionSpec(
                    name=f"a{n}",
                    template=template,
                    description="x",
                    parameters=dict.fromkeys(re.findall(r"{(\w+)}", template), ""),
                )
                for n, template in enumerate(templates)
            )
        )

    for templates in (("go {place}", "go home"), ("go home", "go {place}")):
        action = grammar(*templates).parse("go home")
        assert isinstance(action, Action)
        assert action.name == "a0"


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        call("go_to", {"receptacle": "desk 1"}),
        call("go_to", json.dumps({"receptacle": "desk 1"})),
        json.dumps({"name": "go_to", "parameters": {"receptacle": "desk 1"}}),
        json.dumps({"type": "function", "function": {"name": "go_to", "arguments": {"receptacle": "desk 1"}}}),
        json.dumps(
            {"tool_calls": [{"id": "c1", "function": {"name": "go_to", "arguments": '{"receptacle":"desk 1"}'}}]}
        ),
        json.dumps([{"name": "go_to", "arguments": {"receptacle": "desk 1"}}]),
        "<tool_call>\n" + call("go_to", {"receptacle": "desk 1"}) + "\n</tool_call>",
        "<tool_call>" + call("go_to", {"receptacle": "desk 1"}),
        "```json\n" + call("go_to", {"receptacle": "desk 1"}) + "\n```",
        "```" + call("go_to", {"receptacle": "desk 1"}) + "```",
        "Action: " + call("go_to", {"receptacle": "desk 1"}),
        "<action>" + call("go_to", {"receptacle": "  desk\n 1 "}) + "</action>",
        json.dumps({"name": "go_to", "arguments": {"receptacle": "desk 1"}}, indent=2),
    ],
)
def test_json_calls(text: str) -> None:
    assert read(text) == Action(
        name="go_to", arguments={"receptacle": "desk 1"}, command="go to desk 1", form="json", thought=None
    )


def test_a_call_without_arguments_may_leave_them_out() -> None:
    for text in ('{"name": "look"}', call("look", {}), call("look", ""), call("look", "{}"), call("look", None)):
        assert read(text).command == "look"


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (True, "true"), (False, "false"), (2.5, "2.5")])
def test_numbers_and_booleans_become_text(value: Any, text: str) -> None:
    assert read(call("go_to", {"receptacle": value})).arguments == {"receptacle": text}


def test_the_text_beside_a_call_is_its_thought() -> None:
    assert read("I am cold.\n<tool_call>" + call("look", {}) + "</tool_call>").thought == "I am cold."
    assert read("I am cold.\n```json\n" + call("look", {}) + "\n```").thought == "I am cold."
    message = {"role": "assistant", "content": "I am cold.", "tool_calls": [{"function": {"name": "look"}}]}
    assert read(json.dumps(message)).thought == "I am cold."
    assert read("<think>I am cold.</think>" + call("look", {})).thought == "I am cold."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (call("tak", {}), r"unknown tool 'tak'\. Did you mean 'take'"),
        (call("fly", {}), r"unknown tool 'fly'\. Known: 'go_to'|unknown tool 'fly'\. Known:"),
        (call("take", {"object": "mug"}), "needs the argument 'receptacle'"),
        (call("take", {"objct": "mug", "receptacle": "desk"}), r"no argument 'objct'\. Did you mean 'object'"),
        (call("look", {"at": "desk"}), "no argument 'at'"),
        (call("go_to", {"receptacle": ["desk"]}), "must be a text or a number"),
        (call("go_to", {"receptacle": None}), "must be a text or a number"),
        (call("go_to", {"receptacle": {"a": 1}}), "must be a text or a number"),
        (call("go_to", {"receptacle": " "}), "is empty"),
        (call("go_to", {"receptacle": "a\u0000b"}), "control characters"),
        (call("go_to", {"receptacle": "\ud800"}), "control characters or broken unicode"),
        ('{"name": "go_to", "arguments": {"receptacle": NaN}}', "out of range"),
        ('{"name": "go_to", "arguments": {"receptacle": 1e999}}', "must be a text or a number"),
        (call("go_to", ["desk"]), "must be a JSON object"),
        (call("go_to", "desk"), "JSON is broken"),
        (call("go_to", '{"receptacle": "a"} or so'), "text after the JSON"),
        (call(3, {}), "no tool call"),
        ('{"arguments": {}}', "no tool call"),
        ("[1]", "no tool call"),
        ("[]", "list of tool calls is empty"),
        ('{"tool_calls": []}', "list of tool calls is empty"),
        ('{"name": "look"', "JSON is broken"),
        ('{"name": "look"} and then some', "text after"),
        ("[" * 60_000, "nested too deeply|JSON is broken"),
        ('{"name": "look", "arguments": ' + "[" * 30_000 + "]" * 30_000 + "}", "nested too deeply|JSON object"),
        ('{"name": "go_to", "arguments": {"receptacle": ' + "9" * 60_000 + "}}", "out of range|Exceeds|characters"),
    ],
)
def test_bad_calls_say_what_is_wrong(text: str, why: str) -> None:
    assert re.search(why, problem(text).message)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"name": "look"}, {"name": "look"}]),
        json.dumps({"tool_calls": [{"function": {"name": "look"}}] * 2}),
        '{"name": "look"}\n{"name": "look"}',
        '<tool_call>{"name": "look"}</tool_call><tool_call>{"name": "look"}</tool_call>',
        "<action>look</action> <action>look</action>",
        "Action: look\nAction: look",
        "```look```\n```look```",
        "> look\n> look",
    ],
)
def test_several_actions_are_refused(text: str) -> None:
    assert "several actions" in problem(text).message


# -- ReAct -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("Thought: it is cold there. Action: go to fridge 1", "it is cold there."),
        ("Thought: it is cold there.\nAction: go to fridge 1", "it is cold there."),
        ("Thought: the last Action: failed.\nAction: go to fridge 1\n", "the last Action: failed."),
        ("Thought: the last Action: failed. Action: go to fridge 1", "the last Action: failed."),
        ("It is cold there.\n\nACTION: go to fridge 1", "It is cold there."),
        ("Thought 2: cold\nAction 2: go to fridge 1", "cold"),
        ("**Thought:** cold\n**Action:** go to fridge 1", "cold"),
        ("**Thought**: cold\n**Action**: go to fridge 1", "cold"),
        ("think: cold\n> go to fridge 1", "cold"),
        ("> think: cold\nAction: go to fridge 1", "cold"),
        ("<think>cold. Action: look</think> go to fridge 1", "cold. Action: look"),
        ("<think>\ncold\n</think>\n\ngo to fridge 1", "cold"),
        ("cold, so the fridge.\n</think>\ngo to fridge 1", "cold, so the fridge."),
        ("<thinking>cold</thinking><action>go to fridge 1</action>", "cold"),
        ("cold <action> go to fridge 1 </action> and so on", "cold"),
        ("cold <action>go to fridge 1", "cold"),
        ("cold\n```\ngo to fridge 1\n```", "cold"),
        ("Thought: cold\nAction: `go to fridge 1`", "cold"),
        ("Action: go to fridge 1", None),
        ("> go to fridge 1", None),
    ],
)
def test_react_texts(text: str, thought: str | None) -> None:
    assert read(text) == Action(
        name="go_to",
        arguments={"receptacle": "fridge 1"},
        command="go to fridge 1",
        form="react",
        thought=thought,
    )


@pytest.mark.parametrize(
    "text",
    [
        "take your time <action>go to fridge 1</action>",
        "take your time from now on </think> go to fridge 1",
        "go to the kitchen first ```go to fridge 1```",
        'go to the kitchen first <tool_call>{"name": "go_to", "arguments": {"receptacle": "fridge 1"}}</tool_call>',
    ],
)
def test_a_thought_that_begins_like_a_command_is_a_thought(text: str) -> None:
    assert read(text).command == "go to fridge 1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Thought: I should look.", "thought without an action"),
        ("think: hm", "thought without an action"),
        ("<think>I should look.", "never closed"),
        ("<think>look</think>", "no action"),
        ("<action></action>", "no action"),
        ("Action:", "no action"),
        ("``````", "no action"),
        ("Action: look\nObservation: you see a desk", "one line"),
        ("look\nlook", "one line"),
        ("go to desk 1\rgo to desk 2", "one line"),
    ],
)
def test_bad_react_texts_say_what_is_wrong(text: str, why: str) -> None:
    assert why in problem(text).message


# -- anything else ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \t\r\n", "empty"),
        ("\u2003", "empty"),
        ("x" * (MAX_ACTION_CHARS + 1), f"{MAX_ACTION_CHARS + 1} characters, at most {MAX_ACTION_CHARS}"),
        ("look\x00", "control characters"),
        ("\x1b[2Jlook", "control characters"),
        ("look \ud83d", "broken unicode"),
        ("fly to the moon", "'fly to the moon' is none of the actions"),
        ("loook", "did you mean 'look'?"),
        ("goto desk 1", "did you mean 'go to {receptacle}'?"),
        ("go to", "does not have the form 'go to {receptacle}'"),
        ("take mug 1", "does not have the form 'take {object} from {receptacle}'"),
        ("move mug", "does not have the form 'move {object} to {receptacle}'"),
    ],
)
def test_malformed_messages_say_what_is_wrong(text: str, why: str) -> None:
    found = problem(text)
    assert why in found.message
    assert "\n" not in found.message
    assert found.explanation == f"Invalid action: {found.message}\n{GRAMMAR.explain()}"


def test_a_command_of_the_greatest_length_is_read() -> None:
    longest = "search[" + "x" * (MAX_ACTION_CHARS - 8) + "]"
    assert len(longest) == MAX_ACTION_CHARS
    assert read(longest).command == longest


HOSTILE = {
    "many separators": "take " + "from " * 13_000,
    "many near matches": "take" + " x from" * 9_000,
    "many labels": "thought: " + "action: " * 8_000,
    "many thoughts": "thought: thought " * 3_800,
    "many prompts": "\n>" * 30_000,
    "many angles": "<" * 65_000,
    "many open tags": "<think" * 10_000,
    "many stars": "*" * 65_000,
    "starred lines": ("*" * 100 + "\n") * 600,
    "indented lines": ("\n" + " " * 50) * 1_200 + "x",
    "many fences": "`" * 65_000,
    "many quotes": '"' * 65_000,
    "many escapes": '{"name":"' + "\\" * 60_000,
    "many digits": '{"name":' + "9" * 60_000 + "}",
    "many braces": "{" * 65_000,
    "many keys": "{" + '"a":1,' * 10_000 + '"name":"look"}',
    "long word": "f" * 65_000,
    "long tool": call("x" * 60_000, {}),
    "long argument name": call("look", {"x" * 60_000: 1}),
    "growing letters": "İ" * 65_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_end_soon_and_are_not_echoed(text: str) -> None:
    # Backtracking over texts of this size would take minutes to years: the timeout is the assertion.
    for _ in range(20):
        found = GRAMMAR.parse(text)
    if isinstance(found, ActionProblem):
        assert len(found.explanation) < len(GRAMMAR.explain()) + 600


LABELS = (
    "Thought:",
    "Action:",
    "think:",
    "<think>",
    "</think>",
    "<action>",
    "</action>",
    "<tool_call>",
    "</tool_call>",
)
MARKS = ("```", "```json\n", "`", "\n", "\r", ">", "> ", "**", "{", "}", "[", "]", '"', ":", ",", " ")
PIECES = (
    '{"name": "look"}',
    '{"name":',
    '"arguments":',
    "look",
    "go to ",
    "take mug from ",
    "search[",
    "null",
    "1e999",
)
ODD = ("\\u0000", "NaN", "\x00", "\ud800", "\u2028", "İ", call("go_to", {"receptacle": "a"}))
fragments = st.sampled_from((*LABELS, *MARKS, *PIECES, *ODD))
soup = st.lists(fragments | st.text(max_size=5), max_size=14).map("".join)
any_text = st.text(st.characters(), max_size=200) | soup


@given(any_text)
@example("\udfff")
@example("[" * 100_000)
def test_any_text_is_read_or_explained(text: str) -> None:
    found = GRAMMAR.parse(text)
    if isinstance(found, Action):
        assert set(found.arguments) == set(next(s for s in GRAMMAR.specs if s.name == found.name).parameters)
        assert all(value == " ".join(value.split()) and value for value in found.arguments.values())
        assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]", found.command + (found.thought or ""))
    else:
        assert "\n" not in found.message
        assert len(found.explanation) < len(GRAMMAR.explain()) + 600
        found.explanation.encode()  # lone surrogates are escaped


@given(any_text)
def test_reading_is_a_function_of_the_text(text: str) -> None:
    assert GRAMMAR.parse(text) == GRAMMAR.parse(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=120, max_size=400))
def test_no_more_than_a_short_piece_of_the_text_is_echoed(text: str) -> None:
    for wrapped in ("zz" + text, call(text, {}), call("look", {text: 1}), "Action: zz" + text):
        found = GRAMMAR.parse(wrapped)
        if isinstance(found, ActionProblem):
            assert text[:80] not in found.explanation


# -- writing ---------------------------------------------------------------------------------------

_markup = ("<", "`", "\x85", "\xa0")
value = (
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: text and not any(mark in text for mark in _markup))
)
plain = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
thoughts = st.none() | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=60)


@given(value, thoughts)
def test_one_slot_actions_are_the_same_in_every_form(query: str, thought: str | None) -> None:
    action = Action(name="search", arguments={"query": query}, command=f"search[{query}]", thought=thought)
    for form in ("native", "json", "react"):
        again = read(GRAMMAR.format(action, form))  # type: ignore[arg-type]
        assert (again.name, again.arguments, again.command) == (action.name, action.arguments, action.command)
        assert again.form == form


@given(plain, plain)
def test_two_slot_actions_are_the_same_in_every_form(thing: str, place: str) -> None:
    native = read(f"put {thing} in/on {place}")
    for form in ("native", "json", "react"):
        again = read(GRAMMAR.format(native, form))  # type: ignore[arg-type]
        assert (again.name, again.arguments, again.command) == (native.name, native.arguments, native.command)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=30))
def test_json_carries_any_argument(query: str) -> None:
    action = Action(name="search", arguments={"query": query}, command=f"search[{query}]", form="json")
    assert read(GRAMMAR.format(action)) == action


@given(st.text(st.characters(categories=["L", "N"], include_characters=" .,"), min_size=1, max_size=60))
def test_a_thought_comes_back_in_both_forms_that_carry_one(text: str) -> None:
    thought = " ".join(text.split()) or None
    action = Action(name="look", arguments={}, command="look", thought=thought)
    assert read(GRAMMAR.format(action, "react")).thought == thought
    assert read(GRAMMAR.format(action, "json")).thought == thought


def test_a_thought_that_would_be_read_as_an_action_is_left_out() -> None:
    action = Action(name="look", arguments={}, command="look", thought="<action>inventory</action>")
    for form in ("react", "json"):
        again = read(GRAMMAR.format(action, form))  # type: ignore[arg-type]
        assert (again.command, again.thought) == ("look", None)


def test_without_a_form_an_action_is_written_as_it_was_read() -> None:
    for text in ("look", "Thought: hm\nAction: look", '{"name": "look", "arguments": {}}'):
        assert GRAMMAR.format(read(text)) == text


# -- schemas and the prompt ------------------------------------------------------------------------


def test_tools_are_strict_function_schemas() -> None:
    tools = {tool["function"]["name"]: tool for tool in GRAMMAR.tools()}
    assert list(tools) == ["go_to", "take", "move", "search", "look", "inventory"]
    assert tools["take"] == {
        "type": "function",
        "function": {
            "name": "take",
            "description": "Pick something up.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {
                    "object": {"type": "string", "description": "What."},
                    "receptacle": {"type": "string", "description": "Where from."},
                },
                "required": ["object", "receptacle"],
                "additionalProperties": False,
            },
        },
    }


def test_tools_are_the_callers_to_change() -> None:
    GRAMMAR.tools()[0]["function"].clear()
    assert GRAMMAR.tools()[0]["function"]["name"] == "go_to"


def test_the_explanation_shows_each_form() -> None:
    text = GRAMMAR.explain()
    for spec in (*GRAMMAR.specs[:3], *GRAMMAR.specs[4:]):
        assert f"{spec.template} - {spec.description}" in text
    assert '{"name": "go_to", "arguments": {"receptacle": "..."}}' in text
    assert "Thought:" in text


def test_the_explanation_of_a_grammar_without_parameters() -> None:
    grammar = ActionGrammar((ActionSpec(name="look", template="look", description="Look."),))
    assert '{"name": "look", "arguments": {}}' in grammar.explain()


@pytest.mark.parametrize("record", [GRAMMAR.specs[0], ActionProblem(message="no", explanation="no")])
def test_specs_and_problems_are_frozen(record: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        record.name = "other"


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ((), "at least one"),
        ((ActionSpec(name="go to", template="go", description=""),), "action name"),
        ((ActionSpec(name="x" * 65, template="go", description=""),), "action name"),
        ((ActionSpec(name="go", template="go {place}", description=""),), r"slots \['place'\]"),
        ((ActionSpec(name="go", template="go", description="", parameters={"place": ""}),), "name the same ones"),
        (
            (
                ActionSpec(name="look", template="look", description=""),
                ActionSpec(name="look", template="look at {x}", description="", parameters={"x": ""}),
            ),
            "another name",
        ),
    ],
)
def test_malformed_grammars_are_refused(specs: tuple[ActionSpec, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ActionGrammar(specs)
