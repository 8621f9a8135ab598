"""From a real archive to a study, and from the final read back to it: nothing but the networks is made up."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from made_images import MG, dicom, encoded, mammogram, stored_mammogram
from orthanc_site import AE_TITLE, Orthanc
from record_site import Somebody, answer, explanation
from sqlalchemy import select, update

from core.archive import arrivals, probe, sending
from core.archive.archives import ArchiveAddress, archives, change_archive, choose_results, name_archive
from core.archive.deidentified_export import can_export, originals
from core.archive.dicomweb import Criteria
from core.archive.results.cad_report import MAMMOGRAPHY_CAD_SR
from core.archive.results.content import gather
from core.archive.results.diagnostic_report import export_diagnostic_report
from core.errors import Conflict, InvalidInput, NotFound
from core.findings.finding import Annotations, Finding
from core.findings.marks import Mark
from core.findings.proposals import Proposal
from core.imaging.intake import read_upload
from core.reading import new_studies
from core.reading.new_studies import NewPicture
from core.records import site_settings
from core.records.archives import identity, outbox
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import predictions, reads, retention, studies, worklist
from core.records.reads.reads import Impression
from core.settings import REPOSITORY
from core.types import Modality

PATIENT, NAME, ACCESSION = "P-4711", "Planted^Petra", "ACC-0815"
STUDY = "1.2.826.0.1.3680043.8.498.4711"
WHO = {"worker": "test", "machine": "here"}


@pytest.fixture
def archive_id(db: Database, ada: Somebody, orthanc: Orthanc) -> int:
    return name_archive(db, ada, address(orthanc))


def address(orthanc: Orthanc) -> ArchiveAddress:
    return ArchiveAddress("pacs", orthanc.web, AE_TITLE, "127.0.0.1", orthanc.port, ("sr",))


def view(side: str, position: str, number: int, **tags: object) -> bytes:
    """One view of the exam of a patient who can be recognised wherever they turn up."""
    facts = {
        "PatientName": NAME, "PatientID": PATIENT, "PatientBirthDate": "19600101", "PatientSex": "F",
        "AccessionNumber": ACCESSION, "StudyID": "7", "StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1",
        "SOPInstanceUID": f"{STUDY}.1.{number}", "StudyDate": "20260102", "StudyTime": "101112",
        "ReferringPhysicianName": "Sender^Sam", "ImageLaterality": side, "ViewPosition": position,
        "SOPClassUID": MG, "BodyPartExamined": "BREAST", "StudyDescription": "Screening",
    }  # fmt: skip
    return dicom(stored_mammogram(seed=number), **{**facts, **tags})


def put_exam(orthanc: Orthanc, n_views: int = 2) -> None:
    views = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))[:n_views]
    for number, (side, position) in enumerate(views, 1):
        orthanc.put(view(side, position, number))


def fetched(db: Database, ada: Somebody, archive_id: int) -> str:
    """The study, by the way of the page Archive and its worker."""
    (found,) = arrivals.search(db, ada, archive_id, Criteria(patient_id=PATIENT))
    arrivals.fetch(db, ada, archive_id, found.uid)
    assert arrivals.process_next(db, **WHO)
    (row, *_) = arrivals.recent_arrivals(db, ada)
    assert row.state == "done" and row.study_id, row
    return row.study_id


def read_to_the_end(db: Database, ada: Somebody, study_id: str) -> None:
    for number, stored in enumerate(studies.load_study(db, ada, study_id).images):
        said = answer(stored.image, malignant=0.2 + 0.1 * number)
        predictions.record_predictions(db, study_id, stored.id, said, explanation())
    reads.record_first_read(db, ada, study_id, {"R": Impression("2", 5), "L": Impression("2", 5)})
    reads.reveal(db, ada, study_id)
    final = {"R": Impression("4A", 40), "L": Impression("1", 0)}
    reads.record_final_read(db, ada, study_id, final, "kept here", density="C")


def audited(db: Database, ada: Somebody, action: str) -> list[trail.Entry]:
    return trail.entries(db, ada, action=action)


def test_every_service_of_the_archive_is_tried_and_found(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    assert [one.works for one in probe.probe_archive(db, ada, archive_id)] == [True, True, None, True]
    put_exam(orthanc)
    found = probe.probe_archive(db, ada, archive_id)
    assert [(one.service, one.works) for one in found] == [(name, True) for name in ("C-ECHO", "QIDO", "WADO", "STOW")]
    assert len(orthanc.ask("/instances")) == 2, "nothing was stored by the test"


def test_what_does_not_work_is_said_service_by_service(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    wrong = replace(address(orthanc), dicomweb_url=f"{orthanc.url}/nowhere", ae_title="OTHER", port=1)
    change_archive(db, ada, archive_id, wrong)
    found = probe.probe_archive(db, ada, archive_id)
    assert [one.works for one in found] == [False, False, False, False]
    assert "host and port" in found[0].sentence and "404" in found[1].sentence
    change_archive(db, ada, archive_id, replace(address(orthanc), name="stranger"))
    assert "credentials" in probe.probe_archive(db, ada, archive_id)[1].sentence


def test_the_archive_is_searched_by_day_modality_and_patient_and_nothing_is_stored(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc)
    day = date(2026, 1, 2)
    (found,) = arrivals.search(db, ada, archive_id, Criteria(since=day, until=day, modality="MG"))
    assert (found.patient_name, found.patient_id, found.accession_number) == (NAME, PATIENT, ACCESSION)
    assert (found.day, found.modalities, found.description, found.n_instances) == ("20260102", ("MG",), "Screening", 2)
    for name, n in (("planted", 1), ("Planted^Pet", 1), ("Planted, Petra", 1), ("Petra", 0)):
        assert len(arrivals.search(db, ada, archive_id, Criteria(patient_name=name))) == n, name
    assert arrivals.search(db, ada, archive_id, Criteria(since=date(2026, 1, 3))) == []
    assert arrivals.search(db, ada, archive_id, Criteria(since=day, modality="US")) == []
    with pytest.raises(InvalidInput, match="too much"):
        arrivals.search(db, ada, archive_id, Criteria(modality="MG"))
    assert PATIENT not in repr([entry.detail for entry in audited(db, ada, "query archive")])
    assert PATIENT not in _everything(db)


def test_a_fetched_exam_is_one_study_also_the_second_time(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc, 4)
    study_id = fetched(db, ada, archive_id)
    study = studies.load_study(db, ada, study_id)
    assert {(one.image.laterality, one.image.view) for one in study.images} == {
        ("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"),
    }  # fmt: skip
    assert study.row.taken_on == date(2026, 1, 2) and "Petra" not in study.row.display_name
    assert fetched(db, ada, archive_id) == study_id
    assert "here already" in arrivals.recent_arrivals(db, ada)[0].message
    assert len(studies.list_studies(db, ada)) == 1
    assert len(audited(db, ada, "create study")) == 1


def test_an_exam_that_was_uploaded_before_stays_one_study_and_can_be_answered(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc)
    (intake,) = read_upload(view("R", "CC", 1), "a.dcm", settings=db.settings, site_key=db.site_key)
    assert intake.image is not None
    uploaded = studies.create_study(db, ada, display_name="Uploaded", images=[intake.image])
    assert fetched(db, ada, archive_id) == uploaded
    beyond = "It was here already. The archive has 1 more image of it."
    assert arrivals.recent_arrivals(db, ada)[0].message == beyond
    assert fetched(db, ada, archive_id) == uploaded
    assert arrivals.recent_arrivals(db, ada)[0].message == beyond, "also the second time"
    assert identity.show_identity(db, ada, uploaded).study["PatientID"] == PATIENT


def upload(db: Database, ada: Somebody, *files: tuple[str, bytes]) -> str:
    """One study of these files in one zip, by the way of the page."""
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w") as packed:
        for name, content in files:
            packed.writestr(name, content)
    found = read_upload(
        whole.getvalue(), "exam.zip", settings=db.settings, site_key=db.site_key, modality=Modality.MAMMOGRAPHY,
        with_source=True,
    )  # fmt: skip
    assert not any(intake.refused for intake in found), found
    pictures = tuple(NewPicture(intake, intake.image.laterality or "L") for intake in found if intake.image)
    (study_id,) = new_studies.save(db, ada, [new_studies.NewStudy("Uploaded", pictures, is_confirmed=True)])
    return study_id


def test_what_uploaded_files_call_themselves_is_sealed_names_nobody_and_goes_with_the_pictures(
    db: Database, ada: Somebody, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    other = f"{STUDY}.9"
    study_id = upload(
        db, ada, ("a.dcm", view("R", "CC", 1)), ("b.dcm", view("L", "CC", 2)),
        ("c.dcm", view("R", "MLO", 3, StudyInstanceUID=other)), ("d.dcm", view("L", "MLO", 4, SOPInstanceUID="")),
        ("e.png", encoded(mammogram(seed=5))),
    )  # fmt: skip
    assert identity.has_identity(db, ada, study_id)
    read_to_the_end(db, ada, study_id)
    for secret in (PATIENT, "Petra", ACCESSION, STUDY):
        assert secret not in _everything(db) and secret not in caplog.text, secret
    with db.read() as connection:
        known = identity.identity_of(connection, db.site_key, study_id)
        (read_id,) = connection.execute(select(tables.read.c.id).where(tables.read.c.kind == "final")).scalars()
    assert known is not None and known.study["StudyInstanceUID"] == STUDY and not known.names_patient
    assert not [secret for secret in (PATIENT, "Petra", ACCESSION, "19600101") if secret in str(asdict(known))]
    content = gather(db, read_id)
    referred = [(image.tags["SOPInstanceUID"], image.display["samples"]) for image in content.images]
    assert referred == [(f"{STUDY}.1.{number}", 1) for number in (1, 2)], "the others are of no object of this exam"
    report = json.loads(export_diagnostic_report(db, ada, study_id))
    assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{STUDY}" and "subject" not in report
    assert outbox.results_of(db, ada, study_id) == [] and not can_export(db, ada, study_id)

    site_settings.choose(db, ada, "keep_pixels_days", 1)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=2))
    assert retention.apply_policy(db) == 1 and not identity.has_identity(db, ada, study_id)


def test_an_upload_that_is_deleted_is_forgotten_with_what_it_was_called(db: Database, ada: Somebody) -> None:
    study_id = upload(db, ada, ("a.dcm", view("R", "CC", 1)))
    studies.delete_study(db, ada, study_id, reason="wrong patient")
    with db.read() as connection:
        assert connection.execute(select(tables.source_identity)).all() == []


@pytest.mark.parametrize("who", [PATIENT, "somebody else"])
def test_an_uploaded_exam_is_recognised_by_its_objects_also_where_the_archive_changed_the_files(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, who: str
) -> None:
    put_exam(orthanc, 3)
    changed = {"StudyDescription": "As sent", "PatientID": who}
    files = (("a.dcm", view("R", "CC", 1, **changed)), ("b.dcm", view("L", "CC", 2, **changed)))
    study_id = upload(db, ada, *files)
    is_same = who == PATIENT
    assert (fetched(db, ada, archive_id) == study_id) == is_same
    if not is_same:
        return
    assert arrivals.recent_arrivals(db, ada)[0].message.endswith("The archive has 1 more image of it.")
    read_to_the_end(db, ada, study_id)
    assert sending.send_next(db, **WHO)
    (report,) = orthanc.objects("SR")
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    assert (report.PatientID, report.StudyInstanceUID) == (PATIENT, STUDY)
    assert len(json.loads(export_diagnostic_report(db, ada, study_id))["subject"]) == 2
    assert len(originals(db, study_id, db.settings.state_dir)) == 3, "no object twice"


def test_two_who_ask_for_the_same_study_at_once_get_one_row(db: Database, ada: Somebody, archive_id: int) -> None:
    assert arrivals.fetch(db, ada, archive_id, STUDY) == arrivals.fetch(db, ada, archive_id, STUDY)
    assert arrivals.fetch(db, ada, archive_id, f"{STUDY}.9") != arrivals.fetch(db, ada, archive_id, STUDY)


def test_images_that_cannot_be_read_are_counted_and_said_and_the_others_come(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc)
    orthanc.put(view("R", "CC", 9, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    fetched(db, ada, archive_id)
    message = arrivals.recent_arrivals(db, ada)[0].message
    assert message.startswith("2 images. 1 not read: This DICOM file is not a mammogram")


def test_what_a_study_is_called_elsewhere_is_sealed_shown_on_request_and_goes_with_the_pictures(
    db: Database,
    ada: Somebody,
    archive_id: int,
    orthanc: Orthanc,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    assert sending.send_next(db, **WHO)
    for secret in (PATIENT, "Petra", ACCESSION, STUDY):
        assert secret not in _everything(db) and secret not in caplog.text, secret
    assert not audited(db, ada, "show identity")
    shown = identity.show_identity(db, ada, study_id)
    assert (shown.study["PatientName"], shown.study["AccessionNumber"]) == (NAME, ACCESSION)
    assert len(audited(db, ada, "show identity")) == 1
    assert PATIENT not in repr(shown)

    site_settings.choose(db, ada, "keep_pixels_days", 1)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=2))
    assert retention.apply_policy(db) == 1
    assert not identity.has_identity(db, ada, study_id)
    with pytest.raises(NotFound):
        identity.show_identity(db, ada, study_id)
    with db.read() as connection:
        assert connection.execute(select(tables.outbox.c.payload)).scalar_one() is None
    assert fetched(db, ada, archive_id) == study_id, "it is still known to be here"


def test_what_is_over_says_no_more_whose_it_was(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was on its way when the pictures went, and a study that could not be fetched."""
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    change_archive(db, ada, archive_id, replace(address(orthanc), dicomweb_url="http://127.0.0.1:9/web"))
    assert sending.send_next(db, **WHO)
    site_settings.choose(db, ada, "keep_pixels_days", 1)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=2))
    assert retention.apply_policy(db) == 1
    identity.forget_what_is_over(db)
    change_archive(db, ada, archive_id, address(orthanc))
    outbox.send_again(db, ada, outbox.results_of(db, ada, study_id)[0].id)
    assert sending.send_next(db, **WHO)
    assert len(orthanc.objects("SR")) == 1, "what was on its way arrives"
    arrivals.fetch(db, ada, archive_id, f"{STUDY}.9")
    assert arrivals.process_next(db, **WHO)
    (row, _) = arrivals.recent_arrivals(db, ada)
    assert row.state == "failed" and row.can_be_fetched_again
    identity.forget_what_is_over(db)
    assert arrivals.recent_arrivals(db, ada)[0].can_be_fetched_again, "not before its time"
    with db.begin() as connection:
        ended = tables.now() - timedelta(days=identity.FAILED_ARRIVAL_DAYS, seconds=1)
        connection.execute(update(tables.arrival).where(tables.arrival.c.state == "failed").values(ended_at=ended))
    identity.forget_what_is_over(db)
    with db.read() as connection:
        assert set(connection.execute(select(tables.arrival.c.sealed)).scalars()) == {""}
        assert connection.execute(select(tables.outbox.c.payload)).scalar_one() is None
    with pytest.raises(Conflict, match="fetch it anew"):
        arrivals.fetch_again(db, ada, row.id)


