"""A DICOM object without whom it shows: the Basic Application Level Confidentiality Profile (PS3.15 Annex E).

With the options Clean Structured Content (E.3.4) and Retain Longitudinal Temporal Information with Modified Dates
(E.3.6). Of Clean Pixel Data (E.3.1) only a part is done, so it is not claimed (`PARTLY_DONE`). What the profile does
with each attribute is the table of `dicom-anonymizer`, generated from PS3.15 E.1-1 of 2026c. Beyond the profile: text
whose attribute is in no list here is left out, and so is every text that also names a person of the file. Pixels are
written anew from their decoded values, so that neither a comment in a codestream nor graphics in unused bits survive.
Runs in a child process (`core.imaging.deidentify_process`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from core.errors import UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.dicom.frame import read_frame
from core.imaging.dicom.header import Geometry, read_geometry, read_pixels, read_transfer_syntax
from core.imaging.dicom.source import is_uid
from core.imaging.dicom.tags import STORAGE_CLASSES, calibrated_regions, read_laterality, read_patient, sop_class
from core.imaging.dicom.views import labelled_side, read_view

_ROOT = "1.2.840.10008.5.1.4.1.1."
_REPORTS = f"{_ROOT}88."
"""Structured reports (PS3.4 B.5). Documents, presentation states and waveforms hold what cannot be cleaned here."""
METHODS: Mapping[str, str] = {
    "113100": "Basic Application Confidentiality Profile",
    "113104": "Clean Structured Content Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
"""CID 7050 (PS3.16): what is done to each object."""
PARTLY_DONE: Mapping[str, str] = {
    "113101": (
        "Clean Pixel Data Option: no file claims it, as nobody looks for text in all of a picture. Of ultrasound, what "
        "lies outside the calibrated regions is blanked; what is known to have text burnt in is left out."
    ),
}
"""An option of which each object gets a part, and which part: a reader of the file may not rely on it."""
SHIFT_DAYS_MOST = 1460
REMOVED = "REMOVED"
_CAPTURES = {"7", "7.1", "7.2", "7.3", "7.4"}
_ULTRASOUND = {"3", "3.1", "6", "6.1", "6.2"}
BLANKED = "blanked outside the calibrated regions; not looked for inside them"
STATED_NONE = "the file says there is none; not looked for"
NOT_LOOKED_FOR = "not looked for"
_MARGIN = 4
"""Pixels at the edge of a picture in which no words have room."""
_MAY_BE_BURNT_IN = (
    "Text may be burnt into this picture and nothing says where (no calibrated regions), so it was left out."
)
_IS_BURNT_IN = "The file says that text is burnt into this picture, so it was left out."
_NOT_OF_THESE = "This is neither a picture nor a structured report; such objects are not de-identified here."
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError, EOFError)
_PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"}
_PALETTES = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
_TABLES = {"LUTData", *_PALETTES, *(f"Segmented{one}" for one in _PALETTES)}
_BYTES = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_BINARY_NUMBERS = {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"}
_NUMBER = re.compile(r"[ ]*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?[ ]*")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}")
_DAY = re.compile(r"(\d{4})(\d{2})(\d{2})")
_CODE = re.compile(r"[0-9A-Za-z.\-_{}/%\[\] *()^+']{1,64}")
_SCHEMES = {"DCM", "SCT", "SRT", "SNM3", "99SDM", "LN", "UCUM", "BI", "UMLS", "NCIt", "FMA", "RADLEX", "99SECONDREAD"}
"""Coding schemes whose codes say nothing of one patient; items of others are replaced."""
_OF_THE_PATIENT = {
    ("121031", "DCM"), ("121032", "DCM"), ("121033", "DCM"), ("29553-5", "LN"), ("397669002", "SCT"),
    ("424144002", "SCT"), ("8302-2", "LN"), ("50373000", "SCT"), ("29463-7", "LN"), ("27113001", "SCT"),
}  # fmt: skip
"""Concepts of a report that say what the profile takes out of a header: birth date, sex, age (TID 1007), height and
weight (TID 3602). The item stays, as others count it, and says nothing."""
# fmt: off
_RETAINED = {
    "ImageType", "Modality", "PresentationIntentType", "ConversionType", "BodyPartExamined", "ViewPosition",
    "ImageLaterality", "Laterality", "FrameLaterality", "PatientOrientation", "PhotometricInterpretation",
    "PresentationLUTShape", "PixelIntensityRelationship", "VOILUTFunction", "RescaleType", "LossyImageCompression",
    "LossyImageCompressionMethod", "QualityControlImage", "CalibrationImage", "BreastImplantPresent", "PartialView",
    "PositionerType", "AnodeTargetMaterial", "FilterMaterial", "FilterType", "DetectorType", "FieldOfViewShape",
    "ExposureControlMode", "ExposureStatus", "Grid", "TransducerType", "PixelSpacingCalibrationType", "FrameType",
    "VolumetricProperties", "VolumeBasedCalculationTechnique", "SpecimenLabelInImage", "ExtendedDepthOfField",
    "FocusMethod", "DimensionOrganizationType", "Manufacturer", "ManufacturerModelName", "CompletionFlag",
    "VerificationFlag", "PreliminaryFlag", "ValueType", "RelationshipType", "ContinuityOfContent", "GraphicType",
    "TemporalRangeType", "MappingResource", "TemplateIdentifier", "PixelPresentation", "PositionerMotion",
    "AcquisitionContrast",
}
# fmt: on
"""The only text that stays, where it has the form of its kind: what says how a picture was made and what it shows."""
_NEEDED = ("StudyID", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyTime",
           "StudyDate", "SeriesNumber", "InstanceNumber", "Manufacturer")  # fmt: skip
"""Attributes of type 2 of each picture (PS3.3 C.7): empty where nothing may stand there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says of an object. patient: a pseudonym. taken_on: "2026-01-31", shifted, or "". burnt_in: what
    became of text in the pixels; "" for a report. burned_in_annotation: what the file says of it, "NO" only where it
    came so. blanked: share of the picture, in [0, 1]. methods: codes of `METHODS`."""

    patient: str
    study: str
    series: str
    instance: str
    sop_class: str
    modality: str
    laterality: str
    view: str
    taken_on: str
    frames: int
    burnt_in: str
    burned_in_annotation: str
    blanked: float
    methods: str

    @property
    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def deidentified(stream: BinaryIO, key: bytes, limits: Limits) -> tuple[bytes, Facts]:
    """The file of an object anew, and what may be said of it. key: of the site, for pseudonyms, UIDs and dates.

    Raises UnreadableImage for what cannot be read, for classes that are not cleaned here, and for a picture in which
    text may be burnt at an unknown place.
    """
    syntax = read_transfer_syntax(stream)
    stream.seek(0)
    try:
        source = dcmread(stream, force=True)
        uid = str(source.get("SOPClassUID") or "")
    except RecursionError:
        raise UnreadableImage("This DICOM file nests its elements too deeply.") from None
    except _UNREADABLE:
        raise UnreadableImage("This DICOM file is damaged or cut short.") from None
    if uid not in STORAGE_CLASSES and not uid.startswith(_REPORTS):
        raise UnreadableImage(_NOT_OF_THESE)
    cleaner = _Cleaner(source, key)
    try:
        found = cleaner.cleaned(source)
    except RecursionError:
        raise UnreadableImage("This DICOM file nests its elements too deeply.") from None
    burnt_in, blanked, frames = "", 0.0, 0
    if not uid.startswith(_REPORTS):
        geometry = read_geometry(source, limits)
        burnt_in, regions = _burnt_in(source, geometry)
        frames = geometry.frames
        blanked = _write_pixels(found, stream, source, syntax or _implicit_syntax(source), geometry, regions)
        if str(source.get("BurnedInAnnotation") or "").strip().upper() == "NO":  # nobody else has looked everywhere
            found.BurnedInAnnotation = "NO"
    _settle(found, cleaner)
    whole = BytesIO()
    found.save_as(whole, enforce_file_format=True)
    return whole.getvalue(), _facts(found, source, burnt_in, blanked, frames)


class _Cleaner:
    """What becomes of every element of one object."""

    def __init__(self, source: Dataset, key: bytes) -> None:
        patient = read_patient(source) or f"study {source.get('StudyInstanceUID') or source.get('SOPInstanceUID')}"
        self._key = key
        digest = self._mac("patient", patient)
        self.pseudonym = f"P{digest.hex()[:12]}"
        self._shift = timedelta(days=-(1 + int.from_bytes(self._mac("days", patient)[:4], "big") % SHIFT_DAYS_MOST))
        self._names = _names_in(source)

    def uid(self, value: str) -> str:
        """Another UID for this one, always the same at this site: 2.25 and 128 bits (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self._mac('uid', value)[:16], 'big')}"

    def cleaned(self, source: Dataset) -> Dataset:
        """The elements that stay, as they may stay."""
        found = Dataset()
        for tag in list(source.keys()):
            group = tag.group
            if (
                tag.is_private
                or tag.element == 0
                or group < 8
                or 0x5000 <= group <= 0x50FF
                or 0x6000 <= group <= 0x60FF
            ):
                continue
            if not dictionary_has_tag(tag):
                continue
            try:
                element = source[tag]
                value = self._value(element)
                if value is not None:
                    found.add(DataElement(tag, element.VR, value))
            except _UNREADABLE:  # what cannot be read is not believed to be harmless
                continue
        return found

    def _value(self, element: DataElement) -> Any:
        """None for what is left out."""
        keyword, vr, action = keyword_for_tag(element.tag), str(element.VR), _actions().get(int(element.tag), "")
        if keyword in ("PatientName", "PatientID"):
            return self.pseudonym
        if keyword == "TextValue":
            return REMOVED
        if keyword in _PIXELS or (action == "X" and vr != "UI"):
            return None
        if vr in _BYTES and keyword not in _TABLES:
            return None
        if vr == "SQ":
            return self._items(element, keyword, action)
        if vr == "UI":
            return self._uids(element, action)
        if vr in ("DA", "DT", "TM"):
            return "" if keyword == "PatientBirthDate" else self._moment(element, vr)
        if keyword in _TABLES or (vr.partition(" ")[0] in _BINARY_NUMBERS and not action):  # "US or SS" is one of both
            return element.value
        if vr in ("DS", "IS") and not action:
            values = _texts(element)
            return values if all(_NUMBER.fullmatch(one) or not one for one in values) else None
        if action:
            return _dummy(vr) if "D" in action else ""
        if keyword in _RETAINED and self._is_harmless(element, vr):
            return element.value
        return None

    def _items(self, element: DataElement, keyword: str, action: str) -> list[Dataset] | None:
        is_content = keyword in ("AcquisitionContextSequence", "ReferencedImageSequence", "SourceImageSequence")
        if action and "D" not in action and not is_content:
            return None
        return [self._item(item) for item in element.value]

    def _item(self, item: Dataset) -> Dataset:
        is_code = "CodingSchemeDesignator" in item and "CodeMeaning" in item
        return self._code(item) if is_code else self.cleaned(_without_patient(item))

    def _uids(self, element: DataElement, action: str) -> Any:
        if action == "X":
            return None
        values = [text.strip("\0 ") for text in _texts(element)]
        if not all(is_uid(value) for value in values):
            return None
        return [value if value in UID_dictionary else self.uid(value) for value in values]

    def _moment(self, element: DataElement, vr: str) -> Any:
        """Days shifted, all of a patient by as much; times of the day taken out."""
        values = _texts(element)
        if vr == "TM":
            return ["000000" if value else "" for value in values]
        shifted = [self.day(value) for value in values]
        if None in shifted:
            return "" if vr == "DA" else None
        return [f"{day}000000" if vr == "DT" and day else day for day in shifted]

    def day(self, text: str) -> str | None:
        """The shifted day of a text that begins with one; None where it does not."""
        if not text:
            return ""
        found = _DAY.match(text)
        try:
            return (date(*map(int, found.groups())) + self._shift).strftime("%Y%m%d") if found else None
        except (ValueError, OverflowError):
            return None

    def _is_harmless(self, element: DataElement, vr: str) -> bool:
        values = _texts(element)
        if vr == "CS" and not all(_CODE_STRING.fullmatch(value) for value in values):
            return False
        return all(len(value) <= 64 and not self._names_somebody(value) for value in values)

    def _names_somebody(self, text: str) -> bool:
        folded = text.casefold()
        return any(name in folded for name in self._names)

    def _code(self, source: Dataset) -> Dataset:
        """A code of a public scheme with the meaning that the scheme gives it; any other code is replaced."""
        found = Dataset()
        scheme = str(source.get("CodingSchemeDesignator") or "")
        value = str(source.get("CodeValue") or source.get("LongCodeValue") or "")
        is_known = scheme in _SCHEMES and bool(_CODE.fullmatch(value)) and not self._names_somebody(value)
        meaning = _meanings().get((scheme, value))
        has_digit = any(one.isdigit() for one in value)
        if not is_known or (meaning is None and not has_digit and scheme not in ("UCUM", "99SECONDREAD")):
            found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = REMOVED, f"99{REMOVED}", REMOVED
            return found
        setattr(found, "LongCodeValue" if len(value) > 16 else "CodeValue", value)
        found.CodingSchemeDesignator, found.CodeMeaning = scheme, (meaning or value)[:64]
        for keyword in ("ViewModifierCodeSequence", "AnatomicRegionModifierSequence"):
            if keyword in source:
                setattr(found, keyword, [self._item(item) for item in source[keyword].value])
        return found

    def _mac(self, *what: str) -> bytes:
        return hmac.new(self._key, "\n".join(what).encode(), hashlib.sha256).digest()


