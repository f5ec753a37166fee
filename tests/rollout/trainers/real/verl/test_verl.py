"""verl: what arrives in its reward tensors and in its advantages."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scripted import (
    OPTIONS,
    ByteChat,
    ByteTokenizer,
    clumsy,
    expert_actions,
    make_world,
    play_script,
    run_example,
    sampled,
)
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.agent_loop import agent_loop
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.replica import TokenOutput

from turnwise.errors import ConfigError, EnvError
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.verl import estimators, loop
from turnwise.rollout.trainers.verl.dataset import dataset_rows
from turnwise.rollout.trainers.verl.estimators import spans_of

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)


def batch(samples: list[list[str]]) -> tuple[DataProto, list[Any]]:
    """Scripted samples of one task as verl's trainer holds them, and their trajectories."""
    trajectories = [play_script(WORLD, TASK, actions, sample=i) for i, actions in enumerate(samples)]
    rows = make_rows(trajectories)
    fields = [loop.to_output(row).as_dict() for row in rows]
    stored = list_of_dict_to_tensordict(fields)  # what verl puts into its queue
    names = ("rm_scores", "response_mask")
    tensors = {name: torch.nn.utils.rnn.pad_sequence(list(stored[name].unbind()), batch_first=True) for name in names}
    tensors["token_level_rewards"] = tensors["rm_scores"]
    proto = DataProto(
        batch=TensorDict(tensors, batch_size=len(rows)), non_tensor_batch={"uid": np.array(["u"] * len(rows))}
    )
    return proto, trajectories


# -- the agent loop --------------------------------------------------------------------------------


class Server:
    """verl's client of its servers, with a script for an answer."""

    def __init__(self, actions: list[str]) -> None:
        self.actions, self.prompts, self.limits = list(actions), [], []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> TokenOutput:
        turn = len(self.prompts)
        self.prompts.append(prompt_ids)
        self.limits.append(sampling_params)
        said = sampled(self.actions[turn], turn)
        steps = {"min_global_steps": turn, "max_global_steps": turn}
        return TokenOutput(token_ids=list(said.ids), log_probs=list(said.logprobs), extra_fields=steps)


def made_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, length: int = 100_000, prompt: int = 100_000, **world: Any
) -> Any:
    monkeypatch.setattr(loop, "TokenizerChat", lambda tokenizer: ByteChat())
    monkeypatch.setattr(agent_loop, "create_continuous_token_builder", lambda *a, **k: None)
    config = OmegaConf.create(
        {"actor_rollout_ref": {"rollout": {"response_length": length, "prompt_length": prompt}}, "data": {}}
    )
    # As verl's worker makes it, from its registry through Hydra.
    import hydra

    entry = OmegaConf.create(
        {"_target_": "turnwise.rollout.trainers.verl.loop.TurnwiseLoop", "world": {**OPTIONS, **world}}
    )
    return hydra.utils.instantiate(
        config=entry,
        trainer_config=agent_loop.DictConfigWrap(config=config),
        server_manager=server,
        tokenizer=ByteTokenizer(),
        processor=None,
        hf_model_type=None,
        dataset_cls=SimpleNamespace,
        data_config=agent_loop.DictConfigWrap(config.data),
        tools=agent_loop.ToolListWrap([]),
    )


def test_the_agent_loop_plays_a_world_and_puts_each_reward_on_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(EXPERT)
    made = made_loop(server, monkeypatch)
    (row,) = [one for one in dataset_rows(WORLD) if one["extra_info"]["task_id"] == TASK]
    output = asyncio.run(made.run({"temperature": 1.0}, **row, session_id=1))
    expected = make_rows([play_script(WORLD, TASK, EXPERT, sample=1)])[0]
    fields = output.as_dict()
    assert tuple(fields["prompts"].tolist()) == expected.prompt_ids
    assert tuple(fields["responses"].tolist()) == expected.response_ids
    assert tuple(fields["response_mask"].tolist()) == expected.response_mask
    assert fields["rollout_log_probs"].tolist() == pytest.approx(expected.logprobs)
    scores = fields["rm_scores"]
    ends = [end - 1 for _, end in expected.turn_spans]
    assert scores[ends].tolist() == pytest.approx(expected.turn_rewards)
    assert scores.count_nonzero() == len(EXPERT)
    assert scores.sum().item() == pytest.approx(output.reward_score) == pytest.approx(2.2)
    # each prompt continues the one before, to the id
    for early, late in zip(server.prompts, server.prompts[1:], strict=False):
        assert late[: len(early)] == early
    assert server.limits[0]["max_tokens"] == 100_000
    assert (fields["extra_fields"]["min_global_steps"], fields["extra_fields"]["max_global_steps"]) == (
        0,
        len(EXPERT) - 1,
    )
    assert fields["extra_fields"]["reward_extra_info"]["component/outcome"] == 1.0
    assert "token_rewards" not in fields


