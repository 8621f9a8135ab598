"""A day at a site: every action that there is becomes a row of the trail, by whom, found by its word and its kind."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from page_site import app_test
from record_site import (
    CALM,
    WORRIED,
    add_person,
    answer,
    at_terminal,
    explanation,
    finish,
    picture,
    signed_in,
    sqlite_only,
)
from release_site import MODEL, SHIPPED, add_candidate, candidate, promote
from sqlalchemy import Connection, update
from test_single_sign_on import SSO, claims

from core.archive import archives, arrivals, watching
from core.archive.archives import ArchiveAddress
from core.archive.deidentified_export import Export, record_export_at_terminal
from core.archive.dicomweb import Criteria
from core.archive.watching import WatchRules
from core.errors import ArchiveAway, LanguageModelAway
from core.language import asking
from core.models.cards import withheld_cards
from core.records import data_sets, site_settings
from core.records.archives import identity, outbox
from core.records.audit import trail
from core.records.audit.trail import KINDS, WORDS
from core.records.database import tables  # fmt: skip
from core.records.database.db import Database
from core.records.language import answers, endpoint
from core.records.people import accounts, invitations, sessions, single_sign_on
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import ROLES, Person
from core.records.queue import ATTEMPTS, CANCELLED, DEAD, DONE, FAILED, Queue
from core.records.reader_studies import designs, readings
from core.records.reads import (
    answers_seen,
    back_reads,
    predictions,
    reader_scores,
    reading_leases,
    reads,
    retention,
    studies,
    truths,
    worklist,
)
from core.records.releases import decisions
from core.settings import REPOSITORY, Settings
from core.types import Modality
from train.queue import imports, trainings
from train.queue.imports import ImportRequest
from train.recipe.request import FitRequest

pytestmark = pytest.mark.usefixtures("quick_hashes")
PASSWORD = "a long enough password for tests"
TWO_PICTURES = {"train": {"benign": 1, "malignant": 1}}


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(AccountRefused):
        act()


def set_up(db: Database) -> Person:
    code = accounts.setup_code(db) or ""
    refused(lambda: accounts.create_first_administrator(db, code="wrong", name="Ada", password=PASSWORD))
    return signed_in(db, accounts.create_first_administrator(db, code=code, name="Ada", password=PASSWORD))


def people_come_and_go(db: Database, ada: Person) -> Person:
    """A reader by a link, one with a password, one by single sign-on; the first of them."""
    invited, link = invitations.invite_person(db, ada, name="Ben", roles=["radiologist"])
    ben = at_terminal(invited)
    invitations.use_link(db, link, PASSWORD)
    refused(lambda: invitations.use_link(db, link, PASSWORD))
    for _ in range(accounts.FAILURES_BEFORE_LOCK):
        refused(lambda: accounts.sign_in(db, db.settings, "Ben", "not the password"))
    accounts.reset_password(db, ada, ben.id, PASSWORD)
    accounts.sign_in(db, db.settings, "Ben", PASSWORD)
    accounts.change_password(db, ben, old=PASSWORD, new=f"{PASSWORD} indeed")
    eve = accounts.create_person(db, ada, name="Eve", password=PASSWORD, roles=["researcher"])
    accounts.set_roles(db, ada, eve.id, ROLES)
    accounts.sign_out_everywhere(db, ada, eve.id)
    invitations.reset_by_link(db, ada, eve.id)
    accounts.disable_person(db, ada, eve.id)
    accounts.enable_person(db, ada, eve.id)
    for group in ("readers", "chiefs"):
        token = single_sign_on.sign_in(db, SSO, claims(roles=group, name="Fay"))
    sessions.sign_out(db, token)
    return ben


def a_study_is_read(db: Database, ben: Person) -> None:
    study_id = studies.create_study(db, ben, display_name="x", images=[picture(laterality=None)])
    studies.record_opening(db, ben, study_id)
    image_id = studies.load_study(db, ben, study_id).images[0].id
    studies.correct_image(db, ben, image_id, laterality="R", view=None, modality=Modality.ULTRASOUND)
    reads.record_first_read(db, ben, study_id, {"R": CALM})
    image = studies.load_study(db, ben, study_id).images[0]
    predictions.record_predictions(db, study_id, image.id, answer(image.image), explanation())
    reads.reveal(db, ben, study_id)
    reads.record_final_read(db, ben, study_id, {"R": CALM})
    reads.record_export(db, ben, study_id, what="pdf")
    truths.record_truth(
        db, ben, study_id, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="biopsy"
    )  # fmt: skip
    two_readers_disagree(db, ben)
    wrong = studies.create_study(db, ben, display_name="wrong", images=[picture(2)])
    studies.delete_study(db, ben, wrong, reason="wrong upload")


def a_reader_study_is_read(db: Database, ada: Person, ben: Person) -> None:
    """One is discarded, one is read a little and closed."""
    gus = add_person(db, "Gus", "radiologist")
    for number in range(40, 44):
        finish(db, gus, number, "malignant" if number < 42 else "benign", suspicion=WORRIED)
    cases = designs.cases_at_hand(db, ada, Modality.ULTRASOUND).cases
    asked = {"title": "x", "modality": "ultrasound", "cases": cases, "readers": (ben.id, gus.id)}
    designs.discard_reader_study(db, ada, designs.create_reader_study(db, ada, asked))
    designs.lock_reader_study(db, ada, made := designs.create_reader_study(db, ada, asked))
    task = readings.turns(db, ben)[0].task
    assert task is not None
    readings.begin_task(db, ben, made, task)
    readings.save_read(db, ben, made, task, {"R": CALM})
    designs.close_reader_study(db, ada, made, reason="a pilot")


def two_readers_disagree(db: Database, ben: Person) -> None:
    """One takes the study over from another before, and a third decides."""
    study_id = studies.create_study(db, ben, display_name="y", images=[picture(3)])
    others = [add_person(db, name, "radiologist") for name in ("Gil", "Hal")]
    reading_leases.hold_study(db, ben, study_id)
    reading_leases.hold_study(db, others[0], study_id, is_take_over=True)
    worklist.assign(db, ben, study_id, reader=None, is_double_read=True)
    reading_leases.hold_study(db, ben, study_id)
    for reader, impression in zip(others, (CALM, WORRIED), strict=True):
        reads.record_first_read(db, reader, study_id, {"R": impression})
        reads.record_final_read(db, reader, study_id, {"R": impression})
    reads.arbitrate(db, ben, study_id)


def a_study_hides_nothing(db: Database, ada: Person, ben: Person) -> None:
    site_settings.choose(db, ada, "reading_mode", "concurrent")
    study_id = studies.create_study(db, ben, display_name="y", images=[picture(3)])
    image = studies.load_study(db, ben, study_id).images[0]
    predictions.record_predictions(db, study_id, image.id, answer(image.image), explanation())
    assert predictions.predictions_of(db, ben, study_id)


def studies_are_read_again(db: Database, ada: Person) -> None:
    """A back-read that is stopped at once, gone on with and stopped again."""
    number = back_reads.start(db, ada, [SHIPPED])
    back_reads.stop(db, ada, number)
    back_reads.go_on(db, ada, number)
    back_reads.stop(db, ada, number)
    back_reads.scores_csv(db, ada, number)


def settings_change(db: Database, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among them that pictures go after a month, which they then do."""
    site_settings.choose(db, ada, "keep_pixels_days", 30)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=31))
    assert retention.apply_policy(db) == 6
    site_settings.set_own(db, ada, SHIPPED, 0.4)


