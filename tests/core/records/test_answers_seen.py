"""A first impression by somebody who had seen the AI's answer about the same pictures in another study is marked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from made_images import breast
from PIL import Image as Pillow
from record_site import CALM, Somebody, add_person, answer, explanation, picture, sqlite_only
from sqlalchemy import select, update

from core.errors import Conflict
from core.imaging.near_duplicates import long_hash
from core.imaging.preprocess import resize
from core.models.card_cases import cases_csv, cases_name, named_on_card
from core.models.cards import shipped_cards
from core.records import site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import LocalTerminal
from core.records.reads import answers_seen, predictions, reader_scores, reads, studies, truths
from core.types import Image

pytestmark = sqlite_only


def image_of(pixels: np.ndarray, number: int) -> Image:
    return replace(picture(number), pixels=np.ascontiguousarray(pixels))


def as_jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Pillow.fromarray((pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=70)
    return np.asarray(Pillow.open(file), np.float32) / 255


COPIES = {
    "the same pixels": lambda pixels: pixels,
    "another encoding": as_jpeg,
    "another size": lambda pixels: resize(pixels, (107, 80)),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "mirrored, smaller and encoded anew": lambda pixels: as_jpeg(resize(pixels[:, ::-1], (107, 80))),
    "darker": lambda pixels: pixels**1.2,
}


def study_of(db: Database, who: Somebody, *images: Image, name: str = "Study") -> str:
    """A study whose images a model has answered."""
    study_id = studies.create_study(db, who, display_name=name, images=images)
    for stored in studies.load_study(db, who, study_id).images:
        predictions.record_predictions(db, study_id, stored.id, answer(stored.image), explanation())
    return study_id


def read_and_reveal(db: Database, who: Somebody, study_id: str) -> None:
    reads.record_first_read(db, who, study_id, {"R": CALM})
    reads.reveal(db, who, study_id)


def first_read(db: Database, who: Somebody, study_id: str) -> reads.Read:
    reads.record_first_read(db, who, study_id, {"R": CALM})
    return next(read for read in reads.reads_of(db, who, study_id) if read.person_id == who.id)


@pytest.mark.parametrize("copy", list(COPIES))
def test_a_first_read_after_the_answer_to_a_copy_is_marked(records: Database, copy: str) -> None:
    ada, ben = add_person(records, "Ada"), add_person(records, "Ben")
    original = study_of(records, ada, image_of(breast(1), 1), image_of(breast(2), 2))
    twin = study_of(records, ada, image_of(COPIES[copy](breast(1)), 3), name="Twin")
    read_and_reveal(records, ada, twin)
    assert not reads.ai_visible(records, ada, original), "the answer stays hidden until the first read there"
    with pytest.raises(Conflict):
        reads.reveal(records, ada, original)
    read = first_read(records, ada, original)
    (mark,) = read.predictions_seen
    assert read.has_seen_answer and mark["seen_in"] == twin
    assert mark["image_id"] == studies.load_study(records, ada, original).images[0].id
    assert mark["correlation"] == 1 if copy == "the same pixels" else 0.98 <= mark["correlation"] <= 1
    entry = trail.entries(records, LocalTerminal(ada.id), action="first read")[0]
    assert entry.detail["answers_seen_in"] == [twin]
    assert not first_read(records, ben, original).has_seen_answer, "Ben has seen nothing"


def test_other_pictures_and_copies_without_an_answer_mark_nothing(records: Database) -> None:
    ada = add_person(records, "Ada")
    original = study_of(records, ada, image_of(breast(1), 1))
    read_and_reveal(records, ada, study_of(records, ada, *(image_of(breast(n), n) for n in range(2, 12))))
    unread = study_of(records, ada, image_of(breast(1), 20), name="A copy whose answer nobody asked for")
    reads.record_first_read(records, ada, unread, {"R": CALM})
    read = first_read(records, ada, original)
    assert not read.has_seen_answer and read.predictions_seen == ()


def test_an_answer_that_was_never_hidden_counts_once_it_was_shown(records: Database) -> None:
    ada = add_person(records, "Ada")
    original, second = (study_of(records, ada, image_of(breast(n), n)) for n in (1, 2))
    site_settings.choose(records, ada, "reading_mode", "concurrent")
    for number in (1, 2):
        twin = study_of(records, ada, image_of(breast(number), number + 10))
        if number == 1:
            for _ in range(2):
                assert predictions.predictions_of(records, ada, twin)
    assert first_read(records, ada, original).has_seen_answer
    assert not first_read(records, ada, second).has_seen_answer, "its twin's answer was not looked at"
    assert len(trail.entries(records, LocalTerminal(ada.id), action="see answer")) == 1


@pytest.mark.parametrize("copy", ["the same pixels", "mirrored", "another size"])
def test_a_twin_that_was_deleted_has_been_seen_all_the_same(records: Database, copy: str) -> None:
    ada = add_person(records, "Ada")
    twin = study_of(records, ada, image_of(COPIES[copy](breast(1)), 3))
    read_and_reveal(records, ada, twin)
    studies.delete_study(records, ada, twin, reason="wrong upload")
    (mark,) = first_read(records, ada, study_of(records, ada, image_of(breast(1), 1))).predictions_seen
    assert mark["seen_in"] == twin and mark["correlation"] == (1 if copy == "the same pixels" else None)


def test_scores_of_this_site_that_somebody_was_given_count_as_seen_and_marked_reads_stand_apart(
    records: Database,
) -> None:
    ada, ben = add_person(records, "Ada"), add_person(records, "Ben")
    finished = study_of(records, ben, image_of(breast(1), 1))
    read_and_reveal(records, ben, finished)
    reads.record_final_read(records, ben, finished, {"R": CALM})
    truths.record_truth(
        records, ben, finished, breast="R", pathology="malignant", happened_on=date(2024, 1, 1), source="biopsy"
    )
    for _ in range(2):
        assert reader_scores.reader_scores(records, ada)
    (entry,) = trail.entries(records, LocalTerminal(ada.id), action="see reader scores")
    assert entry.detail == {"studies": [finished]} and entry.person_id == ada.id

    twin = study_of(records, ada, image_of(breast(1)[:, ::-1], 2))
    assert first_read(records, ada, twin).has_seen_answer
    reads.record_final_read(records, ada, twin, {"R": CALM})
    truths.record_truth(
        records, ada, twin, breast="R", pathology="malignant", happened_on=date(2024, 1, 1), source="biopsy"
    )
    rows = list(csv.DictReader(io.StringIO(reader_scores.reader_scores(records, ben).decode())))
    of_ben, of_ada = (next(row for row in rows if row["case"].startswith(one)) for one in (finished, twin))
    assert of_ben[f"reader {ben.id}"] and of_ada[f"reader {ada.id} (has seen an answer)"]
    assert f"reader {ada.id}" not in of_ada


def test_an_answer_that_is_shown_while_the_read_is_saved_is_not_passed_over(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    original = study_of(records, ada, image_of(breast(1), 1))
    twin = study_of(records, ada, image_of(breast(1), 2))
    reads.record_first_read(records, ada, twin, {"R": CALM})
    look = answers_seen.seen_before

    def looked_too_early(*arguments: object) -> answers_seen.SeenBefore:
        found = look(*arguments)  # type: ignore[arg-type]
        reads.reveal(records, ada, twin)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(answers_seen, "seen_before", looked_too_early)
        with pytest.raises(Conflict, match="another window"):
            reads.record_first_read(records, ada, original, {"R": CALM})
    assert first_read(records, ada, original).has_seen_answer


def model_measured_on(db: Database, *pictures: np.ndarray, model_id: str = "mammography-own") -> str:
    """A training of this site whose test cases are these pictures; the sha256 of its weights."""
    card = next(card for card in shipped_cards(db.settings.weights_dir) if card.cases is not None)
    folder = db.settings.state_dir / "candidates" / "7" / model_id
    folder.mkdir(parents=True)
    weights = hashlib.sha256(model_id.encode()).hexdigest()
    rows = [
        {"split": split, "sha256": f"{n:064}", "pixels_sha256": "", "perceptual_hash": long_hash(one), "vendor": "",
         "width": 1, "height": 1, "brightness": 0.5}
        for split, n, one in [("train", 0, breast(77)), *(("test", n, one) for n, one in enumerate(pictures, 1))]
    ]  # fmt: skip
    cases = pd.DataFrame(rows)
    content = json.loads((card.folder / "card.json").read_text(encoding="utf-8")) | {
        "model_id": model_id,
        "cases": named_on_card(weights, cases),
    }
    content["weights"] = content["weights"] | {"sha256": weights, "files": []}
    (folder / cases_name(weights)).write_text(cases_csv(cases), encoding="utf-8", newline="")
    (folder / "card.json").write_text(json.dumps(content), encoding="utf-8")
    return weights


@pytest.mark.parametrize("copy", ["the same pixels", "another encoding", "mirrored, smaller and encoded anew"])
def test_scores_of_test_cases_that_somebody_was_given_count_as_seen(records: Database, copy: str) -> None:
    ada, ben = add_person(records, "Ada"), add_person(records, "Ben")
    weights = model_measured_on(records, breast(1), breast(2))
    for _ in range(2):
        answers_seen.record_case_scores_shown(records, ada, {"mammography-own": weights})
    (entry,) = trail.entries(records, LocalTerminal(ada.id), action="see case scores")
    assert entry.person_id == ada.id and entry.detail == {"weights_sha256": weights}

    study = study_of(records, ada, image_of(COPIES[copy](breast(1)), 3))
    read = first_read(records, ada, study)
    (mark,) = read.predictions_seen
    assert (mark["seen_in"], mark["way"], mark["correlation"]) == (weights, "test case", None)
    assert read.has_seen_answer and read.answers_seen == ("test case",)
    first = trail.entries(records, LocalTerminal(ada.id), action="first read")[0]
    assert first.detail["answers_seen_as_test_cases_of"] == [weights] and "answers_seen_in" not in first.detail
    assert not first_read(records, ben, study).has_seen_answer, "Ben was given nothing"


def test_only_the_cases_that_scores_were_given_of_are_marked(records: Database) -> None:
    ada = add_person(records, "Ada")
    shown = model_measured_on(records, breast(1))
    model_measured_on(records, breast(2), model_id="mammography-other")
    answers_seen.record_case_scores_shown(records, ada, {"mammography-own": shown})
    for number in (2, 77, *range(3, 9)):
        study = study_of(records, ada, image_of(breast(number), number))
        assert not first_read(records, ada, study).has_seen_answer, number
    assert first_read(records, ada, study_of(records, ada, image_of(breast(1), 1))).has_seen_answer


def test_scores_that_are_given_while_the_read_is_saved_are_not_passed_over(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    weights = model_measured_on(records, breast(1))
    study = study_of(records, ada, image_of(breast(1), 1))
    look = answers_seen.seen_before

    def looked_too_early(*arguments: object) -> answers_seen.SeenBefore:
        found = look(*arguments)  # type: ignore[arg-type]
        answers_seen.record_case_scores_shown(records, ada, {"mammography-own": weights})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(answers_seen, "seen_before", looked_too_early)
        with pytest.raises(Conflict, match="another window"):
            reads.record_first_read(records, ada, study, {"R": CALM})
    assert first_read(records, ada, study).has_seen_answer


def test_a_model_that_was_removed_stops_no_read(records: Database) -> None:
    ada = add_person(records, "Ada")
    answers_seen.record_case_scores_shown(records, ada, {"gone": "ab" * 32})
    weights = model_measured_on(records, breast(1))
    answers_seen.record_case_scores_shown(records, ada, {"mammography-own": weights})
    (records.settings.state_dir / "candidates" / "7" / "mammography-own" / cases_name(weights)).unlink()
    assert not first_read(records, ada, study_of(records, ada, image_of(breast(1), 1))).has_seen_answer


def forget_hashes(db: Database) -> None:
    """Images as a version without hashes stored them."""
    with db.begin() as connection:
        for row in connection.execute(select(tables.image.c.id, tables.image.c.meta)).all():
            meta = {key: value for key, value in row.meta.items() if key != "look"}
            connection.execute(update(tables.image).where(tables.image.c.id == row.id).values(meta=meta))


def n_unhashed(db: Database) -> int:
    with db.read() as connection:
        return sum("look" not in meta for meta in connection.execute(select(tables.image.c.meta)).scalars())


def test_pictures_of_an_earlier_version_get_their_hash_a_few_at_a_time(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    study_of(records, ada, *(image_of(breast(n), n) for n in range(1, 6)))
    with records.read() as connection:
        before = connection.execute(select(tables.image.c.id, tables.image.c.meta).order_by(tables.image.c.id)).all()
    forget_hashes(records)
    assert n_unhashed(records) == 5
    monkeypatch.setattr(answers_seen, "_BATCH", 2)
    monkeypatch.setattr(answers_seen, "_SOON_SECONDS", 0.01)
    with answers_seen.hashing(records):
        until = time.monotonic() + 30
        while n_unhashed(records) and time.monotonic() < until:
            time.sleep(0.02)
    with records.read() as connection:
        after = connection.execute(select(tables.image.c.id, tables.image.c.meta).order_by(tables.image.c.id)).all()
    assert after == before


def test_a_reader_waits_for_some_pictures_without_a_hash_and_the_trail_says_how_many_were_left(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    twin = study_of(records, ada, image_of(breast(1)[:, ::-1], 1))
    same = study_of(records, ada, image_of(breast(2), 2))
    for study in (twin, same, newest := study_of(records, ada, image_of(breast(3)[:, ::-1], 3))):
        read_and_reveal(records, ada, study)
    original, second, third = (study_of(records, ada, image_of(breast(n), n + 10)) for n in (1, 2, 3))
    forget_hashes(records)
    monkeypatch.setattr(answers_seen, "HASHED_AT_ONCE", 1)
    read = first_read(records, ada, third)
    assert read.has_seen_answer and read.predictions_seen[0]["seen_in"] == newest, "the newest was hashed at once"
    assert n_unhashed(records) == 4
    entry = trail.entries(records, LocalTerminal(ada.id), action="first read")[0]
    assert entry.detail["pictures_not_compared"] == 2
    assert first_read(records, ada, second).has_seen_answer, "equal pixels need no hash"
    monkeypatch.setattr(answers_seen, "HASHED_AT_ONCE", 40)
    assert first_read(records, ada, original).has_seen_answer
    entry = trail.entries(records, LocalTerminal(ada.id), action="first read")[0]
    assert "pictures_not_compared" not in entry.detail


def test_a_reveal_tells_the_trail_the_hashes_of_pictures_that_had_none(records: Database) -> None:
    ada = add_person(records, "Ada")
    twin = study_of(records, ada, image_of(breast(1)[:, ::-1], 1))
    forget_hashes(records)
    read_and_reveal(records, ada, twin)
    studies.delete_study(records, ada, twin, reason="wrong upload")
    assert first_read(records, ada, study_of(records, ada, image_of(breast(1), 2))).has_seen_answer
