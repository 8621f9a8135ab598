"""Our own routes: what the server answers beside Streamlit's pages, to the same sessions.

Forms that must not be Streamlit widgets set and clear the session cookie, which only an answer can do. Their refusal
goes back to the page as a key of `core.records.people.accounts.REASONS` in the address, never as text: an address
cannot put words of its own on our pages.

`POST /upload`: one file a request, its bytes as the body, streamed to disk. `DELETE` takes it back.

Memory stays small whatever the file's size: 300 MB through Streamlit's own uploader take twice that in memory.
The header `X-Together` (32 hex digits, chosen by the page) says which files belong to one study. File names are not
sent: they may hold a patient's name, and the server has no use for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, quote

import anyio
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from core.errors import AppError, Conflict, InvalidInput, NotAllowed, SignedOut
from core.files import DISK_FULL, is_disk_full
from core.imaging.levels import frame_content
from core.records import site_settings
from core.records.backup.copies import backup_to_send
from core.records.database.db import Database
from core.records.people import accounts, invitations, second_factor, sessions, throttle, totp
from core.records.people.accounts import AccountRefused, SecondFactorNeeded
from core.records.people.permissions import Person, SessionActor, allowed, person_now, require_role_for
from core.records.people.throttle import Origin
from core.records.reads.frames import frame_pixels
from core.server import inbox
from core.server.addresses import client_address
from core.server.going_on import SAID, address_of, handed_over
from core.server.guards import FRAMES_PATH, SESSION_COOKIE
from core.server.health import health_routes
from core.server.provider_logout import ProviderLogout, leaving_page
from core.settings import Settings

log = logging.getLogger(__name__)

SIGNED_OUT = "You are not signed in any more. Sign in and choose the files again."


def upload_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """Answers 201 {"id": ...} or 204, or 4xx {"refused": sentence}."""

    async def person_of(request: Request) -> Person:
        token = request.cookies.get(SESSION_COOKIE, "")
        now = await run_in_threadpool(site_settings.current, database())
        person = await run_in_threadpool(sessions.person_of, database(), now, token)
        if person is None:
            raise NotAllowed(SIGNED_OUT)
        return _required(person)

    async def upload(request: Request) -> Response:
        actor = sessions.actor_of(request.cookies.get(SESSION_COOKIE, ""))

        def finish(place: inbox.Place) -> None:
            # Who sends a large file for an hour may have been signed out or disabled since it began. The transaction
            # keeps session and roles as they are until the file can be found.
            with database().begin() as connection:
                _required(_still_there(connection, actor))
                place.finish()

        try:
            person = await person_of(request)
            now = await run_in_threadpool(site_settings.current, database())
            item = await _receive(request, now, person, finish)
            await run_in_threadpool(database().require_state_dir)  # moved away meanwhile, the file is not there
        except AppError as refused:
            return _refusal(refused, 413)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        except OSError as error:
            return _refusal(Conflict(_no_room_or_moved(error)), 409)
        return JSONResponse({"id": item}, 201)

    async def take_back(request: Request) -> Response:
        together, item = request.path_params["together"], request.path_params["item"]
        actor = sessions.actor_of(request.cookies.get(SESSION_COOKIE, ""))

        def discard() -> None:
            with database().begin() as connection:
                person = _required(_still_there(connection, actor))
                inbox.discard([inbox.InboxFile(inbox.find_item(settings, person, together=together, item=item), "")])

        try:
            await run_in_threadpool(discard)
        except AppError as refused:
            return _refusal(refused, 404)
        return Response(status_code=204)

    return [
        Route("/upload", upload, methods=["POST"]),
        Route("/upload/{together}/{item}", take_back, methods=["DELETE"]),
    ]


def _still_there(connection: Connection, actor: SessionActor) -> Person:
    try:
        return person_now(connection, actor)
    except SignedOut:
        raise NotAllowed(SIGNED_OUT) from None


def _required(person: Person) -> Person:
    """The person, who may send files: pictures of a study, or an administrator's zip. Raises NotAllowed."""
    if not allowed(person, "manage_data"):
        require_role_for(person, "create_study")
    return person


