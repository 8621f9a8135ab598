"""The accepted marks of models as a Mammography CAD SR: the tree of TID 4000, and what DCMTK makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Collection
from test_result_images import BEFORE, MARKED, UIDS, saved, shown, valid
from test_structured_report import CONTENT, FINDING, WEIGHTS, code, items

from core.archive.results import cad_report as cad
from core.archive.results.content import ResultContent
from core.errors import NotFound
from core.findings.lexicon import TYPES
from core.findings.proposals import Proposal
from core.types import VIEWS, Modality

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


ROWS: dict[str, list[tuple[str, str, str, int, int]]] = {
    "111036": [("HAS CONCEPT MOD", "CODE", "121049", 1, 1), ("CONTAINS", "CONTAINER", "111028", 1, 1),
               ("CONTAINS", "CODE", "111017", 1, 1), ("CONTAINS", "CODE", "111064", 1, 1),
               ("CONTAINS", "CODE", "111065", 1, 1)],
    "111028": [("CONTAINS", "IMAGE", "", 1, 99)],
    "": [("HAS ACQ CONTEXT", "CODE", "111027", 1, 1), ("HAS ACQ CONTEXT", "CODE", "111031", 1, 1),
         ("HAS ACQ CONTEXT", "TEXT", "111044", 0, 1), ("HAS ACQ CONTEXT", "TEXT", "111043", 0, 1),
         ("HAS ACQ CONTEXT", "DATE", "111060", 1, 1), ("HAS ACQ CONTEXT", "TIME", "111061", 0, 1)],
    "111017": [("INFERRED FROM", "CONTAINER", "111034", 0, 99)],
    "111034": [("HAS CONCEPT MOD", "CODE", "111056", 1, 1), ("CONTAINS", "CODE", "111059", 1, 99)],
    "111059": [("HAS CONCEPT MOD", "CODE", "111056", 1, 1), ("HAS PROPERTIES", "TEXT", "111001", 1, 1),
               ("HAS PROPERTIES", "TEXT", "111003", 1, 1), ("HAS PROPERTIES", "SCOORD", "111010", 1, 1),
               ("HAS PROPERTIES", "SCOORD", "111041", 0, 1), ("HAS PROPERTIES", "TEXT", "111058", 0, 1)],
    "111010": [("SELECTED FROM", "by reference", "", 1, 1)],
    "111041": [("SELECTED FROM", "by reference", "", 1, 1)],
    "111064": [("INFERRED FROM", "CONTAINER", "111063", 0, 1)],
    "111063": [("CONTAINS", "CODE", "111022", 1, 99)],
    "111022": [("HAS PROPERTIES", "TEXT", "111001", 1, 1), ("HAS PROPERTIES", "TEXT", "111003", 1, 1),
               ("HAS PROPERTIES", "by reference", "", 1, 99)],
}  # fmt: skip
"""Concept of an item ("": an image) -> the rows below it: relationship, value type, concept, how often. PS3.16 TID 4000
and what it includes, as far as it is used here; the order of its rows is significant."""


def row_of(node: Dataset) -> tuple[str, str, str]:
    named = node.get("ConceptNameCodeSequence")
    kind = "by reference" if "ReferencedContentItemIdentifier" in node else node.ValueType
    return node.get("RelationshipType", ""), kind, named[0].CodeValue if named else ""


def test_each_item_stands_where_the_template_has_its_row_and_none_elsewhere() -> None:
    other = replace(FINDING, type="other finding", marks=(POINT,), descriptors={}, sizes=())
    oriented = shown(CONTENT.images[0], orientation=["P", "L"])
    marked = replace(ACCEPTED, findings=(FINDING, other), images=(oriented, CONTENT.images[1]))
    seen = set()
    for report in (made(marked), made(replace(CONTENT, predecessors=BEFORE))):
        for node in (report, *whole_tree(report)):
            name = row_of(node)[2]
            children = [row_of(one) for one in node.get("ContentSequence", ())]
            rows = ROWS.get(name, [])
            order = [[row[:3] for row in rows].index(one) for one in children]
            assert order == sorted(order), name
            if row_of(node)[1] != "by reference":
                assert all(low <= order.count(place) <= most for place, (*_, low, most) in enumerate(rows)), name
            seen |= {name} if children else set()
    assert seen == ROWS.keys()


def test_a_region_without_a_code_of_its_own_is_described_in_words(tmp_path: Path) -> None:
    other = replace(FINDING, type="other finding", marks=(POINT,), descriptors={}, sizes=())
    report = valid(made(replace(ACCEPTED, findings=(other,))), tmp_path, "MammographyCADSR")
    (region,) = [one for one in whole_tree(report) if row_of(one)[2] == "111059"]
    assert code(region) == ("111099", "DCM")
    assert items(region, "Selected Region Description")[0].TextValue == "other finding"


def test_every_view_that_a_reader_can_state_has_its_code_but_the_axillary_tail() -> None:
    assert set(VIEWS) - cad.VIEWS.keys() == {"AT"}


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


def test_marks_on_mammograms_that_the_archive_lacks_make_no_report() -> None:
    images = tuple(replace(one, modality=Modality.ULTRASOUND) for one in CONTENT.images)
    with pytest.raises(NotFound, match="None of the mammograms came from the archive"):
        made(replace(ACCEPTED, images=images))


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
