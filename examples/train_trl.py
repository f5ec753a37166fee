"""GRPO with turn advantages in TRL, for real: a tiny model learns a small world on a CPU in minutes.

    python examples/train_trl.py            # prints success on held-out tasks before and after

1. A tokenizer and a tiny transformer are made here; nothing is downloaded.
2. A clumsy player, whose actions are random 7 times out of 10, plays; TRL's SFT has the model imitate it.
3. TRL's GRPO trains it. turnwise plays the episodes with the trainer's own model, and every turn's
   advantage reaches that turn's tokens.
4. Success is measured on tasks that were never trained on, before and after step 3.

Needs: pip install 'turnwise[torch]' 'trl>=1.16'
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import doors
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed
from trl import GRPOConfig, SFTConfig, SFTTrainer

from turnwise.rewards.credit import GroupCredit
from turnwise.rollout import Rollout
from turnwise.rollout.trainers.export import sft_rows
from turnwise.rollout.trainers.trl import Rollouts, episode_reward, turn_grpo_trainer

# A room earns a third on its own turn, getting out one more on the last one.
REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "outcome"}]}
# What a door costs or earns shows on its own turn, so nothing later is counted: gamma 0.
CREDIT = GroupCredit(level="turn", gamma=0.0)
CLUMSY = "noisy-expert:0.7"
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer() -> Any:
    """Return a tokenizer that knows the world's words, and bytes for all others."""
    texts = [f"Room {n}. Doors: {c}. Key: {c}. open {c}" for n in (1, 2, 3) for c in doors.COLOURS]
    texts += ["Locked. You are out. There is no door. Answer: open COLOUR", " open", "<|user|> Room 1."]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        padding_side="left",
        extra_special_tokens=special[2:],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: Any) -> Any:
    """Return a transformer of two layers with random weights."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=16,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def imitate(model: Any, tokenizer: Any, folder: str, seed: int) -> None:
    """Have the model imitate a clumsy player, turn by turn, its mistakes too."""
    played = Rollout(doors.ENV_ID, tasks="train", group=8, agent=CLUMSY, rewards=REWARDS, workers=0, seed=seed)
    rows = sft_rows(played, level="turn", solved=False)
    arguments = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=64,
        max_steps=150,
        learning_rate=3e-3,
        max_length=256,
        seed=seed,
        **COMMON,
    )
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(list(rows)), processing_class=tokenizer
    )
    trainer.train()


def success(held_out: Rollouts, trainer: Any, group: int) -> float:
    """Return the share of held-out episodes that are solved with the trainer's weights now."""
    played = held_out.play(trainer, group=group)
    return sum(one.outcome is not None and one.outcome.success for one in played) / len(played)


COMMON: dict[str, Any] = {
    "report_to": [],
    "use_cpu": True,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 10,
    "lr_scheduler_type": "constant",
}


def main(steps: int = 60, group: int = 8, seed: int = 0) -> tuple[float, float]:
    """Train, and return success on held-out tasks before and after."""
    torch.set_num_threads(1)  # the model is too small to share out
    set_seed(seed)
    doors.register()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        imitate(model, tokenizer, folder, seed)
        options: dict[str, Any] = {"rewards": REWARDS, "max_tokens": 6, "policy_options": {"stop": ""}}
        rollouts = Rollouts(doors.ENV_ID, tasks="train", credit=CREDIT, seed=seed, **options)
        held_out = Rollouts(doors.ENV_ID, tasks="val_unseen", seed=seed + 1, **options)
        arguments = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=64,
            num_generations=group,
            max_completion_length=256,
            max_steps=steps,
            learning_rate=1.5e-3,
            beta=0.0,
            loss_type="dr_grpo",
            seed=seed,
            **COMMON,
        )
        trainer = turn_grpo_trainer()(
            model=model,
            args=arguments,
            reward_funcs=[episode_reward],
            rollout_func=rollouts,
            train_dataset=rollouts.dataset(),
            processing_class=tokenizer,
        )
        before = success(held_out, trainer, group=16)
        trainer.train()
        after = success(held_out, trainer, group=16)
        rollouts.close()
        held_out.close()
    print(f"held-out success: {before:.3f} before, {after:.3f} after {steps} steps ({16 * 16} episodes each)")
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    main(steps=chosen.steps, seed=chosen.seed)