def _refusal(refused: AppError, status: int) -> Response:
    status = 403 if isinstance(refused, NotAllowed) else 409 if isinstance(refused, Conflict) else status
    return JSONResponse({"refused": str(refused)}, status)


def _no_room_or_moved(error: OSError) -> str:
    if is_disk_full(error):
        return DISK_FULL
    log.error("An upload could not be written: %s", type(error).__name__)
    return "The state folder cannot be written to any more, so nothing was kept. Ask an administrator to look at it."


async def _receive(request: Request, settings: Settings, person: Person, finish: Callable[[inbox.Place], None]) -> str:
    """Streams the body into a new inbox item and gives its id. Nothing is left behind unless the file is whole.

    finish: what makes a whole file one that can be found, unless whoever sent it may not send it any more.
    """
    together = request.headers.get("x-together", "")
    announced = request.headers.get("content-length", "")
    is_number = announced.isascii() and announced.isdigit() and len(announced) < 19
    n_announced = int(announced) if is_number else 0
    place = await run_in_threadpool(inbox.open_place, settings, person, together=together, n_bytes=n_announced)
    try:
        n_bytes = await _stream_to(request, place)
        if n_bytes == 0:
            raise InvalidInput("The file is empty.")
        await run_in_threadpool(place.sync)  # what is acknowledged outlives a power cut
        await run_in_threadpool(finish, place)
    except BaseException:  # also when the browser goes away or the server stops
        place.give_back()
        raise
    log.info("Received a file of %d bytes from person %d", n_bytes, person.id)
    return place.item


async def _stream_to(request: Request, place: inbox.Place) -> int:
    n_bytes = 0
    with place.path.open("wb") as file:
        async for chunk in request.stream():
            n_bytes += len(chunk)
            place.reserve(n_bytes)
            await run_in_threadpool(file.write, chunk)
    return n_bytes


NO_STORE = {"Cache-Control": "no-store"}
DEVICE_COOKIE = "secondread_device"
"""Who has signed in with this browser before: their sign-ins are counted apart. It opens nothing by itself."""
PENDING_COOKIE = "secondread_pending"
DEVICE_SECONDS = 400 * 24 * 3600
FORM_BYTES = 16 * 1024
FORM_FIELDS = 20
FORM_SECONDS = 10
"""From the first byte to the last; whoever fills a form in has sent none of it yet."""
SIMULTANEOUS_HASHES = 2
"""Password hashes computed at the same time: 64 MiB and a core each. The others wait their turn."""