def an_archive_is_used(db: Database, ada: Person, ben: Person) -> None:
    """A study comes from it, a result goes back, and both fail in each way; nobody answers at its address."""
    address = ArchiveAddress("pacs", "http://127.0.0.1:9/web", sends=("sr",))
    archive_id = archives.name_archive(db, ada, address)
    archives.change_archive(db, ada, archive_id, replace(address, name="PACS 1"))
    watching.watch_archive(db, ada, archive_id, WatchRules())
    with pytest.raises(ArchiveAway):
        arrivals.search(db, ben, archive_id, Criteria(patient_id="1"))
    arrivals.fetch(db, ben, archive_id, "1.2.3")
    ends_of(db, arrivals.ARRIVALS, lambda row_id: arrivals.fetch_again(db, ben, row_id))

    def add(connection: Connection, study_id: str) -> None:
        known = identity.SourceIdentity({"PatientID": "1"}, {})
        identity.record_identity(
            connection, db.site_key, study_id, archive_id=archive_id, exam_hash="e" * 64, identity=known
        )

    study_id = studies.create_study(db, ben, display_name="z", images=[picture(4)], also=add)
    reads.record_first_read(db, ben, study_id, {"R": CALM})
    reads.record_final_read(db, ben, study_id, {"R": CALM})
    identity.show_identity(db, ben, study_id)
    ends_of(db, outbox.RESULTS, lambda row_id: outbox.send_again(db, ben, row_id))
    outbox.send_again(db, ben, outbox.results_of(db, ben, study_id)[0].id)
    held = outbox.RESULTS.claim(db, worker="w", machine="m")
    assert held is not None and outbox.RESULTS.finish(db, held, CANCELLED, "It ended.")
    assert retention.apply_policy(db) == 1, "which forgets what it is called"
    watching.watch_archive(db, ada, archive_id, None)
    archives.remove_archive(db, ada, archive_id)


