"""Which view it is, whether a model may read it, and whether it counts for the breast."""

from __future__ import annotations

import io
from typing import Any

import pytest
from made_images import MG, US, dicom, stored_mammogram
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.imaging.decode_process import decode
from core.imaging.decoded import Decoded, Limits
from core.imaging.dicom.read import read_dicom
from core.settings import Settings
from core.types import VIEWS

LIMITS = Limits.of(Settings())
STORED = stored_mammogram(height=160, width=120)
NO_VIEW: dict[str, Any] = {"ViewPosition": None, "PatientOrientation": ["A", "R"], "ImageLaterality": "L"}


def read(**tags: Any) -> Decoded:
    tags = {"WindowCenter": 2048, "WindowWidth": 4096} | tags
    return read_dicom(io.BytesIO(dicom(tags.pop("stored", STORED), **tags)), limits=LIMITS)


def code(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "as coded"
    return item


def view(value: str, *modifiers: str) -> Sequence:
    item = code(value)
    if modifiers:
        item.ViewModifierCodeSequence = Sequence([code(modifier) for modifier in modifiers])
    return Sequence([item])


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("399101009", "XCCM"), ("R-1024B", "XCCM"), ("Y-X1771", "XCCM"), ("399192008", "XCCL"), ("R-1024A", "XCCL"),
        ("Y-X1770", "XCCL"), ("399162004", "CC"), ("399368009", "MLO"), ("441555000", "ISO"), ("399188001", "SIO"),
    ],
)  # fmt: skip
def test_every_coded_view_is_a_view_of_its_own(value: str, name: str) -> None:
    assert name in VIEWS and read(**NO_VIEW, ViewCodeSequence=view(value)).view == name


@pytest.mark.parametrize("position", [None, "CC"])
def test_a_coded_view_that_is_not_known_is_overruled_by_nothing(position: str | None) -> None:
    decoded = read(**{**NO_VIEW, "ViewPosition": position}, ViewCodeSequence=view("123456789"))
    assert decoded.view is None and any("not known here" in sentence for sentence in decoded.warnings)


def test_a_stated_view_that_is_not_known_is_not_overruled_by_the_orientation() -> None:
    decoded = read(**{**NO_VIEW, "ViewPosition": "LATERAL"})
    assert decoded.view is None and any("not known here" in sentence for sentence in decoded.warnings)


@pytest.mark.parametrize(
    ("position", "name", "modifiers"),
    [
        ("RMLO", "MLO", ()), ("LCC", "CC", ()), ("XCCM", "XCCM", ()), ("LXCCM", "XCCM", ()), ("MLO", "MLO", ()),
        ("ML", "ML", ()), ("LM", "LM", ()), ("LMO", "LMO", ()), ("SIO", "SIO", ()), ("LML", "ML", ()),
        ("CCID", "CC", ("implant displaced",)), ("RMLOID", "MLO", ("implant displaced",)),
        ("RMCC", "CC", ("magnification",)), ("LSMLO", "MLO", ("spot compression",)),
        ("MSCC", "CC", ("spot compression", "magnification")), ("LCCTAN", "CC", ("tangential",)),
        ("MLO SPOT", "MLO", ("spot compression",)),
    ],
)  # fmt: skip
def test_labels_of_positions_are_taken_apart(position: str, name: str, modifiers: tuple[str, ...]) -> None:
    decoded = read(**{**NO_VIEW, "ViewPosition": position})
    assert (decoded.view, decoded.view_modifiers) == (name, modifiers)


@pytest.mark.parametrize(
    ("modifier", "words", "is_alone"),
    [
        ("399055006", "spot compression", True), ("R-102D7", "spot compression", True),
        ("399163009", "magnification", True), ("399110001", "tangential", True), ("399161006", "cleavage", True),
        ("399209000", "implant displaced", False), ("399197002", "rolled laterally", False),
        ("442581004", "nipple in profile", False), ("999", "a modifier that is not known here", True),
    ],
)  # fmt: skip
def test_modifiers_are_named_and_parts_of_a_breast_stand_alone(modifier: str, words: str, is_alone: bool) -> None:
    inside = read(**NO_VIEW, ViewCodeSequence=view("399162004", modifier))
    beside = read(**NO_VIEW, ViewCodeSequence=view("399162004"), ViewModifierCodeSequence=Sequence([code(modifier)]))
    for decoded in (inside, beside):
        assert (decoded.view, decoded.view_modifiers, decoded.is_scored_alone) == ("CC", (words,), is_alone)
        assert any("no full view" in sentence and words in sentence for sentence in decoded.warnings) == is_alone
        assert decoded.not_scored == ""


