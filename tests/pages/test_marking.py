"""Findings in the panel, without a browser: described, saved, reported; proposals of a model after the reveal only."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_images import dicom, ultrasound
from page_site import FakeModel, PageSite, Tab, first_read, picture, release, store
from record_site import add_person

from core.errors import InvalidInput
from core.findings import proposals
from core.findings.finding import Annotations, Finding, Measurement
from core.findings.marks import Mark, Measured
from core.findings.proposals import PeakLevel, Proposal
from core.findings.sketches import Place, Sketch, proposal_uid
from core.imaging.intake import read_upload
from core.records.audit import trail
from core.records.database import tables
from core.records.reads import predictions, reads
from core.records.reads.drafts import ReadDraft, draft_of, store_draft
from core.records.reads.reads import Impression
from core.reports.html import build_html
from core.reports.study import study_document
from core.settings import Settings
from core.types import Modality

IMAGE = picture(1, laterality="L")
ELLIPSE = Mark(IMAGE.sha256, 0, "ellipse", ((10.0, 10.0), (30.0, 20.0)))
DISTANCE = Mark(IMAGE.sha256, 0, "distance", ((1.0, 1.0), (4.0, 5.0)))


def open_mark(tab: Tab, key: str, title: str) -> None:
    """By its button, which says the title."""
    (marks,) = (group for group in tab.app.button_group if group.label == "Marks on the pictures")
    assert [one for one in marks.options if title in one], marks.options
    tab.choose("Marks on the pictures", key)


def pick(tab: Tab, label: str, value: object) -> None:
    next(box for box in tab.app.selectbox if box.label == label).set_value(value)
    tab.settled()


def test_a_mark_is_described_saved_with_the_read_and_stands_in_the_report(opened_site: PageSite, tab: Tab) -> None:
    from pages.reader.parts import study_report

    study = store(opened_site, images=[IMAGE])
    marks = (Sketch((("a", ELLIPSE),)), Sketch((("b", DISTANCE),)))
    store_draft(opened_site.db, opened_site.one, study, "first", ReadDraft(sketches=marks))
    tab.open("reader/read", study)
    assert not [box for box in tab.app.selectbox if box.label == "Type"], "closed until it is asked for"
    open_mark(tab, "a", "ellipse · L")
    pick(tab, "Type", "special case")
    pick(tab, "Kind", "simple cyst")
    pick(tab, "Type", "mass")  # which has no such property
    pick(tab, "Shape", "irregular")
    pick(tab, "Clock", 3)
    pick(tab, "Quadrant", "upper inner")
    draft = draft_of(opened_site.db, opened_site.one, study, "first")
    assert draft is not None
    assert (draft.sketches[0].type, draft.sketches[0].descriptors, draft.sketches[0].clock) == (
        "mass",
        {"shape": "irregular"},
        3,
    )
    doubt = "3 o'clock does not lie in the upper inner quadrant"
    assert any(doubt in one.value for one in tab.app.warning), "in the finding's own form, beside the place"
    assert not [box for box in tab.app.selectbox if box.label == "Depth"], "thirds of the breast are mammography's"
    open_mark(tab, "b", "distance")
    assert any(doubt in one.value for one in tab.app.caption) and not tab.app.warning
    tab.choose("Left breast: BI-RADS", "1")
    assert "BI-RADS 1 is nothing to comment on" in tab.text
    tab.press("Save first impression")
    (read,) = reads.reads_of(opened_site.db, opened_site.one, study)
    assert [(one.type, one.marks) for one in read.annotations.findings] == [("mass", (ELLIPSE,))]
    assert [(one.mark, one.measured.length) for one in read.annotations.measurements] == [(DISTANCE, 5.0)]
    stored = tab_study(opened_site, study)
    report = study_report.gather(opened_site.one, stored, [], [read], Settings.from_environment())
    html = build_html(study_document(report))
    for expected in ("Mass, irregular; upper inner quadrant, 3 o&#39;clock", "20 x 10 pixels", "distance, 5.0 pixels"):
        assert expected in html, expected
    assert html.count("findings marked by the reader") == 1


def tab_study(opened_site: PageSite, study: str):
    from core.records.reads.studies import load_study

    return load_study(opened_site.db, opened_site.one, study)


@pytest.fixture
def proposing(opened_site: PageSite, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study of one picture, on which the leading model has one peak to propose; nobody has read it."""
    from core.reading import second_read
    from pages.reader.parts import marking

    release(opened_site.weights, "ultrasound-fusion")
    for module in (proposals, second_read, marking):
        monkeypatch.setattr(module, "measured_levels", lambda: {"ab" * 32: PeakLevel(0.5, 39, 30, 23)})
    study = store(opened_site, images=[IMAGE])
    card = second_read.live_cards(Settings.from_environment())[0]
    image_id = tab_study(opened_site, study).images[0].id
    predictions.record_predictions(opened_site.db, study, image_id, *FakeModel(card).read(IMAGE))
    return study


