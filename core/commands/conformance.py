"""`python -m core conformance`: writes docs/dicom-conformance.md anew from the tables that the code itself goes by."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from core.archive import arrivals, commitment, dicomweb, listener
from core.archive.association import SECONDS
from core.archive.results import cad_report, dicom_object, finding_codes, segmentation, structured_report
from core.archive.results.cad_report import MAMMOGRAPHY_CAD_SR
from core.archive.results.encapsulated_report import ENCAPSULATED_PDF
from core.archive.results.presentation_state import COLOUR_STATE, GREY_STATE
from core.archive.results.secondary_capture import LONGEST_PX, SECONDARY_CAPTURE
from core.archive.results.segmentation import SEGMENTATION
from core.archive.results.structured_report import COMPREHENSIVE_SR
from core.files import write_whole
from core.imaging.dicom.header import DEFLATED, NATIVE, TRANSFER_SYNTAXES
from core.imaging.dicom.source import OF_INSTANCE, OF_STUDY
from core.imaging.dicom.tags import STORAGE_CLASSES
from core.records.archives.outbox import MARKS_SENT, RESULT_KINDS
from core.settings import REPOSITORY, Settings

PAGE = Path("docs") / "dicom-conformance.md"


def run(_args: argparse.Namespace) -> int:
    """Write the page; 0."""
    write_whole(REPOSITORY / PAGE, statement())
    sys.stdout.write(f"{PAGE} is written.\n")
    return 0


def statement() -> str:
    """The page, in the order of a conformance statement (PS3.2 Annex A)."""
    return _STATEMENT.format(
        ae_title=Settings().ae_title,
        classes=_table(("SOP class", "UID"), ((_name(one), one) for one in STORAGE_CLASSES)),
        syntaxes=_table(
            ("Transfer syntax", "UID"), ((_name(one), one) for one in TRANSFER_SYNTAXES)
        ),
        verification=listener.VERIFICATION, native=", ".join(_name(one) for one in NATIVE),
        refused_syntaxes=", ".join(sorted(DEFLATED)),
        statuses=_table(
            ("Status", "When"), ((f"{status:04X}", when) for status, when in listener.STATUSES.items())
        ),
        associations=listener.ASSOCIATIONS_MOST, pdu=listener.PDU_BYTES, network=f"{listener.NETWORK_SECONDS:.0f}",
        quiet=f"{listener.QUIET_SECONDS:.0f}", room=listener.ROOM_STUDIES, probe=f"{SECONDS:.0f}",
        tries=arrivals.TRIES_MOST, connect=f"{dicomweb.CONNECT_SECONDS:.0f}", read=f"{dicomweb.READ_SECONDS:.0f}",
        keys=", ".join(sorted(_EVERY_CRITERION.as_query)),
        identity=", ".join(OF_STUDY), instance=", ".join(OF_INSTANCE),
        codes=_table(
            ("Concept", "Code"), sorted({(meaning, f"({value}, {scheme})") for value, scheme, meaning in _CODES})
        ),
        scheme=finding_codes.OWN_SCHEME, longest=LONGEST_PX,
        commitment=commitment.PUSH_MODEL, unknown=commitment.UNKNOWN, answer=f"{commitment.ANSWER_SECONDS:.0f}",
        hours=commitment.ANSWER_HOURS, methods="\n".join(f"- {one}" for one in _methods()),
        partly="\n".join(f"- {sentence}" for sentence in _partly_done()),
        replaced=" ".join(dicom_object.REPLACED[1::-1]),
        results=_table(
            ("Result", "SOP class", "UID", "One for each", "Names what it replaces in"),
            ((RESULT_KINDS[kind], _name(uid), uid, _one_for_each(kind), where) for kind, uid, where in _RESULTS),
        ),
    )  # fmt: skip


_DAY = date(2026, 1, 1)
_EVERY_CRITERION = dicomweb.Criteria(
    _DAY, _DAY, "MG", patient_id="1", patient_name="A", accession_number="1", study_uid="1.2"
)
_RESULTS = (
    ("sr", COMPREHENSIVE_SR, "Predecessor Documents Sequence"),
    ("pdf", ENCAPSULATED_PDF, "Predecessor Documents Sequence"),
    ("sc", SECONDARY_CAPTURE, "Referenced Instance Sequence"),
    ("pr", GREY_STATE, "Related Series Sequence"),
    ("pr", COLOUR_STATE, "Related Series Sequence"),
    ("seg", SEGMENTATION, "Referenced Instance Sequence"),
    ("cad", MAMMOGRAPHY_CAD_SR, "Predecessor Documents Sequence"),
)
"""Kind, SOP class, and where it refers to its predecessors."""
_CODES = (
    structured_report.PROBABILITY, structured_report.ASSESSMENT, structured_report.COMPOSITION, dicom_object.BREAST,
    dicom_object.REPLACED, segmentation.ABNORMAL, dicom_object.LESION, segmentation.INTELLIGENCE,
    *structured_report.ASSESSMENTS.values(), *structured_report.COMPOSITIONS.values(),
    dicom_object.SELECTED_REGION, *cad_report.SINGLE_IMAGE_FINDINGS.values(), *cad_report.BREASTS.values(),
    *cad_report.VIEWS.values(),
    *finding_codes.DESCRIPTOR_CODES.values(),
    *(one for table in (*finding_codes.TYPE_CODES.values(), *finding_codes.VALUE_CODES.values())
      for one in table.values()),
    *structured_report.SIDES.values(), *structured_report.AXES.values(), *structured_report.PROCEDURES.values(),
    structured_report.PERSON, structured_report.DEVICE, structured_report.COMMENT,
)  # fmt: skip


def _one_for_each(kind: str) -> str:
    marks = MARKS_SENT.get(kind)
    if kind == "cad":
        return "read with an accepted mark of a model"
    return "read" if marks is None else f"image with a mark ({', '.join(marks)}) of a finding"


def _name(uid: str) -> str:
    from pydicom.uid import UID  # loads only where needed

    return UID(uid).name


def _methods() -> list[str]:
    from core.imaging.dicom.confidentiality import METHODS  # with pydicom

    return [f"{meaning.removesuffix(' Option')} ({code}, DCM)" for code, meaning in list(METHODS.items())[1:]]


def _partly_done() -> list[str]:
    from core.imaging.dicom.confidentiality import PARTLY_DONE  # with pydicom

    return [sentence.replace(" Option:", f" ({code}, DCM):") for code, sentence in PARTLY_DONE.items()]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


_STATEMENT = """# DICOM conformance statement