def test_the_stock_output_has_the_sum_on_the_last_token() -> None:
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    stock = agent_loop.AgentLoopOutput.as_dict(loop.to_output(row))["rm_scores"]
    assert stock.count_nonzero() == 1
    assert stock[-1].item() == pytest.approx(row.reward)


def test_verls_default_trainer_stores_the_rewards_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own postprocessing, up to what it puts into its queue."""
    from verl.trainer.ppo.v1 import agent_loop_tq

    stored: dict[str, Any] = {}

    async def put(**what: Any) -> None:
        stored.update(what)

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", put)
    worker_class = agent_loop_tq.AgentLoopWorkerTQ
    worker = object.__new__(
        getattr(worker_class, "__ray_metadata__", SimpleNamespace(modified_class=worker_class)).modified_class
    )
    worker.reward_loop_worker_handles, worker.distillation_enabled, worker.processor = None, False, None
    (row,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    asyncio.run(worker._agent_loop_postprocess(loop.to_output(row), False, uid="u", session_id=0, global_steps=1))
    assert stored["keys"] == ["u_0_0"]
    scores = stored["fields"]["rm_scores"][0]
    assert scores.tolist() == pytest.approx(row.token_rewards)
    assert scores.count_nonzero() == len(EXPERT)
    assert stored["fields"]["loss_mask"][0].tolist() == list(row.loss_mask)


def test_a_response_stays_within_verls_length(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_rows([play_script(WORLD, TASK, EXPERT)])[0]
    length = whole.turn_spans[2][0] + 3
    server = Server(EXPERT)
    output = asyncio.run(made_loop(server, monkeypatch, length=length).run({}, extra_info={"task_id": TASK}))
    assert server.limits[-1]["max_tokens"] == 3
    assert output.response_ids[: whole.turn_spans[1][1]] == list(whole.response_ids[: whole.turn_spans[1][1]])
    assert output.reward_score < whole.reward  # type: ignore[operator]


def test_a_world_that_fails_is_played_again_and_never_a_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_loop(Server(EXPERT), monkeypatch)
    broken: list[int] = []

    def explode() -> None:
        broken.append(1)
        raise EnvError("the kitchen burnt down")

    monkeypatch.setattr(made._world, "make", explode)
    with pytest.raises(EnvError, match="the kitchen burnt down"):
        asyncio.run(made.run({}, extra_info={"task_id": TASK}))
    assert len(broken) == 2
    with pytest.raises(ConfigError, match="needs the 'task_id'"):
        asyncio.run(made.run({}, extra_info={}))


def test_a_first_prompt_that_verl_cannot_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_loop(Server(EXPERT), monkeypatch, prompt=10)
    with pytest.raises(ConfigError, match=r"tokens, verl takes 10: raise data.max_prompt_length"):
        asyncio.run(made.run({}, extra_info={"task_id": TASK}))


# -- the estimators --------------------------------------------------------------------------------


def advantages(proto: DataProto, name: str, **options: Any) -> Any:
    config = OmegaConf.create({"gamma": 1.0, "use_pf_ppo": False, **options})
    keys = [f"u_{i}_0" for i in range(len(proto))]
    values = {"values": torch.zeros_like(proto.batch["rm_scores"])}
    proto = DataProto(
        batch=TensorDict({**dict(proto.batch.items()), **values}, batch_size=len(proto)),
        non_tensor_batch=proto.non_tensor_batch,
    )
    return compute_advantage_for_multi_trajectories(proto, keys, adv_estimator=name, config=config).batch["advantages"]


def test_which_estimators_keep_the_turns() -> None:
    proto, _ = batch([EXPERT, clumsy(EXPERT), EXPERT[:2]])
    mask = proto.batch["response_mask"].bool()
    grpo = advantages(proto, "grpo")
    for row in range(3):
        assert len(set(grpo[row][mask[row]].tolist())) == 1, "grpo sums the tokens first"
    # the return falls by each turn's reward: reinforce_plus_plus and gae read positions
    first = make_rows([play_script(WORLD, TASK, EXPERT)])[0]
    rewards = np.array(first.turn_rewards, dtype=float)
    to_go = rewards[::-1].cumsum()[::-1]
    starts = [start for start, _ in first.turn_spans]
    arguments = {"token_level_rewards": proto.batch["rm_scores"], "response_mask": proto.batch["response_mask"]}
    _, returns = get_adv_estimator_fn("reinforce_plus_plus")(**arguments, config=OmegaConf.create({"gamma": 1.0}))
    assert returns[0][starts].tolist() == pytest.approx(to_go.tolist(), abs=1e-5)
    _, returns = get_adv_estimator_fn("gae")(**arguments, values=torch.zeros(mask.shape), gamma=1.0, lam=1.0)
    assert returns[0][starts].tolist() == pytest.approx(to_go.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_our_estimators_give_verl_the_credit_of_turnwise(name: Any) -> None:
    proto, trajectories = batch([EXPERT, clumsy(EXPERT), EXPERT[:2]])
    found = advantages(proto, f"turnwise_{name}")
    rows = make_rows(trajectories, credit=GroupCredit(estimator=name, level="turn"))
    for row, tensor in zip(rows, found, strict=True):
        assert tensor[: len(row.advantages)].tolist() == pytest.approx(row.advantages, abs=1e-5)
        assert tensor[len(row.advantages) :].count_nonzero() == 0
        assert spans_of(row.response_mask) == list(row.turn_spans)
    assert len({round(value, 4) for value in rows[0].advantages}) > 2


def test_the_loss_differs_from_turn_to_turn() -> None:
    """verl's own policy loss: the gradient at each token is what our estimator gave its turn."""
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.workers.config import FSDPActorConfig

    proto, trajectories = batch([EXPERT, clumsy(EXPERT)])
    found, mask = advantages(proto, "turnwise_dr_grpo"), proto.batch["response_mask"]
    log_prob = torch.zeros(mask.shape, requires_grad=True)
    config = FSDPActorConfig(strategy="fsdp", ppo_micro_batch_size_per_gpu=1, rollout_n=1)
    loss, _ = compute_policy_loss_vanilla(torch.zeros(mask.shape), log_prob, found, mask, config=config)[:2]
    loss.backward()
    gradient = -log_prob.grad * mask.sum()  # verl takes the mean over all sampled tokens
    row = make_rows(trajectories, credit=GroupCredit(estimator="dr_grpo", level="turn"))[0]
    assert gradient[0][: len(row.advantages)].tolist() == pytest.approx(row.advantages, abs=1e-4)
    assert len({round(value, 3) for value in gradient[0].tolist()}) > 2


