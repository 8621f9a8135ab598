"""Where the identity provider lets people sign out: what it says, what is not believed, and when it is asked again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from identity_provider import CLIENT_ID, identity_provider

from core.server import provider_logout
from core.server.provider_logout import ProviderLogout, leaving_page
from core.settings import Settings


def settings(url: str, **more: str) -> Settings:
    return Settings(
        state_dir=Path("unused"), public_url="http://localhost:8501",
        sso_discovery_url=f"{url}/.well-known/openid-configuration",
        sso_client_id=CLIENT_ID, sso_client_secret="x", sso_roles="readers=radiologist", **more,
    )  # fmt: skip


def test_the_address_names_us_and_the_way_back_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with identity_provider() as provider:
        logout = ProviderLogout(settings(provider.url))
        parts = urlsplit(logout.address())
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{provider.url}/end"
        assert parse_qs(parts.query) == {
            "client_id": [CLIENT_ID], "post_logout_redirect_uri": ["http://localhost:8501/"],
        }  # fmt: skip
        with_query = {"end_session_endpoint": f"{provider.url}/end?tenant=1"}
        provider.discovery = lambda: with_query  # type: ignore[method-assign]
        assert logout.address() == parts.geturl()  # what is known is not asked again
        assert parse_qs(urlsplit(ProviderLogout(settings(provider.url)).address()).query)["tenant"] == ["1"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"end_session_endpoint": ""},
        {"end_session_endpoint": 7},
        {"end_session_endpoint": "javascript:alert(1)"},
        {"end_session_endpoint": "/end"},
        {"end_session_endpoint": "https://["},
        [],
    ],
)
def test_without_a_place_that_can_be_believed_only_our_session_ends(said: object) -> None:
    with identity_provider() as provider:
        provider.discovery = lambda: said  # type: ignore[method-assign, assignment, return-value]
        assert ProviderLogout(settings(provider.url)).address() == ""


def test_a_provider_that_is_down_is_asked_again_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    with identity_provider() as provider:
        logout = ProviderLogout(settings(provider.url))
        whole = provider.discovery
        provider.discovery = lambda: "no document"  # type: ignore[method-assign, assignment, return-value]
        assert logout.address() == "" and "could not be asked" in caplog.text
        provider.discovery = whole  # type: ignore[method-assign]
        assert logout.address()
    assert ProviderLogout(settings(provider.url)).address() == ""  # nobody listens there any more
    assert ProviderLogout(Settings(state_dir=Path("unused"))).address() == ""


def test_no_plain_address_follows_from_an_encrypted_one() -> None:
    assert provider_logout._is_trusted("https://a.test/end", "https://b.test/x")
    assert not provider_logout._is_trusted("http://a.test/end", "https://b.test/x")


def test_the_page_on_the_way_escapes_what_the_provider_said() -> None:
    page = bytes(leaving_page(settings("http://localhost:1", sso_name="<b>us</b>"), 'https://a.test/"><script>').body)
    assert b"<script>" not in page and b"<b>" not in page and b"&quot;&gt;&lt;script&gt;" in page
