"""New weights, checked before the first one is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.errors import ConfigError

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra torch")

SAID = ["look", "you see a mug", "you hold a mug"]


@pytest.fixture
def other(load: Callable[..., tuple[Any, Any]]) -> Any:
    """Another model of the same shape."""
    return load(seed=5)[0]


@pytest.mark.parametrize("way", ["folder", "path", "safetensors", "state_dict", "arrays"])
def test_an_episode_goes_on_with_the_new_weights(
    load: Callable[..., tuple[Any, Any]], tiny: Callable[..., Path], other: Any, tmp_path: Path, kit: Any, way: str
) -> None:
    model, tokenizer = load()
    weights: Any = {"folder": str(tiny(seed=5)), "path": tiny(seed=5), "state_dict": other.state_dict()}.get(way)
    if way == "arrays":
        weights = {name: tensor.numpy() for name, tensor in other.state_dict().items()}
    if way == "safetensors":
        from safetensors.torch import save_file

        save_file(other.state_dict(), tmp_path / "part-1.safetensors")
        weights = tmp_path

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=9, version="v1")) as policy:
            assert policy.version == "v1"
            first = (await kit.play(policy, SAID[:1]))[0]
            await policy.update(weights, "v2")
            assert policy.version == "v2"
            request = kit.request(turn=1, observation=SAID[1], state=first.state)
            second = await policy.act(request)
            assert (first.policy_version, second.policy_version) == ("v1", "v2")
            # All was read anew, and what was sampled is what the new weights say.
            by_hand = kit.logprobs_by_hand(other, [first, second])[len(first.tokens.logprobs) :]
            assert np.allclose(second.tokens.logprobs, by_hand, atol=1e-4)
            old = kit.logprobs_by_hand(load()[0], [first, second])[: len(first.tokens.logprobs)]
            assert np.allclose(first.tokens.logprobs, old, atol=1e-4)

    kit.run(main())


def test_messages_being_sampled_are_finished_first_and_new_ones_wait(
    load: Callable[..., tuple[Any, Any]], other: Any, kit: Any
) -> None:
    model, tokenizer = load()

    async def main() -> None:
        policy = TransformersPolicy(model, tokenizer=tokenizer, max_tokens=60, stop="")
        async with kit.opened(policy):
            await policy.prepare()
            engine = policy._loaded()
            engine.dialogue.ends = frozenset()
            early = [asyncio.ensure_future(kit.play(policy, ["look"], session=f"e{n}", seed=n)) for n in range(3)]
            await kit.until(lambda: len(engine.running) == 3)
            update = asyncio.ensure_future(policy.update(other.state_dict(), "new"))
            await asyncio.sleep(0)
            late = [asyncio.ensure_future(kit.play(policy, ["look"], session=f"l{n}", seed=n)) for n in range(3)]
            await update
            for tasks, version, weights in ((early, "0", load()[0]), (late, "new", other)):
                for replies in await asyncio.gather(*tasks):
                    assert replies[0].policy_version == version
                    by_hand = kit.logprobs_by_hand(weights, replies)
                    assert np.allclose(replies[0].tokens.logprobs, by_hand, atol=1e-4)

    kit.run(main())


def broken(other: Any, what: str, tiny: Callable[..., Path], folder: Path) -> Any:
    weights = dict(other.state_dict())
    name = "model.layers.0.mlp.up_proj.weight"
    if what == "shape":
        weights[name] = weights[name][:-1]
    elif what == "unknown":
        weights["model.layers.0.mlp.up_projection.weight"] = weights.pop(name)
    elif what == "missing":
        del weights[name]
    elif what == "no tensor":
        weights[name] = "heavy"
    return {
        "another model": tiny(hidden_size=48),
        "more layers": tiny(layers=3),
        "no folder": "/nowhere/at/all",
        "empty folder": folder,
        "number": 7,
    }.get(what, weights)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("shape", "shape"),
        ("unknown", r"up_projection.*Did you mean.*up_proj"),
        ("missing", "missing.*up_proj"),
        ("no tensor", "no tensor"),
        ("another model", "cannot be read|shape"),
        ("more layers", "not this model's"),
        ("no folder", "no folder of weights"),
        ("empty folder", "cannot be read"),
        ("number", "got int"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    load: Callable[..., tuple[Any, Any]],
    other: Any,
    tiny: Callable[..., Path],
    tmp_path: Path,
    kit: Any,
    what: str,
    says: str,
) -> None:
    model, tokenizer = load()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=9)) as policy:
            with pytest.raises(ConfigError, match=f"(?s){says}"):
                await policy.update(broken(other, what, tiny, tmp_path), "v2")
            assert policy.version == "0"
            assert (await kit.play(policy, ["look"]))[0].policy_version == "0"

    kit.run(main())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_tied_weights_need_one_name(load: Callable[..., tuple[Any, Any]], kit: Any) -> None:
    model, tokenizer = load(tied=True)
    other = load(tied=True, seed=5)[0]
    weights = {name: tensor for name, tensor in other.state_dict().items() if name != "lm_head.weight"}

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=9)) as policy:
            await policy.update(weights, "v2")
            replies = await kit.play(policy, SAID)
            recorded = [value for reply in replies for value in reply.tokens.logprobs]
            assert np.allclose(recorded, kit.logprobs_by_hand(other, replies), atol=1e-4)

    kit.run(main())


def test_a_version_is_a_text(qwen: tuple[Any, Any], kit: Any) -> None:
    with pytest.raises(ConfigError, match="version"):
        kit.run(TransformersPolicy(qwen[0], tokenizer=qwen[1]).update({}, ""))
