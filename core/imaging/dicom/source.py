"""Whose and which object a DICOM file is: what a result needs to find its way back to the archive the file came from.

Runs inside the decoding process. Of what an archive sent, all of it; of an upload, `OF_UPLOAD`, which names nobody. The
answer is sealed and never logged.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, BinaryIO

from core.errors import UnreadableImage
from core.imaging.decoded import clean_text
from core.imaging.dicom.grey_scale import lookup_table, one_number, read_windows
from core.imaging.dicom.header import read_header, whole_number
from core.imaging.dicom.tags import with_functional_groups

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OF_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Patient and study level (PS3.3 C.7.1.1, C.7.2.1): a result repeats them, or archives make another patient of it."""
OF_INSTANCE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
OF_UPLOAD = ("StudyInstanceUID", *OF_INSTANCE)
"""Of an uploaded file: what a result needs to point at the object, and nothing of whom it shows."""
DISPLAY = "Display"
"""How the file says that its values become grey, as JSON: a presentation state takes the place of all of it
(PS3.3 A.33.1). Read with the first frame."""
_OF_DISPLAY = (
    "PhotometricInterpretation", "SamplesPerPixel", "BitsStored", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation",
    "VOILUTFunction", "VOILUTSequence", "PatientOrientation", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
_LONGEST = 324
"""Of a person's name: three groups of 64 characters for each of its five components would be more than any has."""


def read_source_tags(stream: BinaryIO) -> dict[str, str]:
    """Keyword -> value as text, "" where the file has none. Raises UnreadableImage for what names no object."""
    header, _ = read_header(stream, (*OF_STUDY, *OF_INSTANCE, "SpecificCharacterSet"))
    found = {keyword: _text_of(header, keyword) for keyword in (*OF_STUDY, *OF_INSTANCE)}
    if not all(is_uid(found[keyword]) for keyword in _UIDS):
        raise UnreadableImage(
            "This DICOM file does not name its study, series and object, so no result can refer to it."
        )
    return found


def source_of(stream: BinaryIO, keywords: Iterable[str], *, is_voi_signed: bool = False) -> dict[str, str]:
    """These of `read_source_tags` and `DISPLAY`, of a file whose picture was decoded before; nothing where it names no
    object, and no `DISPLAY` where a table that its picture was not made with is broken. is_voi_signed: as decoded."""
    try:
        tags = read_source_tags(stream)
    except UnreadableImage:
        return {}
    found = {keyword: tags[keyword] for keyword in keywords}
    try:
        return found | {DISPLAY: read_display(stream, is_voi_signed=is_voi_signed)}
    except UnreadableImage:
        return found


def is_uid(text: str) -> bool:
    """Whether a text is a unique identifier (PS3.5 9.1): digits and dots, at most 64."""
    parts = text.split(".")
    return len(text) <= 64 and len(parts) > 1 and all(part.isascii() and part.isdecimal() for part in parts)


def _text_of(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else clean_text(str(value).strip("\0 "), _LONGEST)


def read_display(stream: BinaryIO, *, is_voi_signed: bool = False) -> str:
    """`DISPLAY` of a file whose picture was decoded before: photometric, samples, orientation, and of grey pictures

    slope, intercept; window: [center, width, function], the one that is shown here; modality_table, voi_table: first,
    bits and entries, as 16-bit little endian words. window and tables: None where the file has none. is_voi_signed:
    as decoded (`Decoded`).
    """
    header = with_functional_groups(read_header(stream, _OF_DISPLAY)[0], 0)
    oriented = header.get("PatientOrientation")
    found: dict[str, Any] = {
        "photometric": _text_of(header, "PhotometricInterpretation").upper(),
        "samples": whole_number(header, "SamplesPerPixel", 1),
        "orientation": [clean_text(one, 16) for one in oriented] if isinstance(oriented, MutableSequence) else [],
    }
    if found["samples"] == 1 and found["photometric"] != "PALETTE COLOR":
        window = next(iter(read_windows(header)[0]), None)
        found |= {
            "slope": one_number(header, "RescaleSlope", 1.0), "intercept": one_number(header, "RescaleIntercept", 0.0),
            "window": None if window is None else [window.center, window.width, window.function],
            "modality_table": _table(
                header, "ModalityLUTSequence", is_signed=whole_number(header, "PixelRepresentation", 0) == 1
            ),
            "voi_table": _table(header, "VOILUTSequence", is_signed=is_voi_signed),
        }  # fmt: skip
    return json.dumps(found)


def _table(header: Dataset, name: str, *, is_signed: bool) -> dict[str, Any] | None:
    items = header.get(name) or []
    if not items:
        return None
    found = lookup_table(items[0], "LUT", is_signed=is_signed)
    if name == "VOILUTSequence":
        found.settle_depth(whole_number(header, "BitsStored", 16))
    entries = b64encode(found.entries.astype("<u2").tobytes()).decode()
    return {"first": found.first, "bits": found.bits or 16, "entries": entries}