def ends_of(db: Database, queue: Queue, again: Callable[[int], None]) -> None:
    """The only row of the queue fails, dies with its worker, and is done."""
    for end in (FAILED, DEAD, DONE):
        for _ in range(ATTEMPTS if end == DEAD else 1):
            held = queue.claim(db, worker="w", machine="m", lease_seconds=-1 if end == DEAD else 30)
            assert held is not None
        if end == DEAD:
            assert queue.claim(db, worker="w", machine="m") is None  # and buries it
        else:
            assert queue.finish(db, held, end, "It ended.")
        if end != DONE:
            again(held.id)


def a_language_model_is_named(db: Database, ada: Person, ben: Person) -> None:
    """It is tested, permitted and asked, which ends in each way; nobody answers at its address."""
    site_settings.choose(db, ada, "language_model", True)
    named = endpoint.name_endpoint(db, ada, protocol="openai", url="http://127.0.0.1:9/v1", model="x")
    with pytest.raises(LanguageModelAway):
        asking.probe(db, ada, named)
    endpoint.permit(db, ada, named, reason="a comparison")
    study_id = studies.create_study(db, ben, display_name="l", images=[picture(5)])
    reads.record_first_read(db, ben, study_id, {"R": CALM})
    reads.reveal(db, ben, study_id)
    now = endpoint.endpoint_now(db)
    assert now is not None and answers.enqueue_due(db, now) == 1
    lease = answers.ANSWERS.claim(db, worker="w", machine="m")
    assert lease is not None
    answers.ANSWERS.finish(db, lease, FAILED, "It ended.", {"needs_look": True})
    answers.look_for_text(db, ben, lease.id, "a" * 64)
    lease = answers.ANSWERS.claim(db, worker="w", machine="m")
    assert lease is not None
    answers.ANSWERS.finish(db, lease, FAILED, "It ended.")
    answers.ask_again(db, ben, lease.id)
    lease = answers.ANSWERS.claim(db, worker="w", machine="m")
    assert lease is not None
    answers.require_still_permitted(db, lease, sent_sha256="a" * 64, prompt_sha256="b" * 64)
    answers.finish_described(db, lease, answers.Described())

    def again(_: int) -> None:
        with db.begin() as connection:
            fresh = {"state": "queued", "attempts": 0, "result": None, "ended_at": None}
            connection.execute(update(tables.language_answer).values(**fresh))

    again(lease.id)
    ends_of(db, answers.ANSWERS, again)
    endpoint.end_permission(db, ada, named)
    endpoint.remove_endpoint(db, ada, named)


