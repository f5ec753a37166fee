"""Where Chromium is, and how it is started: no network of its own, the same pixels every time."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnwise.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

CHROMIUM_VARIABLE = "TURNWISE_CHROMIUM"
SANDBOX_VARIABLE = "TURNWISE_CHROMIUM_SANDBOX"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_INSTALL = (
    "install it with: apt-get install chromium (Debian, Ubuntu), or: playwright install chromium; "
    f"or set {CHROMIUM_VARIABLE} to its path"
)

# A proxy that nobody listens on: every address that a page is not told to reach ends there.
DEAD_PROXY = "http://127.0.0.1:9"
_FEATURES_OFF = (
    *("AimEnabled", "AutofillServerCommunication", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("CertificateTransparencyComponentUpdater", "DestroyProfileOnBrowserClose", "DialMediaRouteProvider"),
    *("HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "InterestFeedContentSuggestions", "LensOverlay"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch"),
    *("Prerender2", "Translate"),
)
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-startup-window",
    # What calls home, or would change under our feet.
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    f"--disable-features={','.join(_FEATURES_OFF)}",
    "--disable-field-trial-config",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--no-service-autorun",
    "--password-store=basic",
    f"--proxy-server={DEAD_PROXY}",
    "--use-mock-keychain",
    # The same pixels every time, also for a page in the background.
    "--allow-pre-commit-input",
    "--disable-back-forward-cache",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-checker-imaging",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-hang-monitor",
    "--disable-ipc-flooding-protection",
    "--disable-lcd-text",
    "--disable-partial-raster",  # a corner redrawn in part differs by one from the same corner drawn whole
    "--disable-popup-blocking",
    "--disable-prompt-on-repost",
    "--disable-renderer-backgrounding",
    "--disable-skia-runtime-opts",
    "--enable-features=CDPScreenshotNewSurface",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-US",
    "--mute-audio",
)


def import_playwright() -> Any:
    """Return the module ``playwright.sync_api``.

    Raises:
        MissingExtraError: Playwright is not installed.
    """
    try:
        from playwright import sync_api
    except ImportError as error:
        raise MissingExtraError("playwright", "browser") from error
    return sync_api


def find_chromium(playwright: Playwright | None = None) -> str:
    """Return the path of Chromium: ``$TURNWISE_CHROMIUM``, the first one on PATH, or Playwright's own.

    Args:
        playwright: Knows where its own would be.

    Raises:
        ConfigError: There is none; the message says how to install it.
    """
    named = os.environ.get(CHROMIUM_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise ConfigError(f"{CHROMIUM_VARIABLE}={named} is no program: {_INSTALL}")
        return found
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    own = "" if playwright is None else playwright.chromium.executable_path
    if own and Path(own).exists():
        return own
    raise ConfigError(f"this needs Chromium, which was not found: {_INSTALL}")


def chromium_flags() -> list[str]:
    """Return the flags that Chromium is started with.

    Its own sandbox cannot be used by root, and by others only where the kernel lets them: ``TURNWISE_CHROMIUM_SANDBOX``
    (0 or 1) decides, else who we are. Pages that are shown are our own, and reach no network.
    """
    wanted = os.environ.get(SANDBOX_VARIABLE)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    sandboxed = wanted == "1" if wanted in ("0", "1") else not root
    return [*FLAGS] if sandboxed else [*FLAGS, "--no-sandbox"]


def guarded_command(folder: str, chromium: str) -> tuple[str, list[str]]:
    """Return the program and arguments that start Chromium below a guard (see ``guard.py``).

    Args:
        folder: A new folder for the profile; the guard removes it.
        chromium: Path of Chromium.
    """
    guard = str(Path(__file__).with_name("guard.py"))
    return sys.executable, ["-I", "-S", guard, str(os.getpid()), folder, chromium, *chromium_flags()]
