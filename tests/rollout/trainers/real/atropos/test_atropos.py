"""Atropos: what its own server hands to a trainer."""

from __future__ import annotations

import pytest
from atroposlib.api.server import ScoredData, app
from fastapi.testclient import TestClient
from scripted import clumsy, expert_actions, make_world, play_script, run_example

from turnwise.errors import ConfigError, TransportError
from turnwise.records import Ending, Failure, replace
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.atropos import AtroposSender, complete_groups, scored_data
from turnwise.rollout.trainers.rows import make_rows

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
GROUP = [play_script(WORLD, TASK, actions, sample=i) for i, actions in enumerate([EXPERT, clumsy(EXPERT)])]
CREDIT = GroupCredit(estimator="dr_grpo", level="turn")
REGISTRATION = {
    "wandb_group": "g",
    "wandb_project": "p",
    "batch_size": 4,
    "max_token_len": 65536,
    "checkpoint_dir": "",
    "save_checkpoint_interval": 0,
    "starting_step": 0,
    "num_steps": 2,
}


@pytest.fixture
def server() -> TestClient:
    app.state._state.clear()
    return TestClient(app)


def sender(server: TestClient, **options: object) -> AtroposSender:
    chosen = {"name": "household", "group_size": 2, "max_tokens": 65536, "sleep": lambda seconds: None, **options}
    return AtroposSender("", client=server, **chosen)  # type: ignore[arg-type]


def test_an_environment_waits_for_the_trainer(server: TestClient) -> None:
    made = sender(server)
    with pytest.raises(TransportError, match="wait for trainer to start"):
        made.register(wait_s=3)
    assert server.post("/register", json=REGISTRATION).status_code == 200
    with pytest.raises(TransportError, match="is its trainer running"):
        made.register(wait_s=0)
    server.get("/batch")
    assert made.register(wait_s=0) == 0


def test_the_trainer_gets_each_turns_advantage_on_its_tokens(server: TestClient) -> None:
    server.post("/register", json=REGISTRATION)
    server.get("/batch")
    made = sender(server)
    rows = make_rows(GROUP, credit=CREDIT)
    for _ in range(2):  # a batch is 4 episodes
        assert made.send(rows) == 2
    batch = server.get("/batch").json()["batch"]
    assert len(batch) == 2
    for group in batch:
        assert group["scores"] == pytest.approx([2.2, 2.2])
        for i, row in enumerate(rows):
            first = len(row.prompt_ids)
            assert group["tokens"][i] == [*row.prompt_ids, *row.response_ids]
            assert group["advantages"][i] == pytest.approx([0.0] * first + list(row.advantages))
            trained = [one != -100 for one in group["masks"][i]]
            assert trained == [False] * first + [bool(one) for one in row.loss_mask]
            pairs = zip(group["inference_logprobs"][i][first:], row.logprobs, row.response_mask, strict=True)
            assert all(sent == (value if mask else 1.0) for sent, value, mask in pairs)
            spans = group["overrides"][i]["turn_spans"]
            assert [bytes(group["tokens"][i][a : b - 1]).decode() for a, b in spans] == [
                t.action_text for t in GROUP[i].turns
            ]
    numbers = {round(value, 4) for value in batch[0]["advantages"][1] if value}
    assert len(numbers) >= 2, "turns of one episode have advantages of their own"


def test_a_failed_episode_is_left_out_and_never_a_zero(server: TestClient) -> None:
    ending = Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="it hung"))
    broken = replace(GROUP[1], ending=ending, outcome=None)
    data = ScoredData.model_validate(scored_data(make_rows([GROUP[0], broken], credit=CREDIT)))
    assert len(data.tokens) == 1
    assert data.scores == pytest.approx([2.2])
    server.post("/register", json=REGISTRATION)
    server.get("/batch")
    assert sender(server).send(make_rows([broken], credit=CREDIT)) == 0
    assert server.get("/status").json()["queue_size"] == 0


def test_without_credit_the_trainer_gets_scores_only() -> None:
    data = ScoredData.model_validate(scored_data(make_rows(GROUP)))
    assert data.advantages is None
    assert data.scores == pytest.approx([2.2, 2.2])


def test_mistakes_are_named(server: TestClient) -> None:
    other = play_script(WORLD, WORLD.tasks[1], ["look"])
    with pytest.raises(ConfigError, match="one group at a time, got rows of 2"):
        scored_data(make_rows([GROUP[0], other]))
    with pytest.raises(ConfigError, match="some rows of the group have advantages"):
        scored_data([*make_rows(GROUP[:1], credit=CREDIT), *make_rows(GROUP[1:])])
    server.post("/register", json=REGISTRATION)
    server.get("/batch")
    made = sender(server)
    made.register()
    with pytest.raises(TransportError, match="422"):
        made._post("/scored_data", {"tokens": [[1]], "scores": [1.0]})
    assert sender(server, max_tokens=10).send(make_rows(GROUP)) == 0


def test_a_server_that_is_not_there_is_named() -> None:
    waits: list[float] = []
    away = AtroposSender("http://127.0.0.1:9", name="x", group_size=1, max_tokens=10, sleep=waits.append)
    with pytest.raises(TransportError, match=r"Atropos at http://127.0.0.1:9/register-env: .*refused"):
        away.register()
    assert len(waits) == 2


def test_groups_come_as_soon_as_they_are_complete() -> None:
    other = play_script(WORLD, WORLD.tasks[1], ["look"])
    groups = list(complete_groups([GROUP[1], other, GROUP[0]], size=2))
    assert [[one.id for one in group] for group in groups] == [[GROUP[0].id, GROUP[1].id]]


def test_the_example_runs() -> None:
    assert "episodes sent: 2" in run_example("atropos_groups.py")
