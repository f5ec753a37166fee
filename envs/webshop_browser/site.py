"""The site: which request does what. ``/TOKEN/NUMBER`` is page NUMBER of the session TOKEN; nothing works without one.

GET  /TOKEN/NUMBER              the page
GET  /TOKEN/NUMBER/search?words=...     search, then the page that follows
GET  /TOKEN/NUMBER/go?to=LABEL          follow a link
POST /TOKEN/NUMBER/choose  to=LABEL     choose an option; answers what is chosen, as JSON
POST /TOKEN/NUMBER/buy                  buy, then the last page
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from turnwise.envs.webshop.shop import BUY
from turnwise.envs.webshop_browser.pages import STATIC, choice_of, render, static_file
from turnwise.envs.webshop_browser.pictures import colour_of
from turnwise.envs.webshop_browser.sessions import Session, Sessions
from turnwise.errors import MissingExtraError

MAX_BODY_BYTES = 65_536
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_NO_WORDS = "Type what to look for, then press Search."


def make_site(sessions: Sessions, *, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Any:
    """Return the FastAPI application.

    Args:
        sessions: Whose pages it shows.
        hosts: Names that it answers to; another name is somebody else's page that points here.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, HTTPException, Request
        from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise MissingExtraError("fastapi", "browser") from error

    app = FastAPI(title="WebShop", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    def find(token: str) -> Session:
        session = sessions.get(token)
        if session is None:
            raise HTTPException(404)
        return session

    def follow(token: str, number: int | None) -> Any:
        if number is None:
            raise HTTPException(404)
        return RedirectResponse(f"/{token}/{number}", status_code=303, headers=HEADERS)

    def shown(session: Session, token: str, number: int, notice: str = "") -> Any:
        page = session.show(number)
        if page is None:
            raise HTTPException(404)
        return HTMLResponse(render(session.visit, page, f"/{token}/{number}", notice), headers=HEADERS)

    async def static(name: str) -> Any:
        if name not in STATIC:
            raise HTTPException(404)
        return Response(static_file(name), media_type=STATIC[name], headers=_FOR_EVER)

    async def page(token: str, number: int) -> Any:
        return shown(find(token), token, number)

    async def search(token: str, number: int, words: str = "") -> Any:
        session, words = find(token), " ".join(words.split())
        if not words:
            return shown(session, token, number, _NO_WORDS)
        return follow(token, session.search(number, words))

    async def go(token: str, number: int, to: str) -> Any:
        session = find(token)
        if to == BUY:  # what cannot be undone is not done by following a link
            raise HTTPException(405)
        return follow(token, session.click(number, to))

    async def buy(token: str, number: int) -> Any:
        return follow(token, find(token).click(number, BUY))

    async def choose(token: str, number: int, request: Any) -> Any:
        session = find(token)
        label = await field(request, "to")
        follows = session.click(number, label)
        if follows is None:
            raise HTTPException(404)
        visit = session.visit
        answer: dict[str, Any] = {
            "next": None if follows == number else f"/{token}/{follows}",
            "chosen": {},
            "choice": "",
            "paint": "",
        }
        if follows == number:
            chosen = " ".join(value for _, value in visit.page.options)
            answer |= {"chosen": dict(visit.page.options), "choice": choice_of(visit.page)}
            answer["paint"] = colour_of(visit.shop.product(visit.page), chosen)
        return JSONResponse(answer, headers=HEADERS)

    async def field(request: Any, name: str) -> str:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise HTTPException(413)
            parts.append(part)
        fields = dict(parse_qsl(b"".join(parts).decode("utf-8", "replace"), keep_blank_values=True))
        if name not in fields:
            raise HTTPException(400)
        return fields[name]

    async def failed(request: Any, error: Exception) -> Any:
        session = sessions.get(request.path_params.get("token", ""))
        if session is not None:
            session.failure = error
        return Response("The shop has a fault.", status_code=500, media_type="text/plain", headers=HEADERS)

    # The annotation is set by hand: under postponed evaluation FastAPI could not resolve a local import.
    choose.__annotations__ |= {"request": Request, "token": str, "number": int}
    app.add_exception_handler(Exception, failed)
    app.get("/static/{name}")(static)
    app.get("/{token}/{number}")(page)
    app.get("/{token}/{number}/search")(search)
    app.get("/{token}/{number}/go")(go)
    app.post("/{token}/{number}/choose")(choose)
    app.post("/{token}/{number}/buy")(buy)
    return app
