"""Drift: the index and its alarm line, what is kept for it, and the page's comparisons, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import changed, made_card
from record_site import CALM, WORRIED, add_person, answer, explanation, picture, sqlite_only
from scipy.stats import chi2, ks_2samp
from sqlalchemy import update

from core.evaluation.charts.drift import alarm_figure, score_figure
from core.evaluation.statistics.drift import LEAST, PSI_LARGE, shift_of_numbers, shift_of_text
from core.models.card_cases import COLUMNS, cases_name
from core.models.cards import Card, CasesOnCard
from core.records.database import tables
from core.records.database.db import Database
from core.records.monitoring import drift
from core.records.monitoring.drift import compared, record_intake, shift_rows, weekly_rows
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, studies
from train.publishing.publish import put_cases


def test_the_index_by_hand() -> None:
    found = shift_of_text(["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70)
    p, q = np.array([60.5, 40.5]) / 101, np.array([30.5, 70.5]) / 101
    assert found.psi == pytest.approx(float(((q - p) * np.log(q / p)).sum())) and found.psi > PSI_LARGE
    assert found.is_alarm and (found.n_reference, found.n_recent, found.p) == (100, 100, None)


def test_the_line_of_chance_has_a_degree_of_freedom_less_than_bins() -> None:
    found = shift_of_text(["a", "b", "c"] * 10, ["a", "b", "c"] * 20)
    assert found.alarm_line == pytest.approx(chi2.ppf(0.999, 2) * (1 / 30 + 1 / 60)) and found.alarm_line > PSI_LARGE


def test_the_index_of_numbers_is_that_of_the_tenths_of_the_reference() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.random(500), rng.random(60) ** 2
    limits = np.quantile(before, np.arange(1, 10) / 10)
    tenths = [[f"{place}" for place in np.searchsorted(limits, one, side="right")] for one in (before, after)]
    of_numbers, of_text = shift_of_numbers(before, after), shift_of_text(*tenths)
    assert of_numbers.psi == pytest.approx(of_text.psi) and of_numbers.alarm_line == pytest.approx(of_text.alarm_line)


def test_without_a_shift_the_alarm_stays_silent_also_with_few_values() -> None:
    rng = np.random.default_rng(0)
    rang = [shift_of_numbers(rng.random(117), rng.random(40)).is_alarm for _ in range(300)]
    beyond_the_customary_line = [shift_of_numbers(rng.random(117), rng.random(40)).psi for _ in range(300)]
    assert sum(rang) <= 3
    assert sum((psi or 0) >= PSI_LARGE for psi in beyond_the_customary_line) > 30  # what the line of chance is for


def test_a_shift_rings_and_the_test_beside_it_is_scipy_s() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0, 1, 300), rng.normal(1, 1, 200)
    found = shift_of_numbers(one, other)
    assert found.is_alarm and found.ks == ks_2samp(one, other).statistic and (found.p or 1) < 1e-6
    assert not shift_of_numbers([0.5] * 50, [0.5] * 50).is_alarm


def test_values_above_one_that_much_of_the_reference_shares_are_a_bin_of_their_own() -> None:
    assert shift_of_numbers([1024.0] * 100, [3000.0] * 60).is_alarm
    shared_top = [*range(50), *[100] * 50]
    assert shift_of_numbers(shared_top, [*range(25), *[100] * 25, *[200] * 50]).is_alarm
    assert shift_of_numbers([1024.0] * 100, [512.0] * 60).is_alarm
    assert not shift_of_numbers([1024.0] * 100, [1024.0] * 60).is_alarm
    assert not shift_of_numbers(shared_top, shared_top).is_alarm


def test_a_vendor_that_was_never_there_rings_and_few_values_say_only_their_number() -> None:
    assert shift_of_text(["A"] * 200, ["A"] * 100 + ["new"] * 100).is_alarm
    few = shift_of_text(["A"] * 200, ["new"] * (LEAST - 1))
    assert not few.is_enough and not few.is_alarm and few.n_recent == LEAST - 1


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist", "administrator")


def card(folder: Path) -> Card:
    lines = ["case,patient,label,benign,malignant"]
    lines += [f"c{n},{n},benign,{1 - n / 100:.2f},{n / 100:.2f}" for n in range(100)]
    (folder / "eeeeeeee.test_scores.csv").write_text("\n".join(lines))
    return made_card(folder, weights={"sha256": "e" * 64}, threshold={"value": 0.5})


def test_what_was_stored_is_compared_with_the_year_before_and_answers_with_the_test_cases(
    records: Database, ann: Person, tmp_path: Path
) -> None:
    for number in range(2 * LEAST):
        tags = {"Manufacturer": "Old" if number < LEAST else "New"}
        study_id = studies.create_study(records, ann, display_name="x", images=[picture(number, tags=tags)])
        stored = studies.load_study(records, ann, study_id).images[0]
        predictions.record_predictions(records, study_id, stored.id, answer(stored.image, malignant=0.9), explanation())
        if number < LEAST:
            with records.begin() as connection:
                earlier = tables.now() - timedelta(weeks=20)
                connection.execute(update(tables.study).where(tables.study.c.id == study_id).values(created_at=earlier))
        elif number < LEAST + 4:
            reads.record_first_read(records, ann, study_id, {"R": WORRIED if number % 2 else CALM})
    record_intake(records, ann, n_read=30, n_refused=10)

    comparison = compared(records, ann, (card(tmp_path),), weeks=4)
    found = [*comparison.with_tests, *comparison.with_past]
    assert [one.name for one in comparison.with_tests] == ["Scores of model"]
    assert any("model was made before models listed their cases" in note for note in comparison.notes)
    by_name = {one.name: one.shift for one in found}
    assert by_name["Vendor, ultrasound"].is_alarm and not by_name["Kind of picture"].is_alarm
    assert (by_name["Size, ultrasound"].n_reference, by_name["Size, ultrasound"].is_alarm) == (LEAST, False)
    assert not by_name["Brightness, ultrasound"].is_alarm
    scores = by_name["Scores of model"]
    assert (scores.n_reference, scores.n_recent, scores.is_alarm) == (100, LEAST, True)
    assert (by_name["Refused files"].n_recent, by_name["Refused files"].is_enough) == (40, False)
    assert len(shift_rows(found)) == len(found) and len(alarm_figure(found).data[0].x) == sum(
        one.shift.is_enough for one in found
    )
    assert len(score_figure([0.1], [0.2]).data) == 2

    rows = weekly_rows(drift.seen(records, ann, since=timedelta(weeks=12)), (card(tmp_path),))
    assert rows[0]["Images"] == LEAST and rows[0]["Refused files"] == "25 % (n = 40)"
    assert rows[0]["Agrees with model"] == "50 % (n = 4, few)"


def test_images_unlike_what_a_model_learnt_from_are_counted_and_agree_with_nobody(
    records: Database, ann: Person, tmp_path: Path
) -> None:
    named = {"file": "f", "sha256": "0" * 64, "n_fitted": 400, "n_level": 100}
    model = changed(card(tmp_path), training_distance=named)
    for number in range(LEAST):
        study_id = studies.create_study(records, ann, display_name="x", images=[picture(number)])
        stored = studies.load_study(records, ann, study_id).images[0]
        said = replace(answer(stored.image, malignant=0.9), training_distance=1.0 if number % 2 else 1.0001)
        predictions.record_predictions(records, study_id, stored.id, said, explanation())
        if number < 4:
            reads.record_first_read(records, ann, study_id, {"R": WORRIED})
    found = compared(records, ann, (model,), weeks=4)
    (shift,) = [one.shift for one in found.with_tests if one.name == "Unlike the training images of model"]
    assert (shift.n_reference, shift.n_recent, shift.is_alarm) == (100, LEAST, True)
    rows = weekly_rows(drift.seen(records, ann, since=timedelta(weeks=12)), (model,))
    assert rows[0]["Unlike the training images of model"] == f"50 % (n = {LEAST})"
    assert rows[0]["Agrees with model"] == "100 % (n = 2, few)"


def listed(folder: Path, model_id: str, **columns: object) -> Card:
    """A model whose test cases are listed: 40 pictures as `picture` makes them, and one that it was trained on."""
    folder.mkdir()
    row = {"split": "test", "width": 20, "height": 24, "pixels_sha256": "", "perceptual_hash": "", "vendor": ""}
    rows = [
        {**row, "sha256": f"{number:064x}", "brightness": float(picture(number).pixels.mean()), **columns}
        for number in range(40)
    ]
    rows.append({**row, "split": "train", "width": 9000, "height": 9000, "brightness": 1.0, "sha256": "f" * 64})
    cases = pd.DataFrame(rows).reindex(columns=COLUMNS)
    made = card(folder).model_copy(
        update={"model_id": model_id, "cases": CasesOnCard(**put_cases(folder, "e" * 64, cases))}
    )
    return made


def test_pictures_are_compared_with_the_live_models_test_cases_once_for_those_that_share_them(
    records: Database, ann: Person, tmp_path: Path
) -> None:
    for number in range(LEAST):
        images = [picture(number, tags={"Manufacturer": "Acme"})]
        studies.create_study(records, ann, display_name="x", images=images)
    alike = [listed(tmp_path / name, name, vendor="Acme") for name in ("one", "two")]
    found = compared(records, ann, alike, weeks=4)
    inputs = {one.name: one for one in found.with_tests if not one.scores}
    assert list(inputs) == ["Size, ultrasound", "Brightness, ultrasound", "Vendor, ultrasound"]
    assert {one.against for one in inputs.values()} == {"test cases of one and 1 more"}
    for one in inputs.values():
        assert (one.shift.n_reference, one.shift.n_recent, one.shift.is_alarm) == (40, LEAST, False)
    assert inputs["Size, ultrasound"].shift.ks is not None and found.notes == ()

    other = listed(tmp_path / "three", "three", brightness=0.9, sha256="a" * 64)
    mammogram = changed(listed(tmp_path / "four", "four"), modality="mammography")
    found = compared(records, ann, [alike[0], other, mammogram], weeks=4)
    alarms = [one.name for one in found.with_tests if one.shift.is_alarm]
    assert alarms == ["Brightness, ultrasound (three)"]  # the size is the same, and no mammogram came
    assert found.notes == ("Vendors, ultrasound (three): none is stated for the test cases of three.",)
    (tmp_path / "three" / cases_name("e" * 64)).unlink()
    notes = compared(records, ann, [alike[0], other], weeks=4).notes
    assert len(notes) == 1 and "list of cases of three is missing" in notes[0]


def test_size_and_brightness_are_kept_at_the_door(records: Database, ann: Person) -> None:
    image = picture(1)
    studies.create_study(records, ann, display_name="x", images=[image])
    seen = drift.seen(records, ann, since=timedelta(days=1)).images[0]
    assert seen.megapixels == 24 * 20 / 1e6 and seen.brightness == pytest.approx(float(image.pixels.mean()))
    assert seen.vendor == "not stated"


@sqlite_only
@pytest.mark.parametrize(("malignant", "agrees"), [(0.5, True), (0.4999, False)])
def test_a_breast_at_the_threshold_agrees_with_a_worried_reader(
    records: Database, ann: Person, malignant: float, agrees: bool
) -> None:
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(1)])
    (stored,) = studies.load_study(records, ann, study_id).images
    said = answer(stored.image, malignant=malignant)  # against a threshold of 0.5
    predictions.record_predictions(records, study_id, stored.id, said, explanation())
    reads.record_first_read(records, ann, study_id, {"R": WORRIED})
    (call,) = drift.seen(records, ann, since=timedelta(days=1)).calls
    assert (call.weights_sha256, call.agrees) == ("e" * 64, agrees)


@sqlite_only
def test_a_breast_whose_images_were_answered_by_different_weights_is_no_call(records: Database, ann: Person) -> None:
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(1), picture(2)])
    first, second = studies.load_study(records, ann, study_id).images
    for stored, weights in ((first, "e" * 64), (second, "f" * 64)):
        predictions.record_predictions(
            records, study_id, stored.id, answer(stored.image, weights=weights), explanation()
        )
    reads.record_first_read(records, ann, study_id, {"R": WORRIED})
    assert drift.seen(records, ann, since=timedelta(days=1)).calls == ()
    predictions.record_predictions(records, study_id, first.id, answer(first.image, weights="f" * 64), explanation())
    (call,) = drift.seen(records, ann, since=timedelta(days=1)).calls
    assert call.weights_sha256 == "f" * 64
