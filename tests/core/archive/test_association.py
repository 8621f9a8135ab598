"""DICOM messages over TLS: who shows no trusted certificate is not talked to, and who says nothing holds up nobody."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from made_images import MG
from pydicom import dcmread
from pynetdicom import AE, _config
from record_site import Somebody, add_person
from test_listener import ADDRESS, EXPLICIT, left, view

from core.archive import listener, probe
from core.archive.archives import Archive, ArchiveAddress, change_archive, name_archive
from core.archive.association import client_context
from core.archive.dicomweb import Criteria, DicomWeb, FoundStudy
from core.archive.listener import listening
from core.errors import ArchiveAway, InvalidInput
from core.records.database.db import Database, open_database
from core.settings import Settings


@dataclass(frozen=True)
class Certificates:
    """Files of an authority and of two machines, of which it knows one. Each machine is 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path
    unknown_certificate: Path
    unknown_key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    known, unknown = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own = _certificate(known, "authority", known, is_authority=True)
    other = _certificate(unknown, "other", unknown, is_authority=True)
    machine = ec.generate_private_key(ec.SECP256R1())
    found = Certificates(*(folder / name for name in ("ca.pem", "one.pem", "one.key", "two.pem", "two.key")))
    found.authority.write_bytes(_pem(own))
    found.certificate.write_bytes(_pem(_certificate(machine, "authority", known)))
    found.unknown_certificate.write_bytes(_pem(_certificate(machine, "other", unknown)) + _pem(other))
    for path in (found.key, found.unknown_key):
        path.write_bytes(
            machine.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return found


def _certificate(
    key: ec.EllipticCurvePrivateKey, issuer: str, signed_with: ec.EllipticCurvePrivateKey, *, is_authority: bool = False
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(named(issuer if is_authority else "127.0.0.1"))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return made.sign(signed_with, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def settings_of(tmp_path: Path, certificates: Certificates) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", dicom_tls_certificate=str(certificates.certificate),
        dicom_tls_key=str(certificates.key), dicom_tls_authority=str(certificates.authority),
    )  # fmt: skip


@pytest.fixture
def db(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)  # and as it was for others
    monkeypatch.setattr(listener, "SWEEP_SECONDS", 600.0)
    opened = open_database(settings_of(tmp_path, certificates))
    yield opened
    opened.close()


@pytest.fixture
def ada(db: Database) -> Somebody:
    return add_person(db, "Ada")


def send(port: int, context: ssl.SSLContext | None) -> int | None:
    """The status of one object; None where no association came about."""
    entity = AE(ae_title="SENDER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    entity.add_requested_context(MG, [EXPLICIT])
    tls = (context, "127.0.0.1") if context else None
    association = entity.associate("127.0.0.1", port, ae_title="SECONDREAD", tls_args=tls)
    if not association.is_established:
        return None
    status = association.send_c_store(dcmread(BytesIO(view())))
    association.release()
    return int(status.Status)


def test_the_listener_takes_what_comes_by_tls_from_who_has_a_trusted_certificate(
    db: Database, ada: Somebody, certificates: Certificates
) -> None:
    name_archive(db, ada, ADDRESS)
    trusted = client_context(db.settings)
    stranger = ssl.create_default_context(cafile=str(certificates.authority))
    stranger.load_cert_chain(certificates.unknown_certificate, certificates.unknown_key)
    nobody = ssl.create_default_context(cafile=str(certificates.authority))
    with listening(db, "127.0.0.1", 0) as port, socket.create_connection(("127.0.0.1", port)):  # says nothing
        assert send(port, trusted) == 0, "who says nothing holds up nobody"
        for context in (stranger, nobody, None):
            assert send(port, context) is None
        assert send(port, trusted) == 0
    assert len(left(db)) == 1


def test_an_archive_is_asked_over_tls_and_only_if_its_certificate_is_trusted(
    db: Database, ada: Somebody, certificates: Certificates
) -> None:
    def served(certificate: Path, key: Path) -> tuple[AE, int]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.authority))
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        entity = AE(ae_title="PACS")
        entity.add_supported_context(probe.VERIFICATION)
        server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context)
        return entity, server.server_address[1]  # type: ignore[union-attr]

    entity, port = served(certificates.certificate, certificates.key)
    archive = Archive("pacs", "http://127.0.0.1:9/web", "PACS", "127.0.0.1", port, has_tls=True, id=1)
    assert probe.echo(archive, db.settings, seconds=5) == "PACS answered over TLS."
    with pytest.raises(ArchiveAway):
        probe.echo(replace(archive, has_tls=False), db.settings, seconds=2)
    with pytest.raises(ArchiveAway, match="certificate that is trusted"):
        probe.echo(archive, replace(db.settings, dicom_tls_authority=""), seconds=2)
    entity.shutdown()
    entity, port = served(certificates.unknown_certificate, certificates.unknown_key)
    with pytest.raises(ArchiveAway, match="certificate that is trusted"):
        probe.echo(replace(archive, port=port), db.settings, seconds=2)
    entity.shutdown()


class NothingFound(BaseHTTPRequestHandler):
    """A DICOMweb search without a result."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()


def test_dicomweb_over_tls_trusts_the_authority_that_the_hospital_names_and_no_other(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), NothingFound) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        archive = Archive("pacs", f"https://127.0.0.1:{server.server_address[1]}/web", id=1)

        def found() -> list[FoundStudy]:
            return DicomWeb(archive, None).search(Criteria(patient_id="P1"))

        with pytest.raises(ArchiveAway):
            found()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
        assert found() == []
        server.shutdown()


def test_files_that_cannot_be_read_are_said_and_tls_needs_an_address(
    db: Database, ada: Somebody, certificates: Certificates, tmp_path: Path
) -> None:
    for broken in ({"dicom_tls_key": str(tmp_path / "none")}, {"dicom_tls_authority": str(certificates.key)}):
        with pytest.raises(InvalidInput, match="SECONDREAD_DICOM_TLS_CERTIFICATE"):
            client_context(replace(db.settings, **broken))
    archive_id = name_archive(db, ada, ADDRESS)
    with pytest.raises(InvalidInput, match="AE title, host and port"):
        change_archive(db, ada, archive_id, ArchiveAddress("pacs", ADDRESS.dicomweb_url, has_tls=True))
