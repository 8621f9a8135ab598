"""The forms that must not be Streamlit widgets: they set and clear the session cookie, which only an answer can do.

A refusal goes back to the page as a key of `core.records.people.accounts.REASONS` in the address, never as text: an
address cannot put words of its own on our pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, quote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from core.errors import SignedOut
from core.records import site_settings
from core.records.database.db import Database
from core.records.people import accounts, invitations, sessions
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import Person
from core.server.guards import SESSION_COOKIE
from core.server.provider_logout import ProviderLogout, leaving_page
from core.server.upload import upload_routes
from core.settings import Settings

FORM_BYTES = 16 * 1024
SIMULTANEOUS_HASHES = 2
"""Password hashes computed at the same time: 64 MiB and a core each. The others wait their turn."""


class AccountForms:
    """The endpoints for setting up, signing in, setting or changing one's password and signing out."""

    def __init__(self, database: Callable[[], Database], settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._provider = ProviderLogout(settings)
        self._hashing = anyio.CapacityLimiter(SIMULTANEOUS_HASHES)

    async def sign_in(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return _too_large()
        try:
            token = await anyio.to_thread.run_sync(
                accounts.sign_in,
                self._database(),
                self._settings,
                fields.get("who", ""),
                fields.get("password", ""),
                limiter=self._hashing,
            )
        except AccountRefused as refused:
            return _back(refused)
        return await self._signed_in(request, token)

    async def set_up(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return _too_large()
        try:
            token = await anyio.to_thread.run_sync(self._create_first, fields, limiter=self._hashing)
        except AccountRefused as refused:
            return _back(refused)
        return await self._signed_in(request, token)

    async def change_password(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return _too_large()
        token = request.cookies.get(SESSION_COOKIE, "")
        now = await run_in_threadpool(site_settings.current, self._database())
        person = await run_in_threadpool(sessions.person_of, self._database(), now, token)
        if person is None:
            return RedirectResponse("/", 303)
        try:
            token = await anyio.to_thread.run_sync(self._change, person, token, fields, limiter=self._hashing)
        except SignedOut:
            return RedirectResponse("/", 303)
        except AccountRefused as refused:
            return _back(refused, "/account")
        return await self._signed_in(request, token, "/account?said=changed")

    async def use_link(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return _too_large()
        try:
            token = await anyio.to_thread.run_sync(self._use_link, fields, limiter=self._hashing)
        except AccountRefused as refused:
            return _back(refused, f"/invitation?link={quote(fields.get('link', ''), safe='')}")
        return await self._signed_in(request, token)

    async def sign_out(self, request: Request) -> Response:
        is_sso = await self._end(request)
        address = await run_in_threadpool(self._provider.address) if is_sso else ""
        response = leaving_page(self._settings, address) if address else RedirectResponse("/", 303)
        response.delete_cookie(
            SESSION_COOKIE, path="/", secure=self._settings.cookie_secure, httponly=True, samesite="strict"
        )
        return response

    def _create_first(self, fields: Mapping[str, str]) -> str:
        password = fields.get("password", "")
        if password != fields.get("repeated", ""):
            raise AccountRefused("repeat")
        db = self._database()
        person = accounts.create_first_administrator(
            db, code=fields.get("code", ""), name=fields.get("who", ""), password=password
        )
        return sessions.start_session(db, person)

    def _use_link(self, fields: Mapping[str, str]) -> str:
        password = fields.get("password", "")
        if password != fields.get("repeated", ""):
            raise AccountRefused("repeat")
        db = self._database()
        return sessions.start_session(db, invitations.use_link(db, fields.get("link", ""), password))

    def _change(self, person: Person, token: str, fields: Mapping[str, str]) -> str:
        db, new = self._database(), fields.get("password", "")
        if new != fields.get("repeated", ""):
            raise AccountRefused("repeat")
        accounts.change_password(db, sessions.actor_of(token), old=fields.get("old", ""), new=new)
        return sessions.start_session(db, person)

    async def _signed_in(self, request: Request, token: str, where: str = "/") -> Response:
        await self._end(request)  # of whoever sat here before
        response = RedirectResponse(where, 303)
        response.set_cookie(
            SESSION_COOKIE, token, path="/", secure=self._settings.cookie_secure, httponly=True, samesite="strict"
        )
        return response

    async def _end(self, request: Request) -> bool:
        return await run_in_threadpool(sessions.sign_out, self._database(), request.cookies.get(SESSION_COOKIE, ""))


def build_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """All routes of our own. `database` is called at the first request, not here."""
    forms = AccountForms(database, settings)
    return [
        Route("/login", forms.sign_in, methods=["POST"]),
        Route("/setup", forms.set_up, methods=["POST"]),
        Route("/password", forms.change_password, methods=["POST"]),
        Route("/set-password", forms.use_link, methods=["POST"]),
        Route("/logout", forms.sign_out, methods=["POST"]),
        *upload_routes(database, settings),
    ]


async def _fields(request: Request) -> dict[str, str] | None:
    """The fields of a small form, the first value of each; None when it is larger than any form of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            return None
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    return {name: values[0] for name, values in fields.items()}


def _back(refused: AccountRefused, where: str = "/") -> Response:
    return RedirectResponse(f"{where}{'&' if '?' in where else '?'}said={refused.reason}", 303)


def _too_large() -> Response:
    return PlainTextResponse("This form is larger than any of ours.", 413)