def test_deleting_a_study_forgets_what_it_is_called_and_it_can_be_fetched_anew(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    studies.delete_study(db, ada, study_id, reason="wrong patient")
    with db.read() as connection:
        assert connection.execute(select(tables.source_identity)).all() == []
    assert fetched(db, ada, archive_id) != study_id


def test_the_final_read_comes_back_to_the_archive_and_a_second_reader_of_dicom_shows_it(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, tmp_path: Path
) -> None:
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    assert outbox.results_of(db, ada, study_id) == [], "nothing is sent before the final read"
    read_to_the_end(db, ada, study_id)
    assert outbox.results_of(db, ada, study_id)[0].state == "queued"
    assert sending.send_next(db, **WHO)
    (sent,) = outbox.results_of(db, ada, study_id)
    assert sent.state == "done" and sent.archive_name == "pacs", sent

    (report,) = orthanc.objects("SR")
    assert (report.PatientID, report.AccessionNumber, report.StudyInstanceUID) == (PATIENT, ACCESSION, STUDY)
    referenced = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {one.ReferencedSOPInstanceUID for one in referenced} == {f"{STUDY}.1.{number}" for number in (1, 2)}
    path = tmp_path / "report.dcm"
    report.save_as(path)
    checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert checked.stderr.split("\n") == ["ComprehensiveSR", ""], checked.stderr
    dumped = subprocess.run(["dsrdump", "-Ph", str(path)], capture_output=True, text=True, check=False)
    assert dumped.returncode == 0 and "E:" not in dumped.stderr, dumped.stderr
    html = subprocess.run(["dsr2html", str(path)], capture_output=True, text=True, check=False).stdout
    assert re.search(r"Probability of cancer:</b>.{0,40}30\.0 %", html, re.DOTALL), html
    assert "4A - Low suspicion" in html and "Heterogeneously dense" in html and "Dr Ada" in html
    assert "e" * 64 in html, "the sha256 of the weights"


def test_what_is_delivered_is_not_sent_twice_and_an_amendment_supersedes_it(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    assert sending.send_next(db, **WHO)
    assert not sending.send_next(db, **WHO)
    outbox.send_again(db, ada, outbox.results_of(db, ada, study_id)[0].id)
    assert sending.send_next(db, **WHO)
    assert outbox.results_of(db, ada, study_id)[0].state == "done"
    (first,) = orthanc.objects("SR")

    amended = {"R": Impression("5", 95), "L": Impression("1", 0)}
    reads.record_final_read(db, ada, study_id, amended, density="C")
    assert sending.send_next(db, **WHO)
    assert [row.state for row in outbox.results_of(db, ada, study_id)] == ["done", "done"]
    (second,) = [one for one in orthanc.objects("SR") if one.SOPInstanceUID != first.SOPInstanceUID]
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_what_an_archive_is_to_get_goes_there_each_as_an_object_of_its_own(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    change_archive(db, ada, archive_id, replace(address(orthanc), sends=("pdf", "sr")))
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    assert [sending.send_next(db, **WHO) for _ in range(3)] == [True, True, False]
    rows = outbox.results_of(db, ada, study_id)
    assert sorted((row.kind, row.state) for row in rows) == [("pdf", "done"), ("sr", "done")]
    (page,) = orthanc.objects("DOC")
    assert page.EncapsulatedDocument.startswith(b"%PDF") and page.PatientID == PATIENT
    assert len(orthanc.objects("SR")) == 1


def outlined(db: Database, ada: Somebody, study_id: str) -> Annotations:
    """A finding with an outline and a point on the first picture."""
    picture = studies.load_study(db, ada, study_id).images[0].image
    marks = (
        Mark(picture.sha256, 0, "outline", ((10, 10), (30, 10), (30, 40), (10, 40))),
        Mark(picture.sha256, 0, "point", ((5, 6),)),
    )
    return Annotations((Finding(picture.laterality or "U", Modality.MAMMOGRAPHY, "mass", marks),))


def send_all(db: Database) -> int:
    n = 0
    while sending.send_next(db, **WHO):
        n += 1
    return n


def test_marks_go_back_as_an_object_for_each_image_and_a_correction_replaces_them_all(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    change_archive(db, ada, archive_id, replace(address(orthanc), sends=tuple(outbox.RESULT_KINDS)))
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    first = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, first, annotations=outlined(db, ada, study_id))
    assert outbox.results_of(db, ada, study_id) == [], "preliminary only where the site says so"
    reads.record_final_read(db, ada, study_id, first, annotations=outlined(db, ada, study_id))
    send_all(db)
    rows = outbox.results_of(db, ada, study_id)
    assert {(row.kind, row.image, row.state) for row in rows} == {
        ("sr", 0, "done"), ("pdf", 0, "done"), ("sc", 1, "done"), ("pr", 1, "done"), ("seg", 1, "done"),
    }, rows  # fmt: skip
    made = {kind: orthanc.objects(kind)[0] for kind in ("SR", "DOC", "PR", "SEG", "OT")}
    mark = made["PR"].GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    assert mark.TrackingUID == made["SEG"].SegmentSequence[0].TrackingUID, "the same mark has one number in all objects"
    for one in made.values():
        assert (one.PatientID, one.StudyInstanceUID, one.AccessionNumber) == (PATIENT, STUDY, ACCESSION)

    reads.record_final_read(db, ada, study_id, first)
    send_all(db)
    rows = outbox.results_of(db, ada, study_id)
    assert len(rows) == 10 and {row.state for row in rows} == {"done"}, "what is taken back is replaced too"
    for kind, before in made.items():
        (after,) = [one for one in orthanc.objects(kind) if one.SOPInstanceUID != before.SOPInstanceUID]
        assert before.SOPInstanceUID in str(after) or before.SeriesInstanceUID in str(after), kind
    assert fetched(db, ada, archive_id) == study_id
    assert arrivals.recent_arrivals(db, ada)[0].message == "It was here already.", "own pictures are no images of it"


def test_a_cad_report_goes_only_where_a_models_mark_was_accepted_or_is_taken_back(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    choose_results(db, ada, {"cad": [archive_id]}, {})
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    impressions = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, impressions)
    reads.reveal(db, ada, study_id)
    drawn = outlined(db, ada, study_id)
    for answer_given, n in (("rejected", 0), ("open", 0), ("accepted", 1), (None, 2)):
        proposal = Proposal(drawn.findings[0].marks[0], "net", "ab" * 32, 0.9, 0.5, answer_given or "open")
        given = replace(drawn, proposals=(proposal,)) if answer_given else drawn
        reads.record_final_read(db, ada, study_id, impressions, annotations=given)
        assert len(outbox.results_of(db, ada, study_id)) == n, answer_given
        send_all(db)
    first, second = sorted(orthanc.objects("SR"), key=lambda one: "PredecessorDocumentsSequence" in one)
    assert first.SOPClassUID == MAMMOGRAPHY_CAD_SR and first.SOPInstanceUID in str(second)


def test_a_preliminary_result_says_so_and_the_final_one_replaces_it(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    choose_results(db, ada, {"sr": [archive_id]}, {"sr": [archive_id], "pdf": [archive_id]})
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    first = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, first)
    (pdf, report) = outbox.results_of(db, ada, study_id)
    assert (report.kind, report.read_kind, pdf.kind) == ("sr", "first", "pdf")
    assert sending.send_next(db, **WHO)
    (preliminary,) = orthanc.objects("SR")
    assert (preliminary.VerificationFlag, preliminary.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in preliminary

    reads.record_final_read(db, ada, study_id, first)
    waiting = {row.kind: row for row in outbox.results_of(db, ada, study_id) if row.read_kind == "first"}
    assert (waiting["pdf"].state, waiting["pdf"].message) == ("cancelled", outbox.REPLACED), "not after the final one"
    assert waiting["sr"].state == "done"
    assert send_all(db) == 1
    (final,) = [one for one in orthanc.objects("SR") if one.SOPInstanceUID != preliminary.SOPInstanceUID]
    assert (final.VerificationFlag, final.PreliminaryFlag) == ("VERIFIED", "FINAL")
    (study,) = final.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        preliminary.SOPInstanceUID
    )
    assert orthanc.objects("DOC") == []


def test_a_preliminary_result_that_an_archive_may_have_seen_is_not_cancelled(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    choose_results(db, ada, {}, {"sr": [archive_id]})
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    away = replace(address(orthanc), dicomweb_url="http://127.0.0.1:9/web", sends=(), sends_preliminary=("sr",))
    change_archive(db, ada, archive_id, away)
    first = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, first)
    assert sending.send_next(db, **WHO)
    reads.record_final_read(db, ada, study_id, first)
    (row,) = outbox.results_of(db, ada, study_id)
    assert row.state == "queued" and row.tries == 1

    change_archive(db, ada, archive_id, replace(address(orthanc), sends=(), sends_preliminary=("sr",)))
    with db.begin() as connection:
        connection.execute(update(tables.outbox).values(due_at=None))
    assert sending.send_next(db, **WHO)
    (row,) = outbox.results_of(db, ada, study_id)
    assert row.state == "cancelled" and "does not have it" in row.message, "once it says that it has not"
    assert orthanc.objects("SR") == []


def test_marks_that_no_archive_has_are_not_taken_back_there(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    change_archive(db, ada, archive_id, replace(address(orthanc), sends=("sr", "pr")))
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    first = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, first)
    reads.record_final_read(db, ada, study_id, first, annotations=outlined(db, ada, study_id))
    reads.record_final_read(db, ada, study_id, first)
    send_all(db)
    rows = [(row.kind, row.state) for row in outbox.results_of(db, ada, study_id)]
    assert rows == [("pr", "cancelled"), ("sr", "done"), ("pr", "cancelled"), ("sr", "cancelled")]
    (report,) = orthanc.objects("SR")
    assert "PredecessorDocumentsSequence" not in report and orthanc.objects("PR") == []


def test_nothing_of_a_double_reading_is_sent_before_its_final_reads(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    choose_results(db, ada, {"sr": [archive_id]}, {"sr": [archive_id]})
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    worklist.assign(db, ada, study_id, reader=None, is_double_read=True)
    first = {"R": Impression("2", 5), "L": Impression("2", 5)}
    reads.record_first_read(db, ada, study_id, first)
    assert outbox.results_of(db, ada, study_id) == [], "the second reader would find it in the archive"
    reads.record_final_read(db, ada, study_id, first)
    assert [row.read_kind for row in outbox.results_of(db, ada, study_id)] == ["final"]


def test_what_goes_where_is_chosen_for_all_archives_at_once_or_not_at_all(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    other = name_archive(db, ada, ArchiveAddress("other", "http://127.0.0.1:9/web"))
    choose_results(db, ada, {"sr": [archive_id, other], "pr": [other]}, {"pdf": [other]})
    found = {one.name: (one.sends, one.sends_preliminary) for one in archives(db, ada)}
    assert found == {"pacs": (("sr",), ()), "other": (("sr", "pr"), ("pdf",))}
    assert [entry.subject for entry in audited(db, ada, "change archive")] == [f"archive {other}"], "what changed"
    for final, preliminary in (({"sr": [other + 1]}, {}), ({"nonsense": [other]}, {}), ({}, {"nonsense": []})):
        with pytest.raises((NotFound, InvalidInput)):
            choose_results(db, ada, {"pdf": [archive_id], **final}, preliminary)
    assert {one.name: (one.sends, one.sends_preliminary) for one in archives(db, ada)} == found


def test_an_archive_that_dropped_the_result_for_an_older_one_of_its_number_is_found_out(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    """Orthanc answers "success" to the hand-over of a number that it has, and keeps what it had."""
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    assert sending.send_next(db, **WHO)
    (report,) = orthanc.objects("SR")
    orthanc.ask(
        f"/instances/{orthanc.ask('/tools/lookup', str(report.SOPInstanceUID).encode())[0]['ID']}", method="DELETE"
    )
    report.CompletionFlag = "PARTIAL"
    path = Path(db.settings.state_dir) / "other.dcm"
    report.save_as(path)
    orthanc.put(path.read_bytes())
    outbox.send_again(db, ada, outbox.results_of(db, ada, study_id)[0].id)
    assert sending.send_next(db, **WHO)
    (row,) = outbox.results_of(db, ada, study_id)
    assert row.state == "failed" and "another object" in row.message


def test_a_study_that_came_from_no_archive_sends_nothing(db: Database, ada: Somebody, archive_id: int) -> None:
    from record_site import finish

    study_id = finish(db, ada, 1, "benign", suspicion=Impression("2", 5))
    assert outbox.results_of(db, ada, study_id) == []
    assert not sending.send_next(db, **WHO)


def test_the_libraries_of_the_network_load_only_where_they_are_used() -> None:
    code = "import sys, core.archive.sending, core.archive.probe; print([m for m in sys.modules if m in " \
           "('pynetdicom', 'highdicom', 'dicomweb_client', 'tensorflow', 'streamlit')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _everything(db: Database) -> str:
    """Every row of every table, as text."""
    with db.read() as connection:
        return "\n".join(
            repr(row) for table in tables.metadata.sorted_tables for row in connection.execute(select(table))
        )
