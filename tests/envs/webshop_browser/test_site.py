"""The site without a browser: who may see what, what a request does, and what a page may say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import httpx
import pytest

from turnwise.envs.webshop import WebShopEnv
from turnwise.envs.webshop.product import Product
from turnwise.envs.webshop.visit import Visit
from turnwise.envs.webshop_browser.pages import render
from turnwise.envs.webshop_browser.pictures import picture, shape_of, stencils
from turnwise.envs.webshop_browser.server import SiteServer, borrow_server, return_server, serving
from turnwise.envs.webshop_browser.sessions import Session, Sessions
from turnwise.errors import MissingExtraError, SandboxError


@pytest.fixture(scope="module")
def server() -> Iterator[SiteServer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def shop_env() -> WebShopEnv:
    return WebShopEnv(split="test")


@pytest.fixture
def visit(shop_env: WebShopEnv) -> Visit:
    shop_env.reset(seed=0, options={"task_id": "human-3"})
    return shop_env.visit


@pytest.fixture
def client(server: SiteServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.host}", follow_redirects=True, trust_env=False) as made:
        yield made


@pytest.fixture
def opened(server: SiteServer, visit: Visit) -> tuple[str, Session]:
    return server.sessions.open(visit)


def test_a_whole_purchase(client: httpx.Client, opened: tuple[str, Session], visit: Visit) -> None:
    token, session = opened
    assert visit.target is not None
    product = visit.shop.catalogue.product(visit.target)
    found = client.get(f"/{token}/0/search", params={"words": product.title})
    assert str(found.url).endswith(f"/{token}/1")
    assert product.asin in found.text
    item = client.get(f"/{token}/1/go", params={"to": product.asin.lower()})
    group, values = next(iter(product.options.items()))
    answer = client.post(f"/{token}/2/choose", data={"to": values[-1]}).json()
    assert (answer["next"], answer["chosen"]) == (None, {group: values[-1]})
    assert f'value="{values[-1]}" autocomplete="off" checked' in client.get(item.url).text
    done = client.post(f"/{token}/2/buy")
    assert "Thank you" in done.text
    assert visit.bought is not None
    assert session.take_moves() == [
        f"search[{product.title}]",
        f"click[{product.asin.lower()}]",
        f"click[{values[-1]}]",
        "click[buy now]",
    ]
    # Nothing can be done after the purchase, from whatever page.
    reward = visit.bought
    client.post(f"/{token}/2/choose", data={"to": values[0]})
    client.post(f"/{token}/2/buy")
    client.get(f"/{token}/0/search", params={"words": "tea"})
    assert "Thank you" in client.get(f"/{token}/1").text
    assert visit.bought is reward
    assert session.take_moves() == []


def test_an_older_page_puts_the_customer_back(client: httpx.Client, opened: tuple[str, Session], visit: Visit) -> None:
    token, session = opened
    client.get(f"/{token}/0/search", params={"words": "green tea"})
    client.get(f"/{token}/1/go", params={"to": "next >"})
    assert visit.page.number == 2
    client.get(f"/{token}/1")
    assert (visit.page.kind, visit.page.number) == ("results", 1)
    client.get(f"/{token}/0")
    assert visit.page.kind == "search"
    assert session.last == 2


def test_sessions_cannot_be_guessed_and_do_not_see_each_other(client: httpx.Client, server: SiteServer) -> None:
    env = WebShopEnv(split="test")
    tokens = []
    for number in (5, 6):
        env.reset(seed=0, options={"task_id": f"human-{number}"})
        tokens.append(server.sessions.open(env.visit)[0])
    first, second = (client.get(f"/{token}/0").text for token in tokens)
    assert first != second
    assert tokens[1] not in first
    assert min(map(len, tokens)) >= 20
    for path in ("/", "/x/0", "/sessions", "/docs", "/openapi.json", f"/{tokens[0][:-1]}/0", f"/{tokens[0]}/7"):
        assert client.get(path).status_code in (404, 422), path
    server.sessions.close(tokens[0])
    assert client.get(f"/{tokens[0]}/0").status_code == 404
    assert client.get(f"/{tokens[1]}/0").status_code == 200


def test_what_asks_wrongly_is_refused(client: httpx.Client, opened: tuple[str, Session], visit: Visit) -> None:
    token, session = opened
    assert client.get(f"/{token}/0/go", params={"to": "no such thing"}).status_code == 404
    assert client.get(f"/{token}/0/go", params={"to": "buy now"}).status_code == 405
    assert client.get(f"/{token}/0/buy").status_code == 405
    assert client.post(f"/{token}/0/buy").status_code == 404  # nothing is open
    assert client.post(f"/{token}/0/choose", data={"of": "x"}).status_code == 400
    assert client.post(f"/{token}/0/choose", data={"to": "x" * 70_000}).status_code == 413
    assert client.get(f"/{token}/0", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/static/../env.py").status_code == 404
    assert "Type what to look for" in client.get(f"/{token}/0/search", params={"words": "  "}).text
    assert session.moves == []
    assert visit.page.kind == "search"


def test_pages_may_load_nothing_from_elsewhere(client: httpx.Client, opened: tuple[str, Session]) -> None:
    answer = client.get(f"/{opened[0]}/0")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_no_page_holds_the_goal(client: httpx.Client, server: SiteServer) -> None:
    env = WebShopEnv(split="test")
    for number in range(12):
        env.reset(seed=0, options={"task_id": f"human-{number}"})
        visit = env.visit
        token, _ = server.sessions.open(visit)
        answers = [client.get(f"/{token}/0"), client.get(f"/{token}/0/search", params={"words": "tea"})]
        wrong = next(row for row in visit.page.listed if row != visit.target)
        asin = visit.shop.catalogue.product(wrong).asin.lower()
        answers += [client.get(f"/{token}/1/go", params={"to": asin}), client.post(f"/{token}/2/buy")]
        assert visit.bought is not None
        goal = visit.goal
        for answer in answers:
            said = answer.text.replace(escape(goal.instruction_text), "") + json.dumps(dict(answer.headers))
            assert not answer.cookies
            assert not re.search(r"reward|r_type|goal|score|attribute|milestone|target", said, re.IGNORECASE)
        # The wanted product may be among those that a search lists; elsewhere it has no business.
        assert all(goal.asin not in answers[place].text for place in (0, 2, 3))


def test_words_of_the_data_are_never_markup(make_product: Any) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
    visit = make_product(evil)
    visit.search(evil)
    seen = [render(visit, visit.page, "/t/0", notice=evil)]
    visit.click("b000000001")
    seen.append(render(visit, visit.page, "/t/1"))
    for label in ("description", "features"):
        visit.click(label)
        seen.append(render(visit, visit.page, "/t/2"))
        visit.click("< prev")
    visit.click("buy now")
    seen.append(render(visit, visit.page, "/t/3"))
    for html in seen:
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "49" not in re.sub(r"\?[0-9a-f]{12}|d=\"[^\"]*\"|viewBox=\"[^\"]*\"|#[0-9a-f]{6}", "", html)
        assert html.count("<script") == 1


@pytest.fixture
def make_product(tmp_path: Path) -> Any:
    def make(text: str) -> Visit:
        item = {
            "asin": "B000000001",
            "name": text,
            "full_description": text,
            "small_description": [text],
            "pricing": "$3.00",
            "images": ["x"],
            "category": "garden",
            "query": "kettle",
            "product_category": text,
            "customization_options": {text: [{"value": text}, {"value": "b"}]},
        }
        human = {
            "B000000001": [
                {"asin": "B000000001", "instruction": text, "instruction_attributes": ["a"], "instruction_options": []}
            ]
        }
        (tmp_path / "items_shuffle.json").write_text(json.dumps([item]))
        (tmp_path / "items_ins_v2.json").write_text(json.dumps({"B000000001": {"attributes": ["a"]}}))
        (tmp_path / "items_human_ins.json").write_text(json.dumps(human))
        env = WebShopEnv(data=str(tmp_path), split="test")
        env.reset(seed=0)
        return env.visit

    return make


def test_an_option_with_the_label_of_a_button_acts_as_the_button(make_product: Any, client: Any, server: Any) -> None:
    visit = make_product("buy now")
    token, session = server.sessions.open(visit)
    client.get(f"/{token}/0/search", params={"words": "buy now"})
    client.get(f"/{token}/1/go", params={"to": "b000000001"})
    answer = client.post(f"/{token}/2/choose", data={"to": "buy now"}).json()
    assert answer["next"] == f"/{token}/3"
    assert visit.bought is not None
    assert session.failure is None


def test_a_fault_of_the_site_is_kept_and_not_shown(
    client: httpx.Client, opened: tuple[str, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(opened[1], "search", fail)
    answer = client.get(f"/{opened[0]}/0/search", params={"words": "tea"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert isinstance(opened[1].failure, RuntimeError)


def test_one_server_a_process_for_as_long_as_it_is_used() -> None:
    first, second = borrow_server(), borrow_server()
    assert first is second
    return_server(first)
    assert first.alive
    return_server(second)
    assert not first.alive
    third = borrow_server()
    assert third is not first
    return_server(third)


def test_a_port_that_is_taken_is_a_failed_start(server: SiteServer) -> None:
    with pytest.raises(SandboxError, match="cannot serve on port") as caught:
        SiteServer(port=int(server.host.split(":")[1]))
    assert caught.value.kind == "boot"


def test_sessions_are_forgotten(visit: Visit) -> None:
    sessions = Sessions()
    token, session = sessions.open(visit)
    assert sessions.get(token) is session
    sessions.close(token)
    sessions.close(token)
    assert (sessions.get(token), len(sessions)) == (None, 0)


def product(**changes: Any) -> Product:
    given: dict[str, Any] = {
        "asin": "B1",
        "title": "A thing",
        "description": "",
        "bullets": (),
        "prices": (),
        "options": {},
        "category": "garden",
        "query": "thing",
        "product_category": "",
        "attributes": (),
    }
    return Product(**{**given, **changes})


def test_pictures_show_what_a_product_is_in_its_colour() -> None:
    red = picture(product(query="winter jacket", options={"color": ("wine red", "black")}))
    assert stencils().paint["wine"] in red
    assert red == picture(product(query="winter jacket", options={"color": ("wine red", "black")}))
    assert stencils().paint["black"] in picture(product(options={"color": ("red",)}), "black large")
    assert shape_of(product(query="winter jacket")) == "jacket"
    assert shape_of(product(title="Steel Kettle")) == "can"
    assert shape_of(product(category="nowhere")) == "box"
    assert picture(product(asin="B1")) == picture(product(asin="B1", title="Another <script>"))


def test_every_outline_that_is_named_is_drawn() -> None:
    shapes = stencils().shapes
    assert set(stencils().words.values()) | set(stencils().categories.values()) <= set(shapes)
    for layers in shapes.values():
        assert {kind for kind, _ in layers} <= {"P", "D", "L"}
        assert all(re.fullmatch(r"M[-MmHhVvLlQqAaTtZz\d ., ]+z", line) for _, line in layers)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from turnwise.envs.webshop_browser import WebShopBrowserEnv; WebShopBrowserEnv.make_task_set;"
        "print([name for name in ('playwright', 'fastapi', 'uvicorn', 'jinja2', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_named_with_its_command(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'turnwise\[browser\]'"):
        SiteServer()


def test_a_person_plays_in_a_web_browser() -> None:
    turnwise = Path(sys.executable).with_name("turnwise")
    command = [turnwise, "play", "webshop", "--no-open", "--json", "--task", "human-7", "--split", "test"]
    person = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert person.stderr is not None
        lines = iter(person.stderr.readline, "")
        address = next(line.strip() for line in lines if line.startswith("http://127.0.0.1:"))
        base = address.removesuffix("/0")
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            found = client.get(f"{base}/0/search", params={"words": "tea"}).text
            asin = re.findall(r"go\?to=(b\w+)\"", found)[-1]
            client.get(f"{base}/1/go", params={"to": asin})
            assert "Thank you" in client.post(f"{base}/2/buy").text
        out, err = person.communicate(timeout=60)
    finally:
        person.kill()
        person.wait()
    assert person.returncode == 0, err
    report = json.loads(out)
    assert report["purchase"]["asin"].lower() == asin
    assert report["level"] in ("wrong_type", "partial", "perfect")
