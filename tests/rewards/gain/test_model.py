"""From a trajectory to gains with a real (tiny, random) model, and through the YAML configuration."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from turnwise.records import Ending, Outcome, Task, Trajectory, Turn
from turnwise.rewards import load_rewards
from turnwise.rewards.information_gain import InformationGain

CONFIG = """
version: 1
rewards:
  - name: information_gain
    options:
      kind: log_prob_diff
      scorer: turnwise.rewards.gain.model:ModelBeliefs
      scorer_options:
        source: turnwise.agents.likelihood:TransformersLogProbs
        source_options: {{model: "{model}", method: {method}, dtype: float32}}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model and its tokenizer on disk."""
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra torch")
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = {letter: i for i, letter in enumerate(sorted(byte_level.alphabet()))}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer, backend.decoder = byte_level, tokenizers.decoders.ByteLevel()
    path = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=256, initializer_range=0.3, max_position_embeddings=4096, **sizes)
        LlamaForCausalLM(config).save_pretrained(path)
    return path


def searched(answer: str | None = "Ilsa Tarn") -> Trajectory:
    turns = tuple(Turn(index=i, observation=f"result {i}: nothing", action_text=f"search {i}") for i in range(4))
    return Trajectory(
        id="q#0",
        env_id="turnwise/Test-v0",
        task=Task(id="q", split="train", instruction="Who?", data={} if answer is None else {"answer": answer}),
        seed=0,
        agent="test",
        ending=Ending(kind="truncated", cause="turns"),
        outcome=Outcome(success=False, env_return=0.0),
        turns=turns,
        final_observation="result 4: it was Ilsa Tarn",
    )


def test_the_yaml_configuration_scores_with_a_model(saved: Path, tmp_path: Path) -> None:
    gains = {}
    for method in ("one_pass", "sequential"):
        path = tmp_path / f"{method}.yaml"
        path.write_text(CONFIG.format(model=saved, method=method))
        tree = load_rewards(path)
        attached = tree.attach(searched())
        gains[method] = [turn.rewards["information_gain"].value for turn in attached.turns]
        assert None not in gains[method], attached.turns[0].rewards["information_gain"].invalid
        assert load_rewards(tree.describe()).describe() == tree.describe()
    assert gains["one_pass"] == pytest.approx(gains["sequential"], abs=1e-4)
    assert len(set(gains["one_pass"])) == 4


def test_the_evidence_is_the_probability_of_the_answer_itself(saved: Path) -> None:
    reward = InformationGain(
        scorer="turnwise.rewards.gain.model:ModelBeliefs",
        scorer_options={
            "source": "turnwise.agents.likelihood:TransformersLogProbs",
            "source_options": {"model": str(saved), "dtype": "float32"},
        },
    )
    values = reward.score(searched())
    for before, after in itertools.pairwise(values):
        assert before.evidence["after"] == after.evidence["before"]
    source: Any = reward.scorer.source  # type: ignore[union-attr]
    assert source.method_used == "one_pass"
    assert 0.0 < values[0].evidence["before"] < 1.0
    assert math.fsum(v.value or 0.0 for v in values) == pytest.approx(
        values[-1].evidence["after"] - values[0].evidence["before"]
    )


def test_batches_of_trajectories_agree_with_one_at_a_time(saved: Path) -> None:
    options = {
        "source": "turnwise.agents.likelihood:TransformersLogProbs",
        "source_options": {"model": str(saved), "dtype": "float32", "batch_size": 2, "max_tokens": 300},
    }
    reward = InformationGain(scorer="turnwise.rewards.gain.model:ModelBeliefs", scorer_options=options)
    trajectories = [searched(a) for a in ("Ilsa Tarn", None, "x", "a much longer answer than the others")]
    together = reward.score_many(trajectories)
    for many, trajectory in zip(together, trajectories, strict=True):
        for mine, alone in zip(many, reward.score(trajectory), strict=True):
            assert (mine.value is None) == (alone.value is None)
            assert mine.value is None or mine.value == pytest.approx(alone.value, abs=1e-5)
    assert together[1][0].value is None


def test_a_model_that_is_not_there_is_invalid_not_zero(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra torch")
    options = {
        "source": "turnwise.agents.likelihood:TransformersLogProbs",
        "source_options": {"model": str(tmp_path / "gone"), "contexts": "plain"},
    }
    reward = InformationGain(scorer="turnwise.rewards.gain.model:ModelBeliefs", scorer_options=options)
    assert all(value.value is None and value.invalid for value in reward.score(searched()))
