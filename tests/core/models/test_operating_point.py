"""The threshold in words is counted from the validation scores, and says only the rule where they are not shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_cards import changed, made_card

from core.evaluation.tables.of_cards import headline, measured_at, site_operating_point, state_of
from core.models.cards import Card, all_cards
from core.models.operating_point import OF_SCREENING, OperatingPoint, operating_point
from core.settings import REPOSITORY, Settings

SHA = "12345678" + "0" * 56


@pytest.fixture
def card(tmp_path: Path) -> Card:
    threshold = {"value": 0.3, "rule": "the highest that finds most of the positive cases"}
    return made_card(tmp_path, weights={"sha256": SHA}, threshold=threshold)


def test_counts_come_from_the_validation_scores_and_a_score_at_the_threshold_is_above_it(card: Card):
    rows = ["case,patient,label,benign,malignant", "a,1,malignant,0.7,0.3", "b,2,malignant,0.8,0.2"]
    rows += ["c,3,benign,0.1,0.9", "d,4,benign,0.9,0.1", "e,5,benign,0.95,0.05"]
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join(rows))
    point = operating_point(card)
    assert (point.positives_above, point.n_positives, point.others_above, point.n_others) == (1, 2, 1, 3)
    words = point.text.replace("\u00a0", " ")
    assert words.startswith("Threshold 30.0 %, chosen on validation cases: the highest that finds most")
    assert words.endswith("There, 1 of 2 malignant cases were at or above it, and 1 of 3 others.")


def test_where_the_validation_scores_are_those_of_the_test_cases_the_words_say_so(card: Card):
    for folds, words in (
        (5, "chosen on cases scored out of fold, the test cases"),
        (None, "chosen on validation cases"),
    ):
        assert words in operating_point(changed(card, data={"folds": folds})).text


def test_the_interval_of_the_threshold_is_said_where_the_card_has_one_and_the_site_no_other(tmp_path: Path):
    threshold = {"value": 0.3, "rule": "a rule", "low": 0.0625, "high": 0.5}
    card = made_card(tmp_path, weights={"sha256": SHA}, threshold=threshold)
    assert "Threshold 30.0 % (6.2 to 50.0 % on resampled patients)" in operating_point(card).text.replace("\u00a0", " ")
    assert "resampled" not in operating_point(card, 0.4, "as this site wants").text


@pytest.mark.parametrize(("modality", "is_named"), [("mammography", True), ("ultrasound", False), ("histology", False)])
def test_readers_of_screening_mammograms_are_a_measure_for_mammograms_alone(
    tmp_path: Path, modality: str, is_named: bool
):
    rule = f"the highest that finds 86.9 % of the positive validation cases{OF_SCREENING} on 97.5 % of samples"
    point = operating_point(made_card(tmp_path, modality=modality, threshold={"value": 0.3, "rule": rule}))
    assert ("BCSC" in point.text) == ("BCSC" in point.rule_text) == is_named
    assert "the positive validation cases on 97.5 % of samples" in point.text or is_named


def test_every_shipped_rule_that_names_them_names_them_so():
    named = [card for card in all_cards(Settings(weights_dir=REPOSITORY / "weights")) if "BCSC" in card.threshold.rule]
    assert named and all(OF_SCREENING in card.threshold.rule for card in named)


def test_without_validation_scores_only_the_rule_is_said(card: Card):
    assert "There," not in operating_point(card).text
    assert "the highest that finds most of the positive cases" in operating_point(card).text


def test_a_fixed_sensitivity_is_found_on_the_validation_scores_and_measured_on_the_test_scores(card: Card):
    head = "case,patient,label,benign,malignant"
    positives = [f"p{n},{n},malignant,0,{n / 10}" for n in range(1, 11)]  # 0.1 to 1.0
    others = ["a,20,benign,0,0.25", "b,21,benign,0,0.15"]
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join([head, *positives, *others]))
    tests = ["x,1,malignant,0,0.24", "y,2,malignant,0,0.28", "z,3,benign,0,0.1"]
    (card.folder / "12345678.test_scores.csv").write_text("\n".join([head, *tests]))
    point = site_operating_point(card, Settings(thresholds="sensitivity", threshold_sensitivity=80))

    assert point.threshold == pytest.approx(0.275)  # eight of ten from 0.3 on; half-way to the next lower, 0.25
    assert (point.positives_above, point.n_positives, point.others_above) == (8, 10, 0)
    assert "by the choice of this site: the highest that finds 80 % of the positive validation" in point.text
    measured = measured_at(card, point)
    assert (measured["sensitivity_at_threshold"].value, measured["sensitivity_at_threshold"].n) == (0.5, 2)
    assert measured_at(card, operating_point(card))["sensitivity_at_threshold"].value == 0
    before = operating_point(card, 0.24, "")  # as answers have it that were given before the card was amended
    assert measured_at(card, before)["sensitivity_at_threshold"].value == 1


def test_a_sensitivity_that_cannot_be_found_leaves_the_card_s_threshold(card: Card):
    point = site_operating_point(card, Settings(thresholds="sensitivity"), own=0.7)
    assert point.is_of_card and point.threshold == 0.3


def test_measured_numbers_are_those_of_the_card_and_the_scores_as_they_are_now(card: Card):
    assert headline(card) == {}
    rows = ["case,patient,label,benign,malignant", "a,1,malignant,0.6,0.4", "b,2,malignant,0.8,0.2"]
    rows += ["c,3,benign,0.9,0.1", "d,4,benign,0.95,0.05"]
    scores = card.folder / "12345678.test_scores.csv"
    scores.write_text("\n".join(rows))
    assert headline(card)["sensitivity_at_threshold"].value == 0.5
    amended = changed(card, threshold={"value": 0.15, "rule": "a rule"})
    assert headline(amended)["sensitivity_at_threshold"].value == 1 and state_of(amended) != state_of(card)
    scores.write_text("\n".join([*rows, "e,5,malignant,1,0.01"]))
    assert headline(card)["sensitivity_at_threshold"].value == pytest.approx(1 / 3)


def test_what_is_measured_over_all_classes_is_said_where_there_are_more_than_two():
    of_two, of_more = (
        next(card for card in all_cards(Settings()) if (len(card.classes) > 2) is more) for more in (False, True)
    )
    assert "auc" in headline(of_two) and "kappa" not in headline(of_two)
    assert {"auc", "kappa"} <= set(headline(of_more))


def test_among_validation_cases_without_a_positive_one_no_sensitivity_is_looked_for(card: Card):
    rows = ["case,patient,label,benign,malignant", "a,1,normal,0.7,0.3", "b,2,benign,0.8,0.2"]
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join(rows))
    assert site_operating_point(card, Settings(thresholds="sensitivity")).is_of_card


def test_the_site_s_own_value_counts_only_where_the_policy_says_so(card: Card):
    assert site_operating_point(card, Settings(), own=0.7).is_of_card
    assert site_operating_point(card, Settings(thresholds="site")).is_of_card
    point = site_operating_point(card, Settings(thresholds="site"), own=0.7)
    assert point.threshold == 0.7 and "70.0\u00a0%, by the choice of this site" in point.text


def test_what_an_earlier_threshold_lacked_is_told_to_who_asks_and_not_repeated_with_the_rule(tmp_path: Path) -> None:
    threshold = {"value": 0.3, "rule": "the highest", "corrected": "0.5 was chosen without the allowance for chance"}
    point = operating_point(made_card(tmp_path, threshold=threshold))
    assert point.text.endswith(": the highest; corrected, because 0.5 was chosen without the allowance for chance.")
    assert point.rule_text == "Chosen on validation cases: the highest."
    assert "corrected" not in operating_point(made_card(tmp_path / "site", threshold=threshold), 0.4, "a value").text


def test_in_a_row_of_a_table_stand_the_threshold_its_interval_and_the_counts(card: Card, tmp_path: Path) -> None:
    def brief(one: Card) -> str:
        return operating_point(one).brief.replace("\u00a0", " ")

    assert brief(card) == "30.0 %"
    threshold = {"value": 0.3, "rule": "a rule", "low": 0.0625, "high": 0.5}
    assert brief(changed(card, threshold=threshold)) == "30.0 % (on resampled patients 6.2 to 50.0 %)"
    rows = ["case,patient,label,benign,malignant", "a,1,malignant,0.7,0.3", "b,2,malignant,0.8,0.2"]
    rows += ["c,3,benign,0.1,0.9", "d,4,benign,0.9,0.1", "e,5,benign,0.95,0.05"]
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join(rows))
    assert brief(card) == "30.0 %: 1 of 2 malignant and 1 of 3 other validation cases were at or above it"
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join(rows[:3]))
    assert brief(card) == "30.0 %"


def test_a_threshold_is_of_other_cases_than_the_tested_ones_only_where_that_is_said() -> None:
    point = OperatingPoint(0.3, "malignant", "a rule")
    assert not point.is_out_of_fold and point.is_of_card
    assert point.text == OperatingPoint(0.3, "malignant", "a rule", is_out_of_fold=False).text