def test_a_model_proposes_only_after_the_reveal_and_what_the_reader_did_is_counted(
    opened_site: PageSite, tab: Tab, proposing: str
) -> None:
    study = proposing
    assert "proposal" not in tab.open("reader/read", study).text.lower()
    first_read(opened_site, study)
    assert "proposal" not in tab.open("reader/read", study).text.lower()
    tab.press("Show second read")
    open_mark(tab, "proposals", "AI proposals: 1 open")
    assert "23 of 30 such peaks lay inside" in tab.text and "A peak of its heat map is no lesion" in tab.text
    tab.press("Accept")
    open_mark(tab, proposal_uid("point", "ab" * 32, IMAGE.sha256, 0, 0), "point · L")
    pick(tab, "Type", "mass")
    tab.press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    (made,) = final.annotations.proposals
    assert (made.answer, made.model_id, made.level) == ("accepted", "ultrasound-fusion", 0.5)
    assert [one.marks for one in final.annotations.findings] == [(made.mark,)]
    assert not tab.has("Accept")  # a correction is not asked again
    assert "1 accepted, 0 edited, 0 rejected, 0 open" in tab.open("reader/models").text

    tab.open("reader/read", study)
    tab.choose("Left breast: BI-RADS", "4B")
    tab.press("Save the correction")
    corrected = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert corrected.id != final.id and corrected.annotations.proposals == final.annotations.proposals
    assert "1 accepted, 0 edited, 0 rejected, 0 open" in tab.open("reader/models").text, "it is one proposal still"

    tab.open("reader/read", study)
    open_mark(tab, f"read{corrected.id}-0", "mass")
    tab.press("Remove")
    tab.choose("Left breast: BI-RADS", "2")
    tab.press("Save the correction")
    assert not reads.reads_of(opened_site.db, opened_site.one, study)[-1].annotations.findings
    assert "0 accepted, 0 edited, 1 rejected, 0 open" in tab.open("reader/models").text