@pytest.mark.parametrize(("factor", "is_alone"), [(1.0, False), (1.1, False), (1.29, False), (1.3, True), (1.8, True)])
def test_a_magnified_picture_is_one_also_without_a_code(factor: float, is_alone: bool) -> None:
    decoded = read(EstimatedRadiographicMagnificationFactor=factor)
    assert decoded.is_scored_alone == is_alone and (decoded.view_modifiers == ("magnification",)) == is_alone


def test_a_partial_view_stands_alone() -> None:
    assert read(PartialView="YES").is_scored_alone and not read(PartialView="NO").is_scored_alone


def meaning(words: str) -> Sequence:
    item = code("1", "99LOCAL")
    item.CodeMeaning = words
    return Sequence([item])


SPECIMEN_ITEM = Dataset()
SPECIMEN_ITEM.SpecimenIdentifier = "1"
MASK_ITEM = Dataset()
MASK_ITEM.MaskOperation = "AVG_SUB"
TOMO = "1.2.840.10008.5.1.4.1.1.13.1.3"
NOT_SCORED: dict[str, tuple[dict[str, Any], str]] = {
    "specimen by code": (NO_VIEW | {"ViewCodeSequence": view("127457009")}, "specimen"),
    "specimen by old code": (NO_VIEW | {"ViewCodeSequence": view("G-8310")}, "specimen"),
    "specimen by region": ({"AnatomicRegionSequence": view("127457009")}, "specimen"),
    "specimen by description": ({"SpecimenDescriptionSequence": Sequence([SPECIMEN_ITEM])}, "specimen"),
    "specimen by position": (NO_VIEW | {"ViewPosition": "SPECIMEN"}, "specimen"),
    "specimen by the words of another code": ({"ViewCodeSequence": meaning("Breast specimen")}, "specimen"),
    "phantom by the words of a code": ({"AnatomicRegionSequence": meaning("ACR phantom")}, "phantom"),
    "phantom": ({"QualityControlImage": "YES"}, "phantom"),
    "phantom as a patient": ({"QualityControlSubject": "YES"}, "phantom"),
    "phantom as a body part": ({"BodyPartExamined": "PHANTOM"}, "phantom"),
    "calibration": ({"CalibrationImage": "YES"}, "phantom"),
    "subtracted": ({"ImageType": ["DERIVED", "PRIMARY", "", "SUBTRACTION"]}, "subtracted"),
    "recombined": ({"ImageType": ["DERIVED", "PRIMARY", "", "RECOMBINED"]}, "subtracted"),
    "subtracted by mask": ({"MaskSubtractionSequence": Sequence([MASK_ITEM])}, "subtracted"),
    "subtracted by derivation": ({"DerivationCodeSequence": view("113062")}, "subtracted"),
    "high energy": ({"ImageType": ["ORIGINAL", "PRIMARY", "", "", "HIGH_ENERGY"]}, "high-energy"),
    "stereotactic scout": ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, "stereotactic"),
    "stereotactic pair": ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_MINUS"]}, "stereotactic"),
    "needle before the shot": ({"ImageType": ["ORIGINAL", "PRIMARY", "PREFIRE_PLUS"]}, "stereotactic"),
    "tomosynthesis by class": ({"SOPClassUID": TOMO}, "tomosynthesis"),
    "tomosynthesis projection": ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ"]}, "tomosynthesis"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_SCORED)
def test_what_is_no_mammogram_of_a_breast_is_scored_by_no_model(name: str) -> None:
    tags, words = NOT_SCORED[name]
    decoded = read(**tags)
    assert words in decoded.not_scored and "no model reads it" in decoded.not_scored
    assert decoded.not_scored in decoded.warnings
    assert not any("view of the breast that is not known" in sentence for sentence in decoded.warnings)


