"""De-identification: identity planted wherever a DICOM file can hold some, and none of it found in what comes out."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_images import MG, US, dicom, encoded, stored_mammogram
from PIL import Image as Raster
from pydicom import config, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from core.errors import UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.deidentify_process import deidentify
from core.imaging.dicom.confidentiality import BLANKED, NOT_LOOKED_FOR, STATED_NONE, Facts, deidentified
from core.imaging.dicom.read import read_dicom
from core.settings import Settings

KEY = b"k" * 32
LIMITS = Limits.of(Settings())
SECRET = "PLANTED"
STUDY = "1.2.826.0.1.3680043.8.498.4711"
WHO = {
    "PatientName": "Planted^Petra", "PatientID": "PLANTED-4711", "PatientBirthDate": "19600101",
    "StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": f"{STUDY}.1.1",
    "StudyDate": "20260102", "StudyTime": "101112", "AccessionNumber": "PLANTEDACC",
}  # fmt: skip
TEXT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
OF_THE_PICTURE = {
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet", "Modality",
    "PhotometricInterpretation", "NumberOfFrames", "PixelData", "TransferSyntaxUID", "BurnedInAnnotation",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _any_text(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files in the world hold what their elements may not; pydicom would refuse to write it."""
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cleaned(content: bytes) -> tuple[Dataset, Facts, bytes]:
    found, facts = deidentified(io.BytesIO(content), KEY, LIMITS)
    return dcmread(io.BytesIO(found)), facts, found


def mammogram(**tags: Any) -> bytes:
    return dicom(stored_mammogram(), **{**WHO, "SOPClassUID": MG, **tags})


def planted_everywhere() -> bytes:
    """A mammogram with the name in each attribute that DICOM knows, in each sequence, and beside them."""
    whole = dcmread(io.BytesIO(mammogram()))
    for number, (vr, _, _, _, keyword) in DicomDictionary.items():
        tag = Tag(number)
        if not keyword or keyword in OF_THE_PICTURE or tag.group < 8 or keyword in WHO:
            continue
        if vr in TEXT:
            text = (f"{SECRET}^PETRA " if vr == "PN" else f"{SECRET} ").encode()  # of an even length
            whole[tag] = RawDataElement(tag, vr, len(text), text, 0, False, True)
        elif vr == "SQ":
            whole.add_new(tag, vr, [_planted_item(), _planted_code()])
        elif vr in ("OB", "UN") or (vr == "OW" and "Palette" not in keyword and "LUT" not in keyword):
            whole.add_new(tag, "OB", SECRET.encode() + b" ")
    whole.SequenceOfUltrasoundRegions = []
    block = whole.private_block(0x0009, f"{SECRET} CREATOR", create=True)
    block.add_new(1, "LO", SECRET)
    block.add_new(2, "SQ", [_planted_item()])
    whole.add_new(0x60000010, "US", 8)
    whole.add_new(0x60000022, "LO", SECRET)
    whole.add_new(0x60003000, "OW", SECRET.encode() + b" ")
    whole.add_new(0x50000022, "LO", SECRET)
    whole.add_new(0x00112233, "LO", SECRET)
    whole.add_new(0xFFFCFFFC, "OB", SECRET.encode() + b" ")
    whole.preamble = SECRET.encode().ljust(128, b"\0")
    whole.file_meta.SourceApplicationEntityTitle = SECRET
    whole.file_meta.PrivateInformationCreatorUID = "1.2.3"
    whole.file_meta.PrivateInformation = SECRET.encode() + b" "
    out = io.BytesIO()
    whole.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _planted_item(depth: int = 1) -> Dataset:
    item = Dataset()
    item.PatientName, item.TextValue, item.ImageComments, item.StationName = SECRET, SECRET, SECRET, SECRET
    item.BodyPartExamined = item.Manufacturer = SECRET
    item.add_new(0x00111001, "LO", SECRET)
    if depth:
        item.ContentSequence = [_planted_item(depth - 1)]
    return item


def _planted_code() -> Dataset:
    item = Dataset()
    item.CodeValue = item.CodingSchemeDesignator = item.CodeMeaning = SECRET
    return item


def test_a_name_that_stands_everywhere_is_found_nowhere() -> None:
    content = planted_everywhere()
    assert content.upper().count(SECRET.encode()) > 5000, "the test plants what it looks for"
    whole, _, found = cleaned(content)
    assert SECRET.encode() not in found.upper() and b"PETRA" not in found.upper()
    beside = found.replace(whole.PixelData, b"")
    for secret in (STUDY.encode(), b"19600101", b"20260102", b"101112"):
        # New UIDs are random digits, in which a time may stand by chance.
        assert not re.search(rb"(?<!\d)" + secret + rb"(?!\d)", beside), secret
    assert whole.PatientIdentityRemoved == "YES" and whole.PatientBirthDate == "" and whole.PatientSex == ""
    assert methods(whole) == ["113100", "113104", "113107"]
    assert not [element for element in whole.iterall() if element.tag.is_private]


