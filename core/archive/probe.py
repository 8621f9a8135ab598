"""What of an archive works: the test that an administrator starts on the page Settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from core.archive.archives import Archive, archive_to_manage, credentials_of
from core.archive.dicomweb import Criteria, DicomWeb
from core.errors import AppError, ArchiveAway, ArchiveRefused
from core.records.database.db import Database
from core.records.people.permissions import Actor

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
"""It would write names of studies and patients."""
VERIFICATION = "1.2.840.10008.1.1"
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One service of an archive. works: None where it was not tried. sentence: why, or what was seen."""

    service: str
    works: bool | None
    sentence: str


def probe_archive(db: Database, actor: Actor, archive_id: int) -> list[Finding]:
    """Tries C-ECHO, QIDO, WADO and STOW; nothing is stored. Raises NotAllowed, NotFound."""
    archive = archive_to_manage(db, actor, archive_id)
    found = [_tried("C-ECHO", lambda: echo(archive, db.settings.ae_title))]
    try:
        web = DicomWeb(archive, credentials_of(db.settings, archive.name), read_seconds=SECONDS)
    except AppError as refused:
        return [*found, *(Finding(service, False, str(refused)) for service in ("QIDO", "WADO", "STOW"))]
    return [
        *found,
        _tried("QIDO", lambda: _search(web)),
        _tried("WADO", lambda: _fetch(web)),
        _tried("STOW", web.probe_store),
    ]


def echo(archive: Archive, ae_title: str, *, seconds: float = SECONDS) -> str | None:
    """A verification message (PS3.4 A.4). Raises ArchiveAway, ArchiveRefused; None where there is no address for it."""
    if not archive.has_dimse or archive.port is None:
        return None
    from pynetdicom import AE

    entity = AE(ae_title=ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
    entity.add_requested_context(VERIFICATION)
    association = entity.associate(archive.host, archive.port, ae_title=archive.ae_title)
    if association.is_rejected:
        raise ArchiveRefused(f"{archive.name} does not know {ae_title} as a partner, or has another AE title.")
    if not association.is_established:
        raise ArchiveAway(f"{archive.name} does not answer at its host and port.")
    status = association.send_c_echo()
    association.release()
    if status.get("Status") != 0:
        raise ArchiveAway(f"{archive.name} did not answer the verification.")
    return f"{archive.ae_title} answered."


def _search(web: DicomWeb) -> str:
    found = web.search(Criteria(modality="MG"))
    return f"The search answered; {len(found)} mammography {'study' if len(found) == 1 else 'studies'} listed."


def _fetch(web: DicomWeb) -> str | None:
    """Asks for the objects of some study and for the first of them."""
    for study in web.search(Criteria())[:1]:
        for instance in web.instances(study.uid)[:1]:
            return f"An object of {web.size_of(study.uid, instance)} bytes came."
    return None


def _tried(service: str, act: Callable[[], str | None]) -> Finding:
    try:
        sentence = act()
    except AppError as refused:
        return Finding(service, False, str(refused))
    nothing = "No address was given for it." if service == "C-ECHO" else "The archive is empty, so it was not tried."
    return Finding(service, None if sentence is None else True, sentence or nothing)
