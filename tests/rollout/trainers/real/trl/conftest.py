"""A tiny model and tokenizer made here, the small world of the examples, and quiet trainers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
ROOT = Path(__file__).resolve().parents[5]
sys.path[:0] = [str(ROOT / "examples"), str(Path(__file__).resolve().parent)]

import doors  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import train_trl  # noqa: E402
from transformers import set_seed  # noqa: E402
from trl import GRPOConfig  # noqa: E402

torch.set_num_threads(1)
doors.register()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_trl.make_tokenizer()


@pytest.fixture
def model(tokenizer: Any) -> Any:
    set_seed(0)
    return train_trl.make_model(tokenizer)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Any]:
    """Settings of GRPO: one group of four unless told otherwise."""

    def make(**changes: Any) -> Any:
        options: dict[str, Any] = {
            "output_dir": str(tmp_path),
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_completion_length": 64,
            "max_steps": 1,
            "learning_rate": 1e-3,
            "beta": 0.0,
            "report_to": [],
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            "seed": 0,
        }
        return GRPOConfig(**{**options, **changes})

    return make
