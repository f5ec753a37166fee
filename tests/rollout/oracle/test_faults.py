"""Rewards that hang, crash or burn the CPU cost their own answer and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from oraclesupport import MOODY, WAITING, Served, episode, run_server


def status(served: Served, *items: dict[str, Any], **more: Any) -> list[str]:
    reply = served.post("/v1/score", {"items": list(items), **more})
    assert reply.status_code == 200, reply.text
    return [result["status"] for result in reply.json()["results"]]


def in_background(served: Served, count: int, **metadata: Any) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=status, args=(served, episode(**metadata, salt=f"{time.monotonic()} {n}")))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("mood", ["sleep", "spin"])
def test_a_hang_is_a_timeout_and_the_others_go_on(serve: Callable[..., Served], mood: str) -> None:
    served = serve(settings={"workers": 1, "deadline_s": 6.0, "stall_s": 0.2})
    hung = in_background(served, 1, mood=mood)
    time.sleep(0.3)
    began = time.monotonic()
    assert status(served, *(episode(n=n) for n in range(20))) == ["ok"] * 20
    assert time.monotonic() - began < 5.0, "the others waited for the one that hangs"
    for thread in hung:
        thread.join()
    assert status(served, episode(mood=mood), deadline_s=0.5) == ["timeout"]
    assert status(served, episode(n=99)) == ["ok"]


def test_what_waits_behind_a_hang_in_the_same_worker_is_moved(serve: Callable[..., Served]) -> None:
    served = serve(settings={"workers": 1, "deadline_s": 20.0, "stall_s": 0.2})
    items = [episode(mood="sleep", seconds=3600), *(episode(n=n) for n in range(8))]
    results = status(served, *items, deadline_s=4.0)
    assert results == ["timeout"] + ["ok"] * 8
    assert served.metric("turnwise_oracle_workers_stalled") >= 1


def test_threads_that_hang_do_not_block_the_others(serve: Callable[..., Served]) -> None:
    served = serve(WAITING, settings={"workers": 1, "threads": 4, "deadline_s": 2.0})
    hung = in_background(served, 2, mood="sleep")
    assert status(served, *(episode(n=n) for n in range(10))) == ["ok"] * 10
    for thread in hung:
        thread.join()
    time.sleep(0.5)
    assert served.metric("turnwise_oracle_workers_killed") >= 1
    assert status(served, *(episode(n=n, after=True) for n in range(10))) == ["ok"] * 10


def test_a_crash_costs_one_answer(serve: Callable[..., Served]) -> None:
    served = serve(settings={"workers": 2, "deadline_s": 30.0})
    items = [episode(n=n) for n in range(10)]
    items[4] = episode(mood="crash")
    assert status(served, *items) == ["ok"] * 4 + ["judge_failed"] + ["ok"] * 5
    assert served.metric("turnwise_oracle_workers_died") == 2
    assert status(served, episode(n=77)) == ["ok"]


def test_a_killed_worker_loses_nothing(serve: Callable[..., Served]) -> None:
    served = serve(settings={"workers": 1, "deadline_s": 30.0})
    slow = in_background(served, 1, mood="sleep", seconds=1.0)
    time.sleep(0.3)
    (worker,) = [child for child in psutil.Process().children() if "oracle.worker" in " ".join(child.cmdline())][-1:]
    os.kill(worker.pid, signal.SIGKILL)
    for thread in slow:
        thread.join()
    assert served.metric('turnwise_oracle_items_total{dialect="native",status="ok"}') == 1


def test_evidence_that_json_has_no_form_for_is_no_500(serve: Callable[..., Served]) -> None:
    assert status(serve(MOODY), episode(mood="object")) == ["invalid"]


def test_no_worker_outlives_the_server(serve: Callable[..., Served]) -> None:
    def workers() -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "oracle.worker" in " ".join(child.cmdline())]

    before = {child.pid for child in workers()}
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(run_server(MOODY, settings={"workers": 2, "deadline_s": 1.0}))
        in_background(served, 1, mood="sleep")[0].join()
        assert {child.pid for child in workers()} - before
    time.sleep(0.2)
    assert not {child.pid for child in workers()} - before
