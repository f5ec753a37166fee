"""The adapters' side of each contract, without any trainer: shapes, names, errors."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import importlib
import importlib.util
import itertools
import subprocess
import sys
import types
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import pytest
from scripted import (
    OPTIONS,
    ByteChat,
    SlimeSample,
    clumsy,
    expert_actions,
    make_world,
    play_script,
    run_example,
    sampled,
)

from turnwise.errors import ConfigError, EnvError, JudgeError, TransportError
from turnwise.records import RewardValue, replace
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers import slime
from turnwise.rollout.trainers.areal import WorldAgent, response_rewards
from turnwise.rollout.trainers.atropos import AtroposSender, scored_data
from turnwise.rollout.trainers.nemo import batch_world_class
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.stepping import World
from turnwise.rollout.trainers.verl.dataset import dataset_rows
from turnwise.rollout.trainers.verl.reward import compute_score

T = TypeVar("T")
WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
MODULES = ("areal", "atropos", "nemo", "openrlhf", "slime", "tinker.data", "verl.dataset", "verl.fields", "verl.reward")


def test_no_trainer_is_imported_before_it_is_used() -> None:
    names = [f"turnwise.rollout.trainers.{name}" for name in MODULES]
    heavy = ("torch", "ray", "verl", "slime", "openrlhf", "tinker", "tinker_cookbook", "atroposlib", "nemo_rl", "httpx")
    code = f"import importlib, sys\nfor n in {names}: importlib.import_module(n)\n"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("trainer", "module", "command"),
    [
        ("verl", "verl.loop", r"pip install 'verl==0.9.1'"),
        ("verl", "verl.manager", r"pip install 'verl==0.9.1'"),
        ("verl", "verl.estimators", r"pip install 'verl==0.9.1'"),
        ("tinker", "tinker.envs", r"pip install 'tinker-cookbook==0.6.1'"),
    ],
)
def test_a_missing_trainer_is_named_with_its_command(trainer: str, module: str, command: str) -> None:
    if importlib.util.find_spec(trainer) is not None:
        pytest.skip(f"{trainer} is installed here")
    with pytest.raises(ConfigError, match=command):
        importlib.import_module(f"turnwise.rollout.trainers.{module}")


# -- verl ------------------------------------------------------------------------------------------


def test_verls_dataset_holds_nothing_that_the_grader_knows() -> None:
    rows = dataset_rows(WORLD)
    assert [row["extra_info"]["task_id"] for row in rows] == list(WORLD.tasks)
    assert rows[0].keys() == {"data_source", "agent_name", "prompt", "reward_model", "extra_info"}
    hidden = WORLD.task(TASK).data
    assert hidden
    assert not any(str(value) in str(rows[0]) for value in hidden.values() if isinstance(value, (list, dict)) and value)


def test_verls_reward_function_names_its_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "env"}
    call: dict[str, Any] = {"data_source": OPTIONS["env"], "solution_str": "look", "ground_truth": ""}
    found = compute_score(**call, extra_info={"task_id": TASK}, **options)
    assert found["score"] == found["reward"] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="needs the 'task_id'"):
        compute_score(**call)

    def explode(self: Any, action: Any) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(type(WORLD.make().unwrapped), "_apply", explode)
    with pytest.raises(EnvError, match="burnt down"):
        compute_score(**call, extra_info={"task_id": TASK}, **options)
    lost = compute_score(**call, extra_info={"task_id": TASK}, fallback=-2.0, **options)
    assert (lost["score"], lost["valid"]) == (-2.0, 0.0)
    assert lost.keys() == found.keys()


# -- slime -----------------------------------------------------------------------------------------


def slime_arguments(**changes: Any) -> SimpleNamespace:
    settings = {"hf_checkpoint": "", "reward_key": None, "turnwise_world": OPTIONS, "turnwise_credit": None}
    return SimpleNamespace(**{**settings, **changes})


def slime_sample(script: list[str], monkeypatch: pytest.MonkeyPatch, args: Any, *, room: int = 100_000) -> SlimeSample:
    said = iter(enumerate(script))

    async def tokens(args: Any, sample: Any, prompt: Any, params: Any) -> dict[str, Any]:
        turn, text = next(said)
        one = sampled(text, turn)
        return {"output_token_logprobs": list(zip(one.logprobs, one.ids, strict=True)), "weight_version": 3}

    monkeypatch.setattr(slime, "_sample_tokens", tokens)
    monkeypatch.setattr(slime, "_chat", lambda checkpoint: ByteChat())
    filled: SlimeSample = asyncio.run(slime.generate(args, SlimeSample(label=TASK), {"max_new_tokens": room}))
    return filled


def test_slimes_sample_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = slime_sample(EXPERT, monkeypatch, slime_arguments())
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    assert tuple(sample.tokens) == row.prompt_ids + row.response_ids
    assert sample.loss_mask == list(row.loss_mask)
    assert sample.reward == pytest.approx(2.2)
    assert sample.metadata["turnwise"]["turn_rewards"] == pytest.approx(row.turn_rewards)
    cut = slime_sample(EXPERT, monkeypatch, slime_arguments(), room=row.turn_spans[1][1])
    assert cut.status is SlimeSample.Status.TRUNCATED
    assert cut.reward < 2.2


def test_slimes_failed_sample_is_masked_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: World) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(World, "make", explode)
    with pytest.raises(EnvError, match="burnt down"):
        slime_sample(EXPERT, monkeypatch, slime_arguments())
    sample = slime_sample(EXPERT, monkeypatch, slime_arguments(turnwise_fallback=-1.0))
    assert (sample.reward, sample.remove_sample, sum(sample.loss_mask or [])) == (-1.0, True, 0)
    assert sample.status is SlimeSample.Status.FAILED


def test_slimes_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--custom-config-path names a YAML file"):
        slime_sample(EXPERT, monkeypatch, slime_arguments(turnwise_world=None))
    with pytest.raises(ConfigError, match="names its task, got None"):
        asyncio.run(slime.reward(slime_arguments(), SlimeSample(response="look")))
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    with pytest.raises(ConfigError, match="no log-probabilities, which slime demands"):
        slime.fill(None, SlimeSample(), dataclasses.replace(row, logprobs=()))


# -- Atropos ---------------------------------------------------------------------------------------


class Server:
    """Answers like Atropos's server."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.posted = list(statuses), []  # type: ignore[var-annotated]

    def post(self, url: str, *, json: Any) -> Any:
        self.posted.append((url, json))
        status = self.statuses.pop(0) if self.statuses else 200
        body = {"status": "success", "env_id": 4} if "register" in url else {"status": "received"}
        return SimpleNamespace(status_code=status, text="down" if status >= 400 else "", json=lambda: body)


