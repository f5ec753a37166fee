"""The oracle in process: what items mean, and what results look like."""

from __future__ import annotations

import math
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oraclesupport import MOODY, WAITING, episode

from turnwise.errors import ConfigError
from turnwise.protocols import RewardSpec
from turnwise.records import Ending, Failure, RewardValue, Task, Trajectory, Turn
from turnwise.rewards import RewardTree, load_rewards
from turnwise.rewards.compose import WeightedReward
from turnwise.rollout.oracle import CreditSpec, GivenOutcome, Item, Message, Oracle, Tokens, TurnFacts, json_schema
from turnwise.rollout.oracle.answers import is_right, stated_answer


def item(**changes: object) -> Item:
    return msgspec.convert({**episode(), **changes}, Item)


def test_a_conversation_becomes_turns_with_actions_and_observations() -> None:
    trajectory = Oracle(MOODY).reader.trajectory(item())
    first, last = trajectory.turns
    assert first.observation == "where?"
    assert first.action is not None
    assert last.action is not None
    assert (first.action.name, first.action.arguments) == ("search", {"query": "where"})
    assert last.observation == "it is made of gold"
    assert (last.action.name, last.action.arguments) == ("answer", {"text": "gold"})
    assert trajectory.task.instruction == "where?"
    assert trajectory.task.data["answer"] == "gold"


def test_turn_rewards_components_and_outcome() -> None:
    (result,) = Oracle(MOODY).score_items([item(id="x")])
    assert (result.id, result.status, result.reason) == ("x", "ok", None)
    assert result.turn_rewards == [0.125, 1.125]
    assert result.reward == pytest.approx(1.25)
    assert result.components == {"outcome": 1.0, "moody": 0.25}
    assert result.turn_components == {"outcome": [0.0, 1.0], "moody": [0.125, 0.125]}
    assert result.metrics == {"outcome": 1.0, "moody": 0.5, "format": 2.0}
    assert (result.outcome, result.process) == (1.0, 0.25)
    assert result.turn_valid == [True, True]


def test_the_same_numbers_as_the_reward_tree() -> None:
    oracle, tree = Oracle(), load_rewards()
    trajectory = oracle.reader.trajectory(item())
    (result,) = oracle.score([trajectory])
    assert result.reward == tree.totals(trajectory)["reward"].value


@pytest.mark.parametrize(
    ("mood", "status"), [("raise", "judge_failed"), ("judge", "judge_failed"), ("nan", "judge_failed")]
)
def test_a_judge_that_fails_is_a_status_and_never_a_zero(mood: str, status: str) -> None:
    good, bad = Oracle(MOODY).score_items([item(), item(metadata={"mood": mood})])
    assert (bad.status, bad.reward) == (status, None)
    assert bad.reason
    assert good.status == "ok"
    assert set(bad.components) == set(good.components)
    assert set(bad.metrics) == set(good.metrics)
    assert bad.components == {"outcome": None, "moody": None}


def test_a_failed_episode_is_invalid() -> None:
    failure = Failure(boundary="env", kind="hang", message="stuck")
    (result,) = Oracle(MOODY).score_items([item(ending=Ending(kind="failed", failure=failure))])
    assert (result.status, result.reward, result.outcome) == ("invalid", None, None)
    assert "stuck" in str(result.reason)


def test_an_item_that_cannot_be_read_is_invalid_in_process() -> None:
    (result,) = Oracle(MOODY).score_items([Item(id="empty")])
    assert result.status == "invalid"
    assert "holds none of them" in str(result.reason)


@pytest.mark.parametrize("threads", [1, 8])
def test_order_and_length_are_kept(threads: int) -> None:
    items = [item(id=str(n), metadata={"mood": "sleep", "seconds": 0.02 * (n % 3)}) for n in range(12)]
    results = Oracle(WAITING, threads=threads).score_items(items)
    assert [result.id for result in results] == [str(n) for n in range(12)]


def test_a_deadline_gives_timeouts_and_keeps_what_is_done() -> None:
    items = [item(id="quick"), item(id="stuck", metadata={"mood": "sleep"})]
    began = time.monotonic()
    quick, stuck = Oracle(WAITING, threads=2).score_items(items, deadline_s=0.5)
    assert (quick.status, stuck.status) == ("ok", "timeout")
    assert stuck.components == {"moody": None}
    assert time.monotonic() - began < 30


def test_token_spans_put_rewards_and_advantages_on_tokens() -> None:
    tokens = Tokens(ids=[9, 1, 2, 9, 3, 4, 9], spans=[(1, 3), (4, 6)])
    good = item(id="a", group="g", tokens=tokens)
    bad = item(id="b", group="g", tokens=tokens, label="silver")
    first, second = Oracle(MOODY).score_items([good, bad], credit=CreditSpec(options={"estimator": "rloo"}))
    assert first.spans == [(1, 3), (4, 6)]
    assert first.token_rewards == pytest.approx([0, 0, 0.125, 0, 0, 1.125, 0])
    assert first.turn_advantages == pytest.approx([1.0, 1.0])
    assert first.token_advantages == pytest.approx([0, 1, 1, 0, 1, 1, 0])
    assert second.token_advantages == pytest.approx([0, -1, -1, 0, -1, -1, 0])