def trainings_run(db: Database, ada: Person) -> None:
    """One is done, one fails, one is cancelled while it runs, and the worker of one dies as often as it may."""
    names = [data_sets.store_file(db.settings, b"picture %d" % number, "png") for number in range(2)]
    manifest = f"file,label\n{names[0]},benign\n{names[1]},malignant\n".encode()
    made = {"manifest": manifest, "split": {}, "counts": TWO_PICTURES, "found": {}}
    version = data_sets.create_data_set(db, ada, name="Set", modality=Modality.ULTRASOUND, **made)  # type: ignore[arg-type]
    data_set_id = data_sets.load_version(db, ada, version).data_set_id
    data_sets.add_version(db, ada, data_set_id, **made)  # type: ignore[arg-type]
    request = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=3, side=64)
    for end in (DONE, FAILED, CANCELLED, DEAD):
        job_id = trainings.enqueue(db, ada, request, version)
        for _ in range(ATTEMPTS if end == DEAD else 1):
            held = trainings.QUEUE.claim(db, worker="w", machine="m", lease_seconds=-1 if end == DEAD else 30)
            assert held is not None and held.id == job_id
        if end == CANCELLED:
            trainings.cancel(db, ada, job_id)
        if end != DEAD:
            assert trainings.QUEUE.finish(db, held, end, "It ended.")
    assert trainings.QUEUE.claim(db, worker="w", machine="m") is None  # and buries the last one
    data_sets.remove_data_set(db, ada, data_set_id)


def imports_run(db: Database, ada: Person) -> None:
    """One is done, one fails, one is cancelled while it runs, and the worker of one dies as often as it may."""
    for end in (DONE, FAILED, CANCELLED, DEAD):
        request = ImportRequest("zip", f"Import {end}", Modality.ULTRASOUND)
        import_id = imports.enqueue(db, ada, request, {})
        for _ in range(ATTEMPTS if end == DEAD else 1):
            held = imports.QUEUE.claim(db, worker="w", machine="m", lease_seconds=-1 if end == DEAD else 30)
            assert held is not None and held.id == import_id
        if end == CANCELLED:
            imports.cancel(db, ada, import_id)
        if end != DEAD:
            assert imports.QUEUE.finish(db, held, end, "It ended.")
    assert imports.QUEUE.claim(db, worker="w", machine="m") is None  # and buries the last one


def releases_change(db: Database, ada: Person) -> None:
    job_id = add_candidate(db, ada, 1)
    new = candidate(db, job_id).weights_sha256
    decisions.start_shadow(db, ada, job_id, reason="Look first.")
    decisions.end_shadow(db, ada, MODEL, new, reason="Seen enough.")
    promote(db, ada, job_id, live_sha256=SHIPPED.weights_sha256, reason="More.")
    decisions.roll_back(db, ada, MODEL, SHIPPED.weights_sha256, live_sha256=new, reason="Less.")
    decisions.retire(db, ada, MODEL, live_sha256=SHIPPED.weights_sha256, reason="Weak.")
    at_chance = withheld_cards(db.settings)[0]
    live = {"live_sha256": at_chance.weights_sha256}
    decisions.allow(db, ada, at_chance.model_id, **live, reason="For our study.")
    decisions.end_allow(db, ada, at_chance.model_id, **live, reason="It is over.")
    decisions.name_lead(db, ada, Modality.ULTRASOUND, "ultrasound-fusion")


