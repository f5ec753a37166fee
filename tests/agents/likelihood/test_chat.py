"""Trajectories written by a chat template, and as recorded ids."""

from __future__ import annotations

from typing import Any

import pytest

from turnwise.agents.likelihood import ChatContexts, RecordedContexts, TransformersLogProbs
from turnwise.errors import ConfigError, JudgeError
from turnwise.protocols import ContextRenderer
from turnwise.records import Ending, Outcome, Task, TokenSequence, Trajectory, Turn, replace

# As Qwen3's: thoughts are dropped from messages that a later one of the user follows.
DROPS_THOUGHTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if '</think>' in m['content'] and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def episode(*actions: str) -> Trajectory:
    turns = tuple(Turn(index=i, observation=f"seen {i}", action_text=a) for i, a in enumerate(actions))
    return Trajectory(
        id="q#0",
        env_id="turnwise/Test-v0",
        task=Task(id="q", split="train", instruction="Who founded Velmora?", data={"answer": "Ilsa"}),
        seed=0,
        agent="test",
        ending=Ending(kind="terminated"),
        outcome=Outcome(success=True, env_return=1.0),
        turns=turns,
        final_observation=f"seen {len(actions)}",
    )


def test_contexts_continue_one_another_and_are_what_the_template_writes(tokenizer: Any) -> None:
    renderer = ChatContexts(tokenizer, system="Be brief.")
    assert isinstance(renderer, ContextRenderer)
    made = episode("open a", "open b")
    segments = renderer.render(made, 2)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who founded Velmora?\n\nseen 0"},
        {"role": "assistant", "content": "open a"},
        {"role": "user", "content": "seen 1"},
        {"role": "assistant", "content": "open b"},
        {"role": "user", "content": "seen 2"},
    ]
    for turn in range(3):
        text = tokenizer.apply_chat_template(messages[: 2 + 2 * turn], tokenize=False, add_generation_prompt=True)
        assert "".join(map(str, segments[: turn + 1])) == text
    assert renderer.render(made, 1) == segments[:2]


def test_a_template_that_drops_thoughts_is_written_as_if_always_earlier(tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    other.chat_template = DROPS_THOUGHTS
    segments = ChatContexts(other).render(episode("<think>hm</think>open a", "<think>ah</think>open b"), 2)
    assert segments[1] == "open a<|im_end|>\n<|im_start|>user\nseen 1<|im_end|>\n<|im_start|>assistant\n"
    assert "think" not in "".join(map(str, segments))


def test_recorded_ids_are_used_as_they_are(tokenizer: Any) -> None:
    text = ["<|im_start|>user\nseen 0<|im_end|>\n<|im_start|>assistant\n", "open a<|im_end|>"]
    text += ["\n<|im_start|>user\nseen 1<|im_end|>\n<|im_start|>assistant\n", "open b<|im_end|>"]
    pieces = [tokenizer(t, add_special_tokens=False).input_ids for t in text]
    # The policy need not have sampled the tokens that the tokenizer would choose.
    pieces[1] = [*tokenizer("o").input_ids, *tokenizer("pen a").input_ids, tokenizer.eos_token_id]
    ends = [sum(map(len, pieces[: i + 1])) for i in range(4)]
    ids = tuple(i for piece in pieces for i in piece)
    mask = tuple(int(p % 2) for p, piece in enumerate(pieces) for _ in piece)
    made = episode("open a", "open b")
    spans = ((ends[0], ends[1]), (ends[2], ends[3]))
    turns = tuple(replace(turn, token_span=span) for turn, span in zip(made.turns, spans, strict=True))
    made = replace(made, turns=turns, tokens=TokenSequence(ids=ids, loss_mask=mask))
    renderer = RecordedContexts(tokenizer)
    segments = renderer.render(made, 1)
    assert segments == (ids[: ends[0]], ids[ends[0] : ends[2]])
    last = renderer.render(made, 2)[-1]
    assert isinstance(last, tuple)
    assert tokenizer.decode(last) == "open b<|im_end|>\n<|im_start|>user\nseen 2<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(JudgeError, match="no token ids"):
        renderer.render(episode("open a"), 1)


def test_the_source_brings_the_renderer_its_model_reads(tokenizer: Any, model: Any) -> None:
    assert type(TransformersLogProbs(model, tokenizer=tokenizer).renderer) is ChatContexts
    assert type(TransformersLogProbs(model, tokenizer=tokenizer, contexts="recorded").renderer) is RecordedContexts
    assert TransformersLogProbs(model, tokenizer=tokenizer, contexts="plain").renderer is None


def test_no_template_no_chat(tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ConfigError, match="chat template"):
        ChatContexts(bare)