def test_what_says_how_a_picture_was_made_and_what_it_shows_stays() -> None:
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "R-10226", "SRT", "medio-lateral oblique"
    content = mammogram(
        Manufacturer="Maker", KVP="28.5", ImagerPixelSpacing=["0.07", "0.07"], ViewCodeSequence=[view],
        AnodeTargetMaterial="TUNGSTEN", WindowCenter="2000", WindowWidth="4000", InstanceNumber="3",
    )  # fmt: skip
    whole, facts, _ = cleaned(content)
    assert (whole.Manufacturer, float(whole.KVP), whole.AnodeTargetMaterial) == ("Maker", 28.5, "TUNGSTEN")
    assert list(map(float, whole.ImagerPixelSpacing)) == [0.07, 0.07] and whole.InstanceNumber == 3
    assert (whole.BodyPartExamined, whole.ImageLaterality, whole.ViewPosition) == ("BREAST", "R", "MLO")
    assert whole.ViewCodeSequence[0].CodeValue == "R-10226"
    assert whole.ViewCodeSequence[0].CodeMeaning.casefold() == "medio-lateral oblique"
    assert np.array_equal(whole.pixel_array, stored_mammogram())
    assert (facts.laterality, facts.view, facts.modality, facts.burnt_in) == ("R", "MLO", "MG", NOT_LOOKED_FOR)


def test_identifiers_are_keyed_and_days_of_a_patient_keep_their_distance() -> None:
    first, _, _ = cleaned(mammogram())
    again, _, _ = cleaned(mammogram())
    later, _, _ = cleaned(mammogram(StudyInstanceUID=f"{STUDY}9", StudyDate="20260112"))
    assert first == again, "the same object becomes the same object"
    assert first.PatientID == later.PatientID and first.StudyInstanceUID != later.StudyInstanceUID
    assert first.StudyInstanceUID.startswith("2.25.") and first.SOPClassUID == MG
    days = [np.datetime64(f"{one.StudyDate[:4]}-{one.StudyDate[4:6]}-{one.StudyDate[6:]}") for one in (first, later)]
    assert days[1] - days[0] == np.timedelta64(10, "D") and first.StudyDate < "20260102"
    assert first.StudyTime == "000000"
    other, _, _ = cleaned(mammogram(PatientID="OTHER-1"))
    assert other.PatientID != first.PatientID
    found, _ = deidentified(io.BytesIO(mammogram()), b"x" * 32, LIMITS)
    assert dcmread(io.BytesIO(found)).PatientID != first.PatientID, "another site makes other pseudonyms"


def test_neither_graphics_in_unused_bits_nor_comments_in_a_codestream_survive() -> None:
    stored = stored_mammogram()
    drawn = stored.copy()
    drawn[:40, :40] |= 0x8000
    whole, _, _ = cleaned(dicom(drawn, **WHO))
    assert np.array_equal(np.frombuffer(whole.PixelData, "<u2").reshape(stored.shape), stored)
    grey = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    jpeg = encoded(grey, "JPEG", comment=f"{SECRET}^PETRA".encode())
    assert SECRET.encode() in jpeg
    compressed = dicom((grey * 255).astype(np.uint8), syntax="1.2.840.10008.1.2.4.50", frames=[jpeg], bits=8, **WHO)
    whole, _, found = cleaned(compressed)
    assert SECRET.encode() not in found
    with Raster.open(io.BytesIO(jpeg)) as shown:
        assert np.array_equal(whole.pixel_array, np.asarray(shown))


def methods(whole: Dataset) -> list[str]:
    return [str(one.CodeValue) for one in whole.DeidentificationMethodCodeSequence]


def ultrasound(**tags: Any) -> bytes:
    stored = np.full((100, 120), 90, np.uint8)
    facts: dict[str, Any] = {**WHO, "SOPClassUID": US, "Modality": "US", "ImageLaterality": None, "ViewPosition": None}
    return dicom(stored, bits=8, **{**facts, "PresentationIntentType": None, **tags})


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    item = Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def test_in_ultrasound_what_lies_outside_the_calibrated_regions_is_blanked() -> None:
    content = ultrasound(SequenceOfUltrasoundRegions=[region(10, 20, 59, 89), region(70, 20, 109, 89)])
    whole, facts, _ = cleaned(content)
    expected = np.zeros((100, 120), np.uint8)
    expected[20:90, 10:60] = expected[20:90, 70:110] = 90
    assert np.array_equal(whole.pixel_array, expected)
    assert facts.burnt_in == BLANKED and facts.blanked == pytest.approx(1 - 70 * 90 / 12000)
    assert "BurnedInAnnotation" not in whole, "nobody looked inside the regions"
    assert methods(whole) == ["113100", "113104", "113107"] and facts.burned_in_annotation == ""
    whole, facts, _ = cleaned(ultrasound(SequenceOfUltrasoundRegions=[region(0, 0, 119, 99)], BurnedInAnnotation="NO"))
    assert "113101" not in methods(whole), "that the file says so is not that somebody looked"
    assert whole.BurnedInAnnotation == facts.burned_in_annotation == "NO"


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [region(10, 20, 120, 89)],
        [region(30, 20, 30, 89)],
        [region(0, 0, 119, 99)],
        [region(4, 4, 115, 95)],
        [region(0, 0, 59, 99), region(60, 0, 119, 99)],
    ],
)
def test_ultrasound_without_a_usable_region_is_left_out_unless_it_says_that_nothing_is_burnt_in(
    regions: list[Dataset],
) -> None:
    with pytest.raises(UnreadableImage, match="burnt into"):
        cleaned(ultrasound(SequenceOfUltrasoundRegions=regions))
    whole, facts, _ = cleaned(ultrasound(SequenceOfUltrasoundRegions=regions, BurnedInAnnotation="NO"))
    assert facts.burnt_in == STATED_NONE and whole.pixel_array.min() == 90
    assert "113101" not in methods(whole)