def test_credit_leaves_out_what_has_no_reward() -> None:
    items = [item(group="g"), item(group="g", label="x"), item(group="g", metadata={"mood": "judge"})]
    results = Oracle(MOODY).score_items(items, credit=CreditSpec(options={"estimator": "rloo"}))
    assert [r.advantage_mask for r in results] == [[True, True], [True, True], [False, False]]
    assert results[0].turn_advantages == pytest.approx([1.0, 1.0])
    assert results[2].turn_advantages == [0.0, 0.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CreditSpec(options={"estimater": "rloo"}), "estimator"),
        (CreditSpec(options={"estimator": "ppo"}), "credit.options"),
    ],
)
def test_a_wrong_credit_rule_says_what_is_wrong(spec: CreditSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Oracle(MOODY).score_items([item(group="g")], credit=spec)


def test_credit_without_groups_says_which_item() -> None:
    with pytest.raises(ConfigError, match=r"items\[1\].group"):
        Oracle(MOODY).score_items([item(group="g"), item()], credit=CreditSpec())


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"messages": []}, "messages"),
        ({"tokens": {"ids": [1], "spans": [(0, 1)]}}, "tokens.spans"),
        ({"tokens": {"ids": [1, 2], "spans": [(0, 1), (0, 2)]}}, "tokens.spans"),
        ({"tokens": {"ids": [1, 2], "spans": [(0, 1), (1, 9)]}}, "tokens.spans"),
        ({"tokens": {"ids": [1, 2], "spans": [(0, 1), (1, 2)], "logprobs": [0.0]}}, "tokens"),
        ({"turns": [{}]}, "turns"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"nome": "x"}]}]}, "messages"),
        ({"messages": None}, "must hold messages"),
        ({"messages": None, "tokens": {"ids": [1], "spans": []}}, "tokenizer"),
    ],
)
def test_malformed_items_name_the_place(changes: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        Oracle(MOODY).reader.trajectory(msgspec.convert({**episode(), **changes}, Item))


def test_nesting_is_limited() -> None:
    deep: object = 1
    for _ in range(80):
        deep = [deep]
    with pytest.raises(ConfigError, match="metadata"):
        Oracle(MOODY).reader.trajectory(item(metadata={"deep": deep}))


class Words:
    def decode(self, token_ids: list[int], **options: object) -> str:
        return " ".join({1: "silver", 2: "gold", 3: "where?"}.get(n, "?") for n in token_ids)


def test_tokens_alone_are_decoded() -> None:
    alone = Item(tokens=Tokens(ids=[3, 1, 3, 2], spans=[(1, 2), (3, 4)]), label="gold")
    trajectory = Oracle(MOODY, tokenizer=Words()).reader.trajectory(alone)
    assert [turn.action_text for turn in trajectory.turns] == ["silver", "gold"]
    assert [turn.observation for turn in trajectory.turns] == ["where?", "where?"]
    assert trajectory.outcome is not None
    assert trajectory.outcome.success


def test_facts_and_outcome_of_the_callers_world_count() -> None:
    facts = [TurnFacts(progress=0.5), TurnFacts(progress=1.0, action_valid=False, action_error="door is shut")]
    told = msgspec.structs.replace(item(label=None), turns=facts, outcome=GivenOutcome(success=True))
    trajectory = Oracle(MOODY).reader.trajectory(told)
    assert [turn.progress for turn in trajectory.turns] == [0.5, 1.0]
    assert not trajectory.turns[1].action_valid
    (result,) = Oracle(MOODY).score_items([told])
    assert result.outcome == 1.0


def test_without_label_or_outcome_the_outcome_is_unknown_not_zero() -> None:
    (result,) = Oracle(MOODY).score_items([item(label=None)])
    assert (result.status, result.reward, result.outcome) == ("invalid", None, None)


def test_an_episode_that_was_cut_off_did_not_answer() -> None:
    (result,) = Oracle(MOODY).score_items([item(done=False)])
    assert result.outcome == 0.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so <answer> Paris </answer>", "Paris"),
        (r"thus \boxed{42}.", "42"),
        ("## Exact Answer\nUFC 219\n## References\n", "UFC 219"),
        ("First I look.\nAnswer: the Seine", "the Seine"),
        ("gold", "gold"),
    ],
)
def test_stated_answers(text: str, answer: str) -> None:
    assert stated_answer(text) == answer


def test_matching() -> None:
    assert is_right("The Gold!", ["gold"], "exact")
    assert not is_right("it is gold", ["gold"], "exact")
    assert is_right("it is gold", ["gold"], "contains")
    assert not is_right("it is golden", ["gold"], "contains")


def test_a_world_reads_the_actions() -> None:
    oracle = Oracle(env="turnwise/SearchQA-v0")
    messages = [Message(role="assistant", content="search[who]"), Message(role="assistant", content="dance wildly")]
    trajectory = oracle.reader.trajectory(Item(messages=messages))
    assert [turn.action is not None for turn in trajectory.turns] == [True, False]
    (result,) = Oracle({"version": 1, "rewards": [{"name": "format"}]}, env="turnwise/SearchQA-v0").score_items(
        [Item(messages=messages)]
    )
    assert result.turn_rewards == [1.0, 0.0]


