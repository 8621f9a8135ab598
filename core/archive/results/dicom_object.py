"""What the objects that go to an archive have in common: whose they are, by what they were made, and when.

Everything that a library would take from the clock comes from the read, so that the same read gives the same object.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.archive.results.content import ResultContent, ResultImage, uid_of
from core.findings.finding import Finding
from core.findings.marks import Mark, Measured, has_pixels, middle_of
from core.version import version

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
"""It writes what it copies of a patient."""

# Code value, coding scheme, meaning.
Coded = tuple[str, str, str]
MANUFACTURER = "SecondRead"
RESEARCH_ONLY = "Research use only, not a medical device"
UNVERIFIED = "Preliminary, not verified"
BREAST: Coded = ("76752008", "SCT", "Breast")
LESION: Coded = ("52988006", "SCT", "Lesion")
SELECTED_REGION: Coded = ("111099", "DCM", "Selected region")
"""A region without a code of its own."""
REPLACED: Coded = ("121360", "DCM", "Replaced report")
"""Purpose of a reference to what a correction supersedes (PS3.16 CID 7009)."""


def code(hd: Any, coded: Coded) -> Any:
    """As highdicom has it. Codes of BI are of version 4.0."""
    value, scheme, meaning = coded
    return hd.sr.CodedConcept(value, scheme, meaning, "4.0" if scheme == "BI" else None)


def person_name(name: str) -> str:
    """As one component, with the delimiter that says so (PS3.5 6.2.1): nobody said which word is the family's."""
    plain = name.replace("^", " ").replace("=", " ").replace("\\", " ").strip()
    return f"{plain[:63]}^"


def dataset_of(**values: Any) -> Dataset:
    """A data set, or an item of a sequence, of keyword -> value."""
    from pydicom.dataset import Dataset

    return with_values(Dataset(), values)


def with_values(found: Dataset, values: Mapping[str, Any]) -> Dataset:
    """The data set itself, with these values by their keywords."""
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def as_file(found: Dataset, sop_class: str, uid: str) -> Dataset:
    """The data set itself, with its file meta information: explicit VR little endian."""
    from pydicom.dataset import FileMetaDataset

    meta = {"TransferSyntaxUID": "1.2.840.10008.1.2.1", "MediaStorageSOPClassUID": sop_class}
    found.file_meta = FileMetaDataset()
    with_values(found.file_meta, {**meta, "MediaStorageSOPInstanceUID": uid})
    return found


def source_dataset(content: ResultContent, image: ResultImage) -> Dataset:
    """An image of the study as far as a result repeats or references it."""
    own = {
        keyword: image.tags[keyword] for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality")
    }
    dataset = dataset_of(SpecificCharacterSet="ISO_IR 192", **{**content.study, **own})
    dataset.Rows, dataset.Columns = int(image.tags["Rows"] or 1), int(image.tags["Columns"] or 1)
    if image.n_frames > 1:
        dataset.NumberOfFrames = image.n_frames
    return dataset


def equipment(content: ResultContent) -> dict[str, Any]:
    """Arguments of highdicom's classes on what made the object."""
    return {
        "manufacturer": MANUFACTURER, "manufacturer_model_name": MANUFACTURER, "software_versions": version(),
        "device_serial_number": content.device_uid, "institution_name": content.site_name or None,
    }  # fmt: skip


def read_kind_text(content: ResultContent) -> str:
    """What kind of read it is of, for descriptions of at most 64 characters."""
    return "final read" if content.is_verified else "preliminary read, unverified"


