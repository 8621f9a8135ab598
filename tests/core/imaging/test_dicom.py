"""DICOM: every transfer syntax read, polarity and windows in the right order, tags to words, refusals by name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from made_frames import jpeg_2000_frame, jpeg_frame, jpeg_ls_frame, rle_frame
from made_images import US, dicom, stored_mammogram, ultrasound
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from core.errors import UnreadableImage
from core.imaging.decoded import Decoded, Limits
from core.imaging.dicom.grey_scale import apply_window
from core.imaging.dicom.read import read_dicom, read_frames
from core.settings import Settings
from core.types import Modality, Window

LIMITS = Limits.of(Settings())
STORED = stored_mammogram()


def read(data: bytes, **options: Any) -> Decoded:
    return read_dicom(io.BytesIO(data), limits=LIMITS, **options)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_native_syntaxes_give_the_same_picture(syntax: str) -> None:
    decoded = read(dicom(STORED, syntax=syntax, WindowCenter=2048, WindowWidth=4096))
    assert np.abs(decoded.pixels - STORED / 4095).max() < 1e-3
    assert decoded.modality is Modality.MAMMOGRAPHY and decoded.modality_source == "tags"


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        ("1.2.840.10008.1.2.5", rle_frame),
        ("1.2.840.10008.1.2.4.80", jpeg_ls_frame),
        ("1.2.840.10008.1.2.4.90", jpeg_2000_frame),
    ],
)
def test_compressed_syntaxes_give_the_same_picture(syntax: str, encode: Any) -> None:
    decoded = read(dicom(STORED, syntax=syntax, frames=[encode(STORED)], WindowCenter=2048, WindowWidth=4096))
    assert np.abs(decoded.pixels - STORED / 4095).max() < 1e-3


def test_jpeg_baseline_is_read() -> None:
    grey = (ultrasound() * 255).astype(np.uint8)
    decoded = read(
        dicom(grey, syntax="1.2.840.10008.1.2.4.50", frames=[jpeg_frame(grey)], WindowCenter=128, WindowWidth=256)
    )
    assert np.abs(decoded.pixels - grey / 255).mean() < 0.02


def test_monochrome1_is_inverted_after_the_window() -> None:
    """Inverting first would apply the window to the wrong end: at center 1000 the two differ."""
    window = Window(1000, 800)
    plain = read(dicom(STORED, WindowCenter=1000, WindowWidth=800)).pixels
    inverted = read(dicom(STORED, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=800)).pixels
    assert np.allclose(inverted, 1 - plain, atol=1e-6)
    assert np.allclose(plain, apply_window(STORED, window), atol=1e-6)


def test_the_standard_s_window_formulas() -> None:
    values = np.array([-1000.0, 0, 99.5, 100, 1000])
    assert apply_window(values, Window(100, 200)).tolist() == pytest.approx(
        [0, 0.5 - 99.5 / 199, 0.5, 0.5 + 0.5 / 199, 1]
    )
    assert apply_window(values, Window(100, 200, "LINEAR_EXACT")).tolist() == pytest.approx([0, 0, 0.4975, 0.5, 1])
    sigmoid = 1 / (1 + np.exp(-4 * (values - 100) / 200))
    assert apply_window(values, Window(100, 200, "SIGMOID")) == pytest.approx(sigmoid)
    assert apply_window(values, Window(100, 1)).tolist() == [0, 0, 0, 1, 1]


def test_the_first_window_is_used_and_the_others_are_offered() -> None:
    data = dicom(
        STORED,
        WindowCenter=[2000, 1000],
        WindowWidth=[3000, 500],
        WindowCenterWidthExplanation=["NORMAL", "HARDER"],
        VOILUTFunction="SIGMOID",
    )
    first, second = read(data), read(data, window=1)
    assert [window.explanation for window in first.windows] == ["NORMAL", "HARDER"]
    assert (first.window_index, second.window_index) == (0, 1)
    assert np.allclose(second.pixels, apply_window(STORED, Window(1000, 500, "SIGMOID")), atol=1e-6)
    with pytest.raises(UnreadableImage, match="2 windows"):
        read(data, window=2)


def test_rescale_comes_before_the_window() -> None:
    decoded = read(dicom(STORED, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1900, WindowWidth=4000))
    assert np.allclose(decoded.pixels, apply_window(STORED * 2.0 - 100, Window(1900, 4000)), atol=1e-6)


def lut_item(first: int, entries: np.ndarray, bits: int, **extra: Any) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries.astype(np.uint16).tolist()
    for keyword, value in extra.items():
        setattr(item, keyword, value)
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "US"
    return item


def test_modality_and_voi_tables_are_applied_in_that_order() -> None:
    modality = lut_item(0, np.arange(4096)[::-1], 12, ModalityLUTType="US")
    voi = lut_item(0, np.sqrt(np.arange(4096) / 4095) * 4095, 12)
    decoded = read(dicom(STORED, ModalityLUTSequence=Sequence([modality]), VOILUTSequence=Sequence([voi])))
    assert np.abs(decoded.pixels - np.sqrt((4095.0 - STORED) / 4095)).max() < 2e-3


def test_a_lookup_table_shorter_than_promised_is_refused() -> None:
    item = lut_item(0, np.arange(64), 12)
    item.LUTDescriptor = [4096, 0, 12]
    item["LUTDescriptor"].VR = "US"
    with pytest.raises(UnreadableImage, match="lookup table"):
        read(dicom(STORED, VOILUTSequence=Sequence([item])))


def test_without_a_window_the_range_of_the_picture_is_shown() -> None:
    decoded = read(dicom(STORED // 8))
    assert decoded.pixels.max() == 1 and decoded.window_index is None and not decoded.windows


@pytest.mark.parametrize(("center", "width"), [(2000, 0), (2000, -5), ("1E300", "1E300"), (-90000, 10)])
def test_a_useless_window_is_replaced_with_a_warning(center: Any, width: Any) -> None:
    decoded = read(dicom(STORED, WindowCenter=center, WindowWidth=width))
    assert decoded.pixels.max() == 1 and any("window" in warning.lower() for warning in decoded.warnings)


def test_padding_is_black_in_either_polarity() -> None:
    padded = STORED.copy()
    padded[:40] = 4095
    tags = {"PixelPaddingValue": 4095, "PhotometricInterpretation": "MONOCHROME2"}
    assert read(dicom(padded, **tags)).pixels[:40].max() == 0
    padded[:40] = 0
    tags = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    assert read(dicom(padded, **tags)).pixels[:40].max() == 0


def test_bits_above_the_stored_ones_are_ignored() -> None:
    dirty = STORED | np.uint16(0xA000)
    clean = read(dicom(STORED, WindowCenter=2048, WindowWidth=4096)).pixels
    assert np.allclose(read(dicom(dirty, WindowCenter=2048, WindowWidth=4096)).pixels, clean)
    high = (STORED << 4).astype(np.uint16)
    assert np.allclose(read(dicom(high, HighBit=15, WindowCenter=2048, WindowWidth=4096)).pixels, clean)


def test_signed_values_are_read() -> None:
    signed = STORED.astype(np.int16) - 2048
    decoded = read(dicom(signed, WindowCenter=0, WindowWidth=4096))
    assert np.abs(decoded.pixels - STORED / 4095).max() < 1e-3


def test_a_frame_of_several_is_chosen_and_named() -> None:
    frames = np.stack([STORED, STORED // 2, STORED // 4])
    data = dicom(frames, NumberOfFrames=3, WindowCenter=2048, WindowWidth=4096)
    first, last = read(data), read(data, frame=2)
    assert first.n_frames == 3 and any("3 frames; frame 1" in warning for warning in first.warnings)
    assert last.frame == 2 and last.pixels.max() == pytest.approx(first.pixels.max() / 4, abs=1e-3)
    with pytest.raises(UnreadableImage, match="from 0 to 2"):
        read(data, frame=3)
    assert read(dicom(STORED), frame=5).frame == 0


def test_functional_groups_of_an_enhanced_object_are_read() -> None:
    anatomy, measures, shared = Dataset(), Dataset(), Dataset()
    anatomy.FrameLaterality, measures.PixelSpacing = "L", [0.1, 0.1]
    shared.FrameAnatomySequence, shared.PixelMeasuresSequence = Sequence([anatomy]), Sequence([measures])
    tags = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3",
        "NumberOfFrames": 2,
        "ImageLaterality": None,
        "SharedFunctionalGroupsSequence": Sequence([shared]),
    }
    decoded = read(dicom(np.stack([STORED, STORED]), **tags))
    assert decoded.laterality == "L" and decoded.spacing_mm == (0.1, 0.1)


def coded(value: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "view"
    return Sequence([item])


def test_the_coded_view_wins_and_the_description_is_never_asked() -> None:
    data = dicom(STORED, ViewCodeSequence=coded("399162004"), ViewPosition="MLO", SeriesDescription="L ML SPOT")
    assert (read(data).view, read(data).laterality) == ("CC", "R")
    assert read(dicom(STORED, ViewCodeSequence=coded("R-10226"), ViewPosition="CC")).view == "MLO"


@pytest.mark.parametrize(
    ("orientation", "laterality", "view"),
    [("A\\R", "L", "CC"), ("P\\L", "R", "CC"), ("P\\FL", "R", "MLO"), ("A\\FR", "L", "MLO"), ("CC", None, "CC")],
)
def test_orientation_says_side_and_view_where_nothing_else_does(
    orientation: str, laterality: str | None, view: str
) -> None:
    value = orientation.split("\\") if "\\" in orientation else orientation
    decoded = read(dicom(STORED, ImageLaterality=None, ViewPosition=None, PatientOrientation=value))
    assert (decoded.laterality, decoded.view) == (laterality, view)


def test_an_orientation_whose_columns_run_outwards_or_upwards_says_nothing_of_the_side() -> None:
    for view, columns in (("SIO", "FL"), ("ISO", "FL"), ("MLO", "HL")):
        value = MultiValue(str, ["A", columns])
        decoded = read(dicom(STORED, ImageLaterality=None, ViewPosition=view, PatientOrientation=value))
        assert decoded.laterality is None, view
        decoded = read(dicom(STORED, ImageLaterality="L", ViewPosition=view, PatientOrientation=value))
        assert decoded.laterality == "L" and not any("contradict" in warning for warning in decoded.warnings), view
    # A view that its code alone names, as the mammography IOD has it (PS3.3 C.8.11.7).
    for code in ("399188001", "R-102D0", "441555000", "R-40AAA"):
        tags = {
            "ViewPosition": None,
            "ViewCodeSequence": coded(code),
            "PatientOrientation": MultiValue(str, ["A", "FL"]),
        }
        decoded = read(dicom(STORED, ImageLaterality="L", **tags))
        assert decoded.laterality == "L" and not any("contradict" in warning for warning in decoded.warnings), code
        assert read(dicom(STORED, ImageLaterality=None, **tags)).laterality is None, code


def test_contradicting_sides_are_warned_of() -> None:
    decoded = read(dicom(STORED, PatientOrientation=MultiValue(str, ["A", "R"])))
    assert decoded.laterality == "R" and any("contradict" in warning for warning in decoded.warnings)


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.07, 0.08]}, (0.07, 0.08)),
        ({"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 2}, (0.05, 0.05)),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ],
)
def test_spacing_is_at_the_breast_and_believable(tags: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert read(dicom(STORED, **tags)).spacing_mm == pytest.approx(spacing)


def test_colour_ultrasound_and_palettes_become_rgb() -> None:
    grey = (ultrasound() * 255).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    us = {"SOPClassUID": US, "Modality": "US", "ImageLaterality": None, "ViewPosition": None}
    decoded = read(dicom(rgb, bits=8, **us))
    assert decoded.modality is Modality.ULTRASOUND and np.allclose(decoded.pixels, rgb / 255, atol=1e-6)
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = (np.arange(256, dtype="<u2") * 257).tobytes()
    assert np.allclose(read(dicom(grey, bits=8, **us, **palette)).pixels, rgb / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw image"),
        ({"BurnedInAnnotation": "YES"}, "burnt into"),
        ({"Modality": "RG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "modality RG"),
        ({"SOPClassUID": US, "Modality": "US", "BodyPartExamined": None}, "body part not verifiable"),
        ({"SOPClassUID": US, "Modality": "US"}, "Names may be burnt"),
        ({"BreastImplantPresent": "YES"}, "implant"),
    ],
)
def test_what_the_reader_should_know_is_warned_of(tags: dict[str, Any], words: str) -> None:
    assert any(words in warning for warning in read(dicom(STORED, **tags)).warnings)


CT, CR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1"
REFUSED: dict[str, tuple[bytes, str]] = {
    "CT": (dicom(STORED, Modality="CT", SOPClassUID=CT), "wrong modality"),
    "CT that calls itself MG": (dicom(STORED, SOPClassUID=CT), "object class"),
    "MR": (dicom(STORED, Modality="MR"), "wrong modality"),
    "chest CR": (dicom(STORED, Modality="CR", SOPClassUID=CR, BodyPartExamined="CHEST"), "wrong modality"),
    "no rows": (dicom(STORED, Rows=None), "no rows"),
    "rows 0": (dicom(STORED, Rows=0), "fewer than 32"),
    "tiny": (dicom(STORED[:16, :16].copy()), "fewer than 32"),
    "no bits": (dicom(STORED, BitsAllocated=None), "BitsAllocated"),
    "bits contradict": (dicom(STORED, BitsStored=14, BitsAllocated=8), "bits are stored in"),
    "32 bits": (dicom(STORED.astype(np.uint32)), "stores its samples"),
    "high bit too high": (dicom((STORED >> 4).astype(np.uint8), bits=8, HighBit=11), "contradicts"),
    "no pixels": (dicom(STORED, PixelData=None), "no pixel data"),
    "two samples": (dicom(STORED, SamplesPerPixel=2), "contradicts"),
    "photometric unknown": (dicom(STORED, PhotometricInterpretation="SECRET^NAME"), "photometric"),
    "grey that says RGB": (dicom(STORED, PhotometricInterpretation="RGB"), "photometric"),
    "palette absent": (dicom(STORED, PhotometricInterpretation="PALETTE COLOR"), "no palette"),
    "rows lie": (dicom(STORED, Rows=60000), "larger|cut short"),
    "many frames": (dicom(STORED, NumberOfFrames=2_000_000_000), "larger than this site"),
    "negative frames": (dicom(STORED, NumberOfFrames=-3), "contradicts"),
    "slope": (dicom(STORED, RescaleSlope="1E300"), "rescale"),
    "slope 0": (dicom(STORED, RescaleSlope=0), "rescale"),
    "12-bit JPEG extended": (
        dicom(STORED, syntax="1.2.840.10008.1.2.4.51", frames=[
            b"\xff\xd8\xff\xc1\x00\x0b\x0c" + STORED.shape[0].to_bytes(2, "big") + STORED.shape[1].to_bytes(2, "big")
            + b"\x01\x01\x11\x00\xff\xd9  "
        ]),
        "12-bit JPEG extended",
    ),
    "JPEG of another size": (
        dicom(STORED, syntax="1.2.840.10008.1.2.4.50", frames=[jpeg_frame(np.zeros((64, 64), np.uint8))]),
        "another size",
    ),
    "J2K of another size": (
        dicom(STORED, syntax="1.2.840.10008.1.2.4.90", frames=[jpeg_2000_frame(STORED[:64, :64].copy())]),
        "another size",
    ),
    "J2K cut": (
        dicom(STORED, syntax="1.2.840.10008.1.2.4.90", frames=[jpeg_2000_frame(STORED)[:9000]]), "cut short"
    ),
    "JPEG-LS cut": (
        dicom(STORED, syntax="1.2.840.10008.1.2.4.80", frames=[jpeg_ls_frame(STORED)[:3000]]), "cut short"
    ),
    "RLE cut": (dicom(STORED, syntax="1.2.840.10008.1.2.5", frames=[rle_frame(STORED)[:800]]), "cut short"),
    "rubbish for JPEG": (dicom(STORED, syntax="1.2.840.10008.1.2.4.70", frames=[b"<html>" * 40]), "cut short"),
    "cut": (dicom(STORED)[:-5000], "cut short"),
    "cut in the header": (dicom(STORED)[:700], "cut short|no rows|no picture|no pixel|lacks|object class"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence_that_holds_nothing_of_the_patient(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(UnreadableImage, match=words) as refusal:
        read(data)
    assert str(refusal.value).endswith(".") and "SECRET" not in str(refusal.value)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.1.99", "deflated"),
        ("1.2.840.10008.1.2.4.103", "not read here"),
        ("1.2.3.4", "not read here"),
    ],
)
def test_deflated_and_unknown_syntaxes_are_refused_before_parsing(
    syntax: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom(STORED)
    old = b"1.2.840.10008.1.2.1\0"
    at = data.index(b"\x02\x00\x10\x00UI")
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    data = data[: at + 6] + len(padded).to_bytes(2, "little") + padded + data[at + 8 + len(old) :]

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the data set must not be parsed")

    monkeypatch.setattr("pydicom.dcmread", fail)
    with pytest.raises(UnreadableImage, match=words):
        read(data)


def test_a_file_without_preamble_is_read() -> None:
    data = dicom(STORED, syntax="1.2.840.10008.1.2")
    meta_length = 12 + int.from_bytes(data[140:144], "little")
    assert np.array_equal(read(data[132 + meta_length :]).pixels, read(data).pixels)
    assert np.array_equal(read(data[132:]).pixels, read(data).pixels)


def test_only_listed_tags_are_kept_clean_and_short() -> None:
    decoded = read(
        dicom(STORED, Manufacturer="ACME\x07<b>" + "x" * 50, InstitutionName="SECRET HOSPITAL", StationName="SECRET",
              AcquisitionTime="101500", ContentTime="101501.5")
    )  # fmt: skip
    assert (decoded.tags["AcquisitionTime"], decoded.tags["ContentTime"]) == ("101500", "101501.5")
    assert decoded.tags["Manufacturer"].startswith("ACME") and "\x07" not in decoded.tags["Manufacturer"]
    assert all(len(value) <= 64 for value in decoded.tags.values())
    assert "SECRET" not in repr(decoded.tags) + repr(decoded.warnings) + repr(decoded.notes)
    assert decoded.patient == "SECRET-ID-1|"


def test_neither_log_nor_warnings_repeat_what_stands_in_a_file(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    data = dicom(STORED, StudyInstanceUID="1.2.3.4.5.6.7.8.9.10", SpecificCharacterSet="ISO_IR 100")
    data = data.replace(b"1.2.3.4.5.6.7.8.9.10", b"SECRET^NAME no UID A").replace(b"ISO_IR 100", b"SECRET 100")
    assert read(data).pixels.shape == STORED.shape
    assert "SECRET" not in caplog.text
    assert not [one for one in recwarn if "SECRET" in str(one.message)]


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def test_every_frame_is_shown_with_its_own_functional_groups() -> None:
    stored = stored_mammogram()
    windows = [
        _item(FrameVOILUTSequence=[_item(WindowCenter=width / 2, WindowWidth=width, VOILUTFunction="LINEAR_EXACT")])
        for width in (4095, 2047)
    ]
    data = dicom(np.stack([stored, stored]), NumberOfFrames=2, PerFrameFunctionalGroupsSequence=Sequence(windows))
    first, second = read_frames(io.BytesIO(data), limits=Limits.of(Settings()))
    assert np.abs(first - stored / 4095).max() < 1e-6
    assert np.abs(second - np.clip(stored / 2047, 0, 1)).max() < 1e-6


def test_the_voi_lut_of_a_frame_is_applied() -> None:
    stored = stored_mammogram()
    doubled = lut_item(0, np.minimum(4095, 2 * np.arange(4096)), 12)
    groups = Sequence([_item(FrameVOILUTSequence=[_item(VOILUTSequence=[doubled])])])
    pixels = read(dicom(np.stack([stored, stored]), NumberOfFrames=2, SharedFunctionalGroupsSequence=groups)).pixels
    assert np.abs(pixels - np.clip(2 * stored / 4095, 0, 1)).max() < 1e-6


@pytest.mark.parametrize("table", [Dataset(), lut_item(0, np.arange(2000), 12)], ids=["empty", "short"])
def test_a_damaged_voi_lut_beside_a_good_window_leaves_the_window(table: Dataset) -> None:
    if "LUTDescriptor" in table:
        table.LUTDescriptor = [4096, 0, 12]
    stored = stored_mammogram()
    window = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
    decoded = read(dicom(stored, VOILUTSequence=Sequence([table]), **window))
    assert np.abs(decoded.pixels - stored / 4095).max() < 1e-6
    assert any("VOI LUT) in this file is damaged; its window is used" in one for one in decoded.warnings)
    with pytest.raises(UnreadableImage, match="lookup table in this file is damaged"):
        read(dicom(stored, VOILUTSequence=Sequence([table])))


@pytest.mark.parametrize(("ratio", "is_warned"), [([1, 2], False), ([0, 0], True), ([1, 6], True), (None, False)])
def test_a_shape_of_pixels_that_cannot_be_is_warned_of(ratio: list[int] | None, is_warned: bool) -> None:
    warnings = read(dicom(stored_mammogram(), **({"PixelAspectRatio": ratio} if ratio else {}))).warnings
    assert any("shape of its pixels" in one for one in warnings) is is_warned


def test_a_region_outside_the_picture_says_nothing_of_it() -> None:
    region = {
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.01,
        "PhysicalDeltaY": 0.01,
    }
    corners = {"RegionLocationMinX0": 0, "RegionLocationMinY0": 0, "RegionLocationMaxX1": 9, "RegionLocationMaxY1": 9}
    outside = {**corners, "RegionLocationMinX0": 9000, "RegionLocationMaxX1": 9999, "PhysicalDeltaX": 0.05}
    within, beyond = _item(**region, **corners), _item(**{**region, **outside})
    for regions, spacing in (([beyond], None), ([beyond, within], (0.1, 0.1)), ([within], (0.1, 0.1))):
        found = read(
            dicom(stored_mammogram(), SOPClassUID=US, Modality="US", SequenceOfUltrasoundRegions=Sequence(regions))
        ).spacing_mm
        assert found == pytest.approx(spacing) if spacing else found is None


def test_a_palette_of_empty_segments_is_refused() -> None:
    empty = {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in ("Red", "Green", "Blue")}
    empty |= {f"Segmented{colour}PaletteColorLookupTableData": b"" for colour in ("Red", "Green", "Blue")}
    grey = (stored_mammogram() >> 4).astype(np.uint8)
    with pytest.raises(UnreadableImage, match="lookup table in this file is damaged"):
        read(dicom(grey, SOPClassUID=US, Modality="US", PhotometricInterpretation="PALETTE COLOR", **empty))


def test_samples_of_other_sizes_are_refused_by_what_they_are() -> None:
    with pytest.raises(UnreadableImage, match="stores its samples in 32 bits; 8 or 16 bits are read"):
        read(dicom(stored_mammogram(), BitsAllocated=32))
