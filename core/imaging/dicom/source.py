"""Whose and which object a DICOM file is: what a result needs to find its way back to the archive the file came from.

Runs inside the decoding process. Asked only for what an archive sent; the answer is sealed and never shown or logged.
"""

from __future__ import annotations

from typing import BinaryIO

from pydicom.dataset import Dataset

from core.errors import UnreadableImage
from core.imaging.decoded import clean_text
from core.imaging.dicom.header import read_header

OF_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Patient and study level (PS3.3 C.7.1.1, C.7.2.1): a result repeats them, or archives make another patient of it."""
OF_INSTANCE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
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


def is_uid(text: str) -> bool:
    """Whether a text is a unique identifier (PS3.5 9.1): digits and dots, at most 64."""
    parts = text.split(".")
    return len(text) <= 64 and len(parts) > 1 and all(part.isascii() and part.isdecimal() for part in parts)


def _text_of(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else clean_text(str(value).strip("\0 "), _LONGEST)
