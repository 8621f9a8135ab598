"""Studies: what is kept, what is never kept, who finds them, and how a wrong one goes away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_site import CALM, add_person, answer, explanation, picture, sqlite_only, stored_files
from sqlalchemy import select, text

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.database.image_store import ImageStore
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, studies, truths
from core.records.reads.studies import (
    correct_image,
    create_study,
    delete_study,
    earlier_studies,
    list_studies,
    load_study,
    may_delete,
)
from core.settings import Settings
from core.types import Image, Modality, Window

PATIENT, OTHER_PATIENT = "1" * 64, "2" * 64


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist")


def count_rows(db: Database) -> dict[str, int]:
    with db.read() as connection:
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in ("study", "image", "prediction", "audit")
        }


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("the power went away")


def test_an_image_comes_back_as_it_went_in(records: Database, ann: Person) -> None:
    given = picture(
        7, view="MLO", laterality="L", modality=Modality.MAMMOGRAPHY, frame=2, n_frames=5, window_index=1,
        windows=(Window(2048, 4096, "SIGMOID", "soft"), Window(1, 2)), notes=("inverted", "windowed"),
        warnings=("Names may be burnt in.",), tags={"KVP": "28", "BitsStored": "12"}, patient_hash=PATIENT,
        pixel_aspect=1.5, view_modifiers=("spot compression",), not_scored="This is a specimen.", is_scored_alone=True,
        guessed_bits=12, needs_side=True, exam_hash=OTHER_PATIENT, taken_on=date(2026, 1, 31),
    )  # fmt: skip

    study = load_study(records, ann, create_study(records, ann, display_name="Case 12", images=[given]))

    (stored,) = study.images
    assert np.abs(stored.image.pixels - given.pixels).max() <= 1 / 65535
    assert replace(stored.image, pixels=given.pixels) == given
    assert study.row.display_name == "Case 12" and study.row.created_by_name == "Ann"
    assert study.row.modalities == (Modality.MAMMOGRAPHY,) and study.row.n_images == 1
    assert study.row.state == "new" and study.row.reading_mode == "read_first" and not study.row.is_synthetic


def test_colour_comes_back_exactly_and_images_keep_their_order(records: Database, ann: Person) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.float32) / np.float32(255)
    histology = Image(tile, "f" * 64, Modality.HISTOLOGY, "argument", patient_hash=None)
    images = [picture(3), histology, picture(1)]

    study = load_study(records, ann, create_study(records, ann, display_name="x", images=images))

    assert [stored.image.sha256 for stored in study.images] == [image.sha256 for image in images]
    assert np.array_equal(study.images[1].image.pixels, tile)
    assert study.row.modalities == (Modality.ULTRASOUND, Modality.HISTOLOGY)


@sqlite_only
def test_only_tags_of_the_allow_list_are_kept(records: Database, ann: Person) -> None:
    given = picture(tags={"KVP": "28", "PatientName": "ROE^JANE", "PatientID": "PID-4711", "StudyDate": "20260101"})
    study_id = create_study(records, ann, display_name="x", images=[given])

    assert load_study(records, ann, study_id).images[0].image.tags == {"KVP": "28"}
    with records.read() as connection:
        everything = "".join(
            str(row) for table in tables.metadata.sorted_tables for row in connection.execute(select(table))
        )
    assert "ROE" not in everything and "PID-4711" not in everything


@sqlite_only
@pytest.mark.parametrize(
    ("given", "retained"),
    [
        ("  Case \t 12\n", "Case 12"),
        ("a\x00b\x1b[31m\x07", "ab[31m"),
        ("abc\u202egnp.exe\u200b", "abcgnp.exe"),
        ("Fall Müller Übersicht", "Fall Müller Übersicht"),
        ("x" * 200, "x" * 80),
        ("<b>bold</b>", "<b>bold</b>"),
    ],
)
def test_a_name_is_kept_without_what_cannot_be_seen(records: Database, ann: Person, given: str, retained: str) -> None:
    study_id = create_study(records, ann, display_name=given, images=[picture()])

    assert load_study(records, ann, study_id).row.display_name == retained


@sqlite_only
def test_what_makes_no_study_is_refused_and_nothing_is_kept(records: Database, ann: Person) -> None:
    before = count_rows(records)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("Give the study a name", {"display_name": " \x00\u200b ", "images": [picture()]}),
        ("at least one image", {"display_name": "x", "images": []}),
        ("at most 200 images", {"display_name": "x", "images": [picture(n) for n in range(201)]}),
        (
            "different patients",
            {"display_name": "x", "images": [picture(1, patient_hash=PATIENT), picture(2, patient_hash=OTHER_PATIENT)]},
        ),
    ]
    for words, arguments in refused:
        with pytest.raises(InvalidInput, match=words):
            create_study(records, ann, **arguments)

    assert count_rows(records) == before and stored_files(records) == []


@sqlite_only
def test_the_same_picture_twice_is_kept_once_and_two_frames_are_two(records: Database, ann: Person) -> None:
    images = [picture(1), picture(1), picture(1, frame=1, n_frames=2)]
    study_id = create_study(records, ann, display_name="x", images=images)

    assert [stored.image.frame for stored in load_study(records, ann, study_id).images] == [0, 1]


def test_a_store_that_fails_leaves_no_row_and_no_file(
    records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_rows(records)
    put, calls = ImageStore.put, []

    def keep_once(self: ImageStore, blob: Any) -> None:
        calls.append(blob)
        if len(calls) > 1:
            raise OSError("disk gone")
        put(self, blob)

    monkeypatch.setattr(ImageStore, "put", keep_once)
    with pytest.raises(OSError, match="disk gone"):
        create_study(records, ann, display_name="x", images=[picture(1), picture(2)])

    assert count_rows(records) == before and stored_files(records) == []


def test_a_row_that_fails_leaves_no_file_and_no_other_row(
    records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_rows(records)
    monkeypatch.setattr(trail, "record", fail)
    with pytest.raises(RuntimeError):
        create_study(records, ann, display_name="x", images=[picture(1), picture(2)])

    assert count_rows(records) == before and stored_files(records) == []


@sqlite_only
def test_a_failure_does_not_take_the_pixels_of_another_study(
    records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = create_study(records, ann, display_name="first", images=[picture(1)])
    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(trail, "record", fail)
        create_study(records, ann, display_name="second", images=[picture(1), picture(2)])

    assert len(stored_files(records)) == 1
    assert load_study(records, ann, study_id).images[0].image.sha256 == picture(1).sha256


def test_the_worklist_is_newest_first_whatever_the_state_or_the_ai_says(records: Database, ann: Person) -> None:
    ids = [create_study(records, ann, display_name=f"Case {n}", images=[picture(n)]) for n in range(3)]
    for study_id, malignant in zip(ids, (0.99, 0.01, 0.5), strict=True):
        stored = load_study(records, ann, study_id).images[0]
        predictions.record_predictions(
            records, study_id, stored.id, answer(stored.image, malignant=malignant), explanation()
        )
    reads.record_first_read(records, ann, ids[1], {"R": CALM})
    reads.record_first_read(records, ann, ids[0], {"R": CALM})
    reads.record_final_read(records, ann, ids[0], {"R": CALM})

    rows = list_studies(records, ann)

    assert [row.id for row in rows] == ids[::-1]
    assert [row.state for row in rows] == ["new", "first read saved", "final"]


def test_nothing_in_a_row_or_a_study_speaks_of_the_ai() -> None:
    for made in (studies.StudyRow, studies.StoredStudy, studies.StoredImage):
        for name in made.__dataclass_fields__:
            assert not any(word in name for word in ("predict", "malignant", "score", "probab", "model", "ai_"))


@pytest.mark.parametrize(
    ("sides", "breasts"),
    [
        (["L", "R", "L"], ("R", "L")),
        (["L"], ("L",)),
        ([None, "R"], ("R", "U")),
        ([None, None], ("U",)),
    ],
)
@sqlite_only
def test_every_image_is_of_something_that_is_assessed_right_before_left_before_side_not_stated(
    records: Database, ann: Person, sides: list[str | None], breasts: tuple[str, ...]
) -> None:
    images = [picture(number, laterality=side) for number, side in enumerate(sides)]
    study_id = create_study(records, ann, display_name="x", images=images)

    assert load_study(records, ann, study_id).breasts == breasts


def test_earlier_studies_are_those_of_the_same_patient_stored_before(records: Database, ann: Person) -> None:
    def create(number: int, patient: str | None) -> str:
        return create_study(records, ann, display_name=f"{number}", images=[picture(number, patient_hash=patient)])

    first, _, second, unknown = create(1, PATIENT), create(2, OTHER_PATIENT), create(3, PATIENT), create(4, None)
    gone, third, also_unknown = create(5, PATIENT), create(6, PATIENT), create(7, None)
    delete_study(records, ann, gone, reason="wrong upload")

    assert [row.id for row in earlier_studies(records, ann, third)] == [second, first]
    assert [load_study(records, ann, one).n_earlier for one in (first, second, third, unknown)] == [0, 1, 2, 0]
    assert earlier_studies(records, ann, unknown) == earlier_studies(records, ann, also_unknown) == []
    assert load_study(records, ann, also_unknown).n_earlier == 0


def test_the_day_on_which_a_study_was_taken_wins_over_when_it_was_stored(records: Database, ann: Person) -> None:
    def create(number: int, taken_on: date | None) -> str:
        image = picture(number, patient_hash=PATIENT, taken_on=taken_on)
        return create_study(records, ann, display_name=f"{number}", images=[image])

    new, old = create(1, date(2026, 2, 1)), create(2, date(2024, 2, 1))
    oldest, undated, same_day = create(3, date(2022, 2, 1)), create(4, None), create(5, date(2026, 2, 1))

    def earlier(study_id: str) -> list[str]:
        return [row.id for row in earlier_studies(records, ann, study_id)]

    assert earlier(new) == [old, oldest]
    assert earlier(old) == [oldest] and earlier(oldest) == []
    assert set(earlier(undated)) == {new, old, oldest}
    assert set(earlier(same_day)) == {new, old, oldest, undated}
    assert (
        load_study(records, ann, new).row.taken_on == date(2026, 2, 1) and load_study(records, ann, new).n_earlier == 2
    )


@sqlite_only
@pytest.mark.parametrize("study_id", ["", "0" * 32, "../../x", "'; --"])
def test_a_study_that_is_not_there_is_a_sentence(records: Database, ann: Person, study_id: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: load_study(records, ann, study_id),
        lambda: earlier_studies(records, ann, study_id),
        lambda: delete_study(records, ann, study_id, reason="wrong upload"),
        lambda: reads.ai_visible(records, ann, study_id),
        lambda: reads.reads_of(records, ann, study_id),
        lambda: predictions.predictions_of(records, ann, study_id),
        lambda: reads.record_first_read(records, ann, study_id, {"R": CALM}),
        lambda: reads.record_final_read(records, ann, study_id, {"R": CALM}),
        lambda: reads.reveal(records, ann, study_id),
        lambda: truths.truths_of(records, ann, study_id),
    ]
    for act in acts:
        with pytest.raises(NotFound, match="does not exist"):
            act()


def test_side_view_and_kind_can_be_corrected_and_old_predictions_are_dropped(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture(laterality=None)])
    stored = load_study(records, ann, study_id).images[0]
    predictions.record_predictions(records, study_id, stored.id, answer(stored.image), explanation())

    correct_image(records, ann, stored.id, laterality="L", view="CC", modality="mammography")

    study = load_study(records, ann, study_id)
    image = study.images[0].image
    assert (image.laterality, image.view, image.modality) == ("L", "CC", Modality.MAMMOGRAPHY)
    assert image.modality_source == "reader" and study.breasts == ("L",)
    assert count_rows(records)["prediction"] == 0
    assert [name for name in stored_files(records) if name.endswith(".npz")] == []
    with records.read() as connection:
        row = connection.execute(select(tables.audit).order_by(tables.audit.c.id.desc())).first()
    assert row is not None and row.action == "correct image" and row.detail["image"] == image.sha256
    assert row.detail["before"] == {"laterality": None, "view": None, "modality": "ultrasound"}
    assert row.detail["after"] == {"laterality": "L", "view": "CC", "modality": "mammography"}


@sqlite_only
def test_a_correction_that_changes_nothing_is_not_audited(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    stored = load_study(records, ann, study_id).images[0]
    before = count_rows(records)

    correct_image(records, ann, stored.id, laterality="R", view=None, modality=Modality.ULTRASOUND)

    assert count_rows(records) == before
    assert load_study(records, ann, study_id).images[0].image.modality_source == "tags"


@sqlite_only
def test_after_the_first_read_of_anybody_nothing_is_corrected(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    image_id = load_study(records, ann, study_id).images[0].id
    reads.record_first_read(records, add_person(records, "Bea", "radiologist"), study_id, {"R": CALM})

    with pytest.raises(Conflict, match="stay as they were read"):
        correct_image(records, ann, image_id, laterality="L", view=None, modality="ultrasound")
    assert load_study(records, ann, study_id).breasts == ("R",)


@sqlite_only
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"laterality": "B"}, "The side can be"),
        ({"view": "SIDEWAYS"}, "The view can be"),
        ({"modality": "mri"}, "The kind of picture can be"),
        ({"modality": "histology"}, "Histology is kept in colour"),
    ],
)
def test_a_correction_to_what_cannot_be_is_refused(
    records: Database, ann: Person, wanted: dict[str, str], words: str
) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    image_id = load_study(records, ann, study_id).images[0].id

    with pytest.raises(InvalidInput, match=words):
        correct_image(records, ann, image_id, **{"laterality": "R", "view": None, "modality": "ultrasound", **wanted})
    with pytest.raises(NotFound):
        correct_image(records, ann, "0" * 32, laterality="R", view=None, modality=None)


def test_a_deleted_study_leaves_an_empty_row_and_the_audit(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="Jane", images=[picture(1, patient_hash=PATIENT), picture(2)])
    for stored in load_study(records, ann, study_id).images:
        predictions.record_predictions(records, study_id, stored.id, answer(stored.image), explanation())
    reads.record_first_read(records, ann, study_id, {"R": CALM})

    delete_study(records, ann, study_id, reason="wrong upload")

    assert stored_files(records) == []
    assert count_rows(records)["image"] == count_rows(records)["prediction"] == 0
    assert list_studies(records, ann) == []
    with records.read() as connection:
        row = connection.execute(select(tables.study)).one()
        last = connection.execute(select(tables.audit).order_by(tables.audit.c.id.desc())).first()
    assert (row.display_name, row.patient_hash, row.deleted_by) == ("", None, ann.id) and row.deleted_at is not None
    assert last is not None and (last.action, last.subject) == ("delete study", f"study {study_id}")
    assert last.detail["reason"] == "wrong upload"
    assert last.detail["images"] == sorted([picture(1).sha256, picture(2).sha256])
    with pytest.raises(NotFound):
        delete_study(records, ann, study_id, reason="wrong upload")


def test_a_study_is_deleted_with_a_reason_by_its_uploader_or_an_administrator_and_never_with_another_s_read(
    records: Database, ann: Person
) -> None:
    bea, admin = add_person(records, "Bea", "radiologist"), add_person(records, "Root", "administrator")
    study_id = create_study(records, ann, display_name="x", images=[picture()])

    assert not may_delete(records, bea, study_id)
    with pytest.raises(NotAllowed, match="by whoever uploaded it, or by an administrator"):
        delete_study(records, bea, study_id, reason="mine")
    with pytest.raises(InvalidInput, match="Say why"):
        delete_study(records, ann, study_id, reason=" \n")
    assert may_delete(records, ann, study_id) and may_delete(records, admin, study_id)

    reads.record_first_read(records, bea, study_id, {"R": CALM})
    for somebody in (ann, admin, bea):
        assert not may_delete(records, somebody, study_id)
    for somebody in (ann, admin):
        with pytest.raises(Conflict, match="Somebody else has saved a read"):
            delete_study(records, somebody, study_id, reason="a reason")
    assert load_study(records, bea, study_id).images

    other = create_study(records, ann, display_name="y", images=[picture(2)])
    delete_study(records, admin, other, reason="two patients")
    with pytest.raises(NotFound):
        load_study(records, ann, other)


def test_a_study_with_a_final_read_stays(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    reads.record_final_read(records, ann, study_id, {"R": CALM})

    with pytest.raises(Conflict, match="final read"):
        delete_study(records, ann, study_id, reason="wrong upload")
    assert load_study(records, ann, study_id).images


def test_a_deletion_that_fails_changes_nothing(records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    before, files = count_rows(records), stored_files(records)
    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(trail, "record", fail)
        delete_study(records, ann, study_id, reason="wrong upload")

    assert count_rows(records) == before and stored_files(records) == files
    assert load_study(records, ann, study_id).row.display_name == "x"


def test_a_study_keeps_the_reading_mode_it_was_made_under(tmp_path: Path) -> None:
    concurrent = open_database(Settings(state_dir=tmp_path, reading_mode="concurrent"))
    ann = add_person(concurrent, "Ann", "radiologist")
    study_id = create_study(concurrent, ann, display_name="x", images=[picture()], is_synthetic=True)
    concurrent.close()

    opened = open_database(Settings(state_dir=tmp_path))
    row = load_study(opened, ann, study_id).row
    assert row.reading_mode == "concurrent" and row.is_synthetic
    opened.close()