def test_several_frames_of_a_mammogram_are_no_mammogram() -> None:
    import numpy as np

    decoded = read(stored=np.stack([STORED, STORED]), NumberOfFrames=2)
    assert "several frames" in decoded.not_scored
    clip = read(stored=np.stack([STORED, STORED]), NumberOfFrames=2, SOPClassUID=US, Modality="US")
    assert clip.not_scored == ""


@pytest.mark.parametrize(
    "tags",
    [
        {}, {"QualityControlImage": "NO"}, {"ImageType": ["ORIGINAL", "PRIMARY", ""]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "", "LOW_ENERGY"]}, {"CalibrationImage": "NO"},
        {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]},
    ],
)  # fmt: skip
def test_mammograms_are_scored(tags: dict[str, Any]) -> None:
    decoded = read(**tags)
    assert decoded.not_scored == "" and not decoded.is_scored_alone
    assert any("computed from tomosynthesis" in w for w in decoded.warnings) == ("GENERATED_2D" in str(tags))
    assert ("synthesized" in decoded.view_modifiers) == ("GENERATED_2D" in str(tags)) and not decoded.is_scored_alone


@pytest.mark.parametrize(
    ("tags", "is_raw"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, True), ({"PresentationIntentType": "FOR PRESENTATION"}, False),
        ({"PresentationIntentType": None, "SOPClassUID": f"{MG}.1"}, True), ({"PresentationIntentType": None}, False),
    ],
)  # fmt: skip
def test_raw_images_stand_alone_and_say_so(tags: dict[str, Any], is_raw: bool) -> None:
    decoded = read(**tags)
    assert decoded.is_scored_alone == is_raw
    assert any("raw image of the detector" in sentence for sentence in decoded.warnings) == is_raw


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.07, 0.07], "ImagerPixelSpacing": [0.07, 0.07]}, 0.07 / 1.8),
        ({"PixelSpacing": [0.039, 0.039], "ImagerPixelSpacing": [0.07, 0.07]}, 0.039),
        ({"ImagerPixelSpacing": [0.07, 0.07]}, 0.07 / 1.8), ({"PixelSpacing": [0.07, 0.07]}, 0.07),
    ],
)  # fmt: skip
def test_a_pixel_spacing_that_equals_the_detector_s_is_the_detector_s(tags: dict[str, Any], spacing: float) -> None:
    found = read(EstimatedRadiographicMagnificationFactor=1.8, **tags).spacing_mm
    assert found == pytest.approx((spacing, spacing), abs=1e-6)