Written by `python -m core conformance` from the tables that the code goes by; `tests/core/archive/test_listener.py`
holds it to what the listener accepts. Research use only. How to set it up: [integration](integration.md).

## 1 Overview

| Service | Role | By |
|---|---|---|
| Verification (C-ECHO) | user and provider | DICOM messages |
| Storage Commitment Push Model | user | DICOM messages; its answers come to the listener |
| Storage (C-STORE) of images | provider | DICOM messages, a process of its own |
| Studies Service, Search (QIDO-RS) | user agent | DICOMweb |
| Studies Service, Retrieve (WADO-RS) | user agent | DICOMweb |
| Studies Service, Store (STOW-RS) of results (4) | user agent | DICOMweb |

Not supported: Storage Commitment as a provider, Query/Retrieve by messages (C-FIND, C-MOVE, C-GET), Modality Worklist,
MPPS, media, printing. **SecondRead is no archive**: an association that proposes Storage Commitment as its user has
that presentation context rejected, and no sender may delete what it sent.

## 2 Networking

### 2.1 Implementation model

`python -m core dicom-listen` is a process beside the web server. What it takes waits in the site's state folder until
nothing more came of the exam for {quiet} seconds; then the server makes a study of it, by the checks of an upload.

### 2.2 The listener

AE title: `SECONDREAD_AE_TITLE`, `{ae_title}` unless it is set. Port: 11112 unless `--port` says another.

| Association | |
|---|---|
| Called AE title | must be the listener's |
| Calling AE title | of an archive on the page Settings that may send, from an address of its host |
| Other callers | rejected: permanent, service user, calling AE title not recognised |
| Associations at once | {associations}; more are rejected (transient, local limit exceeded) |
| Asynchronous operations, extended negotiation | none |
| Longest PDU taken | {pdu} bytes |
| Time without a word of the network | {network} s |

Presentation contexts: Verification ({verification}) in {native};
every class of the first table in every transfer syntax of the second.
Refused, because they could unpack to any size: {refused_syntaxes}.

{classes}

{syntaxes}

Statuses of C-STORE:

{statuses}

At most {room} studies of the largest size wait at once. An object that came before replaces itself. A class of the
table may hold pictures that are refused when the study is made ([what is read](intake.md)); the page Archive says so.

