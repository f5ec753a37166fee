"""Exported data sets, loaded by the real ``datasets`` and prepared by TRL's own trainers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import datasets
import doors
import pytest
import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from turnwise.records import Trajectory
from turnwise.rollout import Rollout
from turnwise.rollout.trainers.export import dpo_rows, kto_rows, sft_rows
from turnwise.rollout.trainers.tables import write_rows

REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "outcome"}]}


@pytest.fixture(scope="module")
def episodes() -> list[Trajectory]:
    run = Rollout(doors.ENV_ID, tasks="train:4", group=4, agent="noisy-expert:0.6", rewards=REWARDS, workers=0)
    return sorted(run, key=lambda trajectory: trajectory.id)


def rows_of(kind: str, episodes: list[Trajectory]) -> list[dict[str, Any]]:
    made = {
        "sft": lambda: sft_rows(episodes, solved=False),
        "sft-turn": lambda: sft_rows(episodes, level="turn", least=0.3, solved=False),
        "dpo": lambda: dpo_rows(episodes, gamma=0.0),
        "kto": lambda: kto_rows(episodes),
    }
    return list(made[kind]())


@pytest.mark.parametrize("kind", ["sft", "sft-turn", "dpo", "kto"])
def test_datasets_reads_what_was_written(kind: str, episodes: list[Trajectory], tmp_path: Path) -> None:
    rows = rows_of(kind, episodes)
    assert len(rows) > 3
    for name in ("a", "a.parquet", "a.jsonl"):
        assert write_rows(rows, tmp_path / name) == len(rows)
    cache = str(tmp_path / "cache")
    files = {"parquet": str(tmp_path / "a.parquet"), "json": str(tmp_path / "a.jsonl")}
    loaded = [datasets.load_from_disk(str(tmp_path / "a"))]
    loaded += [
        datasets.load_dataset(form, data_files=path, split="train", cache_dir=cache) for form, path in files.items()
    ]
    for found in loaded:
        assert found.to_list() == rows


def prepared(
    cls: Any, config: Any, kind: str, tokenizer: Any, model: Any, episodes: list[Trajectory], path: Path
) -> Any:
    write_rows(rows_of(kind, episodes), path / "set")
    settings = config(
        output_dir=str(path / "out"),
        max_steps=1,
        per_device_train_batch_size=4,
        max_length=256,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
    )
    train = datasets.load_from_disk(str(path / "set"))
    # The reference is a model of its own: this one comes from no place it could be loaded from again.
    more = {} if cls is SFTTrainer else {"ref_model": copy.deepcopy(model)}
    trainer = cls(model=model, args=settings, train_dataset=train, processing_class=tokenizer, **more)
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 0.0
    return trainer


def test_sft_puts_its_loss_on_the_turns_message_only(
    episodes: list[Trajectory], tokenizer: Any, model: Any, tmp_path: Path
) -> None:
    trainer = prepared(SFTTrainer, SFTConfig, "sft-turn", tokenizer, model, episodes, tmp_path)
    for row in trainer.train_dataset:
        learned = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        assert tokenizer.decode(learned).strip() == f"{row['completion'][0]['content']}<|end|>"


def test_dpo_compares_two_messages_after_one_history(
    episodes: list[Trajectory], tokenizer: Any, model: Any, tmp_path: Path
) -> None:
    trainer = prepared(DPOTrainer, DPOConfig, "dpo", tokenizer, model, episodes, tmp_path)
    for row in trainer.train_dataset:
        key = row["prompt"][-1]["content"].rpartition("Key: ")[2].rstrip(".")
        assert tokenizer.decode(row["prompt_ids"]).count("<|user|>") == len(row["prompt"]) // 2
        assert tokenizer.decode(row["chosen_ids"]).strip() == f"{row['chosen'][0]['content']}<|end|>"
        # Without later rewards only the right door is worth anything, wherever the two episodes part.
        assert row["rejected"][0]["content"] != f"open {key}"


def test_kto_labels_single_messages(episodes: list[Trajectory], tokenizer: Any, model: Any, tmp_path: Path) -> None:
    trainer = prepared(KTOTrainer, KTOConfig, "kto", tokenizer, model, episodes, tmp_path)
    labels = trainer.train_dataset["label"]
    assert {True, False} == set(labels)
    for row in trainer.train_dataset:
        assert tokenizer.decode(row["completion_ids"]).strip() == f"{row['completion'][0]['content']}<|end|>"
    assert torch.isfinite(next(iter(trainer.get_train_dataloader()))["input_ids"].float()).all()
