"""Records: JSON round trips, the rules they enforce, migration, and that they are frozen."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise import records
from turnwise.errors import BOUNDARIES, ConfigError
from turnwise.records import (
    SCHEMA_VERSION,
    Action,
    Ending,
    Failure,
    Outcome,
    RewardValue,
    Task,
    Timings,
    TokenSequence,
    Trajectory,
    TruncationCause,
    Turn,
    TurnTokens,
    from_builtins,
    from_json,
    replace,
    to_json,
    without_timings,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0.0, 1.0)
seconds = st.floats(0.0, 1e6)
token_ids = st.integers(0, 2**31)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
json_trees = st.dictionaries(text, json_values, max_size=3)
reward_values = st.builds(RewardValue, value=numbers, evidence=json_trees) | st.builds(
    RewardValue, invalid=text.filter(bool), evidence=json_trees
)
tasks = st.builds(Task, id=text, split=text, instruction=text, type=text, data=json_trees)
actions = st.builds(
    Action,
    name=text,
    arguments=st.dictionaries(text, text, max_size=3),
    command=text,
    form=st.sampled_from(["native", "json", "react"]),
    thought=st.none() | text,
)


@st.composite
def turn_tokens(draw: st.DrawFn) -> TurnTokens:
    ids = draw(st.lists(token_ids, max_size=4))
    logprobs = [draw(st.floats(-50.0, 0.0)) for _ in ids] if draw(st.booleans()) else []
    return TurnTokens(
        prompt_ids=tuple(draw(st.lists(token_ids, max_size=4))), completion_ids=tuple(ids), logprobs=tuple(logprobs)
    )


@st.composite
def token_sequences(draw: st.DrawFn) -> TokenSequence:
    ids = draw(st.lists(token_ids, max_size=8))
    return TokenSequence(
        ids=tuple(ids),
        loss_mask=tuple(draw(st.sampled_from([0, 1])) for _ in ids),
        logprobs=tuple(draw(st.floats(-50.0, 0.0)) for _ in ids) if draw(st.booleans()) else (),
    )


@st.composite
def turns(draw: st.DrawFn, index: int, length: int) -> Turn:
    start = draw(st.integers(0, length))
    return Turn(
        index=index,
        observation=draw(text),
        image=draw(st.none() | text),
        action_text=draw(text),
        action=draw(st.none() | actions),
        action_valid=draw(st.booleans()),
        action_error=draw(st.none() | text),
        env_reward=draw(numbers),
        progress=draw(shares),
        success=draw(st.booleans()),
        level=draw(st.none() | text),
        info=draw(json_trees),
        rewards=draw(st.dictionaries(text, reward_values, max_size=2)),
        tokens=draw(st.none() | turn_tokens()),
        token_span=draw(st.none() | st.just((start, draw(st.integers(start, length))))),
        timings=Timings(act_s=draw(seconds), step_s=draw(seconds)),
    )


failures = st.builds(
    Failure,
    boundary=st.sampled_from(BOUNDARIES),
    kind=text,
    message=text,
    turn=st.none() | st.integers(0, 100),
)
endings = (
    st.builds(Ending, kind=st.just("terminated"))
    | st.builds(
        Ending,
        kind=st.just("truncated"),
        cause=st.sampled_from(get_args(TruncationCause)),
        failure=st.none() | failures,
    )
    | st.builds(Ending, kind=st.just("failed"), failure=failures)
)
outcomes = st.builds(
    Outcome,
    success=st.booleans(),
    env_return=numbers,
    progress=shares,
    level=st.none() | text,
    levels=st.lists(text, max_size=3).map(tuple),
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    ending = draw(endings)
    tokens = draw(st.none() | token_sequences())
    length = 1_000 if tokens is None else len(tokens.ids)
    return Trajectory(
        id=draw(text),
        env_id=draw(text),
        env_options=draw(json_trees),
        task=draw(tasks),
        sample=draw(st.integers(0, 100)),
        seed=draw(st.integers(0, 2**63 - 1)),
        agent=draw(text),
        policy_version=draw(st.none() | text),
        turns=tuple(draw(turns(index, length)) for index in range(draw(st.integers(0, 2)))),
        final_observation=draw(text),
        ending=ending,
        outcome=None if ending.kind == "failed" else draw(st.none() | outcomes),
        rewards=draw(st.dictionaries(text, reward_values, max_size=2)),
        tokens=tokens,
        timings=draw(st.builds(Timings, act_s=seconds, step_s=seconds)),
    )


def small(**changes: Any) -> Trajectory:
    fields: dict[str, Any] = {
        "id": "t#0",
        "env_id": "acme/Kitchen-v0",
        "task": Task(id="t", split="train", instruction="Boil an egg."),
        "seed": 0,
        "agent": "expert",
        "ending": Ending(kind="terminated"),
        **changes,
    }
    return Trajectory(**fields)


# -- round trips -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(trajectories())
def test_json_round_trip(trajectory: Trajectory) -> None:
    line = to_json(trajectory)
    assert from_json(line) == trajectory
    assert to_json(from_json(line)) == line
    assert b"\n" not in line


@settings(max_examples=50, deadline=None)
@given(trajectories())
def test_plain_trees_round_trip(trajectory: Trajectory) -> None:
    assert from_builtins(json.loads(to_json(trajectory))) == trajectory


def test_key_order_does_not_depend_on_how_a_dict_was_filled() -> None:
    one, other = small(env_options={"a": 1, "b": {"c": 2, "d": 3}}), small(env_options={"b": {"d": 3, "c": 2}, "a": 1})
    assert to_json(one) == to_json(other)


def test_unknown_fields_are_ignored() -> None:
    tree = json.loads(to_json(small()))
    assert from_builtins({**tree, "colour": "red"}) == small()
    assert from_json(json.dumps({**tree, "colour": "red"})) == small()


@pytest.mark.parametrize("bad", ["\ud800", 1j, object()])
def test_what_json_cannot_hold_is_a_clear_error(bad: Any) -> None:
    with pytest.raises(ConfigError, match="a Task cannot be written as JSON"):
        to_json(Task(id="t", split="train", instruction="", data={"bad": bad}))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not a trajectory"),
        ("[]", "a trajectory is a JSON object, got list"),
        ("{}", "missing required field `id`"),
        ('{"id": 3}', "Expected `str`, got `int`"),
    ],
)
def test_malformed_json_says_what_is_wrong(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        from_json(line)


def test_a_broken_rule_inside_names_its_place() -> None:
    line = to_json(small(turns=(Turn(index=0, observation="o", action_text="a"),)))
    with pytest.raises(ConfigError, match=r"progress must be in \[0, 1\], got 7.0 - at `\$.turns\[0\]`"):
        from_json(line.replace(b'"progress":0.0', b'"progress":7.0', 1))


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (RewardValue, "needs a reason"),
        (lambda: RewardValue(invalid=""), "needs a reason"),
        (lambda: RewardValue(value=1.0, invalid="judge down"), "valid or invalid, got value=1.0 and 'judge down'"),
        (lambda: RewardValue(value=math.nan), "finite, got nan"),
        (lambda: RewardValue(value=-math.inf), "finite, got -inf"),
        (lambda: TurnTokens(completion_ids=(1, 2), logprobs=(-0.5,)), "got 1 for 2 ids"),
        (lambda: TurnTokens(completion_ids=(1,), logprobs=(math.nan,)), "logprobs must be finite"),
        (lambda: TokenSequence(ids=(1, 2), loss_mask=(1,)), "as long as ids: got 1 for 2"),
        (lambda: TokenSequence(ids=(1,), loss_mask=(2,)), "only 0 and 1"),
        (lambda: TokenSequence(ids=(1,), loss_mask=(1,), logprobs=(0.0, 0.0)), "got 2"),
        (lambda: TokenSequence(ids=(1,), loss_mask=(1,), logprobs=(math.inf,)), "logprobs must be finite"),
        (lambda: Turn(index=0, observation="", action_text="", env_reward=math.nan), "env_reward must be finite"),
        (lambda: Turn(index=0, observation="", action_text="", progress=1.5), r"in \[0, 1\], got 1.5"),
        (lambda: Turn(index=0, observation="", action_text="", progress=math.nan), r"in \[0, 1\], got nan"),
        (lambda: Turn(index=0, observation="", action_text="", token_span=(2, 1)), r"got \(2, 1\)"),
        (lambda: Turn(index=0, observation="", action_text="", token_span=(-1, 1)), r"got \(-1, 1\)"),
        (lambda: Ending(kind="truncated"), "needs a cause"),
        (lambda: Ending(kind="terminated", cause="turns"), "others have none"),
        (lambda: Ending(kind="failed"), "needs a failure"),
        (lambda: small(turns=(Turn(index=1, observation="", action_text=""),)), "turn 0 of t#0 carries index 1"),
        (
            lambda: small(
                ending=Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="")),
                outcome=Outcome(success=False, env_return=0.0),
            ),
            "t#0 failed, so it has no outcome",
        ),
        (
            lambda: small(
                turns=(Turn(index=0, observation="", action_text="", token_span=(0, 3)),),
                tokens=TokenSequence(ids=(1, 2), loss_mask=(0, 1)),
            ),
            r"turn 0 of t#0: span \(0, 3\) is past the token sequence",
        ),
    ],
)
def test_impossible_records_are_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_a_value_or_a_reason() -> None:
    assert RewardValue(value=0.0).valid
    assert not RewardValue(invalid="the judge timed out").valid


def test_failed_trajectories_say_so() -> None:
    failure = Failure(boundary="sandbox", kind="exit", message="container died", turn=3)
    assert small(ending=Ending(kind="failed", failure=failure)).failed
    assert not small().failed
    assert small().group == "t"


# -- frozen, copied, compared ----------------------------------------------------------------------


@pytest.mark.parametrize("record", [small(), small().task, small().ending, RewardValue(value=1.0), Timings()])
def test_records_are_frozen(record: Any) -> None:
    name = type(record).__struct_fields__[0]
    with pytest.raises(AttributeError, match="immutable"):
        setattr(record, name, None)


@pytest.mark.parametrize("kind", records.Record.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_record_is_frozen_and_takes_keywords_only(kind: type[records.Record]) -> None:
    assert kind.__struct_config__.frozen
    with pytest.raises(TypeError, match="positional"):
        kind("x")  # type: ignore[call-arg]


def test_what_is_not_said_is_the_plain_case() -> None:
    turn = Turn(index=0, observation="o", action_text="a")
    assert (turn.action_valid, turn.env_reward, turn.progress, turn.success, turn.level) == (
        True,
        0.0,
        0.0,
        False,
        None,
    )
    assert (turn.tokens, turn.token_span, turn.image, turn.rewards, turn.info) == (None, None, None, {}, {})
    assert (small().sample, small().outcome, small().schema_version) == (0, None, SCHEMA_VERSION)


def test_defaults_are_not_shared() -> None:
    small().rewards["outcome"] = RewardValue(value=1.0)
    assert small().rewards == {}


def test_replace_copies_and_checks() -> None:
    before = small()
    assert replace(before, seed=5).seed == 5
    assert before.seed == 0
    with pytest.raises(ConfigError, match="finite"):
        replace(RewardValue(value=1.0), value=math.nan)


def test_without_timings_leaves_everything_else() -> None:
    def timed(seconds: float) -> Trajectory:
        timings = Timings(act_s=seconds, step_s=seconds)
        turn = Turn(index=0, observation="o", action_text="a", timings=timings)
        return small(turns=(turn,), timings=timings)

    assert timed(1.0) != timed(2.0)
    assert to_json(without_timings(timed(1.0))) == to_json(without_timings(timed(2.0)))
    assert without_timings(timed(1.0)).turns[0].action_text == "a"


# -- migration -------------------------------------------------------------------------------------


@pytest.fixture
def newer_schema(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pretend that the schema moved on by two versions; each step renames a field."""
    monkeypatch.setattr(records, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    return SCHEMA_VERSION + 2


def old_line() -> str:
    tree = json.loads(to_json(small(seed=11)))
    tree["dice"] = tree.pop("seed")
    return json.dumps(tree)


def test_old_trajectories_are_migrated_step_by_step(newer_schema: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def first(tree: Any) -> Any:
        return {("rng" if key == "dice" else key): value for key, value in tree.items()}

    def second(tree: Any) -> Any:
        assert tree["schema_version"] == SCHEMA_VERSION + 1
        return {("seed" if key == "rng" else key): value for key, value in tree.items()}

    monkeypatch.setattr(records, "MIGRATIONS", {SCHEMA_VERSION: first, SCHEMA_VERSION + 1: second})
    for trajectory in (from_json(old_line()), from_builtins(json.loads(old_line()))):
        assert trajectory.seed == 11
        assert trajectory.schema_version == newer_schema


@pytest.mark.usefixtures("newer_schema")
def test_a_missing_migration_is_named() -> None:
    with pytest.raises(ConfigError, match=f"no migration from schema version {SCHEMA_VERSION} to {SCHEMA_VERSION + 1}"):
        from_json(old_line())


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "2", None])
def test_a_newer_schema_asks_for_an_upgrade(version: Any) -> None:
    tree = {**json.loads(to_json(small())), "schema_version": version}
    for read in (lambda: from_json(json.dumps(tree)), lambda: from_builtins(tree)):
        with pytest.raises(ConfigError, match="upgrade turnwise"):
            read()
