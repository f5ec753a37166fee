"""Round trips: what is stored comes back equal, whatever it is."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnwise.errors import BOUNDARIES, ConfigError
from turnwise.records import (
    MIGRATIONS,
    SCHEMA_VERSION,
    Action,
    Ending,
    Failure,
    Outcome,
    Record,
    RewardValue,
    Task,
    Timings,
    TokenSequence,
    Trajectory,
    Turn,
    TurnTokens,
    from_builtins,
    from_json,
    replace,
    to_json,
)
from turnwise.rollout.store import RunStore
from turnwise.rollout.store.schema import arrow_schema, from_row, line_to_row, to_row
from turnwise.rollout.store.shards import read_row, read_shard, write_shard

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0.0, 1.0)
seconds = st.floats(0.0, 1e6)
integers = st.integers(-(2**63), 2**63 - 1)
scalars = st.none() | st.booleans() | integers | numbers | texts
open_dicts = st.dictionaries(
    texts,
    st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3), max_leaves=6),
)
small_dicts = st.just({}) | open_dicts


@st.composite
def reward_values(draw: st.DrawFn) -> RewardValue:
    if draw(st.booleans()):
        return RewardValue(value=draw(numbers), evidence=draw(small_dicts))
    return RewardValue(invalid=draw(texts.filter(bool)), evidence=draw(small_dicts))


rewards = st.dictionaries(texts, reward_values(), max_size=3)
actions = st.builds(
    Action,
    name=texts,
    arguments=st.dictionaries(texts, texts, max_size=2),
    command=texts,
    form=st.sampled_from(["native", "json", "react"]),
    thought=st.none() | texts,
)


timings = st.builds(Timings, act_s=seconds, step_s=seconds)


@st.composite
def turn_tokens(draw: st.DrawFn) -> TurnTokens:
    completion = draw(st.lists(integers, max_size=4))
    logprobs = draw(st.just([]) | st.lists(numbers, min_size=len(completion), max_size=len(completion)))
    return TurnTokens(
        prompt_ids=tuple(draw(st.lists(integers, max_size=4))),
        completion_ids=tuple(completion),
        logprobs=tuple(logprobs),
    )


@st.composite
def token_sequences(draw: st.DrawFn) -> TokenSequence:
    ids = draw(st.lists(integers, max_size=6))
    mask = draw(st.lists(st.sampled_from([0, 1]), min_size=len(ids), max_size=len(ids)))
    logprobs = draw(st.just([]) | st.lists(numbers, min_size=len(ids), max_size=len(ids)))
    return TokenSequence(ids=tuple(ids), loss_mask=tuple(mask), logprobs=tuple(logprobs))


@st.composite
def turns(draw: st.DrawFn, index: int, length: int | None) -> Turn:
    span = None
    if length is not None and draw(st.booleans()):
        span = tuple(sorted((draw(st.integers(0, length)), draw(st.integers(0, length)))))
    return Turn(
        index=index,
        observation=draw(texts),
        action_text=draw(texts),
        action=draw(st.none() | actions),
        action_valid=draw(st.booleans()),
        action_error=draw(st.none() | texts),
        env_reward=draw(numbers),
        progress=draw(shares),
        success=draw(st.booleans()),
        level=draw(st.none() | texts),
        image=draw(st.none() | texts),
        info=draw(small_dicts),
        rewards=draw(rewards),
        tokens=draw(st.none() | turn_tokens()),
        token_span=span,
        timings=draw(timings),
    )


failures = st.builds(
    Failure,
    boundary=st.sampled_from(BOUNDARIES),
    kind=st.sampled_from(["exception", "hang", "exit", "memory", "boot"]),
    message=texts,
    turn=st.none() | integers,
)
endings = st.one_of(
    st.just(Ending(kind="terminated")),
    st.builds(
        Ending,
        kind=st.just("truncated"),
        cause=st.sampled_from(["turns", "tokens", "context", "time"]),
        failure=st.none() | failures,
    ),
    st.builds(Ending, kind=st.just("failed"), failure=failures),
)
outcomes = st.builds(
    Outcome,
    success=st.booleans(),
    env_return=numbers,
    progress=shares,
    level=st.none() | texts,
    levels=st.lists(texts, max_size=3).map(tuple),
)
tasks = st.builds(Task, id=texts, split=texts, instruction=texts, type=texts, data=small_dicts)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    ending = draw(endings)
    tokens = draw(st.none() | token_sequences())
    count = draw(st.integers(0, 3))
    return Trajectory(
        id=draw(texts),
        env_id=draw(texts),
        task=draw(tasks),
        seed=draw(st.integers(0, 2**64 - 1)),
        agent=draw(texts),
        ending=ending,
        env_options=draw(small_dicts),
        sample=draw(integers),
        policy_version=draw(st.none() | texts),
        turns=tuple(draw(turns(i, None if tokens is None else len(tokens.ids))) for i in range(count)),
        final_observation=draw(texts),
        outcome=None if ending.kind == "failed" else draw(st.none() | outcomes),
        rewards=draw(rewards),
        tokens=tokens,
        timings=draw(timings),
    )


many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@many
@given(trajectories())
def test_json_round_trip(trajectory: Trajectory) -> None:
    line = to_json(trajectory)
    assert b"\n" not in line
    assert from_json(line) == trajectory
    assert to_json(from_json(line)) == line


@many
@given(st.lists(trajectories(), min_size=1, max_size=3))
def test_arrow_round_trip(batch: list[Trajectory]) -> None:
    table = pa.Table.from_pylist([to_row(t) for t in batch], schema=arrow_schema())
    direct = pa.Table.from_pylist([line_to_row(to_json(t)) for t in batch], schema=arrow_schema())
    assert [from_row(row) for row in direct.to_pylist()] == batch
    back = [from_row(row) for row in table.to_pylist()]
    assert back == batch
    assert [to_json(t) for t in back] == [to_json(t) for t in batch]


@settings(parent=many, max_examples=25)
@given(st.lists(trajectories(), min_size=1, max_size=5))
def test_parquet_round_trip(tmp_path_factory: pytest.TempPathFactory, batch: list[Trajectory]) -> None:
    path = tmp_path_factory.mktemp("shard") / "shard-00000.parquet"
    write_shard(path, [to_row(t) for t in batch])
    assert list(read_shard(path)) == batch
    assert read_row(path, len(batch) - 1) == batch[-1]


@settings(parent=many, max_examples=25)
@given(st.lists(trajectories(), min_size=1, max_size=6, unique_by=lambda t: t.id))
def test_store_round_trip(tmp_path_factory: pytest.TempPathFactory, batch: list[Trajectory]) -> None:
    path = tmp_path_factory.mktemp("store") / "run"
    with RunStore.create(path, {}, shard_rows=2) as store:
        for trajectory in batch:
            store.append(trajectory)
            assert store.get(trajectory.id) == trajectory
    assert list(RunStore.open(path).trajectories()) == batch


def test_the_schema_has_every_field_of_the_records() -> None:
    def compare(record: type[Record], struct: pa.DataType | pa.Schema) -> None:
        assert [f.name for f in struct] == list(record.__struct_fields__)

    schema = arrow_schema()
    turn = schema.field("turns").type.value_type
    compare(Trajectory, schema)
    compare(Turn, turn)
    compare(Task, schema.field("task").type)
    compare(Ending, schema.field("ending").type)
    compare(Failure, schema.field("ending").type.field("failure").type)
    compare(Outcome, schema.field("outcome").type)
    compare(TokenSequence, schema.field("tokens").type)
    compare(TurnTokens, turn.field("tokens").type)
    compare(Action, turn.field("action").type)
    compare(Timings, turn.field("timings").type)
    value = turn.field("rewards").type.value_type
    assert [f.name for f in value] == ["name", *RewardValue.__struct_fields__]


def test_a_shard_is_compressed_typed_parquet_that_others_can_read(run) -> None:
    file = pq.ParquetFile(run / "shard-00000.parquet")
    assert file.schema_arrow.equals(arrow_schema())
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.read(columns=["id"]).column("id").to_pylist() == [f"task-{n}#0" for n in range(4)]


def test_older_schema_versions_are_migrated_step_by_step(make, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def from_zero(data):
        return {**data, "agent": data["agent"].upper()}

    def from_minus_one(data):
        return {**data, "agent": data["agent"] + "-old"}

    monkeypatch.setitem(MIGRATIONS, 0, from_zero)
    monkeypatch.setitem(MIGRATIONS, -1, from_minus_one)
    old = replace(make(1), schema_version=-1)
    migrated = from_json(to_json(old))
    assert (migrated.agent, migrated.schema_version) == ("RANDOM-OLD", SCHEMA_VERSION)

    path = tmp_path / "shard-00000.parquet"
    write_shard(path, [to_row(old)])
    assert list(read_shard(path)) == [migrated]


def test_unknown_and_newer_schema_versions_are_refused_with_advice(make) -> None:
    with pytest.raises(ConfigError, match="no migration from schema version 0 to 1"):
        from_json(to_json(replace(make(), schema_version=0)))
    with pytest.raises(ConfigError, match="upgrade turnwise"):
        from_builtins(msgspec.to_builtins(replace(make(), schema_version=SCHEMA_VERSION + 1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"sample": 2**63},
        {"tokens": TokenSequence(ids=(2**63,), loss_mask=(0,))},
        {"turns": (Turn(index=0, observation="", action_text="", tokens=TurnTokens(prompt_ids=(-(2**63) - 1,))),)},
    ],
)
def test_numbers_that_do_not_fit_are_refused_before_they_are_acknowledged(make, tmp_path, changes) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        with pytest.raises(ConfigError, match="64"):
            store.append(replace(make(), **changes))
        assert len(store) == 0


def test_half_surrogates_of_an_agent_are_replaced_not_lost(make, tmp_path) -> None:
    with RunStore.create(tmp_path / "run", {}, shard_rows=1) as store:
        store.append(make(text="go \ud800 north"))
    (stored,) = RunStore.open(tmp_path / "run").trajectories()
    assert stored.turns[0].action_text == "go \ufffd north"


def test_what_is_not_json_is_refused(make, tmp_path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        with pytest.raises(ConfigError, match="JSON"):
            store.append(replace(make(), env_options={"path": object()}))
        assert store.ids() == set()