def test_items_with_a_task_are_played_again_and_lies_do_not_help() -> None:
    oracle = Oracle(env="turnwise/Household-v0")
    assert oracle.world is not None
    env = oracle.world._env()
    task_id = env.tasks.ids()[0]
    observation, info = env.reset(seed=7, options={"task_id": task_id})
    expert = env.expert()
    messages = []
    over = False
    while not over:
        said = expert.act(observation, info)
        observation, _, terminated, truncated, info = env.step(said)
        # What the message list says happened is made up.
        messages += [Message(role="assistant", content=said), Message(role="tool", content="You win!")]
        over = terminated or truncated
    solved = Item(task_id=task_id, seed=7, messages=messages)
    lied = Item(task_id=task_id, seed=7, messages=messages[:2], label="x", outcome=GivenOutcome(success=True))
    first, second = oracle.score_items([solved, lied])
    assert (first.status, first.outcome) == ("ok", 1.0)
    assert (second.status, second.outcome) == ("ok", 0.0)
    assert first.reward is not None
    assert second.reward is not None
    assert first.reward > second.reward


def test_rewards_that_do_not_fit_the_world_are_refused() -> None:
    levels = {"version": 1, "rewards": [{"name": "outcome_level", "options": {"levels": {"bad": 0, "good": 1}}}]}
    with pytest.raises(ConfigError, match="outcome_level"):
        Oracle(levels, env="turnwise/Household-v0")
    with pytest.raises(ConfigError, match="Did you mean"):
        Oracle(env="turnwise/Houshold-v0")


def test_a_trajectory_stays_what_it_is() -> None:
    turns = (Turn(index=0, observation="o", action_text="a"),)
    trajectory = Trajectory(
        id="t#0",
        env_id="e",
        task=Task(id="t", split="", instruction=""),
        seed=0,
        agent="x",
        turns=turns,
        ending=Ending(kind="terminated"),
    )
    reader = Oracle(MOODY).reader
    assert reader.trajectory(Item(trajectory=trajectory)) is trajectory
    with pytest.raises(ConfigError, match="messages"):
        reader.trajectory(Item(trajectory=trajectory, messages=[Message(role="user", content="x")]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6),
    st.lists(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=4),
)
def test_components_sum_to_the_reward(values: list[float], weights: list[float]) -> None:
    class Given:
        def __init__(self, n: int) -> None:
            self.name = f"r{n}"
            self.n = n
            self.spec = (
                load_rewards()
                .rewards[0]
                .reward.spec.__class__(low=-1e9, high=1e9, placement="turn", source="", summary="")
            )

        def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
            return tuple(RewardValue(value=v * (-1.0) ** (self.n + i)) for i, v in enumerate(values))

        def describe(self) -> dict[str, object]:
            return {}

    tree = RewardTree([WeightedReward(Given(n), weight=w, use=f"x:{n}") for n, w in enumerate(weights)])
    turns = tuple(Turn(index=i, observation="", action_text="") for i in range(len(values)))
    trajectory = Trajectory(
        id="t",
        env_id="e",
        task=Task(id="t", split="", instruction=""),
        seed=0,
        agent="x",
        turns=turns,
        ending=Ending(kind="terminated"),
    )
    (result,) = Oracle(tree).score([trajectory])
    assert result.reward is not None
    total = math.fsum(share for share in result.components.values() if share is not None)
    assert math.isclose(total, result.reward, rel_tol=1e-9, abs_tol=1e-9)
    assert all(math.isfinite(share) for share in result.components.values() if share is not None)


def test_components_sum_to_the_reward_where_large_values_cancel() -> None:
    class Given:
        def __init__(self, name: str, *values: float) -> None:
            self.name, self.values = name, values
            self.spec = RewardSpec(low=-1e17, high=1e17, placement="turn", source="", summary="")

        def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
            return tuple(RewardValue(value=value) for value in self.values)

        def describe(self) -> dict[str, object]:
            return {}

    tree = RewardTree(
        [WeightedReward(Given("large", 1e16, -1e16), use="x:a"), WeightedReward(Given("small", 1.0, 0.5))]
    )
    turns = tuple(Turn(index=i, observation="", action_text="") for i in range(2))
    task = Task(id="t", split="", instruction="")
    ending = Ending(kind="terminated")
    (result,) = Oracle(tree).score(
        [Trajectory(id="t", env_id="e", task=task, seed=0, agent="x", turns=turns, ending=ending)]
    )
    assert math.fsum(share or 0.0 for share in result.components.values()) == result.reward


def test_the_schema_is_published() -> None:
    definitions = json_schema()["$defs"]
    assert {"ScoreRequest", "ScoreReply", "Item", "ItemResult", "ErrorReply"} <= definitions.keys()
    assert definitions["ItemResult"]["properties"]["status"]["enum"] == ["invalid", "judge_failed", "ok", "timeout"]
