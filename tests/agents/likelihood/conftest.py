"""A tiny tokenizer and tiny random models, made here: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TEXT = [
    "You arrive at shelf 2. On the shelf 2, you see a mug 1, and a plate 3.",
    "search[who founded the city of Velmora] The city was founded by Ilsa Tarn in 1204.",
    "Observation: Action: open the fridge 1. The answer is Ilsa Tarn. <answer> </answer>",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra torch")
    transformers = pytest.importorskip("transformers", reason="needs the extra torch")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT * 4, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|end|>")
    fast.chat_template = CHATML
    return fast


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

    kinds = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}

    def make(kind: str = "llama", *, attention: str = "sdpa", **options: Any) -> Any:
        sizes: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "initializer_range": 0.5,  # random weights that are far from uniform, so that mistakes show
        }
        with torch.random.fork_rng():
            torch.manual_seed(7)
            config = kinds[kind](**{**sizes, **options})
            return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., Any]) -> Any:
    return make_model()
