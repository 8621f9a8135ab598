"""Streamlit's side of single sign-on: what `st.login` is told, and what its identity cookie says."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

from core.records.people.single_sign_on import roles_by_value
from core.server.callback import CALLBACK_PATH, IDENTITY_COOKIE
from core.settings import Settings


def login_secrets(settings: Settings) -> dict[str, Any] | None:
    """The section `auth` for `st.App(secrets=…)`, or None without single sign-on. Raises InvalidSettings.

    The secret that signs Streamlit's cookies is new at each start: no identity outlives the way back from the provider.
    """
    if not settings.has_sso:
        return None
    roles_by_value(settings.sso_roles)
    return {
        "auth": {
            "redirect_uri": settings.public_url.rstrip("/") + CALLBACK_PATH,
            "cookie_secret": secrets.token_hex(32),
            "client_id": settings.sso_client_id,
            "client_secret": settings.sso_client_secret,
            "server_metadata_url": settings.sso_discovery_url,
        }
    }


def claims_of(cookies: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The claims that Streamlit has just signed into these cookies, or None. It has checked the token before."""

    def signed(name: str) -> bytes | None:
        value = cookies.get(name)
        return decode_signed_value(get_cookie_secret(), name, value.encode("latin-1")) if value else None

    value = get_cookie_with_chunks(signed, IDENTITY_COOKIE)
    if value is None:
        return None
    claims = json.loads(value)
    return claims if isinstance(claims, dict) and claims.get("is_logged_in") is True else None
