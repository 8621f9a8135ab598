"""The content tree of the report, because no validator knows its template: what stands where, and for which image."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom.sr
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Collection, codes

from core.archive.results import finding_codes
from core.archive.results import structured_report as sr
from core.archive.results.content import ImageAnswer, ResultContent, ResultImage, uid_of
from core.archive.results.finding_codes import OWN_SCHEME
from core.findings.finding import Finding
from core.findings.lexicon import CLOCK_HOURS, DEPTHS, QUADRANTS, TYPES
from core.findings.marks import Mark, Measured
from core.findings.proposals import Proposal
from core.models.aggregate import BreastScore
from core.records.reads.rows import BIRADS, DENSITIES
from core.types import Modality

KEY = b"k" * 32
WEIGHTS = "ab" * 32
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHO = {
    "PatientName": "Müster^Änne", "PatientID": "P1", "IssuerOfPatientID": "", "PatientBirthDate": "19600101",
    "PatientSex": "F", "StudyInstanceUID": "1.2.3", "StudyDate": "20260101", "StudyTime": "101010", "StudyID": "1",
    "AccessionNumber": "A1", "ReferringPhysicianName": "",
}  # fmt: skip


def image(number: int, breast: str, n_frames: int = 1) -> ResultImage:
    tags = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "SOPInstanceUID": f"1.2.3.4.{number}",
        "SeriesInstanceUID": "1.2.3.4", "Modality": "MG", "Rows": "100", "Columns": "80",
    }  # fmt: skip
    frame = n_frames - 1
    return ResultImage(f"i{number}", str(number) * 64, tags, breast, Modality.MAMMOGRAPHY, "CC", frame, n_frames)


CONTENT = ResultContent(
    read_id=7, study=WHO, images=(image(1, "R"), image(2, "L")), reader="Ada Muster", read_at=AT,
    birads={"R": "4B", "L": "1"}, density="D", sentence="", site_name="Site", device_uid="2.25.9",
    breasts=(BreastScore("R", "ensemble", 0.4217, (), 0.3, 1, "the breast's only image", WEIGHTS),),
    answers=(ImageAnswer("i1", "ensemble", WEIGHTS, 0.4217, 0.3),),
)  # fmt: skip


def made(content: ResultContent = CONTENT) -> Dataset:
    return sr.structured_report(content, KEY, series_uid="2.25.1", uid="2.25.2")


def items(node: Dataset, meaning: str) -> list[Dataset]:
    """The children of a node of that concept name."""
    return [
        one
        for one in node.get("ContentSequence", ())
        if "ConceptNameCodeSequence" in one and one.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def groups(report: Dataset) -> list[Dataset]:
    (measurements,) = items(report, "Imaging Measurements")
    return items(measurements, "Measurement Group")


def code(node: Dataset) -> tuple[str, str]:
    given = node.ConceptCodeSequence[0]
    return str(given.get("CodeValue") or given.get("LongCodeValue")), str(given.CodingSchemeDesignator)


def tree(node: Dataset) -> Iterator[Dataset]:
    for one in node.get("ContentSequence", ()):
        yield one
        yield from tree(one)


def test_a_probability_stands_with_its_breast_its_algorithm_and_its_images() -> None:
    report = made()
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    of_breast, of_image, *_ = groups(report)
    for group in (of_breast, of_image):
        (probability,) = items(group, "Probability of cancer")
        name = probability.ConceptNameCodeSequence[0]
        assert (name.CodeValue, name.CodingSchemeDesignator) == ("111047", "DCM")
        (value,) = probability.MeasuredValueSequence
        assert float(value.NumericValue) == 42.17
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "%"
        assert items(group, "Algorithm Name")[0].TextValue == "ensemble"
        parameters = [one.TextValue for one in items(group, "Algorithm Parameters")]
        assert f"weights sha256 {WEIGHTS}" in parameters and "threshold 30.00 %" in parameters
        assert sr.RESEARCH_ONLY in parameters
        (site,) = items(group, "Finding Site")
        assert code(site) == ("76752008", "SCT") and code(items(site, "Laterality")[0]) == ("24028007", "SCT")
        sources = [one.ReferencedSOPSequence[0] for one in group.ContentSequence if one.ValueType == "IMAGE"]
        assert [one.ReferencedSOPInstanceUID for one in sources] == ["1.2.3.4.1"]


def test_a_breasts_number_refers_to_the_images_that_it_is_made_of_and_to_no_other() -> None:
    """A raw image, and one against another threshold, have numbers of their own."""
    one = CONTENT.answers[0]
    answers = (one, replace(one, image_id="i3", is_alone=True), replace(one, image_id="i4", threshold=0.2))
    more = replace(CONTENT, answers=answers, images=(*CONTENT.images, image(3, "R"), image(4, "R")))
    of_breast, *of_images = groups(made(more))
    sources = [part.ReferencedSOPSequence[0] for part in of_breast.ContentSequence if part.ValueType == "IMAGE"]
    assert [source.ReferencedSOPInstanceUID for source in sources] == ["1.2.3.4.1"]
    assert len(of_images) >= 3


@pytest.mark.parametrize("category", BIRADS)
def test_each_category_has_its_code_of_cid_6027(category: str) -> None:
    report = made(replace(CONTENT, birads={"L": category}))
    group = groups(report)[-1]
    (assessment,) = items(group, "Assessment Category")
    assert code(assessment) == sr.ASSESSMENTS[category][:2]
    assert assessment.ConceptCodeSequence[0].CodeMeaning.startswith(f"{category} - ")
    assert (assessment.ConceptCodeSequence[0].get("CodingSchemeVersion") == "4.0") == (code(assessment)[1] == "BI")
    assert code(items(items(group, "Finding Site")[0], "Laterality")[0]) == ("7771000", "SCT")


@pytest.mark.parametrize("density", [*DENSITIES, None])
def test_the_density_has_its_code_of_cid_6000_and_is_left_out_where_nobody_gave_it(density: str | None) -> None:
    found = items(groups(made(replace(CONTENT, density=density)))[-1], "Breast composition")
    known = {concept.value for concept in Collection("CID6000").concepts.values()}
    assert [code(one)[0] in known for one in found] == [True] * (density is not None)


def test_the_codes_are_those_that_the_standard_has() -> None:
    for ours, theirs in (
        (sr.PROBABILITY, codes.DCM.ProbabilityOfCancer), (sr.ASSESSMENT, codes.DCM.AssessmentCategory),
        (sr.COMPOSITION, codes.DCM.BreastComposition), (sr.BREAST, codes.SCT.Breast),
        (sr.AXES["length"], codes.SCT.LongAxis), (sr.AXES["across"], codes.SCT.ShortAxis),
        (sr.PROCEDURES[Modality.MAMMOGRAPHY], codes.SCT.Mammography),
        (sr.PROCEDURES[Modality.ULTRASOUND], codes.SCT.UltrasonographyOfBreast),
    ):  # fmt: skip
        assert ours[:2] == (theirs.value, theirs.scheme_designator)


def test_it_is_verified_by_whom_and_when_and_says_so_in_their_time() -> None:
    report = made()
    assert (report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag) == ("VERIFIED", "COMPLETE", "FINAL")
    (observer,) = report.VerifyingObserverSequence
    assert observer.VerifyingObserverName == "Ada Muster^" and observer.VerifyingOrganization == "Site"
    assert datetime.strptime(str(observer.VerificationDateTime), "%Y%m%d%H%M%S%z") == AT


def test_a_study_without_a_side_has_no_side() -> None:
    content = replace(CONTENT, images=(image(1, "U"),), birads={"U": "2"}, breasts=(), answers=())
    (group,) = groups(made(content))
    assert items(items(group, "Finding Site")[0], "Laterality") == []


def test_a_frame_of_several_is_named_from_one() -> None:
    content = replace(CONTENT, images=(image(1, "R", n_frames=3),), birads={"R": "2"}, breasts=())
    sources = [one.ReferencedSOPSequence[0] for one in tree(made(content)) if one.ValueType == "IMAGE"]
    assert sources and {int(one.ReferencedFrameNumber) for one in sources} == {3}


ELLIPSE = Mark("1" * 64, 0, "ellipse", ((10, 20), (30, 60)))
FINDING = Finding(
    "R", Modality.MAMMOGRAPHY, "mass",
    (ELLIPSE, Mark("1" * 64, 0, "point", ((3.5, 4.5),)), Mark("1" * 64, 0, "outline", ((3, 4), (8, 9), (3, 9)))),
    {"margin": "spiculated"}, "upper outer", 10, "middle",
    sizes=(Measured(True, 12.04, 8.0), Measured(False), Measured(False, 3.0, 1.0)),
)  # fmt: skip


def test_a_finding_is_a_region_on_its_image_with_what_describes_it(tmp_path: Path) -> None:
    report = made(replace(CONTENT, findings=(FINDING,)))
    own = groups(report)[-3:]
    shapes = [next(one for one in group.ContentSequence if one.ValueType == "SCOORD") for group in own]
    assert [one.GraphicType for one in shapes] == ["ELLIPSE", "POINT", "POLYLINE"]
    assert list(shapes[0].GraphicData) == [20, 20, 20, 60, 10, 40, 30, 40], "the long axis first, then the short one"
    assert list(shapes[1].GraphicData) == [3.5, 4.5], "columns and rows as they were marked"
    assert list(shapes[2].GraphicData) == [3, 4, 8, 9, 3, 9, 3, 4], "closed"
    for shape in shapes:
        assert shape.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    lengths = [[float(one.MeasuredValueSequence[0].NumericValue) for one in items(g, "Long Axis")] for g in own]
    assert lengths == [[12.0], [], []], "pixels are no millimetres"
    described = {one.ConceptNameCodeSequence[0].CodeMeaning: code(one) for one in own[0].ContentSequence
                 if one.ValueType == "CODE"}  # fmt: skip
    assert described == {
        "Observer Type": ("121006", "DCM"), "Finding": ("129788004", "SCT"), "Finding Site": ("76752008", "SCT"),
        "Margins": ("129742005", "SCT"),
        "Quadrant location": ("76365002", "SCT"), "Depth": ("middle", OWN_SCHEME),
        "Clockface or region": ("129781005", "SCT"),
    }  # fmt: skip
    path = tmp_path / "report.dcm"
    report.save_as(path, enforce_file_format=True)
    _check(path)
    html = subprocess.run(["dsr2html", "+Rd", str(path)], capture_output=True, text=True, check=False).stdout
    assert re.search(r"20/20\D+20/60\D+10/40\D+30/40", html), html


def observer(group: Dataset) -> list[str]:
    """Type and name of who a group says it is of."""
    kinds = [one.ConceptCodeSequence[0].CodeMeaning for one in items(group, "Observer Type")]
    names = [str(one.PersonName) for one in items(group, "Person Observer Name")]
    return kinds + names + [one.TextValue for one in items(group, "Device Observer Name")]


DRAWN = Mark("1" * 64, 2, "outline", ((10, 10), (40, 10), (40, 30.5), (10, 30)))
MASS = Finding("R", Modality.ULTRASOUND, "mass", (DRAWN,), {"shape": "oval"}, sizes=(Measured(True, 36.4, 20.1),))


@pytest.mark.parametrize("answer", ["accepted", "edited"])
def test_an_outline_that_a_network_drew_is_the_devices_and_its_words_are_the_readers(
    answer: str, tmp_path: Path
) -> None:
    taken = Proposal(DRAWN, "outline-net", WEIGHTS, 0.9, 0.5, "accepted")
    clip = image(1, "R", n_frames=3)
    tags = {**clip.tags, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "Modality": "US"}
    images = (replace(clip, tags=tags, modality=Modality.ULTRASOUND),)
    content = replace(CONTENT, images=images, birads={"R": "3"}, density=None, breasts=(), answers=(), findings=(MASS,))
    path = tmp_path / "report.dcm"
    made(replace(content, accepted=(taken,) if answer == "accepted" else ())).save_as(path, enforce_file_format=True)
    _check(path)
    report = highdicom.sr.srread(path)
    uid = uid_of(KEY, "tracking", content.read_id, "finding 1.1")
    found = report.content.get_planar_roi_measurement_groups(tracking_uid=uid)
    for one in found:
        assert one.roi.graphic_type.value == "POLYLINE" and one.roi.value[0].tolist() == one.roi.value[-1].tolist()
        assert (one.roi.value == [*DRAWN.points, DRAWN.points[0]]).all()
        (selected,) = one.roi.ContentSequence
        assert selected.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
        assert selected.ReferencedSOPSequence[0].ReferencedFrameNumber == 3
        lengths = {part.name.meaning: (part.value, part.unit.value) for part in one.get_measurements()}
        assert lengths == {"Long Axis": (36.4, "mm"), "Short Axis": (20.1, "mm")}
        for part in one.get_measurements():
            assert [name.TextValue for name in items(part[0], "Algorithm Name")] == ["Diameters of an outline"]
    *devices, readers = (one[0] for one in found)
    assert observer(readers) == ["Person", "Ada Muster^"] and not items(readers, "Algorithm Name")
    assert code(items(readers, "Shape")[0]) == ("84360004", "SCT")
    said = [one.TextValue for one in items(readers, "Comment")]
    if answer == "edited":
        assert not devices and not said, "what the reader moved is the reader's"
        return
    (device,) = devices
    assert said == ["Proposed by outline-net, accepted by the reader as it was."]
    assert (
        observer(device) == ["Device", "SecondRead"] and items(device, "Algorithm Name")[0].TextValue == "outline-net"
    )
    assert f"weights sha256 {WEIGHTS}" in [one.TextValue for one in items(device, "Algorithm Parameters")]
    assert code(items(device, "Finding")[0]) == ("52988006", "SCT") and not items(device, "Shape")


def test_each_group_says_whether_a_model_or_the_reader_observed_it() -> None:
    point = FINDING.marks[1]
    taken = Proposal(point, "ensemble", WEIGHTS, 0.9, 0.5, "accepted")
    found = groups(made(replace(CONTENT, findings=(replace(FINDING, marks=(point,), sizes=()),), accepted=(taken,))))
    device, person = ["Device", "SecondRead"], ["Person", "Ada Muster^"]
    assert [observer(one) for one in found] == [device, device, person, person, device, person]
    looked_at = code(items(found[-2], "Finding")[0])
    assert looked_at == ("111099", "DCM"), "where a model looked is no lesion"


def test_a_finding_that_the_standard_has_codes_for_needs_no_private_one(tmp_path: Path) -> None:
    plain = replace(FINDING, depth="posterior")
    report = made(replace(CONTENT, findings=(plain,)))
    assert "CodingSchemeIdentificationSequence" not in report
    path = tmp_path / "report.dcm"
    report.save_as(path, enforce_file_format=True)
    _check(path, private=False)


def test_each_word_of_a_finding_has_the_code_that_means_it_or_a_private_one() -> None:
    known = {
        (one.value, one.scheme_designator): one.meaning
        for group in (6004, 6006, 6008, 6010, 6012, 6018, 6020, 6024, 6054)
        for one in Collection(f"CID{group}").concepts.values()
    }
    named = (getattr(codes.DCM, name) for name in dir(codes.DCM) if name[:1].isupper())
    dcm = {one.value: one.meaning for one in named}
    tables = (*finding_codes.TYPE_CODES.values(), finding_codes.DESCRIPTOR_CODES, *finding_codes.VALUE_CODES.values())
    for value, scheme, meaning in (one for table in tables for one in table.values()):
        if scheme == "DCM":
            assert dcm[value] == meaning
        elif meaning != "Shape":  # SNOMED CT has it as a finding on a shape
            assert known[(value, scheme)] == meaning
    words = {
        (one.name, value)
        for kinds in TYPES.values() for kind in kinds for one in kind.descriptors for value in one.values
    } | {("quadrant", one) for one in QUADRANTS} | {("depth", one) for one in DEPTHS}  # fmt: skip
    words |= {("clock face", f"{hour} o'clock") for hour in CLOCK_HOURS}
    assert {(name, value) for name, values in finding_codes.VALUE_CODES.items() for value in values} <= words
    for modality, kinds in finding_codes.TYPE_CODES.items():
        assert kinds.keys() <= {one.name for one in TYPES[modality]}


def test_a_mark_on_an_image_that_did_not_come_from_the_archive_is_left_out() -> None:
    elsewhere = replace(FINDING, marks=(replace(ELLIPSE, image_sha256="9" * 64),), sizes=())
    assert len(groups(made(replace(CONTENT, findings=(elsewhere,))))) == len(groups(made()))


def test_a_wide_ellipse_has_its_long_axis_across() -> None:
    wide = replace(ELLIPSE, points=((0, 10), (40, 20)))
    assert sr.region_of(wide) == ("ELLIPSE", [(0, 15), (40, 15), (20, 10), (20, 20)])
    with pytest.raises(ValueError, match="no region"):
        sr.region_of(Mark("1" * 64, 0, "distance", ((0, 0), (1, 1))))


def test_the_same_read_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        made(replace(CONTENT, findings=(FINDING,))).save_as(path, enforce_file_format=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    _check(paths[0])


def test_uids_are_valid_and_of_the_site() -> None:
    found = uid_of(KEY, "result", "sr", 7)
    assert found == uid_of(KEY, "result", "sr", 7) != uid_of(b"x" * 32, "result", "sr", 7)
    assert found.startswith("2.25.") and len(found) <= 64 and uid_of(KEY, "result", "sr", 8) != found


def _check(path: Path, *, private: bool = True) -> None:
    """No validator says a word, but on a private coding scheme, which each site's tools know or do not (PS3.16 8.2)."""
    doubt = f"Warning - Unrecognized defined term <{OWN_SCHEME}> for value 1 of attribute <Coding Scheme Designator>"
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr.splitlines()
    assert set(said) <= {"ComprehensiveSR", *([doubt] if private else [])}, said
    dumped = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=False)
    assert dumped.returncode == 0, dumped.stderr
