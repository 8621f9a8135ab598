"""What a DICOM header says of the picture: kind, side, view, spacing, and what the reader must be warned of.

Coded sequences come before free text; SeriesDescription is never asked, because people type anything into it.
"""

from __future__ import annotations

import math
import re
from collections.abc import MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UnreadableImage
from core.imaging.decoded import RAW, clean_text
from core.types import Modality

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ROOT = "1.2.840.10008.5.1.4.1.1."
_MAMMOGRAPHY_CLASSES = {"1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"}
_ULTRASOUND_CLASSES = {"3", "3.1", "6", "6.1", "6.2"}
_MICROSCOPY_CLASSES = {"77.1.2", "77.1.3", "77.1.2.1", "77.1.3.1", "77.1.6"}
_PROJECTION_CLASSES = {"1", "1.1", "1.1.1"}
_SECONDARY_CAPTURE = {"7", "7.1", "7.2", "7.3", "7.4"}
STORAGE_CLASSES = tuple(
    f"{_ROOT}{one}"
    for one in sorted(
        {*_MAMMOGRAPHY_CLASSES, *_ULTRASOUND_CLASSES, *_MICROSCOPY_CLASSES, *_PROJECTION_CLASSES, *_SECONDARY_CAPTURE}
    )
)
"""Classes of objects (PS3.4 B.5) that may hold a picture that is read here; each file is still looked at."""
_MICROSCOPY_MODALITIES = {"SM", "GM"}
_FILM_MODALITIES = {"RG", "CR", "DX", "OT"}

_SAYS_NOBODY = re.compile(
    r"(0+|x+|-+|\?+|n/?a|nn|none|null|anon\w*|unknown|unbekannt|patient|patient_?id|de-?identified|removed|test)",
    re.IGNORECASE,
)
"""What de-identification and test files write as PatientID: it tells no patient from another."""
_MAGNIFICATION = "EstimatedRadiographicMagnificationFactor"
_SPACING_UNUSABLE = "The pixel spacing in this file is not believable and is not used; nothing can be measured."
_FRAME_S_SIDE = (
    "The header of this file and what it says of the frame name different sides; state left or right before reading."
)
_FRAME_S_SPACING = (
    "The header of this file and what it says of the frame name different pixel spacings; neither is used, so nothing "
    "can be measured."
)
_REGION_S_SPACING = (
    "The pixel spacing in this file differs from the calibration of its ultrasound region; neither is used, so nothing "
    "can be measured."
)
_STRIP = (
    "A part of this picture is a curve over time or frequency (Doppler or M-mode). Millimetres and areas hold in the "
    "image of the breast alone; measure nothing in the curve."
)
_FRAME_S_GREY = (
    "The header of this file and what it says of the frame name different grey scales (window or rescale); the "
    "header's is shown. Check the brightness and contrast."
)
_SAME_LENGTH = 0.02
"""Spacings this close are one, rounded twice: it changes a caliper's length less than a hand does."""
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_FIRST_YEAR = 1960
"""Before mammography was; de-identified files are dated 1900 or 1."""

_BREAST_SIDE_CODES = {"73056007": "R", "T-04020": "R", "80248007": "L", "T-04030": "L"}
_MODIFIER_SIDE_CODES = {"24028007": "R", "G-A100": "R", "7771000": "L", "G-A101": "L", "51440002": "B", "G-A102": "B"}
"""AnatomicRegionModifierSequence (PS3.16 CID 244)."""
_SIDES = {
    "L": "L", "LEFT": "L", "LT": "L", "R": "R", "RIGHT": "R", "RT": "R",
    "B": "B", "BOTH": "B", "BILATERAL": "B", "L\\R": "B", "R\\L": "B",
}  # fmt: skip
_SIDE_IN_BODY_PART = re.compile(
    r"(?P<before>LEFT|RIGHT|LT|RT|L|R)[ _-]?(BREAST|MAMMA)|(BREAST|MAMMA)[ _-](?P<after>LEFT|RIGHT|LT|RT|L|R)"
)

