"""Associations with archives for DICOM messages (PS3.8), plain or over TLS (PS3.15 B.9 and B.12 by BCP 195)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import socket
from typing import TYPE_CHECKING, Any

from core.archive.archives import Archive
from core.errors import ArchiveAway, ArchiveRefused, KeysUnreadable
from core.settings import Settings

if TYPE_CHECKING:
    from pynetdicom.association import Association

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
"""It would write names of studies and patients."""
SECONDS = 10.0
"""To wait for each answer."""


@contextmanager
def associated(
    archive: Archive,
    settings: Settings,
    sop_class: str,
    *,
    seconds: float = SECONDS,
    handlers: Sequence[tuple[Any, ...]] = (),
) -> Iterator[Association]:
    """An association that proposes this class alone, released at the end of the block.

    Raises ArchiveAway, ArchiveRefused, KeysUnreadable for certificates of ours.
    """
    from pynetdicom import AE

    if not archive.has_dimse or archive.port is None:
        raise ArchiveRefused(f"{archive.name} has no address for DICOM messages. Name it on the page Settings.")
    entity = AE(ae_title=settings.ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
    entity.add_requested_context(sop_class)
    tls = (client_context(settings), archive.host) if archive.has_tls else None
    association = entity.associate(
        archive.host, archive.port, ae_title=archive.ae_title, tls_args=tls, evt_handlers=list(handlers)
    )
    try:
        if association.is_rejected:
            raise ArchiveRefused(
                f"{archive.name} does not know {settings.ae_title} as a partner, or has another AE title."
            )
        if not association.is_established and not association.rejected_contexts:
            over = " by TLS with a certificate that is trusted here" if archive.has_tls else ""
            raise ArchiveAway(f"{archive.name} does not answer at its host and port{over}.")
        if not association.accepted_contexts:
            raise NotOffered
        yield association
    finally:
        if association.is_established:
            association.release()


class NotOffered(Exception):
    """The other side does not offer the class that was proposed."""


def client_context(settings: Settings) -> ssl.SSLContext:
    """For associations that we ask for. Raises KeysUnreadable."""
    return _context(settings, ssl.Purpose.SERVER_AUTH)


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """For the listener; None where it is to take plain messages. Raises KeysUnreadable."""
    return _context(settings, ssl.Purpose.CLIENT_AUTH) if settings.dicom_tls_certificate else None


class _LateHandshake(ssl.SSLContext):
    """Whoever connects and says nothing must not hold up others: the handshake is of its own association's thread."""

    def wrap_socket(self, sock: socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        if options.get("server_side"):
            options["do_handshake_on_connect"] = False
        return super().wrap_socket(sock, *arguments, **options)


def _context(settings: Settings, purpose: ssl.Purpose) -> ssl.SSLContext:
    is_server = purpose is ssl.Purpose.CLIENT_AUTH
    context = _LateHandshake(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.dicom_tls_certificate:
            context.load_cert_chain(settings.dicom_tls_certificate, settings.dicom_tls_key or None)
        if settings.dicom_tls_authority:
            context.load_verify_locations(settings.dicom_tls_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        elif not is_server:
            context.load_default_certs(purpose)
    except (OSError, ssl.SSLError):
        raise KeysUnreadable(
            "A certificate or key for DICOM messages over TLS cannot be read. Check SECONDREAD_DICOM_TLS_CERTIFICATE, "
            "SECONDREAD_DICOM_TLS_KEY and SECONDREAD_DICOM_TLS_AUTHORITY."
        ) from None
    return context
