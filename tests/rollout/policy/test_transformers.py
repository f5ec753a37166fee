"""A real model on Ray: tokens in, tokens out, scored by itself, with new weights between two batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from turnwise.protocols import AnswerQuery, ForcedAnswer
from turnwise.records import Trajectory
from turnwise.rollout import PolicyPool, Rollout
from turnwise.rollout.cli.tiny_model import world_texts
from turnwise.rollout.policy.channel import use_channel
from turnwise.rollout.policy.logprobs import PolicyContexts, PolicyLogProbs
from turnwise.rollout.store import RunStore

ray = pytest.importorskip("ray")
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.ray, pytest.mark.slow]
OPTIONS = "?max_tokens=24&temperature=0.8&top_p=0.95"
REWARDS = {
    "version": 1,
    "rewards": [
        {"name": "outcome"},
        {
            "name": "information_gain",
            "options": {
                "kind": "log_prob_diff",
                "scorer": "turnwise.rewards.gain.model:ModelBeliefs",
                "scorer_options": {"source": "turnwise.rollout.policy.logprobs:PolicyLogProbs"},
            },
        },
    ],
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models with one tokenizer and other weights."""
    from turnwise.agents.transformers_policy.tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("models")
    texts = list(world_texts(episodes=4))
    for seed in (0, 1):
        make_tiny_model(folder / str(seed), texts, seed=seed)
    return folder / "0", folder / "1"


def search(agent: Any, **options: Any) -> Rollout:
    given = {"env": "turnwise/SearchQA-v0", "tasks": "train:3", "group": 2, "max_turns": 3, "seed": 5, **options}
    return Rollout(agent=agent, **given)


def rerun(model: Any, trajectory: Trajectory, temperature: float) -> list[float]:
    """Return the log-probabilities of the sampled ids as the model gives them in one pass."""
    assert trajectory.tokens is not None
    ids = torch.tensor([trajectory.tokens.ids])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0].float() / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    return [
        float(logprobs[place - 1, token]) if mask else 0.0
        for place, (token, mask) in enumerate(zip(trajectory.tokens.ids, trajectory.tokens.loss_mask, strict=True))
    ]


def test_a_model_plays_and_scores_itself(models: tuple[Path, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = models
    config = tmp_path / "rewards.yaml"
    config.write_text(yaml.safe_dump(REWARDS))
    loaded = [AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval() for folder in models]
    tokenizer = AutoTokenizer.from_pretrained(first)
    with PolicyPool(f"transformers:{first}{OPTIONS}") as pool:
        for number, (version, model) in enumerate(zip(("0", "step-1"), loaded, strict=True)):
            if number:
                pool.update(second, version=version)
            out = tmp_path / f"run{number}"
            played = list(search(pool, workers=2, slots=3, rewards=str(config), out=out))
            assert len(played) == 6
            for trajectory in played:
                check(trajectory, version, model, tokenizer)
            stored = {t.id: t for t in RunStore.open(out).trajectories()}
            assert stored == {t.id: t for t in played}
        use_channel(pool.channel())
        try:
            score_again(played[0], loaded[1])
        finally:
            use_channel(None)


def check(trajectory: Trajectory, version: str, model: Any, tokenizer: Any) -> None:
    assert trajectory.ending.kind == "truncated", trajectory.ending  # a random model never answers
    assert trajectory.policy_version == version
    assert {turn.policy_version for turn in trajectory.turns} == {version}
    tokens = trajectory.tokens
    assert tokens is not None
    for turn in trajectory.turns:
        assert turn.tokens is not None
        assert turn.token_span is not None
        start, end = turn.token_span
        assert tokens.ids[start:end] == turn.tokens.completion_ids
        assert turn.finish in ("stop", "length", "action")
        assert tokenizer.decode(tokens.ids[start:end]).removesuffix(tokenizer.eos_token) == turn.action_text
        before = tokenizer.decode(tokens.ids[:start])
        assert turn.observation[:40] in before
        gain = turn.rewards["information_gain"]
        assert gain.valid, gain.invalid
    for ours, theirs in zip(tokens.logprobs, rerun(model, trajectory, 0.8), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def score_again(trajectory: Trajectory, model: Any) -> None:
    """The policy's log-probabilities are those of its model on the recorded ids."""
    segments = PolicyContexts().render(trajectory, 1)
    query = AnswerQuery(segments=segments, answers=(ForcedAnswer(answer=" a"),))
    (scored,) = PolicyLogProbs().answer_logprobs([query])
    assert not isinstance(scored, Exception)
    assert len(scored.tokens) == 2
    assert all(value <= 0.0 for row in scored.tokens for value in itertools.chain(*row))


def test_the_same_seed_gives_the_same_words_for_any_number_of_workers(models: tuple[Path, Path]) -> None:
    agent = f"transformers:{models[0]}{OPTIONS}"
    runs = []
    for workers, slots in ((0, None), (1, 6), (2, 2)):
        played = search(agent, workers=workers, slots=slots, max_turns=2)
        runs.append({t.id: [turn.action_text for turn in t.turns] for t in played})
    assert runs[0] == runs[1] == runs[2]
    assert len({str(said) for said in runs[0].values()}) > 1