def test_a_day_is_in_the_trail_word_by_word(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = set_up(records)
    ben = people_come_and_go(records, ada)
    a_study_is_read(records, ben)
    assert reader_scores.reader_scores(records, ada)
    answers_seen.record_case_scores_shown(records, ada, {MODEL: "ab" * 32})
    a_study_hides_nothing(records, ada, ben)
    a_reader_study_is_read(records, ada, ben)
    studies_are_read_again(records, ada)
    settings_change(records, ada, monkeypatch)
    an_archive_is_used(records, ada, ben)
    a_language_model_is_named(records, ada, ben)
    imports_run(records, ada)
    trainings_run(records, ada)
    releases_change(records, ada)
    trail.record_comparison_export(records, ada, what="comparison.csv")
    record_export_at_terminal(records, Export(), by=accounts.TERMINAL)
    trail.export_csv(records, ada, trail.entries(records, ada))

    found = trail.entries(records, ada)
    words, people = trail.actions_and_people(records, ada)
    assert set(words) == WORDS - {
        *KINDS["Backups"],
        "start",
        "upgrade",
        "set up second factor",
        "remove second factor",
    }  # these are of a whole site
    assert {"Ada", "Ben", "Fay", "Gil", "Gus", "Hal"} == set(people.values())
    for word in words:
        assert {entry.action for entry in trail.entries(records, ada, action=word)} == {word}
    by_kind = {kind: trail.entries(records, ada, kind=kind) for kind in KINDS}
    assert sum(map(len, by_kind.values())) == len(found)
    assert {entry.action for entry in by_kind["Failed attempts"]} == {
        "sign-in refused", "lock person", "link refused", "set-up refused",
    }  # fmt: skip
    by_whom = {(entry.action, entry.person_name) for entry in found}
    assert {("first read", "Ben"), ("reveal", "Ben"), ("final read", "Ben"), ("export report", "Ben")} <= by_whom
    assert {(act, "Ada") for act in KINDS["Releases"] + KINDS["Settings"]} <= by_whom
    by_somebody = [act for act in KINDS["Data sets"] if act.split()[0] != "import"]
    assert {(act, "Ada") for act in by_somebody} <= by_whom and ("import done", None) in by_whom
    assert {("start training", "Ada"), ("cancel training", "Ada"), ("training done", None)} <= by_whom
    text = trail.export_csv(records, ada, found).decode("utf-8-sig")
    assert all(word in text for word in words) and text.count("\n") >= len(found)
    assert trail.verify(records).is_intact


@sqlite_only
def test_an_action_that_the_page_could_not_name_is_refused(records: Database) -> None:
    with pytest.raises(ValueError, match="no word of the audit trail"), records.begin() as connection:
        trail.record(connection, None, "lend study", "study 1")
    assert trail.verify(records) == trail.Verdict(0, ())


def test_every_word_in_the_code_has_a_kind() -> None:
    words = set()
    for file in [*(REPOSITORY / "core").rglob("*.py"), *(REPOSITORY / "train").rglob("*.py")]:
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "record":
                words |= {call.args[2].value} if isinstance(call.args[2], ast.Constant) else set()
    assert len(words) > 30 and words <= WORDS


def test_each_action_has_one_kind() -> None:
    assert len(WORDS) == sum(len(words) for words in KINDS.values())


@sqlite_only
def test_the_page_shows_what_is_of_the_chosen_kind(
    records: Database, record_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit

    from pages.parts import session

    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(record_settings.state_dir))
    monkeypatch.setenv("SECONDREAD_DATABASE_URL", record_settings.database_url)
    ada = set_up(records)
    people_come_and_go(records, ada)
    token = sessions.start_session(records, ada)
    monkeypatch.setattr(session, "session_token", lambda: token)
    streamlit.cache_resource.clear()
    app = app_test(seconds=120)
    app.switch_page("pages/admin/audit.py").run()
    assert "create person" in set(app.dataframe[0].value["Action"])
    app.selectbox(key="audit_kind").select("Failed attempts").run()
    assert not app.exception
    assert set(app.dataframe[0].value["Action"]) == set(KINDS["Failed attempts"])
    assert app.selectbox(key="audit_action").options == sorted(KINDS["Failed attempts"])
    streamlit.cache_resource.clear()
