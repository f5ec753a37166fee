"""Joining and leaving the batch: caches, budgets, stops, cancelling."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from turnwise.agents.policy_agent import LocalChannel
from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.errors import BudgetSpentError, PolicyError
from turnwise.policy import pack_state

pytest.importorskip("transformers", reason="needs the extra torch")

SAID = ["look " * 20, "you see a mug", "you hold a mug"]
Make = Callable[..., TransformersPolicy]


@pytest.fixture
def make(plain_bytes: tuple[Any, Any]) -> Make:
    model, tokenizer = plain_bytes
    return lambda **options: TransformersPolicy(model, tokenizer=tokenizer, **{"max_tokens": 8, **options})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, plain_bytes: tuple[Any, Any]) -> Callable[[list[Any]], None]:
    """Sample these texts or ids in place of the model's own, one after the other, for one row at a time."""
    tokenizer = plain_bytes[1]

    def script(parts: list[Any]) -> None:
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else tokenizer(part, add_special_tokens=False)["input_ids"]
        left = iter(ids)
        monkeypatch.setattr(
            "turnwise.agents.transformers_policy.engine.sample", lambda logits, draws, **_: ([next(left)], [-1.0])
        )

    return script


async def kept_tokens(policy: Any) -> int:
    """How many tokens are kept between turns, once the model's thread has come to rest."""
    return int(await policy._call(lambda: policy._loaded().caches.tokens))


# -- caches ----------------------------------------------------------------------------------------


def test_nothing_is_computed_twice(make: Make, kit: Any) -> None:
    async def count(**options: Any) -> tuple[int, list[Any]]:
        async with kit.opened(make(**options)) as policy:
            replies = await kit.play(policy, SAID)
            return policy.tokens_computed, replies

    kept, replies = kit.run(count())
    # Every id is read once, but for the last, after which nothing is asked.
    assert kept == len(kit.ids_of(replies)) - 1
    anew, again = kit.run(count(cache=False))
    assert [reply.text for reply in again] == [reply.text for reply in replies]
    ends = [len(kit.ids_of(replies[: turn + 1])) - 1 for turn in range(3)]
    assert anew == sum(ends)


