"""One Chromium: started below a guard, watched by a deadline, shared by the pages of a thread.

Playwright's synchronous interface belongs to the thread that starts it, and a thread can start it once. So a browser is
borrowed (:func:`borrow_browser`) and returned; the last borrower ends it. Whatever goes wrong in it is a
:class:`~turnwise.errors.SandboxError`, after which it is gone, and the next borrower gets a new one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from turnwise.envs.browser.chromium import DEAD_PROXY, find_chromium, guarded_command, import_playwright
from turnwise.envs.browser.watchdog import Watchdog
from turnwise.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from turnwise.envs.browser.page import BrowserPage

LAUNCH_DEADLINE_S = 60.0
CLOSE_DEADLINE_S = 10.0
_DYING_S = 3.0
_MESSAGE_CHARS = 300

_SHARED: dict[tuple[int, int], Browser] = {}


class Browser:
    """A running Chromium. Use it in the thread that made it."""

    def __init__(self, *, deadline_s: float = LAUNCH_DEADLINE_S) -> None:
        """Start Chromium.

        Args:
            deadline_s: Seconds that the start may take.

        Raises:
            MissingExtraError: Playwright is not installed.
            ConfigError: Chromium is not installed, or an event loop runs in this thread.
            SandboxError: It does not start.
        """
        api = import_playwright()
        self.borrowers = 0
        self._owner = os.getpid()
        self._error: type[Exception] = api.Error
        self._dead: str | None = None
        self._depth = 0
        self._guard: psutil.Process | None = None
        self._driver: psutil.Process | None = None
        self._folder = ""
        self._known: list[psutil.Process] = []  # all that is to be gone in the end
        before = _children()
        try:
            with _keeping_global_random():
                self._playwright: Any = api.sync_playwright().start()
        except api.Error as error:
            # Playwright refuses to block a thread that runs an event loop.
            raise ConfigError(f"a browser world is made in a thread without a running event loop: {error}") from error
        self._driver = next(iter(_children() - before), None)
        self._watchdog = Watchdog(self.kill, name="turnwise-browser-watchdog")
        try:
            chromium = find_chromium(self._playwright)
            self._folder = tempfile.mkdtemp(prefix="turnwise-browser-")
            program, arguments = guarded_command(self._folder, chromium)
            with self.working("starting Chromium", deadline_s):
                self._browser: Any = self._playwright.chromium.launch(
                    executable_path=program, args=arguments, ignore_default_args=True, timeout=deadline_s * 1e3
                )
                self._guard = psutil.Process(int(Path(self._folder, "guard.pid").read_text()))
        except BaseException:
            self.close()
            raise
        self._browser.on("disconnected", lambda *_: self._die("Chromium ended by itself"))

    # -- life --------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self._dead is None and self._owner == os.getpid()

    def _die(self, why: str) -> None:
        self._dead = self._dead or why

    def kill(self) -> None:
        """Kill Chromium and what drives it, from any thread: for a browser that no longer answers."""
        self._die("it was killed because it did not answer in time")
        self._known = self.processes()
        _end(self._guard, signal.SIGTERM)  # it kills all that is below it
        for process in self._helpers():
            _end(process, signal.SIGKILL, patience_s=0.0)
        _end(self._driver, signal.SIGKILL)

    def _helpers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            if self._driver is not None:
                return self._driver.children(recursive=True)
        return []

    def close(self) -> None:
        """End Chromium; may be called twice."""
        if self._owner != os.getpid():
            return  # a copy of the object in a forked child: the browser is the parent's
        self._die("it was closed")
        self._known = [*self._known, *self.processes()]
        self._watchdog.arm(CLOSE_DEADLINE_S)
        browser, self._browser = getattr(self, "_browser", None), None
        with contextlib.suppress(Exception):  # it may be dead already, in any way
            if browser is not None:
                browser.close()
        playwright, self._playwright = self._playwright, None
        with contextlib.suppress(Exception):
            if playwright is not None:
                playwright.stop()
        self._watchdog.disarm()
        self._watchdog.close()
        self._bury()

    def _bury(self) -> None:
        """Make sure that nothing is left; after an orderly end nothing is."""
        _end(self._guard, signal.SIGTERM)
        _end(self._driver, signal.SIGKILL)
        deadline = time.monotonic() + _DYING_S
        while not all(map(_gone, self._known)) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._known = []
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- work --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def working(self, doing: str, seconds: float) -> Iterator[None]:
        """Bound what happens in the block; the outermost block's deadline counts.

        Args:
            doing: What is being done, for the message.
            seconds: How long it may take.

        Raises:
            SandboxError: The browser is gone (kind ``"exit"``), did not finish in time (``"hang"``), or failed
                (``"exception"``).
        """
        if not self.alive:
            raise SandboxError(f"no browser for {doing}: {self._dead or 'it belongs to another process'}", kind="exit")
        outermost = self._depth == 0
        if outermost:
            self._watchdog.arm(seconds)
        self._depth += 1
        try:
            yield
        except self._error as error:
            raise self._failure(doing, seconds, error) from error
        except (ConnectionError, EOFError) as error:  # of the pipe to Playwright's driver
            self._die("its driver ended")
            raise self._failure(doing, seconds, error) from error
        except Exception as error:
            if not self._watchdog.bitten:
                raise
            raise self._failure(doing, seconds, error) from error
        finally:
            self._depth -= 1
            if outermost:
                self._watchdog.disarm()

    def _failure(self, doing: str, seconds: float, error: Exception) -> SandboxError:
        said = str(error).partition("\n")[0][:_MESSAGE_CHARS]
        if self._watchdog.bitten or type(error).__name__ == "TimeoutError":
            return SandboxError(f"the browser did not finish within {seconds:g} s: {doing} ({said})", kind="hang")
        gone = not self.alive or "closed" in said or "crashed" in said
        if gone:
            self._die(f"it failed during {doing}")
        return SandboxError(f"the browser failed during {doing}: {said}", kind="exit" if gone else "exception")

    def new_page(
        self, *, size: tuple[int, int], origins: Sequence[str], scale: float = 1.0, deadline_s: float = 30.0
    ) -> BrowserPage:
        """Open a page in a context of its own: its own cookies, cache and network rules.

        Args:
            size: Width and height of the viewport, in CSS pixels.
            origins: ``host:port`` of the servers that it may reach; everything else is refused.
            scale: Device pixels per CSS pixel.
            deadline_s: Seconds that each of the page's actions may take.

        Raises:
            SandboxError: The browser is gone or fails.
        """
        from turnwise.envs.browser.page import BrowserPage

        with self.working("opening a page", deadline_s):
            context = self._browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                device_scale_factor=scale,
                proxy={"server": DEAD_PROXY, "bypass": ",".join(origins)},
                accept_downloads=False,
                service_workers="block",
                locale="en-US",
                timezone_id="UTC",
                color_scheme="light",
                reduced_motion="reduce",
            )
            return BrowserPage(self, context, size=size, deadline_s=deadline_s)

    def processes(self) -> list[psutil.Process]:
        """Return the guard, its sweeper, Chromium and its helpers, as far as they run: for tests and figures."""
        with contextlib.suppress(psutil.Error):
            if self._guard is not None:
                return [self._guard, *self._guard.children(recursive=True)]
        return []


@contextlib.contextmanager
def _keeping_global_random() -> Iterator[None]:
    """Leave the global generator as it was: Playwright draws a prefix for its calls from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _end(process: psutil.Process | None, number: int, *, patience_s: float = _DYING_S) -> None:
    """Send a process a signal and wait for its end; fine if there is none."""
    with contextlib.suppress(psutil.Error):  # a TimeoutExpired among them
        if process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            process.send_signal(number)
            process.wait(patience_s)


def _gone(process: psutil.Process) -> bool:
    """Whether a process has ended; buries it where its orphans come to us, as they do in a rollout's workers."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.status() == psutil.STATUS_ZOMBIE or not process.is_running()
    except psutil.Error:
        return True


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def borrow_browser() -> Browser:
    """Return this thread's browser, started if there is none; give it back with :func:`return_browser`.

    Raises:
        MissingExtraError: Playwright is not installed.
        ConfigError: Chromium is not installed.
        SandboxError: It does not start.
    """
    key = (os.getpid(), threading.get_ident())
    browser = _SHARED.get(key)
    if browser is not None and not browser.alive:
        browser.close()
        browser = None
    if browser is None:
        browser = _SHARED[key] = Browser()
    browser.borrowers += 1
    return browser


def return_browser(browser: Browser) -> None:
    """Give a borrowed browser back; the last one, or a broken one, is ended."""
    browser.borrowers -= 1
    if browser.borrowers > 0 and browser.alive:
        return
    for key, known in list(_SHARED.items()):
        if known is browser:
            del _SHARED[key]
    browser.close()