def region(step: float, unit: int = 3) -> Dataset:
    item = Dataset()
    item.PhysicalDeltaX = item.PhysicalDeltaY = step
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = unit
    return item


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([region(0.008)], 0.08), ([region(0.008), region(0.008)], 0.08), ([region(0.008), region(0.5, unit=4)], 0.08),
        ([region(0.008), region(0.016)], None), ([region(0.5, unit=4)], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("also", [{}, {"PixelSpacing": [0.08, 0.08]}])
def test_regions_of_different_scale_have_no_spacing_in_common(
    regions: list[Dataset], spacing: float | None, also: dict[str, Any]
) -> None:
    decoded = read(SOPClassUID=US, Modality="US", SequenceOfUltrasoundRegions=Sequence(regions), **also)
    is_mixed = len({float(item.PhysicalDeltaX) for item in regions if item.PhysicalUnitsXDirection == 3}) > 1
    expected = None if is_mixed else spacing or (0.08 if also else None)
    assert decoded.spacing_mm == (pytest.approx((expected, expected)) if expected else None)
    assert any("different scale" in sentence for sentence in decoded.warnings) == is_mixed


@pytest.mark.parametrize(("unit", "is_strip"), [(3, False), (0, False), (4, True), (5, True)])
def test_a_strip_beside_the_picture_is_said_to_have_no_millimetres(unit: int, is_strip: bool) -> None:
    """Seconds and hertz; a bar of colours has no unit across."""
    strip = region(0.01, unit)
    for edge, end in (("MinX0", 0), ("MinY0", 0), ("MaxX1", 9), ("MaxY1", 9)):
        setattr(strip, f"RegionLocation{edge}", end)
    tags: dict[str, Any] = {"SOPClassUID": US, "Modality": "US"}
    found = read(**tags, SequenceOfUltrasoundRegions=Sequence([region(0.008), strip])).warnings
    assert any("Doppler" in one for one in found) == is_strip
    alone = read(**tags, SequenceOfUltrasoundRegions=Sequence([strip])).warnings
    assert not any("Doppler" in one for one in alone), "there are no millimetres at all, or it is the picture"
    strip.RegionLocationMinX0, strip.RegionLocationMaxX1 = 9000, 9999
    beyond = read(**tags, SequenceOfUltrasoundRegions=Sequence([region(0.008), strip])).warnings
    assert not any("Doppler" in one for one in beyond)


def test_where_the_picture_lies_comes_with_it_from_the_decoding_process_and_what_lies_outside_of_it_does_not() -> None:
    regions = [region(0.008), region(0.008), region(0.008)]
    for item, (left, top, right, bottom) in zip(regions, [(2, 3, 20, 30), (0, 0, 9, 9999), (5, 5, 5, 9)], strict=True):
        item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    content = dicom(
        STORED, SOPClassUID=US, Modality="US", SequenceOfUltrasoundRegions=Sequence(regions),
        BurnedInAnnotation="NO",
    )  # fmt: skip
    decoded = decode(content, "DICOM", limits=LIMITS, frame=0, window=None)
    assert decoded.regions == ((3, 30, 2, 20),) and decoded.tags["BurnedInAnnotation"] == "NO"


@pytest.mark.parametrize(("ratio", "aspect"), [([4, 3], 4 / 3), ([1, 2], 0.5), ([1, 1], 1), ([0, 1], 1), ([100, 1], 1)])
def test_the_aspect_of_pixels_is_read(ratio: list[int], aspect: float) -> None:
    assert read(PixelAspectRatio=ratio).pixel_aspect == pytest.approx(aspect)


@pytest.mark.parametrize(
    ("tags", "side", "words"),
    [
        ({"ImageLaterality": "LEFT"}, "L", ""),
        ({"ImageLaterality": "Right", "Laterality": "L"}, "R", "contradict"),
        ({"ImageLaterality": "B", "Laterality": "R"}, None, "both breasts"),
        ({"ImageLaterality": ["L", "R"]}, None, "both breasts"),
        ({"ImageLaterality": None, "ViewPosition": "RMLO"}, "R", ""),
        ({"ImageLaterality": None, "ViewPosition": "RCC"}, "R", ""),
        ({"ImageLaterality": None, "ViewPosition": "LEFT MLO"}, "L", ""),
        ({"ImageLaterality": None, "ViewPosition": "L-CC"}, "L", ""),
        ({"ImageLaterality": "R", "ViewPosition": "LMLO"}, "R", "contradict"),
        ({"ImageLaterality": "R", "ViewPosition": "LM"}, "R", ""),
        ({"ImageLaterality": None, "BodyPartExamined": "LBREAST"}, "L", ""),
        ({"ImageLaterality": "R", "BodyPartExamined": "LEFT BREAST"}, "R", "contradict"),
        ({"ImageLaterality": "R", "BodyPartExamined": "BREAST"}, "R", ""),
    ],
)
def test_a_side_is_found_wherever_it_stands_and_a_second_one_is_said(
    tags: dict[str, Any], side: str | None, words: str
) -> None:
    decoded = read(**tags)
    found = " ".join(sentence for sentence in decoded.warnings if "contradict" in sentence or "both" in sentence)
    assert decoded.laterality == side and (words in found if words else not found)


@pytest.mark.parametrize(("value", "side"), [("7771000", "L"), ("G-A100", "R"), ("51440002", None)])
def test_the_side_may_be_a_modifier_of_the_region(value: str, side: str | None) -> None:
    region = code("76752008")
    region.AnatomicRegionModifierSequence = Sequence([code(value)])
    assert read(ImageLaterality=None, AnatomicRegionSequence=Sequence([region])).laterality == side
    stated = read(ImageLaterality="R", AnatomicRegionSequence=Sequence([region]))
    assert stated.laterality == "R" and any("contradict" in one for one in stated.warnings) == (side == "L")


def groups(side: str | None = None, spacing: float | None = None, center: float | None = None) -> Sequence:
    """What a file says of its frames in the shared functional groups."""
    shared, anatomy, measures, voi = (Dataset() for _ in range(4))
    if side:
        anatomy.FrameLaterality = side
        shared.FrameAnatomySequence = Sequence([anatomy])
    if spacing:
        measures.PixelSpacing = [spacing, spacing]
        shared.PixelMeasuresSequence = Sequence([measures])
    if center:
        voi.WindowCenter, voi.WindowWidth = center, 4096
        shared.FrameVOILUTSequence = Sequence([voi])
    return Sequence([shared])


@pytest.mark.parametrize(
    ("tags", "framed", "side", "is_open"),
    [
        ({"ImageLaterality": "R"}, "L", None, True), ({"ImageLaterality": "R"}, "R", "R", False),
        ({"ImageLaterality": None, "Laterality": "R"}, "L", None, True),
        ({"ImageLaterality": None, "ViewPosition": "RMLO"}, "L", None, True),
        ({"ImageLaterality": None, "BodyPartExamined": "LEFT BREAST"}, "R", None, True),
        ({"ImageLaterality": "R"}, "B", None, True), ({"ImageLaterality": None}, "B", None, True),
        ({"ImageLaterality": None}, "L", "L", False), ({"ImageLaterality": "R"}, "U", "R", False),
        ({"ImageLaterality": "B"}, None, None, True), ({"ImageLaterality": "BOTH"}, "L", None, True),
        ({"ImageLaterality": None}, None, None, False),
    ],
)  # fmt: skip
def test_a_side_that_the_frame_contradicts_and_both_breasts_leave_the_side_open(
    tags: dict[str, Any], framed: str | None, side: str | None, is_open: bool
) -> None:
    shared = {"SharedFunctionalGroupsSequence": groups(framed)} if framed else {}
    decoded = read(**tags, **shared)
    assert (decoded.laterality, decoded.needs_side) == (side, is_open)
    said = [one for one in decoded.warnings if "different sides" in one or "both breasts" in one]
    assert bool(said) == is_open


@pytest.mark.parametrize(("framed", "is_said"), [(0.1, True), (0.0705, False), (0.07, False)])
def test_a_spacing_that_the_frame_contradicts_is_not_used(framed: float, is_said: bool) -> None:
    decoded = read(PixelSpacing=[0.07, 0.07], SharedFunctionalGroupsSequence=groups(spacing=framed))
    assert decoded.spacing_mm == (None if is_said else (0.07, 0.07))
    assert any("different pixel spacings" in one for one in decoded.warnings) == is_said


@pytest.mark.parametrize(("framed", "is_said"), [(1000, True), (2048, False)])
def test_a_window_that_the_frame_contradicts_is_said(framed: float, is_said: bool) -> None:
    decoded = read(WindowCenter=2048, WindowWidth=4096, SharedFunctionalGroupsSequence=groups(center=framed))
    assert any("different grey scales" in one for one in decoded.warnings) == is_said


@pytest.mark.parametrize(("spacing", "is_said"), [(0.08, False), (0.081, False), (0.1, True), (0.008, True)])
def test_a_pixel_spacing_that_differs_from_the_ultrasound_region_is_not_used(spacing: float, is_said: bool) -> None:
    regions = Sequence([region(0.008)])
    decoded = read(SOPClassUID=US, Modality="US", SequenceOfUltrasoundRegions=regions, PixelSpacing=[spacing, spacing])
    assert decoded.spacing_mm == (None if is_said else (spacing, spacing))
    assert any("calibration of its ultrasound region" in one for one in decoded.warnings) == is_said


@pytest.mark.parametrize(
    ("codes", "position", "name", "is_said"),
    [
        (["399162004"], "MLO", "CC", True), (["399162004"], "RMLO", "CC", True), (["399162004"], "RCC", "CC", False),
        (["399192008"], "CC", "XCCL", False), (["399260004"], "MLO", "ML", True),
        (["399162004", "399368009"], None, "CC", True), (["399368009"], "MLO", "MLO", False),
        (["399368009"], "SOMETHING", "MLO", False),
    ],
)  # fmt: skip
def test_a_code_and_a_position_that_name_different_views_are_said(
    codes: list[str], position: str | None, name: str, is_said: bool
) -> None:
    decoded = read(ViewPosition=position, ViewCodeSequence=Sequence([code(value) for value in codes]))
    assert decoded.view == name
    assert any("contradict each other on the view" in sentence for sentence in decoded.warnings) == is_said
