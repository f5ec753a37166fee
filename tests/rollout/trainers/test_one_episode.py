"""One episode, N trainers: each gets the same ids, mask, log-probabilities and numbers on tokens."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import OPTIONS, SlimeSample, clumsy, expert_actions, make_world, play_script

from turnwise.records import Trajectory, to_json
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers import slime
from turnwise.rollout.trainers.areal import WorldAgent, response_rewards
from turnwise.rollout.trainers.atropos import MASKED, NOT_SAMPLED, scored_data
from turnwise.rollout.trainers.export import training_rows
from turnwise.rollout.trainers.nemo import BatchWorld, gym_result, opening_messages
from turnwise.rollout.trainers.rows import TrainingRow, make_rows
from turnwise.rollout.trainers.skyrl import OnlineRewards
from turnwise.rollout.trainers.spoken import SpokenEpisode
from turnwise.rollout.trainers.tinker.data import datum_fields
from turnwise.rollout.trainers.verifiers.credit import INFO, assign_advantages
from turnwise.rollout.trainers.verl.fields import output_fields

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
SCRIPTS = [EXPERT, clumsy(EXPERT), EXPERT[:3]]
CREDIT = GroupCredit(estimator="dr_grpo", level="turn")


@pytest.fixture(scope="module")
def group() -> list[Trajectory]:
    return [play_script(WORLD, TASK, script, sample=i) for i, script in enumerate(SCRIPTS)]


@dataclass(frozen=True, kw_only=True)
class Got:
    """What a trainer holds of one episode; None where it takes no such thing.

    Attributes:
        ids: All ids.
        mask: 1 where an id is trained on, over all ids.
        logprobs: Over all ids, 0.0 where nothing was sampled.
        rewards: Per-token rewards over all ids.
        advantages: Per-token advantages over all ids.
        total: The one number, where that is what it takes.
    """

    ids: Sequence[int]
    mask: Sequence[int]
    logprobs: Sequence[float] | None = None
    rewards: Sequence[float] | None = None
    advantages: Sequence[float] | None = None
    total: float | None = None


def whole(row: TrainingRow, values: Sequence[float]) -> list[float]:
    """Values of the response, with zeros for the prompt."""
    return [0.0] * len(row.prompt_ids) + list(values)


def expected(row: TrainingRow) -> Got:
    return Got(
        ids=row.prompt_ids + row.response_ids,
        mask=[int(one) for one in whole(row, row.loss_mask)],
        logprobs=whole(row, row.logprobs),
        rewards=whole(row, row.token_rewards),
        advantages=whole(row, row.advantages),
        total=row.reward,
    )


def to_verl(group: Sequence[Trajectory]) -> list[Got]:
    found = []
    for row in make_rows(group):
        fields = output_fields(row)
        head = len(fields["prompt_ids"])
        found.append(
            Got(
                ids=fields["prompt_ids"] + fields["response_ids"],
                mask=[0] * head + fields["response_mask"],
                logprobs=[0.0] * head + fields["response_logprobs"],
                rewards=[0.0] * head + fields["token_rewards"],
                total=fields["reward_score"],
            )
        )
    return found


def to_trl(group: Sequence[Trajectory]) -> list[Got]:
    from turnwise.rollout.trainers.trl.rollouts import ADVANTAGES, _columns

    columns = _columns(make_rows(group, credit=CREDIT), filler=0)
    names = ("prompt_ids", "completion_ids", "env_mask", "logprobs", ADVANTAGES, "episode_reward")
    return [
        Got(
            ids=prompt + completion,
            mask=[0] * len(prompt) + mask,
            logprobs=[0.0] * len(prompt) + logprobs,
            advantages=[0.0] * len(prompt) + advantages,
            total=total,
        )
        for prompt, completion, mask, logprobs, advantages, total in zip(
            *(columns[name] or [] for name in names), strict=True
        )
    ]


def to_atropos(group: Sequence[Trajectory]) -> list[Got]:
    data = scored_data(make_rows(group, credit=CREDIT))
    names = ("tokens", "masks", "inference_logprobs", "advantages", "scores")
    return [
        Got(
            ids=tokens,
            mask=[int(one != MASKED) for one in masks],
            logprobs=[0.0 if one == NOT_SAMPLED else one for one in logprobs],
            advantages=advantages,
            total=score,
        )
        for tokens, masks, logprobs, advantages, score in zip(*(data[name] for name in names), strict=True)
    ]


def to_tinker(group: Sequence[Trajectory]) -> list[Got]:
    made = [datum_fields(row) for row in make_rows(group, credit=CREDIT)]
    return [
        Got(
            ids=[fields["input_tokens"][0], *fields["target_tokens"]],
            mask=[0, *map(int, fields["mask"])],
            logprobs=[0.0, *fields["logprobs"]],
            advantages=[0.0, *fields["advantages"]],
        )
        for fields in made
    ]


def to_slime(group: Sequence[Trajectory]) -> list[Got]:
    pytest.importorskip("torch")
    samples = []
    for i, row in enumerate(make_rows(group)):
        sample = SlimeSample(index=i, reward=row.reward, metadata={slime.KEY: slime.turn_metadata(row)})
        slime.fill(None, sample, row)
        samples.append(sample)
    args = SimpleNamespace(reward_key=None, turnwise_credit={"estimator": "dr_grpo"})
    raw, per_token = slime.post_process_rewards(args, samples)
    found = []
    for sample, total, values in zip(samples, raw, per_token, strict=True):
        head = len(sample.tokens) - sample.response_length
        found.append(
            Got(
                ids=sample.tokens,
                mask=[0] * head + (sample.loss_mask or []),
                logprobs=[0.0] * head + (sample.rollout_log_probs or []),
                advantages=[0.0] * head + values.tolist(),
                total=total,
            )
        )
    return found


def to_nemo(group: Sequence[Trajectory]) -> list[Got]:
    found = []
    for result in map(gym_result, group):
        ids: list[int] = []
        mask: list[int] = []
        logprobs: list[float] = []
        for item in result["response"]["output"]:
            if item["role"] == "assistant":
                read = item["prompt_token_ids"][len(ids) :]
                said = item["generation_token_ids"]
                ids += [*read, *said]
                mask += [0] * len(read) + [1] * len(said)
                logprobs += [0.0] * len(read) + item["generation_log_probs"]
        assert math.isclose(sum(result["reward_components"].values()), result["reward"], rel_tol=1e-5, abs_tol=1e-6)
        found.append(Got(ids=ids, mask=mask, logprobs=logprobs, total=result["reward"]))
    return found


def to_areal(group: Sequence[Trajectory]) -> list[Got]:
    """Ids are recorded by AReaL's own proxy; what is ours is each response's reward."""
    found = []
    for trajectory, row in zip(group, make_rows(group), strict=True):
        rewards = response_rewards(trajectory, [f"chatcmpl-{turn.index}" for turn in trajectory.turns])
        placed = whole(row, [0.0] * len(row.response_ids))
        for turn, (_, end) in enumerate(row.turn_spans):
            placed[len(row.prompt_ids) + end - 1] = rewards[f"chatcmpl-{turn}"]
        one = expected(row)
        found.append(Got(ids=one.ids, mask=one.mask, rewards=placed, total=sum(rewards.values())))
    return found


def to_verifiers(group: Sequence[Trajectory]) -> list[Got]:
    """A trace's nodes are whole messages; ids are those that its interception recorded."""
    rows, traces = make_rows(group), []
    for trajectory, row in zip(group, rows, strict=True):
        edges = [0, *(len(row.prompt_ids) + edge for span in row.turn_spans for edge in span)]
        ids = row.prompt_ids + row.response_ids
        pairs = itertools.pairwise(edges)
        nodes = [
            SimpleNamespace(
                token_ids=ids[low:high], mask=[bool(i % 2)] * (high - low), advantages=None, loss_weights=None
            )
            for i, (low, high) in enumerate(pairs)
        ]
        said = [[2 * turn.index + 1] for turn in trajectory.turns]
        info = {INFO: {"trajectory": to_json(trajectory), "nodes": said}}
        traces.append(SimpleNamespace(id=trajectory.id, info=info, nodes=nodes))
    for trace in traces:
        trace.info[INFO]["trajectory"] = trace.info[INFO]["trajectory"].decode()
        trace.info[INFO] = dict(trace.info[INFO])
    assign_advantages(traces, credit=CREDIT)
    found = []
    for trace in traces:
        got: dict[str, list[Any]] = {"ids": [], "mask": [], "advantages": []}
        for node in trace.nodes:
            weights = (node.loss_weights or {}).get(INFO, [0.0] * len(node.token_ids))
            got["ids"] += node.token_ids
            got["mask"] += [int(one) for one in weights]
            got["advantages"] += node.advantages or [0.0] * len(node.token_ids)
        found.append(Got(**got))
    return found


