"""The marks of a read as DICOM objects of one image: valid, where they were drawn, and shown so by a second program."""

from __future__ import annotations

import json
import struct
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from made_images import dicom, stored_mammogram
from PIL import Image as Raster
from pydicom import dcmread
from pydicom.dataset import Dataset
from test_structured_report import AT, CONTENT, FINDING, KEY, WEIGHTS

from core.archive.results.cad_report import cad_report
from core.archive.results.content import ResultContent, ResultImage, uid_of
from core.archive.results.dicom_object import REPLACED, RESEARCH_ONLY, marked_places
from core.archive.results.encapsulated_report import encapsulated_report
from core.archive.results.presentation_state import presentation_state
from core.archive.results.secondary_capture import LONGEST_PX, SECONDARY_CAPTURE, secondary_capture
from core.archive.results.segmentation import SEGMENTATION, segmentation
from core.archive.results.structured_report import structured_report
from core.commands import conformance
from core.errors import NotFound
from core.findings.marks import mask_of, sizes
from core.findings.proposals import Proposal
from core.imaging.decoded import Limits
from core.imaging.dicom.grey_scale import lookup_table
from core.imaging.dicom.read import read_dicom
from core.imaging.dicom.source import DISPLAY, read_display
from core.imaging.intake import read_upload
from core.imaging.overlay import to_uint8
from core.records.archives.outbox import RESULT_KINDS
from core.settings import Settings
from core.types import Image, Modality

UIDS = {"series_uid": "2.25.1", "uid": "2.25.2"}
DISPLAYED = {
    "photometric": "MONOCHROME2", "samples": 1, "orientation": ["P", "L"], "slope": 1.0, "intercept": 0.0,
    "window": [2048.0, 4096.0, "LINEAR"], "modality_table": None, "voi_table": None,
}  # fmt: skip
MARKED = replace(CONTENT, findings=(FINDING,))
BEFORE = (("2.25.41", "2.25.42"),)


def shown(image: ResultImage = CONTENT.images[0], **display: object) -> ResultImage:
    return replace(image, tags={**image.tags, DISPLAY: json.dumps({**DISPLAYED, **display})})


def picture(height: int = 100, width: int = 80, *, is_colour: bool = False, **facts: object) -> Image:
    pixels = np.full((height, width, 3) if is_colour else (height, width), 0.2, np.float32)
    return Image(pixels, "1" * 64, Modality.MAMMOGRAPHY, laterality="R", view="CC", **facts)  # type: ignore[arg-type]


def saved(found: Dataset, folder: Path, name: str = "object.dcm") -> Path:
    path = folder / name
    found.save_as(path, enforce_file_format=True)
    return path


def valid(found: Dataset, folder: Path, kind: str) -> Dataset:
    """The object as it is read back, once dciodvfy says nothing but what it is."""
    path = saved(found, folder)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert said.split("\n") == [kind, ""], said
    return dcmread(path)


def state(content: ResultContent = MARKED, image: ResultImage | None = None) -> Dataset:
    return presentation_state(content, image or shown(), KEY, **UIDS)


def outlines(content: ResultContent = MARKED, image: ResultImage | None = None) -> Dataset:
    return segmentation(content, image or shown(), KEY, **UIDS)


def capture(content: ResultContent = MARKED, image: ResultImage | None = None, **facts: object) -> Dataset:
    return secondary_capture(content, image or shown(), picture(**facts), **UIDS)  # type: ignore[arg-type]


def test_marks_lie_over_the_image_in_its_own_pixels(tmp_path: Path) -> None:
    found = valid(state(), tmp_path, "GrayscaleSoftcopyPresentationState")
    *findings, note = found.GraphicAnnotationSequence
    shapes = [one.GraphicObjectSequence[0] for one in findings]
    assert [(one.GraphicType, one.GraphicAnnotationUnits) for one in shapes] == [
        ("ELLIPSE", "PIXEL"), ("POINT", "PIXEL"), ("POLYLINE", "PIXEL"),
    ]  # fmt: skip
    assert list(shapes[0].GraphicData) == [20, 20, 20, 60, 10, 40, 30, 40]
    assert list(shapes[1].GraphicData) == [3.5, 4.5]
    assert [one.TextObjectSequence[0].UnformattedTextValue for one in findings] == ["1 mass"] * 3
    for one in found.GraphicAnnotationSequence:
        assert one.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert note.TextObjectSequence[0].UnformattedTextValue == f"{RESEARCH_ONLY}."
    uid = uid_of(KEY, "tracking", MARKED.read_id, "finding 1.1")
    assert shapes[0].TrackingUID == uid, "the same mark in the structured report has this number"
    assert (found.PatientID, found.ContentLabel, found.PresentationCreationDate) == (
        "P1", "FINDINGS", AT.astimezone().strftime("%Y%m%d"),
    )  # fmt: skip