# fmt: off
ALLOWED_TAGS = (
    "Manufacturer", "ManufacturerModelName", "PresentationIntentType", "BodyPartExamined", "ViewPosition",
    "ImageLaterality", "Laterality", "PatientOrientation", "PixelSpacing", "ImagerPixelSpacing", "KVP", "Exposure",
    "BodyPartThickness", "CompressionForce", "AnodeTargetMaterial", "FilterMaterial", "DetectorType", "ImageType",
    "BreastImplantPresent", "PartialView", "LossyImageCompression", "TransducerType", "PhotometricInterpretation",
    "BitsStored", "Modality", "FrameTime", "CineRate", "RecommendedDisplayFrameRate",
    "AcquisitionTime", "ContentTime", "BurnedInAnnotation",
)
# fmt: on
"""The only elements whose values leave the decoding process; none of them identifies a person."""


def text_of(header: Dataset, keyword: str) -> str:
    """A value as upper-case text without padding; "" when absent."""
    from pydicom.dataset import Dataset

    value = header.get(keyword)
    if value is None or isinstance(value, (Dataset, bytes)):
        return ""
    if isinstance(value, (tuple, MutableSequence)):
        value = "\\".join(str(part) for part in value)
    return clean_text(value).upper()


def number_of(value: Any) -> float:
    """One value of a header, also with a decimal comma; raises ValueError or TypeError for what is none.

    "1,000" is none: whether it is a thousand cannot be known.
    """
    if isinstance(value, str) and _THOUSANDS.fullmatch(value.strip()):
        raise ValueError("a comma before three digits")
    return float(value.replace(",", ".") if isinstance(value, str) and value.count(",") == 1 else value)


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The values of an element as numbers; empty when it is absent or one of them is no usable number.

    A decimal comma is one where it is the only comma of its value, and no thousands can be meant.
    """
    value = header.get(keyword)
    if value is None or value == "":
        return []
    parts = value if isinstance(value, (tuple, MutableSequence)) else [value]
    try:
        numbers = [number_of(part) for part in parts]
    except (TypeError, ValueError):
        return []
    return numbers if all(math.isfinite(number) for number in numbers) else []


def functional_group(header: Dataset, frame: int, group: str) -> Dataset:
    """The first item of a functional group sequence of an enhanced multi-frame object: the frame's own, else the
    shared one (PS3.3 C.7.6.16); an empty Dataset when neither is there."""
    from pydicom.dataset import Dataset

    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for item in [*per_frame[frame : frame + 1], *shared[:1]]:
        inner = item.get(group) or []
        if inner:
            first: Dataset = inner[0]
            return first
    return Dataset()


def with_functional_groups(header: Dataset, frame: int) -> Dataset:
    """A copy of `header` with what an enhanced multi-frame object says of this frame in its functional groups, where
    the header lacks it; `header` stays as it is for the next frame."""
    from pydicom.dataset import Dataset

    found, header = header, Dataset()
    header.update(found)
    implicit, little = found.original_encoding
    header.set_original_encoding(implicit, little, found.original_character_set)
    wanted = {
        "PixelMeasuresSequence": ("PixelSpacing",),
        "FrameVOILUTSequence": (
            "WindowCenter",
            "WindowWidth",
            "VOILUTFunction",
            "WindowCenterWidthExplanation",
            "VOILUTSequence",
        ),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
        "FrameAnatomySequence": ("FrameLaterality", "AnatomicRegionSequence"),
    }
    for group, keywords in wanted.items():
        item = functional_group(header, frame, group)
        for keyword in keywords:
            name = "ImageLaterality" if keyword == "FrameLaterality" else keyword
            if item.get(keyword) is not None and not header.get(name):
                setattr(header, name, item.get(keyword))
    return header


def read_modality(header: Dataset) -> tuple[Modality | None, list[str]]:
    """What the header says the picture is, and warnings; `UnreadableImage` for what is not a breast image.

    None when only a look at the pixels can tell (a secondary capture that names no modality of ours).
    """
    modality = text_of(header, "Modality")
    kind = sop_class(header)
    is_capture = kind in _SECONDARY_CAPTURE or kind == ""
    body_part = text_of(header, "BodyPartExamined")
    is_breast = "BREAST" in body_part or "MAMMA" in body_part
    if modality in ("MG", "") and kind in _MAMMOGRAPHY_CLASSES:
        return Modality.MAMMOGRAPHY, _body_part_warning(body_part)
    if modality == "MG" and (is_capture or kind in _PROJECTION_CLASSES):
        return Modality.MAMMOGRAPHY, _body_part_warning(body_part)
    if (modality in ("US", "") and kind in _ULTRASOUND_CLASSES) or (modality == "US" and is_capture):
        return Modality.ULTRASOUND, [] if is_breast else [_unverified(body_part)]
    if modality in _MICROSCOPY_MODALITIES and (kind in _MICROSCOPY_CLASSES or is_capture):
        return Modality.HISTOLOGY, [] if is_breast else [_unverified(body_part)]
    if modality in _FILM_MODALITIES and (is_capture or kind in _PROJECTION_CLASSES):
        return _read_film(modality, body_part, is_breast=is_breast, is_capture=is_capture)
    if modality in ("", "SC") and is_capture and kind:
        return None, ["The file does not say what kind of picture it is; check that it is what it seems to be."]
    raise UnreadableImage(
        "This DICOM file is not a mammogram, an ultrasound image or a microscopy image (wrong modality or object "
        "class). Choose the breast images of the study."
    )


def _read_film(
    modality: str, body_part: str, *, is_breast: bool, is_capture: bool
) -> tuple[Modality | None, list[str]]:
    if is_breast and modality in ("RG", "CR", "DX"):
        return Modality.MAMMOGRAPHY, [
            f"The file calls itself modality {modality}, not MG: a digitised film or a general X-ray system. "
            "The models were made for mammograms; take the result with care."
        ]
    if is_capture and modality in ("RG", "OT") and (is_breast or not body_part):
        return None, [f"The file calls itself modality {modality} and not a mammogram or ultrasound; check what it is."]
    raise UnreadableImage(
        "This DICOM file is a general X-ray or a capture that does not say it shows a breast (wrong modality). "
        "Choose the breast images of the study."
    )


def _body_part_warning(body_part: str) -> list[str]:
    return [] if not body_part or "BREAST" in body_part else [_unverified(body_part)]


def _unverified(body_part: str) -> str:
    if body_part:
        return "The file names a body part other than the breast; body part not verifiable. Check that it is a breast."
    return "The file does not name the body part; body part not verifiable. Check that it is a breast."


def codes(header: Dataset, keyword: str) -> list[str]:
    """The code values of a code sequence in its order, in whatever of the three elements they are written."""
    from pydicom.dataset import Dataset

    items = header.get(keyword) or []
    written = [
        text_of(item, "CodeValue") or text_of(item, "LongCodeValue") or text_of(item, "URNCodeValue")
        for item in items
        if isinstance(item, Dataset)
    ]
    return [code for code in written if code]


def sop_class(header: Dataset) -> str:
    """SOPClassUID without the root that storage classes share ("1.2" is a mammogram for presentation)."""
    return text_of(header, "SOPClassUID").removeprefix(_ROOT)


@dataclass(slots=True)
class Side:
    """Which breast the header names. name: "L", "R" or None.

    is_open: it names both breasts, or contradicts itself so that a person has to say which one it is.
    """

    name: str | None = None
    is_open: bool = False
    warnings: list[str] = field(default_factory=list)


def read_laterality(header: Dataset, labelled: str = "", frame: int = 0) -> Side:
    """The side by ImageLaterality (or the frame's), coded anatomy and its modifier, Laterality, the label of the view,
    BodyPartExamined, PatientOrientation; open where the first to speak says both breasts, or where the frame's own
    group names another side than the header.

    labelled: the side that ViewPosition names. frame: from 0. Of a mammogram's orientation the column direction points
    to the other side (`A\\R` is a left CC, `P\\L` a right).
    """
    part = _SIDE_IN_BODY_PART.fullmatch(text_of(header, "BodyPartExamined"))
    in_part = (part["before"] or part["after"]) if part else ""
    of_series = _SIDES.get(text_of(header, "Laterality"), "")
    sides = [
        *_sides_of_image(header, "ImageLaterality"),
        *(side for side in (of_series, labelled, _SIDES.get(in_part, "")) if side),
    ]
    pointed = _pointed_side(header)
    if not sides:
        return Side(pointed)
    framed = _sides_of_image(functional_group(header, frame, "FrameAnatomySequence"), "FrameLaterality")
    if framed and len({*framed, *sides}) > 1:
        return Side(None, True, [_FRAME_S_SIDE])
    warnings = []
    if set(sides) - {"B"} - {sides[0]} or (sides[0] != "B" and pointed not in (None, sides[0])):
        warnings.append("The tags of this file contradict each other on the side; check left and right on the image.")
    if sides[0] != "B":
        return Side(sides[0], False, warnings)
    both = "The file says that it shows both breasts; a score of one breast would mean nothing."
    return Side(None, True, [both, *warnings])


def _sides_of_image(item: Dataset, keyword: str) -> list[str]:
    """What an image, or a frame's anatomy group, says of its side itself: its laterality, then its coded region."""
    coded = [_BREAST_SIDE_CODES[code] for code in codes(item, "AnatomicRegionSequence") if code in _BREAST_SIDE_CODES]
    for region in item.get("AnatomicRegionSequence") or []:
        modifiers = codes(region, "AnatomicRegionModifierSequence")
        coded += [_MODIFIER_SIDE_CODES[code] for code in modifiers if code in _MODIFIER_SIDE_CODES]
    own = _SIDES.get(text_of(item, keyword), "")
    return [own, *coded] if own else coded


_OUTWARD_VIEWS = {"399188001", "R-102D0", "441555000", "R-40AAA"}
"""Codes of the superolateral-inferomedial oblique view and its opposite."""


def _pointed_side(header: Dataset) -> str | None:
    orientation = text_of(header, "PatientOrientation").split("\\")
    if len(orientation) != 2 or text_of(header, "Modality") != "MG":
        return None
    # Columns of a superolateral-inferomedial view run to the outside, and of a picture upside down the other way.
    is_outward = text_of(header, "ViewPosition").upper().endswith(("SIO", "ISO"))
    if "H" in orientation[1] or is_outward or _OUTWARD_VIEWS & set(codes(header, "ViewCodeSequence")):
        return None
    return "L" if "R" in orientation[1] else "R" if "L" in orientation[1] else None


def read_spacing(header: Dataset, frame: int = 0) -> tuple[tuple[float, float] | None, list[str]]:
    """(row, column) millimetres between pixel centres at the breast, and warnings.

    ImagerPixelSpacing lies in the plane of the detector, so it is divided by the magnification; a PixelSpacing that
    equals it lies there too, whatever it should mean (PS3.3 10.7.1.3). None where the header and the group of the
    frame (from 0), or the pixel spacing and an ultrasound region, contradict each other.
    """
    framed = numbers(functional_group(header, frame, "PixelMeasuresSequence"), "PixelSpacing")
    stated = numbers(header, "PixelSpacing")
    if len(framed) == len(stated) == 2 and not np.allclose(framed, stated, rtol=_SAME_LENGTH, atol=0):
        return None, [_FRAME_S_SPACING]
    regions, region_warnings = _read_regions(header)
    if region_warnings:
        return None, region_warnings
    imager = numbers(header, "ImagerPixelSpacing")
    is_stated = False
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(header, keyword)
        if len(found) != 2:
            is_stated = is_stated or bool(text_of(header, keyword))
            continue
        is_at_detector = keyword == "ImagerPixelSpacing" or (
            keyword == "PixelSpacing" and len(imager) == 2 and np.allclose(found, imager, rtol=0.005)
        )
        factor = next(iter(numbers(header, _MAGNIFICATION)), 0.0 if text_of(header, _MAGNIFICATION) else 1.0)
        if is_at_detector and not 1.0 <= factor <= 5.0:
            return None, [
                "The magnification in this file is no usable factor, so its pixel spacing is not used; nothing can be "
                "measured."
            ]
        factor = factor if is_at_detector else 1.0
        spacing = found[0] / factor, found[1] / factor
        if all(0.0005 <= distance <= 10 for distance in spacing):
            is_one = regions is None or np.allclose(spacing, regions, rtol=_SAME_LENGTH, atol=0)
            return (spacing, []) if is_one else (None, [_REGION_S_SPACING])
        return None, [_SPACING_UNUSABLE]
    return regions, [_SPACING_UNUSABLE] if is_stated and regions is None else []


def _read_regions(header: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """The spacing that all calibrated regions of an ultrasound image share (PS3.3 C.8.5.5), and warnings."""
    found = []
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        x, y = numbers(region, "PhysicalDeltaX"), numbers(region, "PhysicalDeltaY")
        if _is_outside(region, header):
            continue
        in_centimetres = numbers(region, "PhysicalUnitsXDirection") == numbers(region, "PhysicalUnitsYDirection") == [3]
        if x and y and in_centimetres and all(0.00005 <= abs(step) <= 1 for step in (x[0], y[0])):
            found.append((abs(y[0]) * 10, abs(x[0]) * 10))
    if found and not np.allclose(found, found[0], rtol=0.005):
        return None, [
            "This picture holds several ultrasound regions of different scale; no spacing holds for all of it, so "
            "nothing can be measured."
        ]
    return (found[0] if found else None), []


def strip_warnings(header: Dataset) -> list[str]:
    """A warning where a region of the picture shows something over time or frequency, as a Doppler or M-mode strip
    does: the spacing of the others does not hold there (PS3.3 C.8.5.5). A bar of colours has no unit across."""
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        if numbers(region, "PhysicalUnitsXDirection") not in ([], [0], [3]) and not _is_outside(region, header):
            return [_STRIP]
    return []


def calibrated_regions(header: Dataset, rows: int, columns: int) -> tuple[tuple[int, int, int, int], ...]:
    """The calibrated regions (PS3.3 C.8.5.5) that lie in a picture of this size, each (top, bottom, left, right), ends
    included. What a machine writes beside its picture stands outside them."""
    found = []
    for item in header.get("SequenceOfUltrasoundRegions") or []:
        try:
            left, top, right, bottom = (
                int(item[f"RegionLocation{edge}"].value) for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")
            )
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError):
            continue
        if 0 <= top < bottom < rows and 0 <= left < right < columns:
            found.append((top, bottom, left, right))
    return tuple(found)


def _is_outside(region: Dataset, header: Dataset) -> bool:
    """Whether a region that says where it lies has no pixel in the picture."""
    for lower, upper, size in (
        ("RegionLocationMinX0", "RegionLocationMaxX1", "Columns"),
        ("RegionLocationMinY0", "RegionLocationMaxY1", "Rows"),
    ):
        ends = numbers(region, lower) + numbers(region, upper)
        if len(ends) == 2 and (min(ends) >= next(iter(numbers(header, size)), math.inf) or max(ends) < 0):
            return True
    return False


def grey_scale_warnings(header: Dataset, frame: int) -> list[str]:
    """A warning where the header and the group of the frame (from 0) give other numbers of window or rescale."""
    for group, keywords in (
        ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth")),
        ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    ):
        item = functional_group(header, frame, group)
        for keyword in keywords:
            here, there = numbers(header, keyword), numbers(item, keyword)
            if here and there and here != there:
                return [_FRAME_S_GREY]
    return []


def read_aspect(header: Dataset) -> tuple[float, list[str]]:
    """Distance between rows by distance between columns, from PixelAspectRatio (PS3.3 C.7.6.3.1.7), and warnings; 1
    when absent or no ratio that pixels have."""
    if not text_of(header, "PixelAspectRatio"):
        return 1.0, []
    ratio = numbers(header, "PixelAspectRatio")
    aspect = ratio[0] / ratio[1] if len(ratio) == 2 and ratio[1] > 0 else 0.0
    if 0.2 <= aspect <= 5:
        return aspect, []
    return 1.0, [
        "The file says nothing usable of the shape of its pixels (pixel aspect ratio); they are shown square. Check "
        "that the picture is not stretched."
    ]


def allowed_tags(header: Dataset) -> dict[str, str]:
    """The values of `ALLOWED_TAGS`, each on one line and at most 64 characters."""
    from pydicom.dataset import Dataset

    kept: dict[str, str] = {}
    for keyword in ALLOWED_TAGS:
        value: Any = header.get(keyword)
        if value is None or isinstance(value, (bytes, Dataset)):
            continue
        if isinstance(value, (tuple, MutableSequence)):
            value = "\\".join(str(part) for part in value)
        text = clean_text(value)
        if text:
            kept[keyword] = text
    return kept


def read_patient(header: Dataset) -> str:
    """ "PatientID|IssuerOfPatientID", only to be hashed; "" without a PatientID, or with one that many files share."""
    patient = str(header.get("PatientID") or "").strip()
    if _SAYS_NOBODY.fullmatch(patient):
        return ""
    return f"{patient}|{str(header.get('IssuerOfPatientID') or '').strip()}" if patient else ""


def read_exam(header: Dataset) -> str:
    """StudyInstanceUID, only to be hashed; "" where it is missing or no UID (PS3.5 9.1)."""
    uid = str(header.get("StudyInstanceUID") or "").strip("\0 ")
    return uid if _UID.fullmatch(uid) else ""


def read_taken_on(header: Dataset) -> str:
    """The day of the exam as "2026-01-31": StudyDate, else AcquisitionDate; "" where neither is a day that can be."""
    for keyword in ("StudyDate", "AcquisitionDate"):
        digits = str(header.get(keyword) or "").strip().replace(".", "")  # dots: the form of ACR-NEMA (PS3.5 6.2)
        if len(digits) == 8 and digits.isdecimal():
            with suppress(ValueError):
                day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
                if day.year >= _FIRST_YEAR and day <= date.today() + timedelta(days=1):
                    return day.isoformat()
    return ""


def is_for_processing(header: Dataset) -> bool:
    """Whether these are the detector's raw values: by PresentationIntentType, else by the object class."""
    intent = text_of(header, "PresentationIntentType")
    return intent == "FOR PROCESSING" or (not intent and sop_class(header) in ("1.2.1", "13.1.5", "1.1.1"))


def general_warnings(header: Dataset, modality: Modality | None) -> list[str]:
    """What the reader should know whatever the pixels look like."""
    warnings = []
    burned = text_of(header, "BurnedInAnnotation")
    is_capture = sop_class(header) in _SECONDARY_CAPTURE
    if burned == "YES":
        warnings.append("The file says that text is burnt into the picture; names may be readable in it.")
    elif modality is Modality.ULTRASOUND or is_capture:
        warnings.append(
            "Names may be burnt into the picture (ultrasound or secondary capture); look before sharing it."
        )
    if is_for_processing(header):
        warnings.append(RAW)
    if text_of(header, "BreastImplantPresent") == "YES":
        warnings.append("The file says that an implant is present; the models were not made for implants.")
    return warnings