def test_an_estimator_needs_groups() -> None:
    with pytest.raises(ConfigError, match="needs verl's 'uid'"):
        estimators.turn_level_advantages(torch.zeros(1, 2), torch.ones(1, 2))


# -- rewards for other agent loops -----------------------------------------------------------------


def reward_config(manager: dict[str, Any], **kwargs: Any) -> Any:
    custom = {"path": "pkg://turnwise.rollout.trainers.verl.reward", "name": "compute_score"}
    options = {key: value for key, value in OPTIONS.items() if key != "env"}
    custom["reward_kwargs"] = {**options, **kwargs}
    return OmegaConf.create(
        {
            "reward": {
                "num_workers": 1,
                "custom_reward_function": custom,
                "reward_manager": manager,
                "sandbox_fusion": {"url": None},
            }
        }
    )


NAIVE = {"source": "register", "name": "naive", "module": {"path": None, "name": None}}
OURS = {
    "source": "importlib",
    "name": "TurnRewardManager",
    "module": {"path": "pkg://turnwise.rollout.trainers.verl.manager", "name": None},
}


def sample(text: str, *, extra_info: dict[str, Any], tool_fields: dict[str, Any] | None = None) -> DataProto:
    ids = torch.tensor([[*text.encode(), 0, 0]])
    prompt = torch.ones(1, 2, dtype=torch.long)
    attention = torch.cat([torch.ones(1, 2), torch.ones(1, len(text)), torch.zeros(1, 2)], 1).long()

    def one(value: Any) -> Any:
        array = np.empty(1, dtype=object)
        array[0] = value
        return array

    columns = {
        "data_source": one("turnwise/Household-v0"),
        "reward_model": one({"ground_truth": ""}),
        "extra_info": one(extra_info),
        "__num_turns__": np.array([2]),
    }
    if tool_fields is not None:
        columns["tool_extra_fields"] = one(tool_fields)
    tensors = {"prompts": prompt, "responses": ids, "attention_mask": attention}
    return DataProto(batch=TensorDict(tensors, batch_size=1), non_tensor_batch=columns)