class AccountForms:
    """The endpoints for setting up, signing in, setting or changing one's password and signing out."""

    def __init__(self, database: Callable[[], Database], settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._trusted = settings.proxy_networks
        self._provider = ProviderLogout(settings)
        self._hashing = anyio.CapacityLimiter(SIMULTANEOUS_HASHES)

    async def sign_in(self, request: Request, fields: Mapping[str, str]) -> Response:
        try:
            token = await anyio.to_thread.run_sync(
                self._check,
                fields.get("who", ""),
                fields.get("password", ""),
                self._origin(request),
                limiter=self._hashing,
            )
        except SecondFactorNeeded as needed:
            return self._ask_for_code(needed, handed_over(fields))
        except AccountRefused as refused:
            return _back(refused, address_of(fields))
        return await self._signed_in(request, token, address_of(fields))

    async def give_code(self, request: Request, fields: Mapping[str, str]) -> Response:
        pending = request.cookies.get(PENDING_COOKIE, "")
        try:
            token = await run_in_threadpool(self._check_code, pending, fields.get("code", ""), self._origin(request))
        except AccountRefused as refused:
            is_again = refused.reason == "second"
            return _back(refused, f"/second_factor{handed_over(fields)}" if is_again else address_of(fields))
        response = await self._signed_in(request, token, address_of(fields))
        response.delete_cookie(
            PENDING_COOKIE, path="/", secure=self._settings.cookie_secure, httponly=True, samesite="strict"
        )
        return response

    async def set_up(self, request: Request, fields: Mapping[str, str]) -> Response:
        try:
            token = await anyio.to_thread.run_sync(self._create_first, fields, limiter=self._hashing)
        except AccountRefused as refused:
            return _back(refused)
        return await self._signed_in(request, token)

    async def change_password(self, request: Request, fields: Mapping[str, str]) -> Response:
        token = request.cookies.get(SESSION_COOKIE, "")
        now = await run_in_threadpool(site_settings.current, self._database())
        person = await run_in_threadpool(sessions.person_of, self._database(), now, token)
        if person is None:
            return RedirectResponse("/", 303)
        try:
            origin = self._origin(request)
            token = await anyio.to_thread.run_sync(self._change, person, token, fields, origin, limiter=self._hashing)
        except SignedOut:
            return RedirectResponse("/", 303)
        except AccountRefused as refused:
            return _back(refused, "/account")
        return await self._signed_in(request, token, "/account?said=changed")

    async def use_link(self, request: Request, fields: Mapping[str, str]) -> Response:
        try:
            token = await anyio.to_thread.run_sync(self._use_link, fields, limiter=self._hashing)
        except SecondFactorNeeded as needed:
            return self._ask_for_code(needed)
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

    def _ask_for_code(self, needed: SecondFactorNeeded, handed: str = "") -> Response:
        response = RedirectResponse(f"/second_factor{handed}", 303)
        self._set_cookie(response, PENDING_COOKIE, needed.pending, max_age=totp.PENDING_SECONDS)
        return response

    def _check_code(self, pending: str, code: str, origin: Origin) -> str:
        return second_factor.sign_in(self._database(), self._settings, pending, code, origin=origin)

    def _origin(self, request: Request) -> Origin:
        devices = request.cookies.get(DEVICE_COOKIE, "").split("~")
        return Origin(client_address(request.scope, self._trusted), tuple(filter(None, devices)))

    def _check(self, name: str, password: str, origin: Origin) -> str:
        return accounts.sign_in(self._database(), self._settings, name, password, origin=origin)

    def _create_first(self, fields: Mapping[str, str]) -> str:
        db, password = self._database(), _new_password(fields)
        person = accounts.create_first_administrator(
            db, code=fields.get("code", ""), name=fields.get("who", ""), password=password
        )
        return sessions.start_session(db, person)

    def _use_link(self, fields: Mapping[str, str]) -> str:
        db, password = self._database(), _new_password(fields)
        return accounts.enter(db, invitations.use_link(db, fields.get("link", ""), password))

    def _change(self, person: Person, token: str, fields: Mapping[str, str], origin: Origin) -> str:
        db, new = self._database(), _new_password(fields)
        accounts.change_password(db, sessions.actor_of(token), old=fields.get("old", ""), new=new, origin=origin)
        return sessions.start_session(db, person)

    async def _signed_in(self, request: Request, token: str, where: str = "/") -> Response:
        await self._end(request)  # of whoever sat here before
        response = RedirectResponse(where, 303)
        self._set_cookie(response, SESSION_COOKIE, token)
        device = await run_in_threadpool(self._new_device, token)
        known = [one for one in self._origin(request).devices if one.partition(".")[0] != device.partition(".")[0]]
        devices = "~".join([device, *known][: throttle.DEVICES_MOST])
        self._set_cookie(response, DEVICE_COOKIE, devices, max_age=DEVICE_SECONDS)
        return response

    def _set_cookie(self, response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
        response.set_cookie(
            name, value, max_age=max_age, path="/", secure=self._settings.cookie_secure, httponly=True,
            samesite="strict",
        )  # fmt: skip

    def _new_device(self, token: str) -> str:
        """What the browser is known by from now on for whoever has just signed in with this session."""
        db = self._database()
        person = sessions.person_of(db, self._settings, token)
        return throttle.device_token(db.site_key, person.id) if person is not None else ""

    async def _end(self, request: Request) -> bool:
        return await run_in_threadpool(sessions.sign_out, self._database(), request.cookies.get(SESSION_COOKIE, ""))


def backup_routes(database: Callable[[], Database]) -> list[Route]:
    """`GET /backup/NAME`: a backup of the site, sent from the disk, for an administrator; a refusal is plain text."""

    async def send(request: Request) -> Response:
        actor, name = sessions.actor_of(request.cookies.get(SESSION_COOKIE, "")), request.path_params["name"]
        try:
            path = await run_in_threadpool(lambda: backup_to_send(database(), actor, name))
        except AppError as refused:
            status = 401 if isinstance(refused, SignedOut) else 403 if isinstance(refused, NotAllowed) else 404
            return PlainTextResponse(str(refused), status, headers=NO_STORE)
        return FileResponse(path, filename=name, media_type="application/octet-stream", headers=NO_STORE)

    return [Route("/backup/{name}", send, methods=["GET"])]


def frame_routes(database: Callable[[], Database]) -> list[Route]:
    """`GET /frames/{image}/{frame}`: one frame of a stored clip or stack, as the viewer asks for it while it plays.

    Packed as `core.imaging.levels.frame_content` says; `?whole=1` is all of its pixels. It answers whoever may see the
    study now, by their session; nothing of it stays in a browser's cache (`core.server.guards`). 200, or 403 or 404
    with a sentence.
    """

    def made(token: str, image_id: str, frame: int, is_whole: bool) -> bytes:
        pixels, key = frame_pixels(database(), sessions.actor_of(token), image_id, frame)
        return frame_content(pixels, key, is_whole=is_whole)

    async def frame(request: Request) -> Response:
        asked = request.path_params["image"], request.path_params["frame"], "whole" in request.query_params
        try:
            content = await run_in_threadpool(made, request.cookies.get(SESSION_COOKIE, ""), *asked)
        except NotAllowed as refused:
            return PlainTextResponse(str(refused), 403)
        except AppError as refused:
            return PlainTextResponse(str(refused), 404)
        return Response(content, media_type="application/octet-stream")

    return [Route(FRAMES_PATH + "{image}/{frame:int}", frame, methods=["GET"])]


def build_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """All routes of our own. `database` is called at the first request, not here."""
    forms = AccountForms(database, settings)
    return [
        Route("/login", with_fields(forms.sign_in), methods=["POST"]),
        Route("/second-factor", with_fields(forms.give_code), methods=["POST"]),
        Route("/setup", with_fields(forms.set_up), methods=["POST"]),
        Route("/password", with_fields(forms.change_password), methods=["POST"]),
        Route("/set-password", with_fields(forms.use_link), methods=["POST"]),
        Route("/logout", forms.sign_out, methods=["POST"]),
        *upload_routes(database, settings),
        *backup_routes(database),
        *frame_routes(database),
        *health_routes(database, settings),
    ]


def _new_password(fields: Mapping[str, str]) -> str:
    """Of a form where it is typed twice. Raises AccountRefused."""
    if fields.get("password", "") != fields.get("repeated", ""):
        raise AccountRefused("repeat")
    return fields.get("password", "")


def _back(refused: AccountRefused, where: str = "/") -> Response:
    return RedirectResponse(f"{where}{'&' if '?' in where else '?'}{SAID}={refused.reason}", 303)


def with_fields(act: Callable[[Request, Mapping[str, str]], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """An endpoint that reads a small form first and acts on its fields, the first value of each.

    What is no form of ours is refused with a sentence, and the connection is not used again.
    """

    async def endpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(FORM_SECONDS):
                body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        except TimeoutError:
            return _refused("The form did not arrive in time. Send it again.", 408)
        if body is None:
            return _refused("This form is larger than any of ours.", 413)
        try:
            found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS)
        except ValueError:
            return _refused("This form has more fields than any of ours.", 400)
        return await act(request, {name: values[0] for name, values in found.items()})

    return endpoint


async def _body(request: Request) -> bytes | None:
    """The whole body; None when it is larger than any form of ours. Raises ClientDisconnect."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            return None
    return bytes(body)


def _refused(sentence: str, status: int) -> Response:
    return PlainTextResponse(sentence, status, headers={"Connection": "close"})