def _without_patient(item: Dataset) -> Dataset:
    """A content item of `_OF_THE_PATIENT` as a text without content; any other as it is."""
    try:
        names = [(str(one.get("CodeValue")), str(one.get("CodingSchemeDesignator"))) for one in
                 item.get("ConceptNameCodeSequence") or []]  # fmt: skip
    except _UNREADABLE:
        return item
    if not any(name in _OF_THE_PATIENT for name in names):
        return item
    found = Dataset()
    for keyword in ("RelationshipType", "ConceptNameCodeSequence", "ContentSequence"):
        if keyword in item:
            found[keyword] = item[keyword]
    found.ValueType, found.TextValue = "TEXT", REMOVED
    return found


def _names_in(source: Dataset) -> set[str]:
    """Parts of the names of persons and of the patient's numbers, folded; too short ones are in too many words."""
    texts: list[str] = []
    for tag in list(source.keys()):
        keyword = keyword_for_tag(tag) if not tag.is_private and dictionary_has_tag(tag) else ""
        try:
            if keyword in ("PatientID", "OtherPatientIDs", "AccessionNumber") or source[tag].VR == "PN":
                texts += _texts(source[tag])
        except _UNREADABLE:
            continue
    parts = (part.casefold() for text in texts for part in re.split(r"[\^=\s,]+", text))
    return {part for part in parts if len(part) >= 4}


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return [""]
    several = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return [str(getattr(one, "original_string", one)) for one in several]