def test_an_accepted_proposal_is_the_model_s_also_where_another_leads_by_the_time_it_is_saved(
    opened_site: PageSite, tab: Tab, proposing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.reading import second_read

    study = proposing
    first_read(opened_site, study)
    tab.open("reader/read", study)
    tab.press("Show second read")
    open_mark(tab, "proposals", "AI proposals: 1 open")
    tab.press("Accept")
    uid = proposal_uid("point", "ab" * 32, IMAGE.sha256, 0, 0)
    open_mark(tab, uid, "point · L")
    pick(tab, "Type", "mass")
    other = replace(
        second_read.proposals_of(
            Settings.from_environment(), tab_study(opened_site, study), _answers(opened_site, study)
        )[uid],
        model_id="other",
    )
    monkeypatch.setattr(second_read, "proposals_of", lambda *_: {"another's": other})
    tab.press("Save final assessment")
    (made,) = reads.reads_of(opened_site.db, opened_site.one, study)[-1].annotations.proposals
    assert (made.answer, made.model_id) == ("accepted", "ultrasound-fusion"), "and nobody has seen the other's"


def test_a_proposal_that_only_the_run_that_saves_has_made_is_none_that_the_reader_left_open(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.reading import second_read

    study = store(opened_site, images=[IMAGE])
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    tab.open("reader/read", study)
    late = Proposal(Mark(IMAGE.sha256, 0, "point", ((4.0, 4.0),)), "other", "cd" * 32, 1.0, 0.5)
    monkeypatch.setattr(second_read, "proposals_of", lambda *_: {"late": late})
    tab.press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert (final.kind, final.annotations.proposals) == ("final", ())


@pytest.mark.parametrize(("taken", "answer"), [(True, "accepted"), (False, "rejected")])
def test_a_proposal_that_appears_only_when_the_read_is_saved_counts_where_the_draft_names_it(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, taken: bool, answer: str
) -> None:
    """As outlines do: they are offered once the form that names them is there."""
    from core.reading import second_read

    study = store(opened_site, images=[IMAGE])
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    point = Mark(IMAGE.sha256, 0, "point", ((30.0, 30.0),))
    made = {name: Proposal(point, name, "ab" * 32, 1.0, 0.5) for name in ("shown", "late")}
    kept = ReadDraft(sketches=(Sketch((("late", point),), "mass"),)) if taken else ReadDraft(rejected=("late",))
    store_draft(opened_site.db, opened_site.one, study, "final", kept)
    monkeypatch.setattr(second_read, "proposals_of", lambda *_: {"shown": made["shown"]})
    tab.open("reader/read", study)
    monkeypatch.setattr(second_read, "proposals_of", lambda *_: made)
    tab.press("Save final assessment")
    found = reads.reads_of(opened_site.db, opened_site.one, study)[-1].annotations.proposals
    assert {one.model_id: one.answer for one in found} == {"shown": "open", "late": answer}


@pytest.mark.parametrize(("is_removed", "answer"), [(False, "accepted"), (True, "rejected")])
def test_an_accepted_proposal_that_comes_back_from_a_draft_is_its_model_s_also_where_another_leads_by_then(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, is_removed: bool, answer: str
) -> None:
    from core.reading import second_read
    from pages.reader.parts import marking

    release(opened_site.weights, "ultrasound-fusion")
    for module in (proposals, second_read, marking):
        monkeypatch.setattr(module, "measured_levels", lambda: {"ab" * 32: PeakLevel(0.5, 39, 30, 23)})
    study, another = store(opened_site, images=[IMAGE]), store(opened_site, "Another")
    card = second_read.live_cards(Settings.from_environment())[0]
    image_id = tab_study(opened_site, study).images[0].id
    predictions.record_predictions(opened_site.db, study, image_id, *FakeModel(card).read(IMAGE))
    first_read(opened_site, study)
    tab.open("reader/read", study)
    tab.press("Show second read")
    open_mark(tab, "proposals", "AI proposals: 1 open")
    tab.press("Accept")
    uid = proposal_uid("point", "ab" * 32, IMAGE.sha256, 0, 0)
    open_mark(tab, uid, "point · L")
    pick(tab, "Type", "mass")
    tab.open("reader/read", another)  # which takes the form out of the tab
    monkeypatch.setattr(second_read, "proposals_of", lambda *_: {})
    tab.open("reader/read", study)
    if is_removed:
        open_mark(tab, uid, "mass")
        tab.press("Remove")
    tab.press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert [(one.answer, one.model_id) for one in final.annotations.proposals] == [(answer, "ultrasound-fusion")]
    assert len(final.annotations.findings) == (not is_removed)


def _answers(opened_site: PageSite, study: str):
    from core.reading import second_read

    return second_read.answers_of(opened_site.db, opened_site.one, tab_study(opened_site, study))


def test_an_outline_without_a_pixel_is_said_not_saved_and_can_be_removed(opened_site: PageSite, tab: Tab) -> None:
    study = store(opened_site, images=[IMAGE])
    flat = replace(ELLIPSE, kind="outline", points=((1, 1), (5, 5), (9, 9)))
    drawn = ReadDraft(sketches=(Sketch((("flat", flat),), "mass"),))
    store_draft(opened_site.db, opened_site.one, study, "first", drawn)
    tab.open("reader/read", study)
    assert tab.text.count("An outline encloses no pixel, so it shows no region.") == 1
    tab.choose("Left breast: BI-RADS", "2")
    tab.press("Save first impression")
    assert not reads.reads_of(opened_site.db, opened_site.one, study)
    assert tab.text.count("An outline encloses no pixel") == 2, "the form says it, and so does what refused it"
    open_mark(tab, "flat", "mass")
    tab.press("Remove")
    tab.press("Save first impression")
    (read,) = reads.reads_of(opened_site.db, opened_site.one, study)
    assert not read.annotations.findings


def test_the_report_shows_each_frame_of_a_clip_that_is_measured_on(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.records.reads.studies import load_study
    from pages.reader.parts import study_report

    frames = np.stack([np.rint(ultrasound(seed=number) * 255).astype(np.uint8) for number in range(4)])
    tags = {"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "NumberOfFrames": 4, "bits": 8}
    [found] = read_upload(dicom(frames, **tags), "clip.dcm", settings=Settings(), with_frames=True)
    assert found.image is not None, found.refused
    study = store(opened_site, images=[replace(found.image, laterality="L")])
    distance = Measurement(Mark(found.sha256, 2, "distance", ((10.0, 10.0), (40.0, 30.0))), Measured(False))
    reads.record_first_read(
        opened_site.db, opened_site.one, study, {"L": Impression("2", 5)}, annotations=Annotations((), (distance,))
    )
    monkeypatch.setattr(study_report, "database", lambda: opened_site.db)
    retained = reads.reads_of(opened_site.db, opened_site.one, study)
    stored = load_study(opened_site.db, opened_site.one, study)
    shown = list(study_report._images(opened_site.one, stored, [], retained, Settings.from_environment()))
    assert [one.image.frame for one in shown] == [0, 2] and "frame 3 of 4" in shown[1].label


def test_findings_that_cannot_be_saved_are_not_left_out_of_what_is_saved(opened_site: PageSite, tab: Tab) -> None:
    study = store(opened_site, images=[IMAGE])
    elsewhere = replace(ELLIPSE, frame=1)  # drawn before somebody chose another frame of the clip
    drawn = ReadDraft(sketches=(Sketch((("a", ELLIPSE),), "mass"), Sketch((("b", elsewhere),), "mass")))
    store_draft(opened_site.db, opened_site.one, study, "first", drawn)
    tab.open("reader/read", study)
    tab.choose("Left breast: BI-RADS", "2")
    assert "A mark lies on a picture that is not in this study" in tab.text
    (save,) = (one for one in tab.app.button if one.label == "Save first impression")
    assert save.disabled and save.help == "A finding cannot be saved as it is: it is said above why."
    assert draft_of(opened_site.db, opened_site.one, study, "first").sketches == drawn.sketches


def test_a_damaged_draft_leaves_the_form_usable_and_says_that_it_is_gone(opened_site: PageSite, tab: Tab) -> None:
    study = store(opened_site, images=[IMAGE])
    store_draft(opened_site.db, opened_site.one, study, "first", ReadDraft(comment="half"))
    with opened_site.db.begin() as connection:
        connection.execute(tables.read_draft.update().values(content=["no draft"]))
    tab.open("reader/read", study)
    assert "the form begins anew" in tab.text
    tab.choose("Left breast: BI-RADS", "2")
    draft = draft_of(opened_site.db, opened_site.one, study, "first")
    assert draft is not None and draft.breasts["L"][0] == "2"
    tab.press("Save first impression")
    assert [one.kind for one in reads.reads_of(opened_site.db, opened_site.one, study)] == ["first"]


@pytest.mark.parametrize("frame", ["", "-1", "x", "٣", "9" * 5_000, "1000000"])
def test_a_frame_that_no_browser_sends_is_refused(frame: str) -> None:
    from pages.parts.viewer import checked_marks

    sent = [{"uid": "a-1", "id": f"{'ab' * 32}.{frame}", "kind": "point", "points": [[1, 1]]}]
    with pytest.raises(InvalidInput):
        checked_marks(sent)
    assert checked_marks([{**sent[0], "id": f"{'ab' * 32}.0"}])[0][1].frame == 0


def test_an_earlier_study_hangs_in_the_same_viewer_with_the_marks_that_were_saved_on_it(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.parts import viewer

    drawn: list[tuple[list[str], list[str], list[tuple[str, bool]], str]] = []
    around: list[float] = []

    def show(pictures, stages, *, key, cell_height, hanging="", fixed=(), **options) -> None:
        marks = [(one.label, one.is_on_prior) for one in fixed]
        around.append(float(cell_height[0].partition("- ")[2].partition("rem")[0]))
        drawn.append(([one.hung for one in pictures], [one.name for one in stages], marks, hanging))

    monkeypatch.setattr(viewer, "show", show)
    facts = {"laterality": "L", "patient_hash": "1" * 64}
    before = store(opened_site, images=[picture(2, taken_on=date(2025, 1, 2), **facts)])
    mass = Finding("L", Modality.ULTRASOUND, "mass", (Mark(f"{2:064x}", 0, "point", ((3.0, 4.0),)),))
    length = Mark(f"{2:064x}", 0, "distance", ((1.0, 1.0), (4.0, 5.0)))
    marks = Annotations((mass,), (Measurement(length, Measured(is_mm=False, length=5.0)),))
    reads.record_first_read(opened_site.db, opened_site.one, before, {"L": Impression("2", 1)}, "", annotations=marks)
    tab.open("reader/read", before)
    assert drawn.pop()[2] == [("1 mass", False), ("", False)], "what was saved, the measurement too, is still drawn"
    around.clear()
    study = store(opened_site, images=[picture(1, taken_on=date(2026, 1, 2), **facts)])
    tab.open("reader/read", study)
    assert drawn[-1] == (["L ultrasound"], ["All"], [], "")
    tab.press("Hang beside")
    hung, names, fixed, hanging = drawn[-1]
    assert hung == ["L ultrasound", "L ultrasound · EARLIER 2025\u201101\u201102"] and hanging == before
    assert names == ["Current over earlier", "All", "Earlier: All"]
    assert fixed == [("1 mass", True), ("", True)]
    assert around[-1] > around[0], "the line that names the earlier study takes its height from the pictures"
    tab.press("Take away")
    assert drawn[-1][0] == ["L ultrasound"] and around[-1] == around[0]


def test_whoever_hangs_an_earlier_study_beside_has_opened_it(opened_site: PageSite, tab: Tab) -> None:
    facts = {"laterality": "L", "patient_hash": "2" * 64}
    before = store(opened_site, images=[picture(2, taken_on=date(2025, 1, 2), **facts)])
    study = store(opened_site, images=[picture(1, taken_on=date(2026, 1, 2), **facts)])
    opened = [f"study {study}"]
    tab.open("reader/read", study)
    admin = add_person(opened_site.db, "Ada", "administrator")
    assert [row.subject for row in trail.entries(opened_site.db, admin, action="open study")] == opened
    tab.press("Hang beside")
    assert [row.subject for row in trail.entries(opened_site.db, admin, action="open study")] == [
        f"study {before}",
        *opened,
    ]


def test_two_models_heat_maps_hang_on_one_image_side_by_side(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.reading import second_read
    from pages.parts import viewer

    drawn: list[tuple[list[tuple[str, bool, bool]], list[str], str]] = []

    def show(pictures, stages, *, key, hanging="", **options) -> None:
        seen = [(one.note.split(":")[0], one.heat is not None, one.is_prior) for one in pictures]
        drawn.append((seen, [one.name for one in stages], hanging))

    monkeypatch.setattr(viewer, "show", show)
    for model_id, sha256 in (("ultrasound-fusion", "ab" * 32), ("ultrasound-other", "cd" * 32)):
        release(opened_site.weights, model_id, sha256=sha256)
    study = store(opened_site, images=[IMAGE])
    image_id = tab_study(opened_site, study).images[0].id
    cards = second_read.live_cards(Settings.from_environment())
    assert len(cards) == 2
    for card in cards:
        predictions.record_predictions(opened_site.db, study, image_id, *FakeModel(card).read(IMAGE))
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    next(one for one in tab.app.toggle if one.label == "Show where a model looked").set_value(True)
    tab.settled()
    assert len(drawn[-1][0]) == 1 and drawn[-1][1:] == (["All"], "")
    shown_first = next(box for box in tab.app.selectbox if box.label == "Model").value
    other = next(card.model_id for card in cards if card.model_id != shown_first)
    titles = {card.model_id: card.title for card in cards}
    pick(tab, "Another model beside it", other)
    assert drawn[-1] == (
        [(titles[shown_first], True, False), (titles[other], True, True)],
        ["L ultrasound: two models", "All"],
        "two models",
    )
    pick(tab, "Model", other)
    assert len(drawn[-1][0]) == 1, "of another model another choice"


def test_an_accepted_proposal_outlives_what_was_drawn_while_it_was_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser sends its marks with the revision that it had: what came later it could not send."""
    from pages.reader.parts import marking

    state: dict[str, Any] = {}
    sent: list[tuple[int, tuple[tuple[str, Mark], ...]]] = []
    monkeypatch.setattr(marking, "st", SimpleNamespace(session_state=state))
    monkeypatch.setattr(marking, "marks_drawn", lambda *_: sent[-1] if sent else None)
    sheet = marking.Sheet("first", "pictures", {(IMAGE.sha256, 0): Place("L", IMAGE.modality, "L")})

    def drew(revision: int, *marks: tuple[str, Mark]) -> tuple[list[str], int]:
        sent.append((revision, marks))
        marking._take_over(sheet)
        return [sketch.key for sketch in marking.sketches_in("first")], marking.marking_for("first").revision

    marking.begin("first", (Sketch((("a", ELLIPSE),)),))
    marking.accept("first", Sketch((("proposal", ELLIPSE),)))
    assert drew(1, ("a", ELLIPSE), ("b", DISTANCE)) == (["a", "proposal", "b"], 3), "the browser gets all three"
    assert drew(3, ("a", ELLIPSE), ("proposal", ELLIPSE), ("b", DISTANCE)) == (["a", "proposal", "b"], 3)
    assert drew(3, ("proposal", ELLIPSE)) == (["proposal"], 3), "taken away"
    assert drew(3) == ([], 3)
    marking.accept("first", Sketch((("proposal", ELLIPSE),)))
    assert drew(4) == ([], 4), "taken away again"