def test_a_mark_that_a_model_drew_is_named_so_over_the_image(tmp_path: Path) -> None:
    (finding, *_) = MARKED.findings
    taken = Proposal(finding.marks[-1], "outline-net", WEIGHTS, 0.9, 0.5, "accepted")
    found = valid(state(replace(MARKED, accepted=(taken,))), tmp_path, "GrayscaleSoftcopyPresentationState")
    said = [one.TextObjectSequence[0].UnformattedTextValue for one in found.GraphicAnnotationSequence[:-1]]
    assert sorted(said) == ["1 mass", "1 mass", "1 mass, drawn by outline-net"]
    assert found.GraphicLayerSequence[0].GraphicLayerDescription == "Findings that the reader marked or accepted"


def test_what_takes_the_place_of_the_files_own_display_says_the_same(tmp_path: Path) -> None:
    image = shown(photometric="MONOCHROME1", slope=2.0, intercept=-10.0, window=[300.0, 50.0, "SIGMOID"])
    found = valid(state(image=image), tmp_path, "GrayscaleSoftcopyPresentationState")
    assert (found.PresentationLUTShape, float(found.RescaleSlope), float(found.RescaleIntercept)) == ("INVERSE", 2, -10)
    (voi,) = found.SoftcopyVOILUTSequence
    assert (float(voi.WindowCenter), float(voi.WindowWidth), voi.VOILUTFunction) == (300, 50, "SIGMOID")
    words = np.arange(4096, dtype="<u2")
    table = {"first": 5, "bits": 12, "entries": b64encode(words.tobytes()).decode()}
    found = valid(state(image=shown(voi_table=table)), tmp_path, "GrayscaleSoftcopyPresentationState")
    (item,) = found.SoftcopyVOILUTSequence[0].VOILUTSequence
    assert list(item.LUTDescriptor) == [4096, 5, 16], "the class knows no tables of 12 bits"
    assert item.LUTData[-2:] == b"\xff\xff" and "WindowCenter" not in found.SoftcopyVOILUTSequence[0]
    found = state(image=shown(window=None))
    assert "SoftcopyVOILUTSequence" not in found and found.PresentationLUTShape == "IDENTITY"


@pytest.mark.parametrize(("first", "n"), [(-1024, 4096), (-32768, 40000), (-1, 65536)])
def test_a_table_that_begins_below_zero_begins_there_in_the_state(tmp_path: Path, first: int, n: int) -> None:
    table = {"first": first, "bits": 16, "entries": b64encode(np.arange(n, dtype="<u2").tobytes()).decode()}
    found = dcmread(saved(state(image=shown(voi_table=table, modality_table=table)), tmp_path))
    for item in (found.SoftcopyVOILUTSequence[0].VOILUTSequence[0], found.ModalityLUTSequence[0]):
        made = lookup_table(item, "LUT", is_signed=True)
        assert item["LUTDescriptor"].VR == "SS" and item.LUTDescriptor[1] == first
        assert (made.first, len(made.entries), made.entries[-1]) == (first, n, n - 1)


def test_a_table_is_read_for_a_state_as_it_shows_the_picture() -> None:
    """The values that go in are below zero by the rescale intercept, not by how the samples are stored."""
    item = voi_table()
    item.LUTDescriptor = [4096, 65536 - 1024, 12]
    item["LUTDescriptor"].VR = "US"
    stored = np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (100, 1))
    numbers = {"SOPInstanceUID": "1.2.3.4.1", "SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTSequence": [item]}
    (found,) = read_upload(dicom(stored, **numbers, **tags), "a.dcm", settings=Settings(), with_source=True)
    assert json.loads(found.source[DISPLAY])["voi_table"]["first"] == -1024, found.refused
    assert found.image is not None and float(found.image.pixels.max()) > 0.99


