"""A small OpenID Connect provider on this machine, for tests: discovery, authorize, token and keys, RS256 and PKCE."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "secondread", "a-secret-of-the-tests"


class IdentityProvider:
    """claims: of whoever signs in next. redirect_uri: the only one that is registered. signing_key: for the tokens.

    goodbyes: what browsers asked when they signed out here.
    """

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.redirect_uri = ""
        self.key = RSAKey.generate_key(2048, {"kid": "tests", "use": "sig", "alg": "RS256"})
        self.signing_key = self.key
        self.url = ""
        self.post_logout_uri = ""
        self.goodbyes: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/end",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> tuple[int, str]:
        """The page on which somebody would type a password: here one link, with a fresh code."""
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") != self.redirect_uri:
            return 400, "unknown client or address"
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return 400, "only the code flow with PKCE"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = f"{self.redirect_uri}?{urlencode({'code': code, 'state': asked['state']})}"
        no = f"{self.redirect_uri}?{urlencode({'error': 'access_denied', 'state': asked['state']})}"
        return 200, f'<a id="yes" href="{escape(back)}">Continue</a> <a id="no" href="{escape(no)}">Refuse</a>'

    def token(self, fields: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        is_client = authorization == basic or fields.get("client_secret") == CLIENT_SECRET
        asked = self._codes.pop(fields.get("code", ""), None)  # a code is good once
        if not is_client or asked is None or fields.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        proof = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(proof).rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        moment = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": moment, "exp": moment + 300, "nonce": asked["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "tests"}, claims | self.claims, self.signing_key)
        return 200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": token}


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """A provider that listens on 127.0.0.1: for a browser another site than the application's localhost."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/.well-known/openid-configuration":
                self._json(200, provider.discovery())
            elif parts.path == "/keys":
                self._json(200, {"keys": [provider.key.as_dict(private=False)]})
            elif parts.path == "/authorize":
                status, page = provider.authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
                self._answer(status, "text/html; charset=utf-8", page.encode())
            elif parts.path == "/end":
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if (
                    asked.get("client_id") != CLIENT_ID
                    or asked.get("post_logout_redirect_uri") != provider.post_logout_uri
                ):
                    self._answer(400, "text/plain", b"unknown client or address")
                    return
                provider.goodbyes.append(asked)
                self.send_response(302)
                self.send_header("Set-Cookie", "at_the_provider=; Max-Age=0; HttpOnly")
                self.send_header("Location", provider.post_logout_uri)
                self.end_headers()
            else:
                self._answer(404, "text/plain", b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            fields = {name: values[0] for name, values in parse_qs(body).items()}
            self._json(*provider.token(fields, self.headers.get("Authorization", "")))

        def _json(self, status: int, content: dict[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(content).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if urlsplit(self.path).path == "/authorize":
                self.send_header("Set-Cookie", "at_the_provider=1; HttpOnly")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: tests speak for themselves."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