def settle(found: Dataset, content: ResultContent) -> None:
    """What highdicom takes from the clock comes from the read; what it leaves out is said."""
    at = content.read_at.astimezone()
    day, moment = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    found.SpecificCharacterSet = "ISO_IR 192"
    for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate", "PresentationCreationDate",
                    "DateOfSecondaryCapture"):  # fmt: skip
        if keyword in found or keyword in ("InstanceCreationDate", "SeriesDate"):
            setattr(found, keyword, day)
            setattr(found, keyword.replace("Date", "Time", 1), moment)
    found.SeriesDescription = f"{MANUFACTURER} {read_kind_text(content)} (research use only)"
    found.ManufacturerModelName = MANUFACTURER
    found.SoftwareVersions = version()
    for made_by in found.get("ContributingEquipmentSequence", ()):
        made_by.ContributionDateTime = at.strftime("%Y%m%d%H%M%S")


def predecessor_documents(content: ResultContent, sop_class: str) -> list[Dataset]:
    """The documents that this one supersedes (Predecessor Documents Sequence, PS3.3 C.17.2): one item for the study."""
    if not content.predecessors:
        return []
    series = [
        dataset_of(SeriesInstanceUID=series_uid, ReferencedSOPSequence=[reference(sop_class, uid)])
        for series_uid, uid in content.predecessors
    ]
    return [dataset_of(StudyInstanceUID=content.study["StudyInstanceUID"], ReferencedSeriesSequence=series)]


def reference(sop_class: str, uid: str, **more: Any) -> Dataset:
    """To one object."""
    return dataset_of(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid, **more)


def replaced_instances(content: ResultContent, sop_class: str) -> list[Dataset]:
    """The images that this one supersedes (Referenced Instance Sequence, PS3.3 C.12.4)."""
    return [
        reference(sop_class, uid, PurposeOfReferenceCodeSequence=[plain_code(REPLACED)])
        for _, uid in content.predecessors
    ]


def replaced_series(content: ResultContent) -> list[Dataset]:
    """The series of what this one supersedes (Related Series Sequence, PS3.3 C.7.3.1), for classes without another
    place for it: each object is a series of its own."""
    return [
        dataset_of(
            StudyInstanceUID=content.study["StudyInstanceUID"], SeriesInstanceUID=series_uid,
            PurposeOfReferenceCodeSequence=[plain_code(REPLACED)],
        )
        for series_uid, _ in content.predecessors
    ]  # fmt: skip


def plain_code(coded: Coded) -> Dataset:
    value, scheme, meaning = coded
    return dataset_of(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


@dataclass(frozen=True, slots=True)
class MarkedPlace:
    """A mark of a finding on one image. number: of the finding, from 1; label: the same in every object of the read."""

    number: int
    label: str
    finding: Finding
    mark: Mark
    size: Measured | None
    image: ResultImage

    def tracking_uid(self, content: ResultContent, site_key: bytes) -> str:
        """Of the mark, in every object of the read."""
        return uid_of(site_key, "tracking", content.read_id, self.label)


def marked_places(content: ResultContent, image: ResultImage | None = None) -> list[MarkedPlace]:
    """The marks of all findings, on one image and its frame where it is given; without those on images that the archive
    lacks. A mark on another frame of a clip is on the image with that frame. One that encloses no pixel, saved
    when nobody refused those, is the point in its middle: as a region no object could have it."""
    by_file = {(one.sha256, one.frame): one for one in content.images}
    clips = {one.sha256: one for one in content.images if one.n_frames > 1}
    found = []
    for number, finding in enumerate(content.findings, start=1):
        sizes: Sequence[Measured | None] = (*finding.sizes, *[None] * len(finding.marks))
        for place, (mark, size) in enumerate(zip(finding.marks, sizes, strict=False), start=1):
            on = by_file.get((mark.image_sha256, mark.frame))
            if on is None and mark.image_sha256 in clips:
                on = replace(clips[mark.image_sha256], frame=mark.frame)
            if on is not None and (image is None or (on.id, on.frame) == (image.id, image.frame)):
                if not has_pixels(mark):
                    mark, size = replace(mark, kind="point", points=(middle_of(mark),)), None
                found.append(MarkedPlace(number, f"finding {number}.{place}", finding, mark, size, on))
    return found