@pytest.mark.parametrize("slope", ["1\\1", "1,5", ""])
def test_a_number_that_the_picture_is_shown_by_is_read_for_a_state_too(slope: str) -> None:
    data = dicom(stored_mammogram(seed=1), RescaleSlope="2.5", RescaleIntercept="0", WindowCenter=500, WindowWidth=900,
                 SOPInstanceUID="1.2.3.4.1", SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3")  # fmt: skip
    at = data.index(b"\x28\x00\x53\x10DS", 132) + 6
    (length,) = struct.unpack_from("<H", data, at)
    text = slope.encode().ljust(len(slope) + len(slope) % 2)
    data = data[:at] + struct.pack("<H", len(text)) + text + data[at + 2 + length :]
    (plain,) = read_upload(data, "a.dcm", settings=Settings())
    (sourced,) = read_upload(data, "a.dcm", settings=Settings(), with_source=True)
    assert plain.image is not None and sourced.image is not None, sourced.refused
    assert np.array_equal(plain.image.pixels, sourced.image.pixels)
    assert json.loads(sourced.source[DISPLAY])["slope"] == (1.5 if "," in slope else 1.0)


def test_pixels_that_are_not_square_stay_so() -> None:
    found = state(image=replace(shown(), aspect=1.25))
    assert list(found.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio) == [5, 4]


def test_a_colour_image_gets_a_state_for_colour_the_same_each_time(tmp_path: Path) -> None:
    image = shown(photometric="RGB", samples=3)
    found = valid(state(image=image), tmp_path, "ColorSoftcopyPresentationState")
    assert len(found.GraphicAnnotationSequence) == 4
    first, second = (saved(state(image=image), tmp_path, name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def voi_table() -> Dataset:
    """A square root, in 12 bits."""
    item = Dataset()
    item.LUTDescriptor, item.LUTExplanation = [4096, 0, 12], "root"
    item.add_new("LUTData", "OW", np.round(np.sqrt(np.arange(4096) * 4095)).astype("<u2").tobytes())
    return item


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1200, "WindowWidth": 1500},
        {
            "WindowCenter": 1200,
            "WindowWidth": 800,
            "VOILUTFunction": "LINEAR",
            "PhotometricInterpretation": "MONOCHROME1",
        },
        {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"},
        {"VOILUTSequence": [voi_table()]},
    ],
    ids=["window", "inverse", "rescale", "table"],
)
def test_a_second_program_shows_the_file_by_the_state_as_it_is_shown_here(
    tags: dict[str, object], tmp_path: Path
) -> None:
    """DCMTK: dcmpschk checks the state, dcmp2pgm shows the file by it."""
    stored = np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (100, 1))
    numbers = {"SOPInstanceUID": "1.2.3.4.1", "SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}
    data = dicom(stored, **numbers, **tags)
    (tmp_path / "image.dcm").write_bytes(data)
    of_file = {**CONTENT.images[0].tags, "SOPClassUID": str(dcmread(BytesIO(data)).SOPClassUID), "Columns": "128"}
    image = replace(CONTENT.images[0], tags={**of_file, DISPLAY: read_display(BytesIO(data))})
    content = replace(MARKED, images=(image,), study={**CONTENT.study, "PatientName": "Muster^Anna"})
    path = saved(state(content, image), tmp_path)
    checked = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True, check=False)
    assert "Test passed" in checked.stderr and "E:" not in checked.stderr, checked.stderr
    command = ["dcmp2pgm", "-p", str(path), str(tmp_path / "image.dcm"), str(tmp_path / "shown.pgm")]
    subprocess.run(command, capture_output=True, check=True)
    theirs = np.asarray(Raster.open(tmp_path / "shown.pgm")).astype(int)
    limits = Limits(10**6, 10**7, 10**9, 60)
    ours = to_uint8(read_dicom(BytesIO(data), limits=limits).pixels).astype(int)
    assert ours.min() == 0 and ours.max() > 250 and abs(theirs - ours).max() <= 1


def test_an_image_whose_display_was_not_stored_is_said() -> None:
    with pytest.raises(NotFound, match="other forms only"):
        state(image=CONTENT.images[0])


