"""Where a request comes from, what it calls the server, and which origin its page has."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from core.errors import InvalidSettings
from core.server import guards
from core.server.addresses import PEER, client_address, host_of, own_names
from core.settings import Settings


def scope(peer: str, *, forwarded: str | None = None, noted: bool = True) -> dict[str, Any]:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    return {
        "type": "http", "scheme": "http", "client": ("203.0.113.99" if noted else peer, 1), "headers": headers,
        "state": {PEER: (peer, "http")} if noted else {},
    }  # fmt: skip


def address(peer: str, forwarded: str | None = None, trusted: str = "") -> str:
    return client_address(scope(peer, forwarded=forwarded), Settings(trusted_proxies=trusted).proxy_networks)


def test_without_trusted_proxies_nobody_chooses_an_address() -> None:
    assert address("127.0.0.1", "198.51.100.7") == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),  # the client wrote the first itself
        ("6.6.6.6, 198.51.100.7, 10.1.0.9", "198.51.100.7"),  # two proxies of ours, one after the other
        ("10.1.0.8, 10.1.0.9", "10.1.0.8"),
        ("198.51.100.7, nonsense", "10.1.0.1"),
        ("", "10.1.0.1"),
    ],
)
def test_the_last_trusted_proxy_names_the_client(forwarded: str, counted: str) -> None:
    assert address("10.1.0.1", forwarded, trusted="10.1.0.0/24") == counted


def test_a_peer_beside_the_trusted_network_is_not_believed() -> None:
    assert address("10.1.1.0", "198.51.100.7", trusted="10.1.0.0/24") == "10.1.1.0"
    assert address("10.1.0.255", "198.51.100.7", trusted="10.1.0.0/24") == "198.51.100.7"


def test_the_addresses_of_one_ipv6_site_count_as_one() -> None:
    assert address("2001:db8::1") == address("2001:db8::ffff:ffff:ffff:ffff") == "2001:db8::/64"
    assert address("2001:db8:0:1::1") != address("2001:db8::1")
    assert address("::ffff:192.0.2.1") == "192.0.2.1"


def test_where_the_peer_was_not_noted_the_scope_says_who_it_is() -> None:
    assert client_address(scope("192.0.2.4", noted=False), ()) == "192.0.2.4"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Reads.example:8501", "reads.example"), ("reads.example.", "reads.example"), ("[::1]:8501", "::1"),
        ("127.0.0.1", "127.0.0.1"), ("a:b", ""), ("[evil]", ""), ("", ""), ("reads.example:80:80", ""),
        ("reads.example:²", ""), ("[::1]:²", ""),
        ("[::1", ""), ("[::1]x80", ""), ("[::1]:", ""), ("[::1]", "::1"),
        ("reads.example:", ""), ("reads.example:８０", ""),
    ],
)  # fmt: skip
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_of(header) == name


def application(peer: str = "192.0.2.9", **chosen: Any) -> TestClient:
    async def page(_: object) -> PlainTextResponse:
        return PlainTextResponse("a page")

    routes = [Route("/{path:path}", page, methods=["GET", "POST"])]
    settings = Settings(**chosen)
    middleware = guards.build_middleware(
        index_html="",
        is_signed_in=lambda token, *, is_activity=True: False,
        may_fetch=lambda *_: False,
        settings=settings,
    )
    return TestClient(Starlette(routes=routes, middleware=middleware), client=(peer, 1))


def status(client: TestClient, host: str, origin: str | None = None, **headers: str) -> int:
    headers = {"Host": host, **({"Origin": origin} if origin is not None else {}), **headers}
    return (client.post if origin is not None else client.get)("/login", headers=headers).status_code


def test_the_server_answers_under_its_own_names_only() -> None:
    client = application()
    assert {status(client, host) for host in ("localhost", "localhost:8501", "127.0.0.1:8501", "[::1]:8501")} == {200}
    assert {status(client, name) for name in own_names() if ":" not in name} == {200}
    for host in ("evil.example", "localhost.evil.example", "evil.example:localhost", "", "10.9.8.7"):
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == 421 and "SECONDREAD_ALLOWED_HOSTS" in answer.text, host


def test_a_site_adds_names_and_its_public_address_is_one() -> None:
    client = application(allowed_hosts="Reads.example, 10.9.8.7", public_url="https://breast.example/")
    assert {status(client, host) for host in ("reads.example", "10.9.8.7:443", "breast.example")} == {200}
    assert status(client, "other.example") == 421


@pytest.mark.parametrize("wrong", ["https://reads.example", "reads.example:8501", "*", "a/b"])
def test_names_that_are_none_stop_the_start(wrong: str) -> None:
    with pytest.raises(InvalidSettings, match="SECONDREAD_ALLOWED_HOSTS"):
        Settings(allowed_hosts=wrong)


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_that_are_no_addresses_stop_the_start(wrong: str) -> None:
    with pytest.raises(InvalidSettings, match="SECONDREAD_TRUSTED_PROXIES"):
        Settings(trusted_proxies=wrong)


def test_an_https_page_is_another_origin_than_this_http_server() -> None:
    client = application()
    assert status(client, "localhost:8501", "http://localhost:8501") == 200
    for origin in ("https://localhost:8501", "http://localhost", "ftp://localhost:8501", "localhost:8501", "null"):
        assert status(client, "localhost:8501", origin) == 403, origin


def test_behind_tls_the_origin_is_https() -> None:
    client = application(cookie_secure=True, allowed_hosts="reads.example")
    assert status(client, "reads.example", "https://reads.example") == 200
    assert status(client, "reads.example", "http://reads.example") == 403
    assert status(client, "localhost:8501", "http://localhost:8501") == 200  # at the machine itself


def test_only_a_trusted_proxy_says_that_the_page_came_by_https() -> None:
    told = {"X-Forwarded-Proto": "https"}
    for trusted, expected in (("", 403), ("192.0.2.1", 200)):
        client = application(peer="192.0.2.1", trusted_proxies=trusted, allowed_hosts="reads.example")
        assert status(client, "reads.example", "https://reads.example", **told) == expected
