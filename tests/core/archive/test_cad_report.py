"""The accepted marks of models as a Mammography CAD SR: the tree of TID 4000, and what DCMTK makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Collection
from test_result_images import BEFORE, MARKED, UIDS, saved, valid
from test_structured_report import CONTENT, FINDING, WEIGHTS, code, items

from core.archive.results import cad_report as cad
from core.archive.results.content import ResultContent
from core.findings.lexicon import TYPES
from core.findings.proposals import Proposal
from core.types import Modality

OUTLINE, POINT = FINDING.marks[2], FINDING.marks[1]
_ON_ITSELF = {
    "W: The VR checker does not support this Specific Character Set: ISO_IR 192",
    "W: Check for template constraints not yet supported",
}
ACCEPTED = replace(
    MARKED,
    accepted=(
        Proposal(OUTLINE, "outline-net", WEIGHTS, 0.9, 0.5, "accepted"),
        Proposal(POINT, "ensemble", "cd" * 32, 0.9, 0.5, "accepted"),
    ),
)


def made(content: ResultContent = ACCEPTED) -> Dataset:
    return cad.cad_report(content, **UIDS)


def whole_tree(node: Dataset) -> Iterator[Dataset]:
    for one in node.get("ContentSequence", ()):
        yield one
        yield from whole_tree(one)


def at(report: Dataset, place: list[int]) -> Dataset:
    """The item that a reference means: 1 is the root (PS3.3 C.17.3.2.5)."""
    found = report
    for number in place[1:]:
        found = found.ContentSequence[number - 1]
    return found


def test_each_accepted_mark_stands_with_its_algorithm_its_centre_and_its_image(tmp_path: Path) -> None:
    report = valid(made(), tmp_path, "MammographyCADSR")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "4000"
    assert (report.PatientID, report.VerificationFlag) == ("P1", "UNVERIFIED")
    (summary,) = items(report, "CAD Processing and Findings Summary")
    assert code(summary) == ("111242", "DCM")
    (individual,) = items(summary, "Individual Impression/Recommendation")
    by_name = {items(one, "Algorithm Name")[0].TextValue: one for one in items(individual, "Single Image Finding")}
    assert by_name.keys() == {"outline-net", "ensemble"}, "the ellipse is the reader's own"
    for one in by_name.values():
        assert code(one) == ("129793001", "SCT")
        assert code(items(one, "Rendering Intent")[0]) == ("111150", "DCM")
    assert list(items(by_name["ensemble"], "Center")[0].GraphicData) == [3.5, 4.5]
    (centre,), (outline,) = (items(by_name["outline-net"], name) for name in ("Center", "Outline"))
    assert list(centre.GraphicData) == [5.5, 6.5] and list(outline.GraphicData) == [3, 4, 8, 9, 3, 9, 3, 4]
    assert items(by_name["ensemble"], "Outline") == []
    names = {
        one.ConceptNameCodeSequence[0].CodeMeaning for one in whole_tree(report) if "ConceptNameCodeSequence" in one
    }
    assert not {"Probability of cancer", "Certainty of Finding"} & names, "marks only"


def test_every_reference_means_the_image_that_the_mark_is_on(tmp_path: Path) -> None:
    report = made()
    references = [one for one in whole_tree(report) if "ReferencedContentItemIdentifier" in one]
    assert len(references) == 5, "two centres, an outline, and an image for each detection"
    for one in references:
        image = at(report, list(one.ReferencedContentItemIdentifier))
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
        assert code(items(image, "Image Laterality")[0]) == ("73056007", "SCT")
        assert code(items(image, "Image View")[0]) == ("399162004", "SCT")


def test_dcmtk_reads_it_and_shows_the_algorithms(tmp_path: Path) -> None:
    done = subprocess.run(["dsrdump", str(saved(made(), tmp_path))], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "E:" not in done.stderr, done.stderr
    assert set(done.stderr.splitlines()) <= _ON_ITSELF, "what it cannot check, and nothing else"
    assert "outline-net" in done.stdout and "Mammography CAD Report" in done.stdout


def test_marks_that_are_taken_back_leave_a_report_without_findings(tmp_path: Path) -> None:
    report = valid(made(replace(CONTENT, predecessors=BEFORE)), tmp_path, "MammographyCADSR")
    (summary,) = items(report, "CAD Processing and Findings Summary")
    assert code(summary) == ("111241", "DCM") and "ContentSequence" not in summary
    assert code(items(report, "Summary of Detections")[0]) == ("111225", "DCM")
    (study,) = report.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.42"


def test_what_the_reader_moved_or_what_is_on_other_pictures_is_not_in_it() -> None:
    moved = replace(OUTLINE, points=((3, 4), (8, 9), (3, 10)))
    assert cad.accepted_places(replace(MARKED, accepted=(Proposal(moved, "n", WEIGHTS, 0.9, 0.5, "accepted"),))) == []
    images = tuple(replace(one, modality=Modality.ULTRASOUND) for one in CONTENT.images)
    assert cad.accepted_places(replace(ACCEPTED, images=images)) == []
    assert len(cad.accepted_places(ACCEPTED)) == 2


@pytest.mark.parametrize(
    ("ours", "group"),
    [
        ([*cad.SINGLE_IMAGE_FINDINGS.values(), cad.SELECTED_REGION], "CID6014"),
        (cad.BREASTS.values(), "CID6022"),
        (cad.VIEWS.values(), "CID4014"),
    ],
)
def test_codes_are_of_the_groups_that_the_template_names(ours: list[cad.Coded], group: str) -> None:
    known = {(one.value, one.scheme_designator, one.meaning) for one in Collection(group).concepts.values()}
    assert set(ours) <= known
    assert cad.SINGLE_IMAGE_FINDINGS.keys() <= {one.name for one in TYPES[Modality.MAMMOGRAPHY]}