def _dummy(vr: str) -> Any:
    """Something of this kind that says nothing."""
    if vr in ("DS", "IS"):
        return "0"
    return 0 if vr in _BINARY_NUMBERS else REMOVED


@cache
def _actions() -> dict[int, str]:
    """Tag -> what the basic profile does with it (PS3.15 E.1-1): X, Z, D, U, or several of them."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table

    lists = {
        "X": table.X_TAGS, "Z": table.Z_TAGS, "D": table.D_TAGS, "U": table.U_TAGS, "Z/D": table.Z_D_TAGS,
        "X/Z": table.X_Z_TAGS, "X/D": table.X_D_TAGS, "X/Z/D": table.X_Z_D_TAGS, "X/Z/U": table.X_Z_U_STAR_TAGS,
    }  # fmt: skip
    return {(tag[0] << 16) + tag[1]: action for action, tags in lists.items() for tag in tags if len(tag) == 2}


@cache
def _meanings() -> dict[tuple[str, str], str]:
    """(scheme, code) -> what the scheme says it means, as pydicom has it from PS3.16."""
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    known: Any = concepts
    found = {
        (scheme, code): meaning
        for scheme, keywords in known.items()
        for codes in keywords.values()
        for code, (meaning, *_) in codes.items()
    }
    old = {("SRT", code): found.get(("SCT", new)) for code, new in mapping["SRT"].items()}
    return found | {key: meaning for key, meaning in old.items() if meaning}


def _burnt_in(source: Dataset, geometry: Geometry) -> tuple[str, list[tuple[int, int, int, int]]]:
    """What is to be said of text in the pixels, and the rectangles (top, bottom, left, right) outside which is text.

    Raises UnreadableImage where there may be some at an unknown place.
    """
    kind, said = sop_class(source), str(source.get("BurnedInAnnotation") or "").strip().upper()
    is_ultrasound = kind in _ULTRASOUND or str(source.get("Modality") or "") == "US"
    if said == "YES":
        raise UnreadableImage(_IS_BURNT_IN)
    regions = [*calibrated_regions(source, geometry.rows, geometry.columns)] if is_ultrasound else []
    if regions and not _outside(regions, geometry)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].any():
        regions = []  # text stands inside them then
    if regions:
        return BLANKED, regions
    if said == "NO":
        return STATED_NONE, []
    if is_ultrasound or kind in _CAPTURES:
        raise UnreadableImage(_MAY_BE_BURNT_IN)
    return NOT_LOOKED_FOR, []


def _outside(regions: Iterable[tuple[int, int, int, int]], geometry: Geometry) -> np.ndarray:
    """(rows, columns) bool: where none of these rectangles lies."""
    outside = np.ones((geometry.rows, geometry.columns), bool)
    for top, bottom, left, right in regions:
        outside[top : bottom + 1, left : right + 1] = False
    return outside


def _write_pixels(
    found: Dataset,
    stream: BinaryIO,
    source: Dataset,
    syntax: str,
    geometry: Geometry,
    regions: list[tuple[int, int, int, int]],
) -> float:
    """Every frame from its decoded values, in the plainest form; the share of the picture that was blanked."""
    data, vr, _ = read_pixels(stream, syntax)
    outside = _outside(regions, geometry) if regions else None
    pieces, settled = [], geometry
    for index in range(geometry.frames):
        frame = read_frame(data, vr, syntax, geometry, index)
        values, settled = frame.values, frame.geometry
        if outside is not None:
            values = values.copy()
            values[outside] = (1 << settled.bits_stored) - 1 if settled.photometric == "MONOCHROME1" else 0
        pieces.append(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    content = b"".join(pieces)
    bits = 8 * len(content) // (geometry.frames * geometry.rows * geometry.columns * settled.samples)
    found.Rows, found.Columns, found.SamplesPerPixel = geometry.rows, geometry.columns, settled.samples
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, settled.bits_stored, settled.bits_stored - 1
    found.PixelRepresentation = int(settled.is_signed)
    found.PhotometricInterpretation = "RGB" if settled.samples == 3 else settled.photometric
    if settled.samples == 3:
        found.PlanarConfiguration = 0
    found.add_new("PixelData", "OB" if bits == 8 else "OW", content + b"\0" * (len(content) % 2))
    return 0.0 if outside is None else round(float(outside.mean()), 4)


def _implicit_syntax(source: Dataset) -> str:
    """The transfer syntax of a file that names none."""
    implicit, little = source.original_encoding
    return "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")


def _settle(found: Dataset, cleaner: _Cleaner) -> None:
    """What every object says of itself once it is cleaned (PS3.15 E.1.1), and what it may not lack."""
    for keyword in _NEEDED:
        if keyword not in found:
            setattr(found, keyword, "")
    found.PatientName = found.PatientID = cleaner.pseudonym
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientIdentityRemoved = "YES"
    found.LongitudinalTemporalInformationModified = "MODIFIED"
    found.DeidentificationMethodCodeSequence = []
    for code, meaning in METHODS.items():
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
        found.DeidentificationMethodCodeSequence.append(item)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
        if not found.get(keyword):
            raise UnreadableImage("This DICOM file does not name its study, series and object.")
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = UID(found.SOPClassUID)
    found.file_meta.MediaStorageSOPInstanceUID = UID(found.SOPInstanceUID)
    found.preamble = b"\0" * 128


def _facts(found: Dataset, source: Dataset, burnt_in: str, blanked: float, frames: int) -> Facts:
    day = _DAY.fullmatch(str(found.get("StudyDate") or found.get("AcquisitionDate") or ""))
    facts = Facts(
        patient=str(found.PatientID), study=str(found.StudyInstanceUID), series=str(found.SeriesInstanceUID),
        instance=str(found.SOPInstanceUID), sop_class=str(found.SOPClassUID), modality=str(found.get("Modality") or ""),
        laterality="", view="", taken_on="-".join(day.groups()) if day else "", frames=frames,
        burnt_in=burnt_in, burned_in_annotation=str(found.get("BurnedInAnnotation") or ""), blanked=blanked,
        methods=" ".join(str(one.CodeValue) for one in found.DeidentificationMethodCodeSequence),
    )  # fmt: skip
    if not burnt_in:
        return facts
    return replace(
        facts, laterality=read_laterality(source, labelled_side(source)).name or "", view=read_view(source).name or ""
    )