def test_an_outline_is_a_segment_of_the_pixels_inside(tmp_path: Path) -> None:
    found = valid(outlines(), tmp_path, "Segmentation")
    (segment,) = found.SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("finding 1.3: mass", "MANUAL")
    assert segment.TrackingUID == uid_of(KEY, "tracking", MARKED.read_id, "finding 1.3")
    expected = mask_of(FINDING.marks[2], 100, 80)
    assert 0 < expected.sum() < 30 and (found.pixel_array.astype(bool) == expected).all()
    (source,) = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4.1" and "ReferencedFrameNumber" not in source


@pytest.mark.parametrize(
    ("kind", "points"),
    [("outline", ((10, 10), (20, 20), (30, 30))), ("outline", ((10, 20), (30, 20), (10, 20))),
     ("outline", ((20, 20),) * 3), ("ellipse", ((10, 20), (30, 20)))],
)  # fmt: skip
def test_a_stored_mark_without_a_pixel_is_a_point_in_each_form(
    kind: str, points: tuple[tuple[float, float], ...], tmp_path: Path
) -> None:
    flat = replace(FINDING.marks[2], kind=kind, points=points)
    content = replace(CONTENT, findings=(replace(FINDING, marks=(flat,), sizes=(sizes(flat, (0.1, 0.1)),)),))
    (place,) = marked_places(content, shown())
    assert (place.mark.kind, place.mark.points, place.size) == ("point", ((20.0, 20.0),), None)
    *over, _note = valid(state(content), tmp_path, "GrayscaleSoftcopyPresentationState").GraphicAnnotationSequence
    assert [one.GraphicObjectSequence[0].GraphicType for one in over] == ["POINT"]
    (segment,) = valid(outlines(content), tmp_path, "Segmentation").SegmentSequence
    assert segment.SegmentLabel == "No outline"


def test_an_outline_that_a_network_proposed_and_the_reader_took_names_the_network(tmp_path: Path) -> None:
    taken = Proposal(FINDING.marks[2], "outline-net", WEIGHTS, 0.9, 0.5, "accepted")
    (segment,) = valid(outlines(replace(MARKED, accepted=(taken,))), tmp_path, "Segmentation").SegmentSequence
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "outline-net" and WEIGHTS[:8] in algorithm.AlgorithmVersion


