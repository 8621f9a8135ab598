"""Single sign-on in a real browser, by a provider on this machine: in, out, refused, forged, ended from elsewhere."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from joserfc.jwk import RSAKey
from running_app import RunningApp, chromium, running_app, set_up, sign_in

from core.server.guards import SESSION_COOKIE

pytestmark = pytest.mark.browser
NAME, PASSWORD = "Root", "correct horse battery"
PATIENCE_MS = 60_000
READER = {"sub": "s-1", "name": "Anna Berg", "roles": ["readers"]}


@dataclass(frozen=True)
class Site:
    app: RunningApp
    provider: IdentityProvider
    browser: Any


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An application with single sign-on, in which Root is administrator by password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with chromium() as browser, identity_provider() as provider:
        provider.redirect_uri = f"http://localhost:{port}/oauth2callback"
        provider.post_logout_uri = f"http://localhost:{port}/"
        with running_app(
            tmp_path_factory.mktemp("sso") / "state",
            port=port,
            public_url=f"http://localhost:{port}",
            sso_discovery_url=f"{provider.url}/.well-known/openid-configuration",
            sso_client_id=CLIENT_ID,
            sso_client_secret=CLIENT_SECRET,
            sso_name="the hospital",
            sso_roles="readers=radiologist,chiefs=administrator",
        ) as app:
            page = new_page(browser)
            set_up(page, app, name=NAME, password=PASSWORD)
            page.context.close()
            yield Site(app, provider, browser)


@pytest.fixture
def page(site: Site) -> Iterator[Any]:
    site.provider.signing_key = site.provider.key
    tab = new_page(site.browser)
    yield tab
    tab.context.close()


def new_page(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def come(page: Any, site: Site, claims: dict[str, Any], *, answer: str = "yes") -> None:
    site.provider.claims = claims
    page.goto(site.app.url)
    page.get_by_role("button", name="Sign in with the hospital").click()
    page.click(f"#{answer}")


def cookies(page: Any) -> dict[str, Any]:
    return {cookie["name"]: cookie for cookie in page.context.cookies()}


def test_a_reader_comes_by_the_provider_and_is_signed_out_there_too(site: Site, page: Any) -> None:
    come(page, site, READER)
    page.wait_for_selector("text=Sign out")
    assert "Anna Berg radiologist" in " ".join(page.inner_text(".sr-who").split())
    retained = cookies(page)[SESSION_COOKIE]
    assert retained["httpOnly"] and retained["sameSite"] == "Strict"
    assert not [name for name in cookies(page) if name.startswith("_streamlit_user")]  # no identity for 30 days
    page.reload()
    page.wait_for_selector("text=Sign out")
    page.goto(f"{site.app.url}/account")
    page.wait_for_selector("text=You come by single sign-on")
    assert "at_the_provider" in cookies(page)
    page.click("text=Sign out")
    page.wait_for_selector("form[action='/login']")
    assert page.url.startswith(site.app.url)
    back = f"{site.app.url}/"
    assert site.provider.goodbyes == [{"client_id": CLIENT_ID, "post_logout_redirect_uri": back}]  # no token, no name
    assert "at_the_provider" not in cookies(page) and SESSION_COOKIE not in cookies(page)
    page.context.add_cookies([retained])
    page.goto(site.app.url)
    page.wait_for_selector("form[action='/login']")


def test_without_a_role_a_sentence_and_no_session(site: Site, page: Any) -> None:
    come(page, site, READER | {"sub": "s-9", "roles": ["golf"]})
    page.wait_for_selector("text=gives you no role in SecondRead")
    assert SESSION_COOKIE not in cookies(page)


def test_saying_no_at_the_provider_leads_back_to_a_sentence(site: Site, page: Any) -> None:
    come(page, site, READER, answer="no")
    page.wait_for_selector("text=did not confirm your sign-in")
    assert SESSION_COOKIE not in cookies(page)


@pytest.mark.parametrize("wrong", ["key", "audience", "issuer", "expired"])
def test_a_token_that_is_not_the_provider_s_for_us_now_opens_nothing(site: Site, page: Any, wrong: str) -> None:
    forged: dict[str, Any] = {"audience": {"aud": "another"}, "issuer": {"iss": "https://evil.example"}}.get(wrong, {})
    if wrong == "expired":
        forged = {"iat": 1_000_000_000, "exp": 1_000_000_300}
    if wrong == "key":
        site.provider.signing_key = RSAKey.generate_key(2048, {"kid": "tests"})
    come(page, site, READER | {"sub": "s-forged"} | forged)
    page.wait_for_selector("text=did not confirm your sign-in")
    assert SESSION_COOKIE not in cookies(page)
    with sqlite3.connect(site.app.state_dir / "secondread.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM person WHERE subject = 's-forged'").fetchone() == (0,)


def test_a_way_back_that_nobody_asked_for_opens_nothing(site: Site) -> None:
    answer = httpx.get(f"{site.app.url}/oauth2callback?code=x&state=y")
    assert answer.status_code == 303 and answer.headers["location"] == "/?said=provider"
    assert SESSION_COOKIE not in answer.cookies
    assert httpx.get(f"{site.app.url}/auth/logout").status_code == 404


def test_an_administrator_disables_who_comes_by_the_provider(site: Site, page: Any) -> None:
    other = new_page(site.browser)
    come(other, site, READER | {"sub": "s-3", "name": "Carl Nye"})
    other.wait_for_selector("text=Sign out")
    sign_in(page, site.app, name=NAME, password=PASSWORD)  # with a password, should the provider ever be down
    page.wait_for_selector("text=Sign out")
    n_goodbyes = len(site.provider.goodbyes)
    page.goto(f"{site.app.url}/people")
    row = page.locator("[data-testid=stHorizontalBlock]", has_text="Carl Nye")
    row.get_by_role("button", name="Change").click()
    page.wait_for_selector("text=Comes by single sign-on")
    page.click("text=Disable and sign out everywhere")
    other.wait_for_selector("form[action='/login']")  # nobody touched that screen
    come(other, site, READER | {"sub": "s-3", "name": "Carl Nye"})
    other.wait_for_selector("text=Your account in SecondRead is disabled")
    other.context.close()
    page.click("text=Sign out")
    page.wait_for_selector("form[action='/login']")
    assert len(site.provider.goodbyes) == n_goodbyes  # who came with a password never was at the provider


def test_roles_change_with_the_claim(site: Site, page: Any) -> None:
    come(page, site, READER | {"sub": "s-4", "name": "Dora Lind"})
    page.wait_for_selector("text=Sign out")
    page.click("text=Sign out")
    page.wait_for_selector("form[action='/login']")
    come(page, site, READER | {"sub": "s-4", "name": "Dora Lind", "roles": "chiefs"})
    page.wait_for_selector("text=Sign out")
    assert "Dora Lind administrator" in " ".join(page.inner_text(".sr-who").split())


def test_the_log_names_nobody(site: Site) -> None:
    retained = site.app.output.read_text(errors="replace")
    retained += "".join(path.read_text(errors="replace") for path in site.app.state_dir.rglob("*.log"))
    assert "Carl Nye" not in retained and CLIENT_SECRET not in retained