def test_the_least_recently_used_cache_goes_first(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make(cache_tokens=100, max_tokens=2)) as policy:
            first = {name: (await kit.play(policy, ["look"], session=name))[0] for name in "abc"}
            sizes = {name: len(kit.ids_of([reply])) - 1 for name, reply in first.items()}
            for filler in range(100 // sizes["a"]):
                await kit.play(policy, ["look"], session=f"filler{filler}")
            assert await kept_tokens(policy) <= 100
            before = policy.tokens_computed
            reply = await policy.act(kit.request(session="a", turn=1, observation="x", state=first["a"].state))
            whole = sizes["a"] + 1 + len(reply.tokens.prompt_ids) + len(reply.tokens.completion_ids) - 1
            assert policy.tokens_computed - before == whole  # evicted: all of it anew

    kit.run(main())


def test_a_forgotten_session_keeps_nothing(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make()) as policy:
            await policy.forget("before it is loaded")
            await kit.play(policy, ["look"])
            assert await kept_tokens(policy) > 0
            await policy.forget("a")
            await policy.forget("unknown")
            assert await kept_tokens(policy) == 0

    kit.run(main())


def test_a_repeated_turn_gets_the_same_message(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make()) as policy:
            replies = await kit.play(policy, SAID, seed=2)
            request = kit.request(turn=1, observation=SAID[1], seed=2, state=replies[0].state)
            assert kit.same(await policy.act(request), replies[1])
            other = kit.request(turn=1, observation="something else", seed=2, state=replies[0].state)
            assert (await policy.act(other)).tokens.prompt_ids != replies[1].tokens.prompt_ids

    kit.run(main())


# -- the batch -------------------------------------------------------------------------------------


def test_requests_join_while_others_are_sampled(make: Make, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from turnwise.agents.transformers_policy.runner import PackedRunner

    rows: list[int] = []
    advance = PackedRunner.advance

    def seen(self: Any, messages: Any) -> Any:
        rows.append(len(messages))
        return advance(self, messages)

    monkeypatch.setattr(PackedRunner, "advance", seen)

    async def main() -> None:
        async with kit.opened(make(max_batch=3, max_tokens=20)) as policy:
            await policy.prepare()
            rows.clear()
            await asyncio.gather(*(kit.play(policy, SAID, session=str(n), seed=n) for n in range(7)))
            assert max(rows) == 3
            assert policy.why is None

    kit.run(main())


def test_the_batch_stays_within_its_tokens(make: Make, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from turnwise.agents.transformers_policy.runner import PackedRunner

    widths: list[tuple[int, int]] = []
    forward = PackedRunner._forward

    def seen(self: Any, cache: Any, ids: Any, where: Any, mask: Any) -> Any:
        widths.append((mask.shape[0], mask.shape[0] * mask.shape[1]))
        return forward(self, cache, ids, where, mask)

    monkeypatch.setattr(PackedRunner, "_forward", seen)

    async def main() -> None:
        async with kit.opened(make(max_batch_tokens=200)) as policy:
            await policy.prepare()
            widths.clear()
            await asyncio.gather(
                *(kit.play(policy, ["look " * (5 * n), "a mug"], session=str(n), seed=n) for n in range(6))
            )
        assert max(size for rows, size in widths if rows > 1) <= 200
        assert max(size for rows, size in widths if rows == 1) <= 200
        assert max(rows for rows, _ in widths) > 1

    kit.run(main())


def test_what_is_kept_of_one_and_new_of_another_is_not_read_side_by_side(
    make: Make, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnwise.agents.transformers_policy.runner import PackedRunner

    sizes: list[int] = []
    forward = PackedRunner._forward

    def seen(self: Any, cache: Any, ids: Any, where: Any, mask: Any) -> Any:
        sizes.append(mask.numel())
        return forward(self, cache, ids, where, mask)

    monkeypatch.setattr(PackedRunner, "_forward", seen)
    gate = threading.Event()

    async def main() -> None:
        async with kit.opened(make(max_batch_tokens=320)) as policy:
            (first,) = await kit.play(policy, ["look " * 20], session="old")
            assert 100 < len(kit.ids_of([first])) < 130
            blocked = asyncio.ensure_future(policy._call(lambda: gate.wait(60)))
            later = kit.request(session="old", turn=1, observation="a", state=first.state)
            asked = [asyncio.ensure_future(policy.act(later)), asyncio.ensure_future(kit.play(policy, ["look " * 20]))]
            await asyncio.sleep(0)
            sizes.clear()
            gate.set()  # both are there at once
            await asyncio.gather(blocked, *asked)
            assert max(sizes) <= 320
            assert max(sizes) > 200  # and yet they were sampled side by side

    kit.run(main())


def test_an_episode_longer_than_the_batch_runs_alone(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make(max_batch_tokens=5)) as policy:
            replies = await asyncio.gather(*(kit.play(policy, SAID, session=str(n)) for n in range(3)))
            assert len({tuple(reply.text for reply in each) for each in replies}) == 1

    kit.run(main())


def test_a_cancelled_request_leaves_the_batch(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make(max_tokens=5000, stop="", max_batch=2)) as policy:
            await policy.prepare()
            engine = policy._loaded()
            engine.dialogue.ends = frozenset()
            asked = [asyncio.ensure_future(kit.play(policy, ["look"], session=str(n))) for n in range(3)]
            await kit.until(lambda: len(engine.running) == 2)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await kit.until(lambda: not engine.running)
            assert engine.caches.tokens == 0
            engine.dialogue.ends = frozenset(range(10_000))
            assert (await kit.play(policy, ["look"], session="next"))[0].finish == "stop"

    kit.run(main())


def test_the_event_loop_is_not_blocked_and_one_thread_runs_the_model(
    load: Callable[..., tuple[Any, Any]], kit: Any
) -> None:
    model, tokenizer = load()
    threads: set[int] = set()
    model.register_forward_pre_hook(lambda *_: threads.add(threading.get_ident()))
    gate = threading.Event()

    async def main() -> None:
        policy = TransformersPolicy(model, tokenizer=tokenizer, max_tokens=4)
        async with kit.opened(policy):
            await policy.prepare()
            blocked = asyncio.ensure_future(policy._call(lambda: gate.wait(60)))
            asked = asyncio.ensure_future(kit.play(policy, ["look"]))
            await asyncio.sleep(0.01)
            assert not asked.done()  # and yet we are here
            gate.set()
            assert await blocked
            await asked
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    kit.run(main())


def test_it_serves_from_another_thread(make: Make, kit: Any) -> None:
    channel = LocalChannel(make())
    reply = channel.act(kit.request(observation="look"))
    assert reply.policy_version == "0"
    assert channel.continuation("x", reply.tokens.completion_ids)  # type: ignore[union-attr]
    channel.close()


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "text", "finish"),
    [
        (["go <search>mug</search>", " and more"], "go <search>mug</search>", "action"),
        (["<answer>x</answer>", "y"], "<answer>x</answer>", "action"),
        (['<tool_call>{"name": "a"}', "</tool_call>", "y"], '<tool_call>{"name": "a"}</tool_call>', "action"),
        (["go", 2, "more"], "go", "stop"),
        (["go", 2], "go", "stop"),
        (["</search", "d> x" * 50], None, "length"),
    ],
)
def test_ends(make: Make, kit: Any, scripted: Any, parts: list[Any], text: str | None, finish: str) -> None:
    async def main() -> None:
        async with kit.opened(make(max_tokens=40)) as policy:
            await policy.prepare()
            scripted(parts)
            (reply,) = await kit.play(policy, ["look"])
            assert reply.finish == finish
            if text is None:
                assert len(reply.tokens.completion_ids) == 40
            else:
                assert reply.text == text

    kit.run(main())


def test_what_a_token_says_after_a_stop_text_stays(make: Make, kit: Any, scripted: Any, plain_bytes: Any) -> None:
    tokenizer = plain_bytes[1]
    token = next(  # a token with something after a ">"-like character
        i for i in range(len(tokenizer)) if len(text := tokenizer.decode([i])) > 1 and text.isalpha() and i > 260
    )
    text = tokenizer.decode([token])

    async def main() -> None:
        async with kit.opened(make(stop=f"END,{text[0]}")) as policy:
            await policy.prepare()
            scripted(["1 2", token, "3"])
            (reply,) = await kit.play(policy, ["look"])
            assert reply.text == f"1 2{text}"
            assert reply.finish == "action"
            assert reply.tokens.completion_ids[-1] == token

    kit.run(main())


def test_a_message_that_was_cut_is_ended_by_the_template(make: Make, kit: Any, scripted: Any) -> None:
    async def main() -> None:
        async with kit.opened(make(max_tokens=2)) as policy:
            await policy.prepare()
            scripted([40, 41, 42, 2, 43, 44])
            cut, ended, after = await kit.play(policy, ["look", "a", "b"])
            assert (cut.finish, ended.finish) == ("length", "stop")
            assert ended.tokens.prompt_ids[0] == 2
            assert after.tokens.prompt_ids[0] != 2
            assert kit.ids_of([cut, ended, after]).count(2) == 5  # system-less: 3 users and 2 assistants

    kit.run(main())


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["tokens", "context"])
def test_the_last_turn_gets_what_is_left(load: Any, make: Make, kit: Any, cause: str) -> None:
    async def main() -> None:
        options = {"max_tokens": 30, "stop": ""}
        if cause == "tokens":
            policy = make(max_total_tokens=100, **options)
        else:
            model, tokenizer = load(family="llama", template="chatml", context=100)
            policy = TransformersPolicy(model, tokenizer=tokenizer, max_total_tokens=101, **options)
        async with kit.opened(policy):
            await policy.prepare()
            policy._loaded().dialogue.ends = frozenset()
            replies: list[Any] = []
            spent = None
            while spent is None:
                state = replies[-1].state if replies else b""
                before = policy.tokens_computed
                try:
                    replies.append(await policy.act(kit.request(turn=len(replies), observation="look", state=state)))
                except BudgetSpentError as error:
                    spent = error
            assert spent.cause == cause
            assert policy.tokens_computed == before  # found out before anything was run
            lengths = [len(reply.tokens.completion_ids) for reply in replies]
            assert lengths[:-1] == [30] * (len(lengths) - 1)
            assert lengths[-1] < 30
            assert len(kit.ids_of(replies)) == 100
            assert {reply.finish for reply in replies} == {"length"}

    kit.run(main())


def test_a_prompt_that_does_not_fit(make: Make, kit: Any) -> None:
    async def main() -> None:
        async with kit.opened(make(max_total_tokens=50)) as policy:
            with pytest.raises(BudgetSpentError, match="max_total_tokens is 50"):
                await kit.play(policy, ["look " * 60])
            assert policy.tokens_computed == 0

    kit.run(main())


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"nonsense",
        pack_state([1]),
        pack_state({"ids": b"abc", "sampled": 1}),
        pack_state({"ids": bytes(8), "sampled": 3}),
        pack_state({"ids": b"\xff\xff\xff\x7f" * 2, "sampled": 1}),
        pack_state({"ids": b"\xff\xff\xff\xff" * 2, "sampled": 1}),
    ],
)
def test_a_state_that_is_none(make: Make, kit: Any, state: bytes) -> None:
    async def main() -> None:
        async with kit.opened(make()) as policy:
            with pytest.raises(PolicyError, match="state"):
                await policy.act(kit.request(turn=1, observation="x", state=state))
            await kit.play(policy, ["look"])

    kit.run(main())