def to_files(group: Sequence[Trajectory]) -> list[Got]:
    found = []
    for one in training_rows(group, credit=CREDIT):
        head = len(one["prompt_ids"])
        found.append(
            Got(
                ids=[*one["prompt_ids"], *one["response_ids"]],
                mask=[0] * head + one["loss_mask"],
                logprobs=[0.0] * head + one["logprobs"],
                rewards=[0.0] * head + one["token_rewards"],
                advantages=[0.0] * head + one["advantages"],
                total=one["reward"],
            )
        )
    return found


TRAINERS: dict[str, Callable[[Sequence[Trajectory]], list[Got]]] = {
    "areal": to_areal,
    "atropos": to_atropos,
    "files": to_files,
    "nemo": to_nemo,
    "slime": to_slime,
    "tinker": to_tinker,
    "trl": to_trl,
    "verifiers": to_verifiers,
    "verl": to_verl,
}
# What each trainer takes beyond ids and mask; everything else is documented as lost or its own business.
TAKES = {
    "areal": {"rewards", "total"},
    "atropos": {"logprobs", "advantages", "total"},
    "files": {"logprobs", "rewards", "advantages", "total"},
    "nemo": {"logprobs", "total"},
    "slime": {"logprobs", "advantages", "total"},
    "tinker": {"logprobs", "advantages"},
    "trl": {"logprobs", "advantages", "total"},
    "verifiers": {"advantages"},
    "verl": {"logprobs", "rewards", "total"},
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_gets_the_episode_unharmed(name: str, group: list[Trajectory]) -> None:
    rows = make_rows(group, credit=CREDIT)
    assert len({round(value, 4) for value in rows[0].advantages}) > 2, "the numbers must differ from turn to turn"
    found = TRAINERS[name](group)
    assert len(found) == len(rows)
    for row, got in zip(rows, found, strict=True):
        want = expected(row)
        assert tuple(got.ids) == tuple(want.ids)
        assert list(got.mask) == list(want.mask)
        for part in ("logprobs", "rewards", "advantages", "total"):
            value = getattr(got, part)
            assert (value is not None) == (part in TAKES[name]), part
            if value is not None:
                assert value == pytest.approx(getattr(want, part), abs=1e-6), part


# -- trainers that are told an episode by text, and take one number ---------------------------------


def by_openrlhf(script: list[str]) -> list[float]:
    episode = SpokenEpisode(WORLD)
    episode.begin(TASK)
    return [episode.say(text).gained["reward"] for text in script]


def by_nemo_rl(script: list[str]) -> list[float]:
    pytest.importorskip("torch")
    env, log = BatchWorld(OPTIONS), opening_messages(WORLD, TASK)
    metadata: Any = {"task_id": TASK, "sample": 0}
    rewards = []
    for text in script:
        log.append({"role": "assistant", "content": text})
        found = env.step([log], [metadata])
        rewards.append(float(found.rewards[0]))
        log.append(found.observations[0])
        metadata = found.metadata[0]
    return rewards


def by_skyrl(script: list[str]) -> list[float]:
    whole_episode = play_script(WORLD, TASK, script)
    paying = OnlineRewards(WORLD)
    paying.begin()
    paid = [paying.now(play_script(WORLD, TASK, script[: turn + 1])) for turn in range(len(script) - 1)]
    total = whole_episode.rewards["reward"].value
    assert total is not None
    return [*paid, paying.rest(total)]


def by_areal(script: list[str]) -> list[float]:
    said = iter(script)

    async def create(*, messages: list[dict[str, str]], **options: Any) -> Any:
        text = next(said)
        message = SimpleNamespace(content=text)
        return SimpleNamespace(id=f"chatcmpl-{len(messages)}", choices=[SimpleNamespace(message=message)])

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    rewards = asyncio.run(WorldAgent(world=OPTIONS).run({"task_id": TASK}, client=client))
    return list(rewards.values())


@pytest.mark.parametrize("told", [by_openrlhf, by_nemo_rl, by_skyrl, by_areal])
@pytest.mark.parametrize("script", [EXPERT, clumsy(EXPERT)], ids=["expert", "clumsy"])
def test_what_a_trainer_is_told_step_by_step_adds_up(
    told: Callable[[list[str]], list[float]], script: list[str]
) -> None:
    (row,) = make_rows([play_script(WORLD, TASK, script)])
    rewards = told(script)
    assert len(rewards) == len(row.turn_rewards)
    assert math.fsum(rewards) == pytest.approx(row.reward, abs=1e-5)
    if told is by_areal:
        assert rewards == pytest.approx(row.turn_rewards)
