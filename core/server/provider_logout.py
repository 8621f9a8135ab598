"""Signing out at the identity provider too, where it can (OpenID Connect RP-Initiated Logout 1.0).

The address carries client_id and post_logout_redirect_uri, and no id_token_hint: the identity token would have to be
kept as long as the session, with all that it says of a person, to spare them one question at most, which the
provider may ask ("Sign out here as well?").
"""

from __future__ import annotations

import logging
import threading
import time
from html import escape
from urllib.parse import urlencode, urlsplit

from starlette.responses import HTMLResponse

from core.settings import Settings

log = logging.getLogger(__name__)

ASK_SECONDS = 3
KNOWN_SECONDS = 3600
"""How long an answer of the discovery address counts; a failure is asked again at the next sign-out."""


class ProviderLogout:
    """Knows where the provider of one site lets people sign out. Used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._endpoint = ""
        self._asked_at: float | None = None

    def address(self) -> str:
        """Where to send a browser whose session here has ended; "" where the provider has no such place or is down.

        Blocks for `ASK_SECONDS` at most.
        """
        if not self._settings.has_sso:
            return ""
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at > KNOWN_SECONDS:
                self._ask()
            endpoint = self._endpoint
        if not endpoint:
            return ""
        back = {
            "client_id": self._settings.sso_client_id,
            "post_logout_redirect_uri": f"{self._settings.public_url.rstrip('/')}/",  # has to be registered there
        }
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(back)}"

    def _ask(self) -> None:
        import httpx

        self._endpoint, self._asked_at = "", None
        try:
            answer = httpx.get(self._settings.sso_discovery_url, timeout=ASK_SECONDS)
            found = answer.raise_for_status().json().get("end_session_endpoint", "")
            is_trusted = isinstance(found, str) and _is_trusted(found, self._settings.sso_discovery_url)
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            log.warning("The identity provider could not be asked where to sign out: %s", type(error).__name__)
            return
        self._asked_at = time.monotonic()
        if is_trusted:
            self._endpoint = found


def leaving_page(settings: Settings, address: str) -> HTMLResponse:
    """A page that goes on to the provider by itself.

    Not a redirect: the answer to a form must stay on our origin (`form-action 'self'`), wherever the provider leads.
    """
    name, url = escape(settings.sso_name), escape(address, quote=True)
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed out</title>'
        f'<meta http-equiv="refresh" content="0; url={url}">'
        "<style>body{background:#0b0d10;color:#e8eaed;font:18px/1.5 sans-serif;margin:15vh auto;max-width:34rem;"
        "padding:0 1rem}a{color:#8ab4f8}</style></head><body>"
        f'<p>You are signed out of SecondRead.</p><p><a href="{url}">Sign out of {name} as well</a></p></body></html>',
        headers={"Cache-Control": "no-store"},
    )


def _is_trusted(endpoint: str, discovery_url: str) -> bool:
    """HTTPS, or as plain as the discovery address itself, which is plain on this machine only."""
    scheme = urlsplit(endpoint).scheme
    return bool(urlsplit(endpoint).hostname) and scheme in ("https", urlsplit(discovery_url).scheme)
