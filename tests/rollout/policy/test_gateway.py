"""The gateway: every slot gets its answer, and what a dead slot had asked for is given up."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from chaospolicy import ChaosPolicy

from turnwise.errors import PolicyError, TransportError
from turnwise.policy import PolicyRequest, pack_state
from turnwise.rollout.policy import frames
from turnwise.rollout.policy.channel import SocketChannel
from turnwise.rollout.policy.gateway import Gateway

from .conftest import wait_until


class Near:
    """A replica in this process."""

    def __init__(self, what: str = "") -> None:
        self.policy = ChaosPolicy(what)
        self.asked = 0
        self.broken: Exception | None = None

    async def ask(self, data: bytes) -> bytes:
        self.asked += 1
        if self.broken is not None:
            raise self.broken
        return await frames.answer(self.policy, data)


def request(session: str, turn: int = 0) -> PolicyRequest:
    state = pack_state([turn, "s"]) if turn else b""
    return PolicyRequest(session=session, turn=turn, observation="Wait.", system="s", tools=({},), state=state)


def serve(replicas: list[Near], talk: Callable[[Gateway], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        gateway = Gateway(replicas)
        await gateway.start()
        try:
            return await asyncio.wait_for(talk(gateway), 30)
        finally:
            await gateway.close()
            assert not Path(gateway.path).parent.exists()

    return asyncio.run(main())


def test_answers_reach_who_asked() -> None:
    async def talk(gateway: Gateway) -> None:
        channels = [await asyncio.to_thread(SocketChannel, gateway.path) for _ in range(5)]
        asks = [asyncio.to_thread(channel.act, request(f"s{n}")) for n, channel in enumerate(channels)]
        replies = await asyncio.gather(*asks)
        assert [reply.text for reply in replies] == ["wait"] * 5
        assert await asyncio.to_thread(channels[0].continuation, "four", (1, 2)) == (2, 4)
        for channel in channels:
            channel.close()

    serve([Near()], talk)


def test_requests_of_several_slots_are_with_the_policy_at_once() -> None:
    async def talk(gateway: Gateway) -> None:
        channels = [await asyncio.to_thread(SocketChannel, gateway.path) for _ in range(4)]
        asks = [asyncio.to_thread(channel.act, request(f"s{n}")) for n, channel in enumerate(channels)]
        assert len(await asyncio.gather(*asks)) == 4  # "together:4" answers nobody before
        for channel in channels:
            channel.close()

    serve([Near("together:4")], talk)


def test_an_episode_stays_with_its_replica() -> None:
    replicas = [Near(), Near(), Near()]

    async def talk(gateway: Gateway) -> None:
        channel = await asyncio.to_thread(SocketChannel, gateway.path)
        for turn in range(4):
            await asyncio.to_thread(channel.act, request("one", turn))
        assert sorted(replica.asked for replica in replicas) == [0, 0, 4]
        for n in range(30):
            await asyncio.to_thread(channel.act, request(f"s{n}"))
        assert all(replica.asked for replica in replicas)
        channel.close()

    serve(replicas, talk)


def test_what_a_dead_slot_asked_for_is_cancelled_and_forgotten() -> None:
    replica = Near("hang")

    async def talk(gateway: Gateway) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(gateway.path)
        sock.sendall(frames.frame(frames.encode(frames.Act(request=request("doomed", 1)))))
        assert await asyncio.to_thread(wait_until, lambda: replica.asked > 0)
        sock.close()  # as the kernel does for a killed process
        assert await asyncio.to_thread(wait_until, lambda: bool(replica.policy.forgotten))
        assert replica.policy.cancelled == ["doomed"]
        assert replica.policy.forgotten == ["doomed"]

    serve([replica], talk)


def test_an_episode_that_said_goodbye_is_forgotten_once() -> None:
    replica = Near()

    async def talk(gateway: Gateway) -> None:
        channel = await asyncio.to_thread(SocketChannel, gateway.path)
        await asyncio.to_thread(channel.act, request("a"))
        await asyncio.to_thread(channel.forget, "a")
        channel.close()
        await asyncio.sleep(0.1)
        assert replica.policy.forgotten == ["a"]

    serve([replica], talk)


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        (PolicyError("the policy was lost", kind="exit"), PolicyError, "the policy was lost"),
        (RuntimeError("odd"), PolicyError, "RuntimeError during asking the policy: odd"),
    ],
)
def test_a_lost_replica_is_an_error_of_the_policy(broken: Exception, error: type[Exception], message: str) -> None:
    replica = Near()
    replica.broken = broken

    async def talk(gateway: Gateway) -> None:
        channel = await asyncio.to_thread(SocketChannel, gateway.path)
        with pytest.raises(error, match=message):
            await asyncio.to_thread(channel.act, request("a"))
        replica.broken = None
        assert (await asyncio.to_thread(channel.act, request("a"))).text == "wait"
        channel.close()

    serve([replica], talk)


@pytest.mark.parametrize("garbage", [b"\x05\x00\x00\x00hello", b"\xff\xff\xff\xff", b"\x05"])
def test_garbage_costs_its_own_line_only(garbage: bytes) -> None:
    async def talk(gateway: Gateway) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(gateway.path)
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        assert await asyncio.to_thread(sock.recv, 1) == b""
        sock.close()
        channel = await asyncio.to_thread(SocketChannel, gateway.path)
        assert (await asyncio.to_thread(channel.act, request("a"))).text == "wait"
        channel.close()

    serve([Near()], talk)


def test_only_this_user_may_enter_and_nobody_listens_later() -> None:
    async def talk(gateway: Gateway) -> str:
        folder = os.stat(Path(gateway.path).parent)
        assert stat.S_IMODE(folder.st_mode) == 0o700
        return gateway.path

    path = serve([Near()], talk)
    with pytest.raises(TransportError, match="no gateway to the policy"):
        SocketChannel(path)
