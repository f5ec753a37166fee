"""A small site of pages that behave in every way, and pages in a browser to look at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from turnwise.envs.browser import Browser, BrowserPage, borrow_browser, return_browser

FORM = """<!doctype html><html lang="en"><title>Form</title><main><h1>Order</h1>
<form action="/sent"><label for="name">Name</label><input id="name" name="name" maxlength="40"><button>Send</button>
</form>
<fieldset role="radiogroup" aria-label="Size"><label><input type="radio" name="size">Small</label>
<label><input type="radio" name="size" disabled>Large</label></fieldset>
<select aria-label="Sort"><option>Name</option><option>Price</option></select>
<p>Plain <b>words</b>.</p><a href="/other">Other page</a><a href="#here">Same page</a>
<a href="/popup" target="_blank">Popup</a><button onclick="alert(1)">Alert</button>
<button onclick="confirm('sure?') || (document.title='refused')">Ask</button>
<button onclick="later()">Later</button><button onclick="location.href='/other'">Jump</button>
<button onclick="while (true) {}">Hang</button><button style="display:none">Hidden</button>
<div style="height:3000px"></div><button>Far</button></main>
<script>const later = () => { document.body.setAttribute("aria-busy", "true");
setTimeout(() => { document.querySelector("h1").textContent = "Done";
document.body.removeAttribute("aria-busy"); }, 150); };
</script></html>"""
LEAKY = '<title>leaky</title><link rel="icon" href="data:,"><img src="{address}"><h1>Leak</h1>'
COVERED = """<!doctype html><title>Covered</title><button>Below</button>
<div style="position:fixed;inset:0;background:#fff">A curtain</div>"""


class Pages(BaseHTTPRequestHandler):
    """Serves the pages, and remembers what was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/slow":
            threading.Event().wait(20)
        page = {"/": FORM, "/covered": COVERED}.get(self.path, f"<title>{self.path}</title><h1>Hi</h1>")
        if self.path.startswith("/leaky"):
            page = LEAKY.format(address=self.path.partition("?")[2])
        body = page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """``host:port`` of the site."""
    yield from serve()


@pytest.fixture(scope="module")
def other_site() -> Iterator[str]:
    """``host:port`` of a site that pages may not reach."""
    yield from serve()


@pytest.fixture
def asked() -> list[str]:
    """The paths that either site is asked for."""
    Pages.asked.clear()
    return Pages.asked


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    borrowed = borrow_browser()
    yield borrowed
    return_browser(borrowed)


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[BrowserPage]:
    made = browser.new_page(size=(800, 600), origins=[site])
    made.begin(f"http://{site}/")
    yield made
    made.close()
