"""What of an archive works: the test that an administrator starts on the page Settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.archive.archives import Archive, archive_to_manage, credentials_of
from core.archive.association import SECONDS, NotOffered, associated
from core.archive.commitment import PUSH_MODEL
from core.archive.dicomweb import Criteria, DicomWeb
from core.errors import AppError, ArchiveAway, ArchiveRefused
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.settings import Settings

VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True, slots=True)
class Finding:
    """One service of an archive. works: None where it was not tried. sentence: why, or what was seen."""

    service: str
    works: bool | None
    sentence: str


def probe_archive(db: Database, actor: Actor, archive_id: int) -> list[Finding]:
    """Tries C-ECHO, QIDO, WADO and STOW; nothing is stored. Raises NotAllowed, NotFound."""
    archive = archive_to_manage(db, actor, archive_id)
    found = [_tried("C-ECHO", lambda: echo(archive, db.settings))]
    if archive.commits:
        found.append(_tried("Commitment", lambda: _commitment(archive, db.settings)))
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


def echo(archive: Archive, settings: Settings, *, seconds: float = SECONDS) -> str | None:
    """A verification message (PS3.4 A.4). Raises ArchiveAway, ArchiveRefused; None where there is no address for it."""
    if not archive.has_dimse:
        return None
    try:
        with associated(archive, settings, VERIFICATION, seconds=seconds) as association:
            status = association.send_c_echo()
    except NotOffered:
        raise ArchiveRefused(f"{archive.name} does not offer verification.") from None
    if status.get("Status") != 0:
        raise ArchiveAway(f"{archive.name} did not answer the verification.")
    return f"{archive.ae_title} answered{' over TLS' if archive.has_tls else ''}."


def _commitment(archive: Archive, settings: Settings) -> str:
    """Whether it offers storage commitment; nothing is asked."""
    try:
        with associated(archive, settings, PUSH_MODEL):
            return "It is offered. Its answers come to `python -m core dicom-listen`, which must run."
    except NotOffered:
        raise ArchiveRefused(
            f"{archive.name} does not offer it: results count as delivered once it shows them."
        ) from None


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
