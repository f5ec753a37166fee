"""Browsers end: in order, by crashes, by hanging, and with their owner. Nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from turnwise.envs.browser import Browser, borrow_browser, return_browser
from turnwise.envs.browser.chromium import CHROMIUM_VARIABLE, SANDBOX_VARIABLE, chromium_flags, find_chromium
from turnwise.envs.browser.watchdog import Watchdog
from turnwise.errors import ConfigError, MissingExtraError, SandboxError

browser_test = pytest.mark.browser
OWNER = """
import sys, threading
from turnwise.envs.browser import borrow_browser
browser = borrow_browser()
page = browser.new_page(size=(300, 300), origins=[])
print(*(process.pid for process in browser.processes()), browser._folder, flush=True)
threading.Event().wait(60)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@browser_test
def test_an_orderly_end_leaves_nothing() -> None:
    before, threads = set(psutil.Process().children(recursive=True)), threading.active_count()
    browser = borrow_browser()
    processes, folder = browser.processes(), Path(browser._folder)
    assert len(processes) > 3
    assert folder.exists()
    return_browser(browser)
    assert wait_for(lambda: gone(processes))
    assert wait_for(lambda: set(psutil.Process().children(recursive=True)) <= before)
    assert not folder.exists()
    assert threading.active_count() == threads
    browser.close()


def running(pids: list[str]) -> list[psutil.Process]:
    """Return the processes that are still there: Chromium ends some of its own at any time."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


@browser_test
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_owner_takes_everything_along(number: int) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        *pids, folder = owner.stdout.readline().split()
        processes = running(pids)
        driver = psutil.Process(owner.pid).children()
        assert len(processes) > 3
        owner.send_signal(number)
        owner.wait(20)
        assert wait_for(lambda: gone([*processes, *driver]))
        assert wait_for(lambda: not Path(folder).exists())
    finally:
        owner.kill()
        owner.wait()


@browser_test
def test_stopped_helpers_do_not_survive_their_owner_either() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        *pids, _ = owner.stdout.readline().split()
        processes = running(pids)
        for process in processes[1:]:  # all but the guard
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        owner.kill()
        owner.wait(20)
        assert wait_for(lambda: gone(processes))
    finally:
        owner.kill()
        owner.wait()


@browser_test
def test_a_crash_is_a_sandbox_failure_and_the_next_borrower_gets_another(site: str) -> None:
    browser = borrow_browser()
    page = browser.new_page(size=(300, 300), origins=[site])
    page.begin(f"http://{site}/")
    processes = browser.processes()
    for process in processes[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with pytest.raises(SandboxError) as caught:
        page.read()
    assert caught.value.kind == "exit"
    with pytest.raises(SandboxError, match="no browser for taking a screenshot"):
        page.screenshot()
    again = borrow_browser()
    assert again is not browser
    page.close()
    return_browser(browser)
    page = again.new_page(size=(300, 300), origins=[site])
    page.begin(f"http://{site}/")
    assert page.read().title == "Form"
    return_browser(again)
    assert wait_for(lambda: gone(processes))


@browser_test
def test_a_page_that_hangs_is_killed_at_its_deadline(site: str) -> None:
    browser = borrow_browser()
    processes = browser.processes()
    page = browser.new_page(size=(300, 300), origins=[site], deadline_s=3)
    page.begin(f"http://{site}/")
    hang = next(element for element in page.read().elements.values() if element.name == "Hang")
    with pytest.raises(SandboxError, match="did not finish within 3 s") as caught:
        page.click(hang)
    assert (caught.value.kind, caught.value.boundary) == ("hang", "sandbox")
    return_browser(browser)
    assert wait_for(lambda: gone(processes))


@browser_test
def test_a_slow_server_and_stopped_processes_are_hangs_too(site: str) -> None:
    browser = borrow_browser()
    page = browser.new_page(size=(300, 300), origins=[site], deadline_s=2)
    with pytest.raises(SandboxError) as caught:
        page.begin(f"http://{site}/slow")
    assert caught.value.kind == "hang"
    return_browser(browser)

    browser = borrow_browser()
    page = browser.new_page(size=(300, 300), origins=[site], deadline_s=3)
    page.begin(f"http://{site}/")
    processes = browser.processes()
    assert browser._driver is not None
    browser._driver.suspend()
    with pytest.raises(SandboxError) as caught:
        page.read()
    assert caught.value.kind == "hang"
    return_browser(browser)
    assert wait_for(lambda: gone([*processes, browser._driver]))


SUBREAPER = """
import contextlib, ctypes, psutil
from turnwise.envs.browser import borrow_browser, return_browser
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, as in a rollout's workers
for crash in (False, True):
    browser = borrow_browser()
    for process in browser.processes()[2:] if crash else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return_browser(browser)
print([child.name() for child in psutil.Process().children(recursive=True)])
"""


@browser_test
def test_where_orphans_come_to_us_they_are_buried() -> None:
    done = subprocess.run([sys.executable, "-c", SUBREAPER], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@browser_test
def test_a_running_event_loop_is_refused_in_words() -> None:
    async def inside() -> None:
        borrow_browser()

    with pytest.raises(ConfigError, match="without a running event loop"):
        asyncio.run(inside())


@browser_test
def test_what_is_no_chromium_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHROMIUM_VARIABLE, "/bin/true")
    folders = set(Path(tempfile.gettempdir()).glob("turnwise-browser-*"))
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(SandboxError, match="starting Chromium"):
        Browser()
    assert set(psutil.Process().children(recursive=True)) <= before
    assert set(Path(tempfile.gettempdir()).glob("turnwise-browser-*")) <= folders


def test_a_missing_chromium_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(CHROMIUM_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="apt-get install chromium"):
        find_chromium()
    monkeypatch.setenv(CHROMIUM_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"none is no program.*apt-get install chromium"):
        find_chromium()


def test_a_missing_playwright_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'turnwise\[browser\]'"):
        borrow_browser()


def test_only_root_does_without_chromiums_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SANDBOX_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--no-sandbox" in chromium_flags()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--no-sandbox" not in chromium_flags()
    monkeypatch.setenv(SANDBOX_VARIABLE, "0")
    assert "--no-sandbox" in chromium_flags()


def test_the_watchdog_bites_once_and_only_when_a_deadline_passes() -> None:
    bites: list[int] = []
    dog = Watchdog(lambda: bites.append(1), name="test")
    for _ in range(50):
        dog.arm(30)
        dog.disarm()
    assert not bites
    dog.arm(30)
    dog.arm(0.01)  # an earlier deadline than the one that it sleeps for
    assert wait_for(lambda: bool(bites))
    dog.close()
    assert (bites, dog.bitten) == ([1], True)