def test_a_palette_in_segments_stays() -> None:
    segments = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()  # one entry, then a line to the last
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR", "BurnedInAnnotation": "NO"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"Segmented{colour}PaletteColorLookupTableData"] = segments
    whole, _, found = cleaned(ultrasound(**palette))
    assert whole.SegmentedRedPaletteColorLookupTableData == segments
    assert read_dicom(io.BytesIO(found), limits=LIMITS).pixels.max() > 0


def test_what_says_that_text_is_burnt_in_and_what_is_no_picture_is_left_out() -> None:
    with pytest.raises(UnreadableImage, match="burnt into"):
        cleaned(mammogram(BurnedInAnnotation="YES"))
    with pytest.raises(UnreadableImage, match="burnt into"):
        cleaned(ultrasound(SequenceOfUltrasoundRegions=[region(10, 20, 59, 89)], BurnedInAnnotation="YES"))
    with pytest.raises(UnreadableImage, match="neither a picture nor"):
        cleaned(mammogram(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"))
    with pytest.raises(UnreadableImage, match="burnt into"):
        cleaned(mammogram(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))


def test_a_structured_report_keeps_its_codes_and_numbers_and_loses_its_texts() -> None:
    report = dcmread(io.BytesIO(mammogram(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")))
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    said = Dataset()
    said.RelationshipType, said.ValueType, said.TextValue = "CONTAINS", "TEXT", f"{SECRET} has a mass"
    person = Dataset()
    person.RelationshipType, person.ValueType, person.PersonName = "HAS OBS CONTEXT", "PNAME", f"{SECRET}^PETRA"
    measured = Dataset()
    measured.RelationshipType, measured.ValueType = "CONTAINS", "NUM"
    name, value, unit = Dataset(), Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "111047", "DCM", SECRET
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "%", "UCUM", "Percent"
    value.NumericValue, value.MeasurementUnitsCodeSequence = "30.0", [unit]
    measured.ConceptNameCodeSequence, measured.MeasuredValueSequence = [name], [value]
    born, aged = Dataset(), Dataset()
    born.RelationshipType, born.ValueType, born.Date = "HAS OBS CONTEXT", "DATE", "19600101"
    aged.RelationshipType, aged.ValueType, aged.MeasuredValueSequence = "CONTAINS", "NUM", [Dataset()]
    aged.MeasuredValueSequence[0].NumericValue = "91"
    for item, value in ((born, "121031"), (aged, "121033")):
        item.ConceptNameCodeSequence = [Dataset()]
        item.ConceptNameCodeSequence[0].CodeValue = value
        item.ConceptNameCodeSequence[0].CodingSchemeDesignator, item.ConceptNameCodeSequence[0].CodeMeaning = "DCM", "x"
    report.ContentSequence = [said, person, measured, born, aged]
    out = io.BytesIO()
    report.save_as(out)
    whole, facts, found = cleaned(out.getvalue())
    assert SECRET.encode() not in found.upper() and facts.burnt_in == ""
    text, observer, number, *of_patient = whole.ContentSequence
    assert [(one.ValueType, one.TextValue, one.ConceptNameCodeSequence[0].CodeValue) for one in of_patient] == [
        ("TEXT", "REMOVED", "121031"), ("TEXT", "REMOVED", "121033"),
    ]  # fmt: skip
    assert not any("MeasuredValueSequence" in one or "Date" in one for one in of_patient)
    assert "113101" not in methods(whole), "a report has no pixels"
    assert (text.TextValue, observer.PersonName) == ("REMOVED", "REMOVED")
    assert number.ConceptNameCodeSequence[0].CodeMeaning == "Probability of cancer"
    assert number.MeasuredValueSequence[0].NumericValue == 30
    assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"


def test_a_process_of_its_own_does_it_and_says_why_a_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "Planted_Petra.dcm"
    path.write_bytes(mammogram())
    made = deidentify(path, site_key=KEY, limits=LIMITS)
    assert dcmread(io.BytesIO(made.content)).PatientID == made.facts["patient"]
    path.write_bytes(mammogram()[:2000])
    with pytest.raises(UnreadableImage, match="cut short"):
        deidentify(path, site_key=KEY, limits=LIMITS)
