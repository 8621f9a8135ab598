"""The page Archive, the archives on Settings, and what a study's page says of its archive; the archive is a stub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from page_site import PageSite, Tab, first_read, picture, release, store
from sqlalchemy import Connection

from core.archive import arrivals, watching
from core.archive.archives import ArchiveAddress, archives, change_archive, name_archive
from core.archive.dicomweb import Criteria, FoundStudy
from core.archive.watching import WatchRules
from core.errors import CHANGED_BY_ANOTHER, ArchiveAway
from core.imaging.dicom.source import OF_STUDY
from core.records.archives import outbox
from core.records.archives.identity import SourceIdentity, record_identity, record_uploaded
from core.records.audit import trail
from core.records.reads import reads, studies
from core.records.reads.reads import Impression

FOUND = FoundStudy(
    "1.2.3.4711", "Muster^*Petra*<b>", "P-4711", "19600101", "20260102", "101112", ("MG",), "Screening", "ACC-1", 4
)


@pytest.fixture
def archive_id(opened_site: PageSite) -> int:
    return name_archive(opened_site.db, opened_site.one, ArchiveAddress("Main PACS", "http://a/b", sends=("sr",)))


def of_archive(opened_site: PageSite, archive_id: int, **tags: str) -> str:
    """A study that came from the archive. tags: what more it is called there."""
    who = dict.fromkeys(OF_STUDY, "") | {"PatientName": "Muster^Petra", "PatientID": "P-4711"} | tags

    def add(connection: Connection, study_id: str) -> None:
        identity = SourceIdentity(who, {})
        record_identity(
            connection, opened_site.db.site_key, study_id,
            archive_id=archive_id, exam_hash="e" * 64, identity=identity,
        )  # fmt: skip

    image = picture(laterality="L")
    return studies.create_study(opened_site.db, opened_site.one, display_name="Case", images=[image], also=add)


def searching(answer: Callable[[Criteria], list[FoundStudy]], asked: list[Criteria]):
    def search(_db: object, _actor: object, _archive: int, criteria: Criteria) -> list[FoundStudy]:
        asked.append(criteria)
        return answer(criteria)

    return search


def test_what_is_listed_is_shown_as_it_is_and_fetched_by_a_button(
    opened_site: PageSite, tab: Tab, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Criteria] = []

    def away(_: Criteria) -> list[FoundStudy]:
        raise ArchiveAway("Main PACS cannot be reached, or closed the connection.")

    monkeypatch.setattr(arrivals, "search", searching(away, asked))
    tab.open("reader/archive").press("Search")
    assert asked[0].since is not None and asked[0].until is not None and asked[0].modality == "MG"
    assert "cannot be reached" in tab.text
    asked.clear()
    monkeypatch.setattr(arrivals, "search", searching(lambda _: [FOUND], asked))
    next(field for field in tab.app.text_input if field.label == "Name").set_value("Muster, Petra")
    tab.press("Search")
    assert asked[0].patient_name == "Muster, Petra" and asked[0].since is None, "a patient is searched on all days"
    assert (
        "Muster *Petra*<b>" in tab.text and "born 1960-01-01" in tab.text and "2026-01-02 · MG · 4 objects" in tab.text
    )
    tab.press("Fetch").settled()
    (row,) = arrivals.recent_arrivals(opened_site.db, opened_site.one)
    assert row.state == "queued" and "Waits to be fetched." in tab.text
    assert "1.2.3.4711" not in "".join(widget.key or "" for widget in tab.app.button), "no identifier in a key"


def test_of_an_uploaded_study_the_origin_is_its_uid_once_asked_for_and_nothing_names_the_patient(
    opened_site: PageSite, tab: Tab
) -> None:
    uids = {"StudyInstanceUID": "1.2.3.4711", "SeriesInstanceUID": "1.2.3.1", "SOPInstanceUID": "1.2.3.1.1"}
    image = picture(laterality="L")
    named = partial(record_uploaded, opened_site.db.site_key, {image.sha256: uids})
    study = studies.create_study(opened_site.db, opened_site.one, display_name="Case", images=[image], also=named)
    assert "1.2.3.4711" not in tab.open("reader/read", study).text
    words = tab.press("Show").text
    assert "Study: 1.2.3.4711" in words and "Nothing is kept that names the patient" in words
    assert "Patient ID" not in words and "not stated" not in words
    assert trail.entries(opened_site.db, opened_site.one, action="show identity")


def test_who_a_study_is_of_is_shown_once_asked_for_and_its_result_is_followed_and_sent_again(
    opened_site: PageSite, tab: Tab, archive_id: int
) -> None:
    release(opened_site.weights, "ultrasound-fusion")
    study = of_archive(opened_site, archive_id)
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    tab.open("reader/read", study)
    assert "P-4711" not in tab.text and "Structured report" not in tab.text
    assert "De-identified files" in [button.label for button in tab.app.get("download_button")]
    assert "Text inside them, and in other pictures, is not looked for" in tab.text
    tab.press("Show")
    assert "Name: Muster, Petra" in tab.text and "Patient ID: P-4711" in tab.text
    assert len(trail.entries(opened_site.db, opened_site.one, action="show identity")) == 1
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("2", 5)})
    assert "Waits · Structured report (TID 1500)" in tab.settled().text
    assert "P-4711" not in tab.text, "for one look"
    assert "FHIR" in [button.label for button in tab.app.get("download_button")]
    tab.press("Send again")
    assert len(trail.entries(opened_site.db, opened_site.one, action="send again")) == 1
    assert outbox.results_of(opened_site.db, opened_site.one, study)[0].state == "queued"
    assert "Waits · Structured report (TID 1500)" in tab.open("reader/archive").text


def test_an_administrator_names_changes_and_removes_an_archive(opened_site: PageSite, tab: Tab) -> None:
    def fill(label: str, value: str) -> None:
        next(field for field in tab.app.text_input if field.label == label).set_value(value)

    assert "An administrator names one on the page Settings." in tab.open("reader/archive").text
    tab.open("admin/site_settings")
    fill("Name", "Main PACS")
    fill("DICOMweb address", "ftp://pacs")
    _save(tab, "save_archive_new_0")
    assert "begins with http:// or https://" in tab.text and archives(opened_site.db, opened_site.one) == []
    fill("DICOMweb address", "https://pacs.example/dicom-web/")
    fill("AE title", "PACS")
    fill("Host for DICOM messages", "pacs.example")
    for label, value in (("Port", 104), ("Earlier exams", 3), ("MiB together", 500)):
        next(field for field in tab.app.number_input if field.label == label).set_value(value)
    for label in ("Is asked to commit to results", "DICOM messages over TLS"):
        next(one for one in tab.app.toggle if one.label == label).set_value(True)
    _save(tab, "save_archive_new_0")
    (named,) = archives(opened_site.db, opened_site.one)
    assert (named.has_dimse, named.priors, named.priors_mib, named.commits, named.has_tls) == (True, 3, 500, True, True)
    assert (named.name, named.dicomweb_url, named.sends) == ("Main PACS", "https://pacs.example/dicom-web", ())
    assert "Signs in with nothing." in tab.text
    next(one for one in tab.app.toggle if one.label == "Fetch new studies by rules").set_value(True)
    fill("Stations", "ROOM 1, ROOM 2")
    _save(tab, "save_watch_1")
    (watch,) = watching.watches(opened_site.db, opened_site.one)
    assert watch.rules == WatchRules(stations=("ROOM 1", "ROOM 2"))
    assert "Main PACS is watched: begins." in tab.open("reader/archive").text
    tab.open("admin/site_settings")
    next(one for one in tab.app.toggle if one.label == "Fetch new studies by rules").set_value(False)
    _save(tab, "save_watch_1")
    assert watching.watches(opened_site.db, opened_site.one) == []
    tab.press("Remove")
    assert archives(opened_site.db, opened_site.one) == []


def test_of_two_administrators_who_change_an_archive_the_second_is_told_and_puts_nothing_back(
    opened_site: PageSite, tab: Tab, archive_id: int
) -> None:
    db, one = opened_site.db, opened_site.one
    tab.open("admin/site_settings")
    (before,) = archives(db, one)
    change_archive(db, one, archive_id, replace(before, host="moved.example", ae_title="PACS", port=104))
    _save(tab, f"save_archive_{archive_id}")
    assert CHANGED_BY_ANOTHER in tab.text and archives(db, one)[0].host == "moved.example"
    watching.watch_archive(db, one, archive_id, WatchRules(days=9))
    next(box for box in tab.app.toggle if box.label == "Fetch new studies by rules").set_value(True)
    _save(tab, f"save_watch_{archive_id}")
    assert CHANGED_BY_ANOTHER in tab.text
    assert watching.watches(db, one)[0].rules == WatchRules(days=9)


def test_what_goes_to_which_archive_is_one_table(opened_site: PageSite, tab: Tab, archive_id: int) -> None:
    other = name_archive(opened_site.db, opened_site.one, ArchiveAddress("Other_PACS", "http://a/c"))
    tab.open("admin/site_settings")
    fields = {one.label: one for one in tab.app.multiselect}
    assert fields["Structured report (TID 1500): after the final read"].value == [archive_id]
    assert fields["Structured report (TID 1500): preliminary"].value == []
    fields["Outlines (segmentation): after the final read"].set_value([archive_id, other])
    fields["Report as PDF: preliminary"].set_value([other])
    _save(tab, "save_results")
    found = {one.id: (one.sends, one.sends_preliminary) for one in archives(opened_site.db, opened_site.one)}
    assert found == {archive_id: (("sr", "seg"), ()), other: (("seg",), ("pdf",))}
    tab.open("admin/site_settings")
    assert {one.label: one for one in tab.app.multiselect}["Report as PDF: preliminary"].value == [other]


def _save(tab: Tab, key: str) -> None:
    next(button for button in tab.app.button if (button.key or "").endswith(key) or key in (button.key or "")).click()
    tab.settled()


def test_whose_study_it_is_stands_in_its_row_where_the_site_chose_it(
    opened_site: PageSite, tab: Tab, archive_id: int
) -> None:
    of_archive(opened_site, archive_id, PatientName="Mus*ter*^<b>Petra</b>")
    store(opened_site, "Uploaded", images=[picture(3)])

    def rows() -> list[str]:
        """What stands under the studies' names."""
        return [one.value for one in tab.open("reader/worklist").app.caption if ":material/badge:" in one.value]

    assert not rows() and "is recorded" not in tab.text
    tab.open("admin/site_settings").app.selectbox(key="setting_worklist_identity_nothing").select("name")
    tab.settled().app.button(key="save_worklist_identity").click().run()
    assert rows() == [r":material/badge: Mus\*ter\*\, \<b\>Petra\<\/b\>"], "as it stands in the file"
    assert "That you see whose studies these are is recorded." in tab.text
    assert len(trail.entries(opened_site.db, opened_site.one, action="show identity")) == 1
    assert "Petra" not in f"{[button.key for button in tab.app.button]} {dict(tab.app.query_params)}"
    tab.app.text_input(key="worklist_search").set_value("Uploaded")
    assert "Petra" not in tab.settled().text and "is recorded" not in tab.text
