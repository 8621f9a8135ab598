"""Where a request comes from and what it calls this server: what the connection says, and whose word counts beside it.

The web server below us believes `X-Forwarded-For` of whoever connects from this machine, and writes it over the peer's
address. `core.server.connections` therefore notes the peer in the scope before that; here it is read.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

Network = IPv4Network | IPv6Network

PEER = "secondread_peer"
"""Key of `scope["state"]`: (address, scheme) of the connection itself."""
_HOST = re.compile(r"(?:\[(?P<address>[^][]+)\]|(?P<name>[^][:]+))(?::[0-9]+)?")
"""RFC 9110, 7.2: a name or an address, that of IPv6 in brackets, and perhaps a port."""
IPV6_PREFIX = 64
"""One site or home has as many IPv6 addresses as this prefix leaves; they count as one."""


def peer_of(scope: Scope) -> tuple[str, str]:
    """Address and scheme ("http" or "https") of the connection, whatever any header says; "" for an unknown address."""
    noted = scope.get("state", {}).get(PEER)
    if noted is not None:
        address, scheme = noted
        return str(address), str(scheme)
    client = scope.get("client")
    return (str(client[0]) if client else ""), _plain(scope.get("scheme", "http"))


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address that a request is counted for: the peer's, or the one that the last trusted proxy names.

    `X-Forwarded-For` is read from its end, as proxies append to it; what stands before the first address that is no
    trusted proxy was written by the client itself. An IPv6 address is cut to its network of /64.
    """
    address, _ = peer_of(scope)
    if is_trusted(address, trusted):
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            if _parsed(hop) is None:
                break
            address = hop
            if not is_trusted(hop, trusted):
                break
    return _counted(address)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether this is one of the proxies whose word is taken."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in trusted)


def is_loopback(address: str) -> bool:
    """Whether this is the machine itself."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def schemes_of(scope: Scope, trusted: Sequence[Network], *, is_behind_tls: bool) -> frozenset[str]:
    """What a page of this server may have been fetched by: the connection's own scheme, or what stands in front of it.

    is_behind_tls: the site says that people reach it by HTTPS only (SECONDREAD_COOKIE_SECURE).
    """
    address, scheme = peer_of(scope)
    if is_behind_tls:
        return frozenset({"https"})
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "").strip().lower()
    if forwarded in ("http", "https") and is_trusted(address, trusted):
        return frozenset({forwarded})
    return frozenset({scheme})


def host_of(host: str) -> str:
    """Name or address in a Host header, in lower case, without port and brackets; "" for what is none."""
    found = _HOST.fullmatch(host.strip().lower())
    if found is None:
        return ""
    if found["address"] is not None:
        return found["address"] if _parsed(found["address"]) is not None else ""
    return found["name"].rstrip(".")


@lru_cache(maxsize=1)
def own_names() -> frozenset[str]:
    """What this machine is called: localhost, its names, and the addresses these lead to. May ask the name server."""
    names = {"localhost", "127.0.0.1", "::1", socket.gethostname().lower(), socket.getfqdn().lower()}
    for name in list(names):
        try:
            found = socket.getaddrinfo(name, None)
        except OSError:  # a name that leads nowhere is still this machine's
            continue
        names |= {str(entry[4][0]).partition("%")[0] for entry in found}
    return frozenset(names)


def _counted(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed) if parsed is not None else ""


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed


def _plain(scheme: str) -> str:
    return {"ws": "http", "wss": "https"}.get(scheme, scheme)