N-EVENT-REPORT of Storage Commitment ({commitment}) is taken from archives that are asked for it, when the association
proposes the role of its provider: 0000 for a transaction that was begun with that archive, {unknown:04X} for any other.

### 2.3 The test of an archive

C-ECHO as a user: proposes Verification alone, waits {probe} s.

### 2.4 Storage commitment

As a user of archives for which it is switched on: N-ACTION (type 1) with one object, once the archive shows it by
WADO-RS. An answer is waited for on the same association for {answer} s, else it comes to the listener. After {hours}
hours without one, and after a refusal, it is asked again in a transaction of its own.

## 3 DICOMweb

HTTP/1.1, TLS as this machine's Python has it; Basic authentication or a bearer token; no redirects. Waits {connect}
s for a connection and {read} s for each part of an answer.

- **QIDO-RS**: `/studies` by {keys};
  `limit`, `offset`, `includefield`. `/studies/{{uid}}/series` and `/studies/{{uid}}/instances`;
  answers in `application/dicom+json`.
- **WADO-RS**: `/studies/{{uid}}/series/{{uid}}/instances/{{uid}}` as `multipart/related; type="application/dicom";
  transfer-syntax=*`, one object at a time, as it is stored.
- **STOW-RS**: `/studies`, one object a request. Whether it arrived is asked by WADO-RS.

An archive that does not answer is asked again: {tries} times for what a reader asked for, without end for what rules
ask for and for results, after 15 s, then twice as long each time up to an hour.

## 4 What is made

All in Explicit VR Little Endian, each in a series of its own, each from one read.

{results}

- From the images it repeats: {identity}.
- Of each image that it refers to it has: {instance};
  presentation states also what the file says of how its values become grey.
- **Structured report**: template TID 1500 (PS3.16). Types and descriptors of findings have the codes of
  the table below; a word of the BI-RADS lexicon that PS3.16 has no code for is a private code of the scheme `{scheme}`,
  with the word as value and meaning. Each measurement group names its observer (TID 1002): the device for what models
  say, the reader for assessments and findings. A mark of a finding is a group of TID 1410 with its SCOORD. One that a
  model drew and the reader took as it was is in two groups with one tracking UID: of the device, with the model's
  TID 4019, the region and its lengths; and of the reader, with the finding's words, the region and a Comment on what
  proposed it. One that the reader moved is the reader's alone. A length in mm names what measured it (TID 4019).
- **Secondary capture**: 8 bits, MONOCHROME2, or RGB of a colour image; at most {longest} pixels on the longest side,
  with a caption under the picture; no spacing.
- **Presentation state**: graphics in units of PIXEL, one layer for findings and one for a note in units of DISPLAY. The
  modality transform, the VOI window or table (spread over 16 bits) and the polarity are those of the file; the whole
  image is displayed. Of colour images without a VOI, with sRGB as ICC profile.
- **Segmentation**: BINARY, without a frame of reference, a segment for each outline; MANUAL, or SEMIAUTOMATIC where the
  reader took a network's outline as it was.
- **Mammography CAD SR**: template TID 4000 (PS3.16), marks only, of models' proposals that the reader took as they
  were; UNVERIFIED, as it is the models'. Made only where there is one, or where one is taken back. **No workplace has
  shown it yet.**
- A mark has the same tracking UID in the structured report, the presentation state and the segmentation.
- **Clips**: secondary capture, presentation state and segmentation are made of one frame of a file, the one that the
  models read, and name it. A mark on another frame is in the structured report, with its frame, and in the PDF's table
  of findings, but in none of these three.
- What replaces an earlier object names it in the sequence above; the purpose of reference, where there is one, is
  ({replaced}). A preliminary result has UNVERIFIED as verification flag (and, as structured report, PRELIMINARY)
  where the class has one, PRELIMINARY as content label, or says it in its picture, and always in its series
  description.

{codes}

## 5 Character sets

Read: those that pydicom knows. Written: ISO_IR 192 (UTF-8).

## 6 Security

What is kept of a patient is encrypted under the site's key; see [security](security.md). AE titles prove nothing: put
the listener behind a firewall that lets in the archives alone. DICOM messages go over TLS (1.2 or newer, PS3.15
B.12) where certificates are set, in both directions; which suites is left to this machine's OpenSSL. De-identified
exports follow PS3.15 Annex E with these options (CID 7050):

{methods}

Done in part, and claimed by no file:

{partly}
"""
