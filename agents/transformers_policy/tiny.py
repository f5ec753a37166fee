"""Tiny random models with a tokenizer of their own, made here: for tests, and where there is no hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError, unknown_name

FAMILIES = ("qwen2", "llama")
MIN_VOCABULARY = 300  # 256 bytes, the special tokens and some merges
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_ADDED = ("<tool_call>", "</tool_call>")  # tokens of their own, not special, as in the real family
_SPREAD = 0.25  # standard deviation of the weights: far from uniform predictions, so that mistakes show

# ChatML with tools in the Hermes form and a role for their answers.
_CHATML = """\
{%- if tools %}
<|im_start|>system
{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}

{% endif %}
You may call these tools:
{% for tool in tools %}
{{ tool | tojson }}
{% endfor %}
Write a call as <tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>
{% elif messages[0]['role'] == 'system' %}
<|im_start|>system
{{ messages[0]['content'] }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m['role'] == 'tool' %}
<|im_start|>user
<tool_response>
{{ m['content'] }}
</tool_response><|im_end|>
{% elif m['role'] != 'system' %}
<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

# Only users and assistants, contents trimmed, an opening token at the start.
_NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('only user and assistant messages') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
_TEMPLATES: dict[str, str | None] = {"chatml": _CHATML, "no_system": _NO_SYSTEM, "none": None}


def make_tiny_model(
    folder: str | Path,
    texts: Sequence[str],
    *,
    family: str = "qwen2",
    template: str | None = None,
    vocab_size: int = 512,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    context: int = 8192,
    tied: bool = False,
    seed: int = 0,
) -> None:
    """Write a tiny model with random weights and a tokenizer trained on some texts into a folder.

    The same arguments give the same files. The tokenizer is a byte-level BPE, so that every text goes
    through it unharmed (but that transformers 5 reads a qwen2's with NFC normalisation).

    Args:
        folder: Where ``save_pretrained`` writes; made if need be.
        texts: What the tokenizer is trained on, not empty.
        family: The architecture, ``"qwen2"`` or ``"llama"``.
        template: The chat template: ``"chatml"`` with system messages, tools and tool answers;
            ``"no_system"`` with users and assistants only; ``"none"``. None takes ``"chatml"`` for
            qwen2 and ``"no_system"`` for llama.
        vocab_size: How many tokens at most, at least 300; the model knows exactly as many as the tokenizer.
        hidden_size: Width, a multiple of twice ``heads``.
        layers: How many layers, at least 1.
        heads: How many attention heads, an even number; half as many for keys and values.
        context: Most tokens that the model takes.
        tied: Whether input and output embeddings are the same weights.
        seed: Seed of the weights.

    Raises:
        ConfigError: An argument is unknown or out of range.
        MissingExtraError: torch or transformers is not installed.
    """
    if family not in FAMILIES:
        raise unknown_name("family", str(family), FAMILIES)
    template = template or ("chatml" if family == "qwen2" else "no_system")
    if template not in _TEMPLATES:
        raise unknown_name("template", str(template), _TEMPLATES)
    if not texts or vocab_size < MIN_VOCABULARY:
        raise ConfigError(f"a tiny model needs texts and a vocab_size of at least {MIN_VOCABULARY}, got {vocab_size}")
    if heads < 2 or heads % 2 or hidden_size % (2 * heads) or min(layers, context, hidden_size) < 1:
        raise ConfigError("heads must be even, hidden_size a multiple of 2 * heads, layers and context at least 1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "torch") from error

    tokenizer = _tokenizer(list(texts), vocab_size, _TEMPLATES[template], context)
    make = {"qwen2": transformers.Qwen2Config, "llama": transformers.LlamaConfig}[family]
    config = make(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # what the constructor draws is thrown away below, and the global state restored
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    _fill(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _fill(model: Any, seed: int) -> None:
    """Draw all weights from a generator of our own, in the order of their names."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in sorted(model.named_parameters()):
            if weights.dim() > 1:
                # Embeddings as they are, projections so that they keep the scale of what they read.
                spread = _SPREAD if "embed" in name or "lm_head" in name else 1 / math.sqrt(weights.shape[1])
                weights.normal_(0.0, spread, generator=generator)
            elif name.endswith("bias"):
                weights.normal_(0.0, _SPREAD, generator=generator)
            else:
                weights.fill_(1.0)


def _tokenizer(texts: list[str], vocab_size: int, template: str | None, context: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(_ADDED),
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens([AddedToken(text, normalized=False, special=False) for text in _ADDED])
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        bos_token=_SPECIAL[1] if template == _NO_SYSTEM else None,
        eos_token=_SPECIAL[2] if template == _CHATML else _SPECIAL[0],
        pad_token=_SPECIAL[0],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer
