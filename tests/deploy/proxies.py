"""The proxies of deploy/ on loopback: nginx and Caddy as Debian has them, with a certificate made here."""

from __future__ import annotations

import datetime
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.settings import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
HOST = "secondread.localhost"
"""Browsers find every name below localhost on this machine without asking anybody."""
START_SECONDS = 20


def needed_program(name: str, package: str) -> str:
    """The path of a program. Skips with a reason without it, and fails where CI=true."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path:
        return path
    reason = f"{name} is not installed (Debian: apt-get install {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each key replaced by its value; every key must be there, or the example has changed."""
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificate:
    """Of `HOST`, signed by itself."""

    path: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "secondread.crt", folder / "secondread.key")
    made.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@dataclass(frozen=True)
class RunningProxy:
    """A started proxy. logs: the files that it writes, its terminal included."""

    kind: str
    port: int
    http_port: int
    certificate: Certificate
    logs: tuple[Path, ...]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate.path))

    def socket(self, name: str = HOST) -> ssl.SSLSocket:
        """A connection over TLS that asks for `name`."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return self.context().wrap_socket(plain, server_hostname=name)

    def connection(self) -> http.client.HTTPSConnection:
        return _Here(HOST, self.port, context=self.context(), timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def post(self, path: str, fields: str, cookie: str = "") -> tuple[http.client.HTTPResponse, bytes]:
        """A form, as a browser on a page of this origin sends it."""
        headers = {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
        return self.ask("POST", path, fields.encode(), headers)


class _Here(http.client.HTTPSConnection):
    """Finds `HOST` on this machine, whatever resolves names here."""

    def connect(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)  # type: ignore[attr-defined]


@contextmanager
def running_nginx(folder: Path, upstream: int, other: int = 0) -> Iterator[RunningProxy]:
    """nginx with deploy/nginx/secondread.conf in front of 127.0.0.1:`upstream`, and `other`. Ends with the block."""
    program = needed_program("nginx", "nginx-light")
    certificate, port, http_port = make_certificate(folder), free_port(), free_port()
    site = filled(
        (DEPLOY / "nginx" / "secondread.conf").read_text(encoding="utf-8"),
        {
            "server 127.0.0.1:8501 ": f"server 127.0.0.1:{upstream} ",
            "# server 10.1.0.12:8501 ": f"server 127.0.0.1:{other} " if other else "# server 10.1.0.12:8501 ",
            "listen 80;": f"listen 127.0.0.1:{http_port};",
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "secondread.example": HOST,
            "/etc/ssl/certs/secondread.crt": str(certificate.path),
            "/etc/ssl/private/secondread.key": str(certificate.key),
            "/var/log/nginx": str(folder),
        },
    )
    (folder / "secondread.conf").write_text(site)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {user} pid {folder}/nginx.pid; worker_processes 1; error_log stderr; events {{}}\n"
        f"http {{\n{_temporary_folders(folder)}\ninclude {folder}/secondread.conf;\n}}\n"
    )
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t", "-q"], check=True)
    logs = (folder / "secondread.access.log", folder / "secondread.error.log")
    with _started(command, folder, port, {}):
        yield RunningProxy("nginx", port, http_port, certificate, (*logs, folder / "terminal"))


@contextmanager
def running_caddy(folder: Path, upstream: int, other: int = 0) -> Iterator[RunningProxy]:
    """Caddy with deploy/caddy/Caddyfile in front of 127.0.0.1:`upstream`, and `other`. Ends with the block."""
    program = needed_program("caddy", "caddy")
    certificate, port, http_port = make_certificate(folder), free_port(), free_port()
    text = (DEPLOY / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    (folder / "Caddyfile").write_text(
        filled(text, {"\thttp_port": "\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port"})
    )
    environment = {
        "PROXY_HOST": HOST,
        "PROXY_HTTP_PORT": str(http_port),
        "PROXY_HTTPS_PORT": str(port),
        "PROXY_UPSTREAM": f"127.0.0.1:{upstream}" + (f" 127.0.0.1:{other}" if other else ""),
        "PROXY_CERTIFICATE": str(certificate.path),
        "PROXY_KEY": str(certificate.key),
        "HOME": str(folder),
    }
    command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with _started(command, folder, port, environment):
        yield RunningProxy("caddy", port, http_port, certificate, (folder / "terminal",))


def _temporary_folders(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f"{kind}_temp_path {folder}/temporary_{kind};" for kind in kinds)


@contextmanager
def _started(command: list[str], folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / "terminal").open("wb") as terminal:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=terminal, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                said = (folder / "terminal").read_text(errors="replace")
                assert process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