def test_atropos_is_sent_groups_of_equal_shape() -> None:
    played = [play_script(WORLD, TASK, script, sample=i) for i, script in enumerate([EXPERT, clumsy(EXPERT)])]
    server = Server(500, 200, 503, 200)
    waits: list[float] = []
    sender = AtroposSender("http://x/", name="n", group_size=2, max_tokens=10**6, client=server, sleep=waits.append)
    assert sender.send(make_rows(played, credit=GroupCredit(level="turn"))) == 2
    assert [url for url, _ in server.posted] == ["http://x/register-env"] * 2 + ["http://x/scored_data"] * 2
    assert len(waits) == 2, "a server in trouble is asked again"
    data = server.posted[-1][1]
    assert data["env_id"] == 4
    for name in ("tokens", "masks", "advantages", "inference_logprobs"):
        assert [len(one) for one in data[name]] == [len(one) for one in data["tokens"]], name
    with pytest.raises(TransportError, match="422: down"):
        AtroposSender("", name="n", group_size=1, max_tokens=1, client=Server(422)).register()


def test_atropos_takes_no_log_probabilities_that_are_not_there() -> None:
    played = play_script(WORLD, TASK, EXPERT)
    (row,) = make_rows([played])
    assert "inference_logprobs" not in scored_data([dataclasses.replace(row, logprobs=())])


# -- NeMo-RL ---------------------------------------------------------------------------------------


def test_nemo_rls_interface_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class EnvironmentInterface(abc.ABC, Generic[T]):
        @abc.abstractmethod
        def step(self, message_log_batch: Any, metadata: Any) -> Any: ...

        @abc.abstractmethod
        def global_post_process_and_metrics(self, batch: Any) -> Any: ...

    module = types.ModuleType("nemo_rl.environments.interfaces")
    module.EnvironmentInterface = EnvironmentInterface  # type: ignore[attr-defined]
    for name in ("nemo_rl", "nemo_rl.environments", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    made = batch_world_class()(OPTIONS)
    assert isinstance(made, EnvironmentInterface)
    assert made.global_post_process_and_metrics({})[1]["turnwise/cut"] == 0.0


# -- AReaL -----------------------------------------------------------------------------------------


def areal_client(script: list[str]) -> tuple[Any, list[Any]]:
    said, asked = iter(script), []  # type: ignore[var-annotated]

    async def create(**request: Any) -> Any:
        asked.append({**request, "messages": list(request["messages"])})
        choice = SimpleNamespace(message=SimpleNamespace(content=next(said)))
        return SimpleNamespace(id=f"id{len(asked)}", choices=[choice])

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create))), asked


def test_areal_gets_each_responses_reward() -> None:
    client, asked = areal_client(EXPERT)
    rewards = asyncio.run(WorldAgent(world=OPTIONS, temperature=0.5).run({"task_id": TASK}, client=client))
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    assert list(rewards) == [f"id{turn + 1}" for turn in range(len(EXPERT))]
    assert list(rewards.values()) == pytest.approx(row.turn_rewards)
    assert all(type(value) is float for value in rewards.values())
    assert (asked[0]["model"], asked[0]["temperature"]) == ("default", 0.5)
    # each request's messages continue those of the one before, which is how AReaL finds its parent
    for before, after in itertools.pairwise(asked):
        assert after["messages"][: len(before["messages"])] == before["messages"]
    assert [one["role"] for one in asked[1]["messages"]] == ["system", "user", "assistant", "user"]


def test_areal_rejects_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    played = play_script(WORLD, TASK, EXPERT)
    unjudged = replace(played, rewards={"reward": RewardValue(invalid="judge: down")})
    with pytest.raises(JudgeError, match="judge: down"):
        response_rewards(unjudged, ["a"] * 7)
    with pytest.raises(ConfigError, match="has 7 turns, which need a response id each, got"):
        response_rewards(played, ["a"] * 7)
    with pytest.raises(ConfigError, match="each row needs its 'task_id'"):
        asyncio.run(WorldAgent(world=OPTIONS).run({}))

    def explode(self: World) -> Any:
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(World, "make", explode)
    with pytest.raises(EnvError, match="burnt down"):
        asyncio.run(WorldAgent(world=OPTIONS).run({"task_id": TASK}, client=areal_client([])[0]))


def test_areals_example_runs() -> None:
    assert run_example("areal_agent.py").count("reward of chatcmpl-0") == 2