def test_a_frame_of_several_is_named_from_one_in_each_form(tmp_path: Path) -> None:
    image = replace(shown(), n_frames=3, frame=2, tags={**shown().tags, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"})
    marks = tuple(replace(mark, frame=2) for mark in FINDING.marks)
    content = replace(CONTENT, images=(image,), findings=(replace(FINDING, marks=marks),))
    over = valid(state(content, image), tmp_path, "GrayscaleSoftcopyPresentationState")
    assert {one.ReferencedImageSequence[0].ReferencedFrameNumber for one in over.GraphicAnnotationSequence} == {3}
    inside = valid(outlines(content, image), tmp_path, "Segmentation")
    (source,) = inside.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedFrameNumber == 3
    burnt = valid(capture(content, image), tmp_path, "SCImage")
    assert burnt.SourceImageSequence[0].ReferencedFrameNumber == 3


def test_marks_are_burnt_in_and_the_caption_lies_under_the_picture(tmp_path: Path) -> None:
    found = valid(capture(height=1000, width=800), tmp_path, "SCImage")
    pixels = found.pixel_array
    assert found.PhotometricInterpretation == "MONOCHROME2" and pixels.shape[1] == 800 and pixels.shape[0] > 1000
    unmarked = capture(CONTENT, height=1000, width=800).pixel_array
    rows, columns = np.nonzero(pixels[:1000] != unmarked[:1000])
    assert rows.max() < 700 and columns.min() < 110 and rows.size > 100, "the marks, and nothing else of the breast"
    assert (pixels[1000:] > 128).any(), "the caption"
    assert (found.PatientID, found.StudyInstanceUID, list(found.PatientOrientation)) == ("P1", "1.2.3", ["P", "L"])
    assert RESEARCH_ONLY in found.DerivationDescription and "PixelSpacing" not in found


def test_a_large_picture_is_sent_smaller_and_a_colour_one_in_colour(tmp_path: Path) -> None:
    assert capture(height=3000, width=1500).pixel_array.shape[1] == LONGEST_PX // 2
    found = valid(capture(is_colour=True), tmp_path, "SCImage")
    assert found.PhotometricInterpretation == "RGB" and found.pixel_array.ndim == 3


@pytest.mark.parametrize("make", [state, outlines, capture])
def test_what_is_preliminary_says_so(make, tmp_path: Path) -> None:
    found = make(replace(MARKED, is_verified=False))
    assert "preliminary read, unverified" in found.SeriesDescription
    assert found.get("ContentLabel", "PRELIMINARY") == "PRELIMINARY"
    if "GraphicAnnotationSequence" in found:
        assert (
            "Preliminary, not verified."
            in found.GraphicAnnotationSequence[-1].TextObjectSequence[0].UnformattedTextValue
        )
    assert "preliminary" not in make(MARKED).SeriesDescription


def replaced_by(found: Dataset) -> tuple[str, Sequence[str]]:
    (one,) = found.get("ReferencedInstanceSequence") or found.get("RelatedSeriesSequence")
    (purpose,) = one.PurposeOfReferenceCodeSequence
    return one.get("ReferencedSOPClassUID", ""), [
        purpose.CodeValue,
        one.get("ReferencedSOPInstanceUID") or one.SeriesInstanceUID,
    ]


@pytest.mark.parametrize(
    ("make", "kind", "sop_class", "before"),
    [
        (state, "GrayscaleSoftcopyPresentationState", "", "2.25.41"),
        (outlines, "Segmentation", SEGMENTATION, "2.25.42"),
        (capture, "SCImage", SECONDARY_CAPTURE, "2.25.42"),
    ],
)
def test_a_correction_names_what_it_replaces_also_where_nothing_is_marked_any_more(
    make, kind: str, sop_class: str, before: str, tmp_path: Path
) -> None:
    assert not {"ReferencedInstanceSequence", "RelatedSeriesSequence"} & {one.keyword for one in make(MARKED)}
    for content in (MARKED, CONTENT):
        found = valid(make(replace(content, predecessors=BEFORE)), tmp_path, kind)
        assert replaced_by(found) == (sop_class, [REPLACED[0], before])
    if make is outlines:
        assert not found.pixel_array.any()
    if make is state:
        (note,) = found.GraphicAnnotationSequence
        assert "No finding is marked" in note.TextObjectSequence[0].UnformattedTextValue


def test_how_a_file_is_shown_is_read_from_it(tmp_path: Path) -> None:
    stored = stored_mammogram(seed=1)
    path = dicom(stored, PhotometricInterpretation="MONOCHROME1", WindowCenter=[500, 7], WindowWidth=[900, 9],
                 RescaleSlope=3, RescaleIntercept=1, PatientOrientation=["A", "R"])  # fmt: skip
    found = json.loads(read_display(BytesIO(path)))
    assert found == {
        "photometric": "MONOCHROME1", "samples": 1, "orientation": ["A", "R"], "slope": 3.0, "intercept": 1.0,
        "window": [500.0, 900.0, "LINEAR"], "modality_table": None, "voi_table": None,
    }  # fmt: skip


def test_of_a_colour_file_only_that_it_is_one_is_read() -> None:
    stored = np.zeros((64, 64, 3), np.uint8)
    found = json.loads(read_display(BytesIO(dicom(stored, bits=8, VOILUTSequence=[Dataset()]))))
    assert found == {"photometric": "RGB", "samples": 3, "orientation": []}


def test_a_mark_elsewhere_is_on_no_object() -> None:
    elsewhere = replace(FINDING, marks=tuple(replace(mark, image_sha256="2" * 64) for mark in FINDING.marks))
    found = state(replace(CONTENT, findings=(elsewhere,)))
    assert len(found.GraphicAnnotationSequence) == 1


def test_the_conformance_statement_knows_each_form_and_the_class_that_it_has() -> None:
    named = {kind: {uid for one, uid, _ in conformance._RESULTS if one == kind} for kind in RESULT_KINDS}
    made = {
        "sr": structured_report(MARKED, KEY, **UIDS), "pdf": encapsulated_report(MARKED, **UIDS), "sc": capture(),
        "pr": state(), "seg": outlines(), "cad": cad_report(MARKED, **UIDS),
    }  # fmt: skip
    assert made.keys() == RESULT_KINDS.keys()
    for kind, found in made.items():
        assert found.SOPClassUID in named[kind], kind