def score(config: Any, data: DataProto) -> dict[str, Any]:
    manager = load_reward_manager(config, ByteTokenizer())
    found: dict[str, Any] = manager.loop.run_until_complete(manager.run_single(data))
    return found


def test_the_reward_function_has_the_same_keys_for_every_sample() -> None:
    config = reward_config(NAIVE)
    solved = score(config, sample("x", extra_info={"task_id": TASK, "messages": EXPERT}))
    lost = score(config, sample("gibberish", extra_info={"task_id": TASK}))
    assert solved["reward_score"] == pytest.approx(2.2)
    assert lost["reward_score"] == pytest.approx(0.0)
    assert list(solved["reward_extra_info"]) == list(lost["reward_extra_info"])
    info = solved["reward_extra_info"]
    assert sum(value for key, value in info.items() if key.startswith("component/")) == pytest.approx(info["reward"])
    with pytest.raises(ConfigError, match="needs the 'task_id'"):
        get_custom_reward_fn(config)(
            data_source="turnwise/Household-v0", solution_str="", ground_truth="", extra_info={}
        )


def test_the_manager_puts_reported_turn_rewards_on_their_tokens() -> None:
    tool_fields = {"turn_spans": [[0, 4], [5, 9]], "turn_rewards": [0.1, 0.9]}
    data = sample("look gold", extra_info={"task_id": TASK}, tool_fields=tool_fields)
    manager = load_reward_manager(reward_config(OURS), ByteTokenizer())
    found = manager.loop.run_until_complete(manager.run_single(data))
    assert found["reward_score"] == pytest.approx(1.0)
    placed = type(manager).assemble_rm_scores(data, [found["reward_score"]])[0]
    assert placed.tolist() == pytest.approx([0, 0, 0, 0.1, 0, 0, 0, 0, 0.9, 0, 0])
    plain = sample("look gold", extra_info={"task_id": TASK, "messages": EXPERT})
    found = manager.loop.run_until_complete(manager.run_single(plain))
    assert found["reward_score"] == pytest.approx(2.2)
    assert type(manager).assemble_rm_scores(plain, [2.2])[0].nonzero().flatten().tolist() == [8]
    data.non_tensor_batch["tool_extra_fields"][0]["turn_spans"] = [[0, 4], [5, 99]]
    with pytest.raises(ConfigError, match=r"turn span \(5, 99\) is outside the response"):
        type(manager).assemble_rm_scores(data, [1.0])


def test_the_example_runs() -> None:
    shown = run_example("verl_agent_loop.py")
    numbers = {line[:44].strip(): line[44:].split() for line in shown.splitlines()}
    assert len(set(numbers["advantages by grpo"])) == 1
    assert len(set(numbers["advantages by turnwise_rloo"])) > 1
