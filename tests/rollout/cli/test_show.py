"""``turnwise show``: lists and single trajectories."""

from __future__ import annotations

import json

import pytest

from turnwise.records import from_json
from turnwise.rollout.store import RunStore


def test_without_an_id_the_trajectories_are_listed(cli, run) -> None:
    text = cli("show", run).output
    assert "toy/Counting-v0" in text
    assert "complete, 4 trajectories" in text
    for number in range(4):
        assert f"count-{number}#0" in text
    assert "failed, env: hang at turn 1" in text
    assert "truncated by time" in text
    assert "4 of 4 trajectories shown" in text


def test_failed_episodes_and_a_limit(cli, run) -> None:
    text = cli("show", run, "--failed").output
    assert "count-2#0" in text
    assert "count-0#0" not in text
    assert "1 failed trajectories shown" in text
    text = cli("show", run, "--limit", 2).output
    assert "count-1#0" in text
    assert "count-2#0" not in text
    assert "2 of 4 trajectories shown" in text


def test_the_list_as_json(cli, run) -> None:
    found = json.loads(cli("show", run, "--json").stdout)
    assert found["status"] == "complete"
    assert found["manifest"]["agent"] == "test"
    rows = {row["id"]: row for row in found["trajectories"]}
    assert rows["count-0#0"]["outcome"]["success"] is True
    assert rows["count-2#0"]["outcome"] is None
    assert rows["count-2#0"]["ending"]["failure"]["boundary"] == "env"
    assert rows["count-2#0"]["rewards"]["outcome"]["value"] is None


def test_one_trajectory_turn_by_turn(cli, run) -> None:
    text = cli("show", run, "count-1#0").output
    assert "count to 4" in text
    for turn in range(4):
        assert f"turn {turn}" in text
    assert "0 of 4" in text  # the observation
    assert "> dance wildly" in text
    assert "cannot add 9" in text
    assert text.count("invalid") == 2
    assert "progress 0.75" in text
    assert "solved, env return 1" in text
    rewards = load(run, "count-1#0").turns[0].rewards
    assert rewards
    for name in rewards:
        assert name in text
    assert "parts: " in text  # evidence
    assert '"parts": ' in cli("show", run, "count-1#0", "--full").output


def load(run, name):
    return RunStore.open(run).get(name)


def test_a_failed_trajectory_says_where_and_why(cli, run) -> None:
    text = cli("show", run, "count-2").output  # a beginning is enough
    assert "failed, env: hang at turn 1: env.step took longer than 5 s" in text
    assert "masked, not 0" in text


def test_one_trajectory_as_json_is_the_record(cli, run) -> None:
    assert from_json(cli("show", run, "count-1#0", "--json").stdout) == load(run, "count-1#0")


def test_long_texts_are_cut_unless_asked_for(cli, run, toy) -> None:
    from turnwise.records import replace

    trajectory = load(run, "count-0#0")
    turn = replace(trajectory.turns[0], observation="x" * 5000)
    with RunStore.open(run, "a") as store:
        store.append(replace(trajectory, id="long#0", turns=(turn, *trajectory.turns[1:])))
    assert "4100 more characters: --full" in cli("show", run, "long#0").output
    assert cli("show", run, "long#0", "--full").output.count("x") == 5000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "is not a run"),
        (["RUN", "cuont-1#0"], "Did you mean 'count-1#0'"),
        (["RUN", "count-"], "begins 4 trajectories"),
    ],
)
def test_mistakes_are_one_clear_line(cli, run, args, message) -> None:
    result = cli("show", *[run if arg == "RUN" else arg for arg in args], code=2)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_markup_in_texts_is_shown_as_it_is(cli, run) -> None:
    from turnwise.records import replace

    trajectory = load(run, "count-0#0")
    turn = replace(trajectory.turns[0], observation="[bold]search[red shoes][/bold]", action_text="[/] click[x]")
    with RunStore.open(run, "a") as store:
        store.append(replace(trajectory, id="markup#0", turns=(turn, *trajectory.turns[1:])))
    text = cli("show", run, "markup#0").output
    assert "[bold]search[red shoes][/bold]" in text
    assert "[/] click[x]" in text


def test_a_damaged_shard_is_a_warning_and_json_stays_json(cli, run) -> None:
    (run / "shard-00001.parquet").write_bytes(b"PAR1")
    result = cli("show", run, "--json")
    assert len(json.loads(result.stdout)["trajectories"]) == 3
    assert "warning: " in result.stderr
    assert "shard-00001.parquet is damaged" in result.stderr


def with_evidence(run, evidence, **more):
    """Store a trajectory whose turns have one reward with this evidence, and show what is printed of it."""
    from turnwise.records import RewardValue, replace

    trajectory = load(run, "count-0#0")
    rewards = {"tried": RewardValue(value=0.25, evidence=evidence)}
    turns = tuple(replace(turn, rewards=rewards) for turn in trajectory.turns)
    with RunStore.open(run, "a") as store:
        store.append(replace(trajectory, id="told#0", turns=turns, rewards=rewards, **more))


def test_evidence_is_said_in_words_and_spelled_out_on_demand(cli, run) -> None:
    evidence = {
        "before": 0.123456789,
        "known": None,
        "solved": True,
        "parts": {"one": 1 / 3, "other": -1},
        "pages": [f"page {number}" for number in range(6)],
        "gates": [{"level": "cited", "passed": False}],
        "rubrics": [{"passages": [{"quote": "so it is"}]}, {"passages": []}],
        "empty": [],
    }
    with_evidence(run, evidence)
    text = cli("show", run, "told#0").output
    for line in (
        "before 0.1235, known none, solved yes",
        "parts: one 0.3333, other -1",
        "pages: page 3",
        "pages: 2 more",
        "gates: level cited, passed no",
        "rubrics: 2, spelled out by --full",
    ):
        assert line in text, line
    assert "page 4" not in text
    assert "so it is" not in text
    assert "empty" not in text
    assert "so it is" in cli("show", run, "told#0", "--full").output


def test_what_concerns_the_episode_is_told_once(cli, run) -> None:
    with_evidence(run, {"episode": {"judge": "rule"}, "mine": 1})
    text = cli("show", run, "told#0").output
    assert text.count("judge rule") == 1  # below the totals
    assert text.count("mine 1") == 3


def test_a_trajectory_ends_with_a_table_of_all_turns_and_rewards(cli, run) -> None:
    lines = cli("show", run, "count-1#0").output.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "all turns" in line) + 1 :]
    rewards = load(run, "count-1#0").turns[0].rewards
    assert table[0].split() == ["turn", "action", *rewards]
    assert [line.split()[0] for line in table[1:-1]] == ["0", "1", "2", "3"]
    assert "dance wildly" in table[2]
    assert table[5].split()[0] == "total"
    assert len(table[5].split()) == 1 + len(rewards)


def test_the_one_shown_is_solved_and_has_the_most_varied_rewards(cli, run) -> None:
    text = cli("show", run, "--one").output
    assert "outcome  solved" in text
    assert "trajectory  count-1#0" in text  # count-0 is solved, too, but without a mistake
    refused = cli("show", run, "count-1#0", "--one", code=None)
    assert refused.exit_code != 0
    assert "--one picks a trajectory itself" in refused.output + str(refused.exception)
