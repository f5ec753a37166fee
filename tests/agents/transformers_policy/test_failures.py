"""What goes wrong costs as little as it can."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.errors import ConfigError, PolicyError

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra torch")

Loaded = Callable[..., tuple[Any, Any]]


class Fault:
    """Makes the forward passes of a model fail while armed."""

    def __init__(self, model: Any) -> None:
        self.error: Exception | None = None
        self.rows = 0  # fails passes with at least this many rows
        model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, model: Any, args: Any, kwargs: Any) -> None:
        if self.error is not None and kwargs["input_ids"].shape[0] >= self.rows:
            raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("device lost"), "exception"),
        (MemoryError("no room"), "memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot"), "memory"),
    ],
)
def test_an_error_fails_its_batch_and_the_policy_goes_on(load: Loaded, kit: Any, error: Exception, kind: str) -> None:
    model, tokenizer = load()
    fault = Fault(model)

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=9)) as policy:
            expected = await kit.play(policy, ["look", "a"], session="x")
            kept = await kit.play(policy, ["look"], session="y")
            fault.error = error
            asked = [kit.play(policy, ["look"], session=str(n)) for n in range(3)]
            for caught in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(caught, PolicyError)
                assert caught.kind == kind
            fault.error = None
            assert kit.same((await kit.play(policy, ["look", "a"], session="z"))[1], expected[1])
            request = kit.request(session="y", turn=1, observation="a", state=kept[0].state)
            assert kit.same(await policy.act(request), expected[1])

    kit.run(main())


def test_an_error_while_sampling_fails_all_that_are_sampled(load: Loaded, kit: Any) -> None:
    model, tokenizer = load()
    fault = Fault(model)

    async def main() -> None:
        policy = TransformersPolicy(model, tokenizer=tokenizer, max_tokens=2000, stop="", max_batch=2)
        async with kit.opened(policy):
            await policy.prepare()
            engine = policy._loaded()
            engine.dialogue.ends = frozenset(range(30, 60))
            expected = await kit.play(policy, ["look", "a"])
            assert len(expected[0].tokens.completion_ids) > 3
            engine.dialogue.ends = frozenset()
            asked = [asyncio.ensure_future(kit.play(policy, ["look"], session=str(n))) for n in range(2)]
            await kit.until(lambda: len(engine.running) == 2)
            fault.error = RuntimeError("device lost")
            caught = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(error) for error in caught] == [PolicyError, PolicyError]
            assert "device lost" in str(caught[0])
            fault.error = None
            engine.dialogue.ends = frozenset(range(30, 60))
            again = await kit.play(policy, ["look", "a"], session="next")
            assert all(kit.same(a, b) for a, b in zip(again, expected, strict=True))

    kit.run(main())


def test_logits_that_are_not_finite_fail_their_row_only(load: Loaded, kit: Any) -> None:
    model, tokenizer = load()
    bad = tokenizer("Z", add_special_tokens=False)["input_ids"][-1]

    def poison(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        output.logits[(kwargs["input_ids"] == bad).any(dim=1)] = float("nan")
        return output

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer, max_tokens=5)) as policy:
            expected = await kit.play(policy, ["look", "look"], session="before", seed=3)
            model.register_forward_hook(poison, with_kwargs=True)
            good = [kit.play(policy, ["look", "look"], session=f"g{n}", seed=3) for n in range(2)]
            ill = kit.play(policy, ["look Z"], session="ill")
            one, caught, two = await asyncio.gather(good[0], ill, good[1], return_exceptions=True)
            assert isinstance(caught, PolicyError)
            assert "not finite" in str(caught)
            for replies in (one, two):
                assert all(kit.same(a, b) for a, b in zip(replies, expected, strict=True))

    kit.run(main())


def test_closing_fails_what_waits_and_ends_the_thread(load: Loaded, kit: Any) -> None:
    model, tokenizer = load()

    async def main() -> None:
        before = set(threading.enumerate())
        policy = TransformersPolicy(model, tokenizer=tokenizer, max_tokens=5000, stop="", max_batch=1)
        await policy.prepare()
        (thread,) = (t for t in threading.enumerate() if t not in before and t.name == "turnwise-model")
        policy._loaded().dialogue.ends = frozenset()
        asked = [asyncio.ensure_future(kit.play(policy, ["look"], session=str(n))) for n in range(3)]
        await kit.until(lambda: policy._loaded().running)
        await policy.close()
        for caught in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(caught, PolicyError)
            assert "closed" in str(caught)
        thread.join(10)
        assert not thread.is_alive()
        for late in (policy.prepare(), kit.play(policy, ["look"]), policy.update({}, "2")):
            with pytest.raises(PolicyError, match="closed"):
                await late
        await policy.forget("0")
        await policy.close()

    kit.run(main())


def test_closing_before_anything_was_asked(load: Loaded, kit: Any) -> None:
    async def main() -> None:
        model, tokenizer = load()
        policy = TransformersPolicy(model, tokenizer=tokenizer)
        await policy.close()
        with pytest.raises(PolicyError, match="closed"):
            await policy.prepare()

    kit.run(main())


def test_a_folder_without_a_model(tmp_path: Path, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(TransformersPolicy.from_spec(str(tmp_path))) as policy:
            for _ in range(2):
                with pytest.raises(ConfigError, match="save_pretrained"):
                    await policy.prepare()

    kit.run(main())


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there(tiny: Callable[..., Path], kit: Any, device: str) -> None:
    async def main() -> None:
        async with kit.opened(TransformersPolicy.from_spec(f"{tiny()}?device={device}")) as policy:
            with pytest.raises(ConfigError, match="cannot load"):
                await policy.prepare()

    kit.run(main())


def test_several_prepare_at_once_and_load_once(
    tiny: Callable[..., Path], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    from turnwise.agents.transformers_policy import policy as module

    load_model = module.load_model
    monkeypatch.setattr(module, "load_model", lambda *a, **k: loaded.append(a) or load_model(*a, **k))

    async def main() -> None:
        async with kit.opened(TransformersPolicy.from_spec(f"{tiny()}?max_tokens=3&device=cpu")) as policy:
            first = asyncio.ensure_future(policy.prepare())
            others = asyncio.gather(policy.prepare(), kit.play(policy, ["look"], session="b"), policy.prepare())
            await asyncio.sleep(0)
            first.cancel()  # does not take it from the others
            await others
        assert len(loaded) == 1

    kit.run(main())


def test_a_tokenizer_of_another_model(load: Loaded, kit: Any) -> None:
    model, _ = load()
    tokenizer = load(family="llama", template="chatml")[1]
    tokenizer.add_tokens(["look", "a token that the model does not know"])
    tokenizer.add_tokens([f"extra{n}" for n in range(200)])

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer)) as policy:
            with pytest.raises(PolicyError, match="the model's own tokenizer"):
                await kit.play(policy, ["extra199"])

    kit.run(main())


def test_a_template_that_cannot_be_used(load: Loaded, kit: Any) -> None:
    model, tokenizer = load()
    tokenizer.chat_template = "{{ messages[0].content }}"

    async def main() -> None:
        async with kit.opened(TransformersPolicy(model, tokenizer=tokenizer)) as policy:
            with pytest.raises(ConfigError, match="message by message"):
                await policy.prepare()

    kit.run(main())
