"""Where a sign-in by the identity provider becomes one of our own sessions.

Streamlit's `/oauth2callback` checks state, nonce and the token's signature, and would then put the identity into a
cookie of its own that lives for 30 days and cannot be taken back. This middleware stands around it: that cookie never
reaches the browser. Its claims open a session row instead, which can be ended at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.records.database.db import Database
from core.records.people import sessions, single_sign_on
from core.records.people.accounts import AccountRefused
from core.server.going_on import SAID, address_of_referrer
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

CALLBACK_PATH = "/oauth2callback"
LOGIN_PATH = "/auth/login"
GOING_ON_COOKIE, GOING_ON_SECONDS, COOKIE_MOST = "secondread_going_on", 600, 3500
"""Where somebody goes on once the provider has sent them back. It opens nothing by itself."""
IDENTITY_COOKIE = "_streamlit_user"
"""What the names of Streamlit's identity cookies begin with; no answer of ours lets one out."""

Claims = Callable[[Mapping[str, str]], Mapping[str, Any] | None]
"""From cookies by name to the claims in them, or None when they hold no identity that Streamlit has signed."""


class SingleSignOn:
    """Answers the provider's way back: with our session cookie, or with a reason on the sign-in page."""

    def __init__(self, app: ASGIApp, *, database: Callable[[], Database], settings: Settings, claims: Claims) -> None:
        self.app = app
        self._database = database
        self._settings = settings
        self._claims = claims

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == LOGIN_PATH:
            await self.app(scope, receive, self._remembering(scope, send))
            return
        if scope["type"] != "http" or scope["path"] != CALLBACK_PATH:
            await self.app(scope, receive, send)
            return
        retained: list[Message] = []

        async def remember(message: Message) -> None:
            retained.append(message)

        await self.app(scope, receive, remember)
        headers = MutableHeaders(raw=list(retained[0].get("headers", []))) if retained else MutableHeaders()
        cookies = headers.getlist("set-cookie")
        old_token = HTTPConnection(scope).cookies.get(SESSION_COOKIE, "")
        reason, token = await run_in_threadpool(self._sign_in, _values(cookies), old_token)
        asked = address_of_referrer(unquote(HTTPConnection(scope).cookies.get(GOING_ON_COOKIE, "")))
        answer = RedirectResponse(f"/?{SAID}={reason}" if reason else asked, 303)
        answer.delete_cookie(
            GOING_ON_COOKIE, path="/", secure=self._settings.cookie_secure, httponly=True, samesite="lax"
        )
        for cookie in cookies:
            if not cookie.startswith(IDENTITY_COOKIE):  # Streamlit's note of the login in progress is cleared by it
                answer.raw_headers.append((b"set-cookie", cookie.encode("latin-1")))
        if token:
            answer.set_cookie(
                SESSION_COOKIE, token, path="/", secure=self._settings.cookie_secure, httponly=True, samesite="strict"
            )
        await answer(scope, receive, send)

    def _remembering(self, scope: Scope, send: Send) -> Send:
        """Sends on, with a cookie for the way back: the page from which somebody went to the provider."""
        referrer = HTTPConnection(scope).headers.get("referer", "")
        asked = quote(address_of_referrer(referrer))
        if len(asked) > COOKIE_MOST:
            asked = quote(address_of_referrer(referrer).partition("?")[0])

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = RedirectResponse("/")
                answer.set_cookie(
                    GOING_ON_COOKIE, asked, max_age=GOING_ON_SECONDS, path="/", secure=self._settings.cookie_secure,
                    httponly=True, samesite="lax",  # the way back begins at the provider
                )  # fmt: skip
                MutableHeaders(scope=message).append("set-cookie", answer.headers["set-cookie"])
            await send(message)

        return send_with_cookie

    def _sign_in(self, cookies: Mapping[str, str], old_token: str) -> tuple[str, str]:
        db = self._database()
        claims = self._claims(cookies)
        if claims is None:
            single_sign_on.record_failure(db)
            return "provider", ""
        try:
            token = single_sign_on.sign_in(db, self._settings, claims)
        except AccountRefused as refused:
            return refused.reason, ""
        sessions.sign_out(db, old_token)  # of whoever sat here before
        return "", token


def _values(set_cookies: list[str]) -> dict[str, str]:
    """Names and values of the identity cookies among these headers."""
    found: dict[str, str] = {}
    for header in set_cookies:
        if header.startswith(IDENTITY_COOKIE):
            for name, morsel in SimpleCookie(header).items():
                found[name] = morsel.value
    return found
