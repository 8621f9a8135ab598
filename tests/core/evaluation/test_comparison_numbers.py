"""Cohorts, operating points, kept numbers, lists of cases, hybrids: what the researcher's pages stand on."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import changed
from pypdf import PdfReader

from core.errors import InvalidInput
from core.evaluation import cache
from core.evaluation.cache import ComparisonCache, resamples_for
from core.evaluation.charts.tables import pairs_figure
from core.evaluation.statistics.calibration import CalibrationLine, calibration_line
from core.evaluation.statistics.comparison import cross_validated, mean_of
from core.evaluation.statistics.intervals import Bootstrap, patient_indices
from core.evaluation.statistics.operating_points import (
    clear_best,
    compare_calls_by_class,
    differ_by,
    operating_rows,
    thresholds_at_specificity,
)
from core.evaluation.tables import case_lists
from core.evaluation.tables.cohort import (
    FINDING_SCORERS,
    PROPOSED_SCORERS,
    cohort_of_cards,
    cohort_of_upload,
    finding_scores_file,
    group_cards,
    with_scorers,
)
from core.evaluation.tables.scores import ScoreTable, label_names, read_scores, safe_csv
from core.models.cards import Card, all_cards
from core.reports.comparison import ComparisonReport, comparison_document
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.settings import Settings
from core.version import software

RNG = np.random.default_rng(7)
N = 240
TRUTH = np.arange(N) % 4 == 0
GOOD = np.clip(0.35 * TRUTH + 0.3 + 0.15 * RNG.normal(size=N), 0, 1)
POOR = np.clip(0.05 * TRUTH + 0.4 + 0.2 * RNG.normal(size=N), 0, 1)


def made_table(**scorers: np.ndarray) -> ScoreTable:
    frame = pd.DataFrame(
        {
            "case": [f"c{index}" for index in range(N)],
            "patient": [f"p{index // 2}" for index in range(N)],
            "label": TRUTH.astype(int),
            **(scorers or {"good": GOOD, "poor": POOR}),
            "density": np.where(np.arange(N) < 12, "A", "B"),
        }
    )
    return read_scores(frame.to_csv(index=False).encode())


@pytest.fixture(scope="module")
def numbers() -> ComparisonCache:
    return ComparisonCache(cohort_of_upload(made_table()))


def fake_cards(tmp_path: Path, *, relabel: bool = False) -> list[Card]:
    """The shipped card twice: the second model lacks one case and calls every third one worse."""
    cards_here = (card for card in all_cards(Settings()) if not card.data.folds)
    card = next(card for card in cards_here if len(card.classes) == 3 and card.data.name)
    scores = pd.read_csv(card.folder / f"{card.weights_sha256[:8]}.test_scores.csv")
    cards = []
    for name, table in (("one", scores), ("two", scores.iloc[1:])):
        folder = tmp_path / name
        folder.mkdir()
        if relabel and name == "two":
            table = table.assign(label=card.classes[0])
        table.to_csv(folder / f"{card.weights_sha256[:8]}.test_scores.csv", index=False)
        cards.append(card.model_copy(update={"model_id": name, "folder": folder}))
    return cards


def test_models_of_one_data_set_stand_side_by_side_and_a_missing_case_is_missing(tmp_path: Path) -> None:
    (group,) = group_cards(fake_cards(tmp_path))
    cohort = cohort_of_cards(group)
    assert cohort is not None and cohort.names == ("one", "two")
    assert np.isnan(cohort.table.scorers["two"]).sum() == 1 and not np.isnan(cohort.table.scorers["one"]).any()
    assert cohort.thresholds["one"] == group.cards[0].threshold.value
    assert cohort.provenance(["one"]).weights == {"one": group.cards[0].weights_sha256}


def test_models_of_other_questions_on_the_same_cases_are_groups_of_their_own(tmp_path: Path) -> None:
    cards = fake_cards(tmp_path)
    other = next(one for one in cards[0].classes if one != cards[0].positive)
    asked = changed(cards[0], model_id="other question", positive=other)
    groups = group_cards([asked, *cards])
    assert len({group.key for group in groups}) == len(groups) == 2
    (alone,) = group_cards(cards)
    assert groups[0].key == alone.key and [card.model_id for card in groups[0].cards] == ["one", "two"]
    assert groups[1].title.endswith(f"of {other}")


def test_patients_that_one_version_keeps_together_are_one_for_all(tmp_path: Path) -> None:
    (group,) = group_cards(fake_cards(tmp_path))
    before = cohort_of_cards(group)
    assert before is not None
    first, second = before.table.cases[1:3]  # the second model lacks the first case
    of = dict(zip(before.table.cases, before.table.patients, strict=True))
    assert of[first] != of[second]
    card = group.cards[1]
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    scores = pd.read_csv(path, dtype=str)
    # The names of patients mean nothing from table to table: those of this one are other words.
    scores["patient"] = "as " + scores["patient"]
    scores.loc[scores["case"] == second, "patient"] = scores.loc[scores["case"] == first, "patient"].item()
    scores.to_csv(path, index=False)
    cohort = cohort_of_cards(group)
    assert cohort is not None and list(cohort.table.cases) == list(before.table.cases)
    now = dict(zip(cohort.table.cases, cohort.table.patients, strict=True))
    assert now[first] == now[second]
    assert len(set(now.values())) == len(set(of.values())) - 1


def test_scores_of_measured_findings_stand_beside_the_models_of_their_cases(tmp_path: Path) -> None:
    (group,) = group_cards(fake_cards(tmp_path))
    bare = cohort_of_cards(group)
    assert bare is not None
    cases = list(bare.table.cases)
    outlined = cases[5:]
    values = np.linspace(0, 1, len(outlined))
    table = pd.DataFrame({"case": outlined[::-1], **dict.fromkeys(FINDING_SCORERS, values[::-1])})
    table.to_csv(finding_scores_file(group.cards[0]), index=False)
    cohort = cohort_of_cards(group)
    assert cohort is not None and cohort.names == ("one", "two", *FINDING_SCORERS)
    for name in FINDING_SCORERS:  # by case, whatever the order of the rows; none of a case without an outline
        assert np.isnan(cohort.table.scorers[name][:5]).all()
        assert cohort.table.scorers[name][5:] == pytest.approx(values)
    assert cohort.key != bare.key
    within = table.assign(**dict.fromkeys(PROPOSED_SCORERS, values[::-1])).iloc[:-3]
    within.to_csv(finding_scores_file(group.cards[0]), index=False)
    both = cohort_of_cards(group)
    assert both is not None and both.names == ("one", "two", *FINDING_SCORERS, *PROPOSED_SCORERS)
    assert np.isnan(both.table.scorers[PROPOSED_SCORERS[0]][:8]).all()


def test_numbers_are_kept_under_all_that_is_said_of_their_scorers(tmp_path: Path) -> None:
    (group,) = group_cards(fake_cards(tmp_path))
    cohort = cohort_of_cards(group)
    assert cohort is not None and cohort_of_cards(group).key == cohort.key
    scorers = {f"new {name}": one for name, one in cohort.table.scorers.items()}
    for other in (
        replace(cohort, table=replace(cohort.table, scorers=scorers)),
        replace(cohort, thresholds=dict.fromkeys(cohort.names, 0.123)),
        replace(cohort, thresholds={name: np.full(cohort.table.n, 0.1) for name in cohort.names}),
        replace(cohort, leaks={"one": ("Patients lie in two splits.",)}),
        replace(cohort, titles={"one": "Another title"}),
    ):
        assert other.key != cohort.key


def test_the_data_set_with_most_models_is_offered_first(tmp_path: Path) -> None:
    cards = fake_cards(tmp_path)
    alone = changed(cards[0], data={"name": "another", "sha256": "0" * 64})
    assert [len(group.cards) for group in group_cards([alone, *cards])] == [len(cards), 1]


def test_the_data_set_with_most_models_that_can_read_is_offered_before_one_with_more_that_are_measured_only(
    tmp_path: Path,
) -> None:
    measured_only = fake_cards(tmp_path)
    reader = next(card for card in all_cards(Settings()) if card.has_weights)
    assert not any(card.has_weights for card in measured_only)
    assert [group.cards for group in group_cards([*measured_only, reader])] == [(reader,), tuple(measured_only)]


def test_models_tested_in_folds_stand_apart_from_those_tested_on_a_split(tmp_path: Path) -> None:
    one, *rest = fake_cards(tmp_path)
    folded = changed(one, data=one.content()["data"] | {"folds": 5})
    together, apart = group_cards([*rest, folded])
    assert [card.model_id for card in together.cards] == [card.model_id for card in rest]
    assert [card.model_id for card in apart.cards] == [one.model_id]
    assert "in folds" in apart.key and "in folds" in apart.title and "in folds" not in together.key


def test_models_that_disagree_about_a_label_are_not_compared(tmp_path: Path) -> None:
    (group,) = group_cards(fake_cards(tmp_path, relabel=True))
    with pytest.raises(InvalidInput, match="disagree about the label"):
        cohort_of_cards(group)


def test_models_without_test_scores_give_no_cohort(tmp_path: Path) -> None:
    cards = [changed(card, folder=tmp_path / "empty") for card in fake_cards(tmp_path)]
    assert cohort_of_cards(group_cards(cards)[0]) is None


def test_a_cohort_computes_nothing_twice(numbers: ComparisonCache) -> None:
    names = ("good", "poor")
    first = (numbers.results(names), numbers.roc(names), numbers.precision_recall(names), numbers.pairs(names))
    again = (numbers.results(names), numbers.roc(names), numbers.precision_recall(names), numbers.pairs(names))
    assert all(one["good"] is other["good"] for one, other in zip(first[:3], again[:3], strict=True))  # type: ignore[index]


def test_calls_are_computed_once_for_each_choice_of_thresholds_and_the_last_choices_are_kept(
    numbers: ComparisonCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_CALLS_MOST", 2)
    half, third = {"good": 0.5, "poor": 0.5}, {"good": 0.3, "poor": 0.3}
    first = numbers.calls(half)
    assert first == compare_calls_by_class(numbers.cohort.table, half)
    assert numbers.calls(third) is not first and numbers.calls(dict(half)) is first
    by_case = {"good": np.full(numbers.cohort.table.n, 0.5), "poor": 0.5}
    assert numbers.calls(by_case) is not first and numbers.calls(by_case) == first
    assert numbers.calls(half) is first, "asked for last but one"
    numbers.calls(third)
    assert numbers.calls(by_case) is not first and numbers.calls(half) is not first, "only so many are kept"


def test_curves_without_bands_draw_nothing_from_the_bootstrap_and_have_the_same_points(
    numbers: ComparisonCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("good", "poor")
    with_bands = numbers.roc(names), numbers.precision_recall(names)
    bare = ComparisonCache(numbers.cohort)
    monkeypatch.setattr(Bootstrap, "blocks", lambda self: pytest.fail("a draw"))
    without = [{"good": kind(("good",), with_bands=False)["good"]} for kind in (bare.roc, bare.precision_recall)]
    for drawn, plain in zip(with_bands, without, strict=True):
        assert drawn["good"].low is not None and plain["good"].low is None
        assert (drawn["good"].thresholds == plain["good"].thresholds).all()


def test_what_threads_compute_is_what_one_scorer_alone_gives(numbers: ComparisonCache) -> None:
    alone = ComparisonCache(numbers.cohort).results(["poor"])["poor"]
    assert alone.measures == numbers.results(("good", "poor"))["poor"].measures


def test_a_huge_table_gets_fewer_draws() -> None:
    assert resamples_for(1440) == 2000 and resamples_for(100_000) == 200


def test_every_scorer_reaches_the_specificity_that_was_asked_for(numbers: ComparisonCache) -> None:
    thresholds = thresholds_at_specificity(numbers.roc(("good", "poor")), 0.9)
    rows = operating_rows(numbers.cohort.table, thresholds)
    for row in rows:
        assert row.shares["specificity_at_threshold"].value >= 0.9
        lower = operating_rows(numbers.cohort.table, {row.name: np.nextafter(row.threshold, 0) - 0.02})[0]
        assert lower.shares["specificity_at_threshold"].value < 0.9


def test_counts_at_the_threshold_are_those_of_a_loop(numbers: ComparisonCache) -> None:
    row = operating_rows(numbers.cohort.table, {"good": 0.5})[0]
    wanted = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
    for truth, score in zip(TRUTH, GOOD, strict=True):
        wanted[("t" if (score >= 0.5) == truth else "f") + ("p" if score >= 0.5 else "n")] += 1
    counts = row.counts
    assert (counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives) == tuple(
        wanted.values()
    )


def test_thresholds_may_differ_by_case_and_are_told_as_such(numbers: ComparisonCache) -> None:
    row = operating_rows(numbers.cohort.table, {"good": np.where(np.arange(N) % 2, 0.4, 0.6)})[0]
    assert np.isnan(row.threshold) and row.counts.n == N


def test_only_a_tested_difference_makes_a_best(numbers: ComparisonCache) -> None:
    values = {name: one.measures["auc"].value for name, one in numbers.results(("good", "poor")).items()}
    assert clear_best(values, differ_by(numbers.pairs(("good", "poor")))) == "good"
    twins = ComparisonCache(cohort_of_upload(made_table(one=GOOD, other=np.clip(GOOD + 0.001 * POOR, 0, 1))))
    areas = {name: one.measures["auc"].value for name, one in twins.results(("one", "other")).items()}
    assert clear_best(areas, differ_by(twins.pairs(("one", "other")))) is None
    assert clear_best({"good": 0.9}, lambda *_: True) is None


def test_calls_are_tested_on_positives_and_negatives_apart(numbers: ComparisonCache) -> None:
    found = compare_calls_by_class(numbers.cohort.table, {"good": 0.5, "poor": 0.5})
    assert found["sensitivity"][0].n == TRUTH.sum() and found["specificity"][0].n == (~TRUTH).sum()


def test_the_level_of_scores_at_zero_is_finite_and_brings_the_expected_number_of_positives() -> None:
    scores = np.where(np.arange(N) % 3, 0.0, GOOD)
    line = calibration_line(TRUTH, scores)
    assert isinstance(line, CalibrationLine)
    odds = np.log(np.clip(scores, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(scores, 1e-6, 1 - 1e-6))
    expected = 1 / (1 + np.exp(-(odds + line.in_the_large.value)))
    assert expected.sum() == pytest.approx(TRUTH.sum(), abs=1e-6)
    assert line.in_the_large.low < line.in_the_large.value < line.in_the_large.high


def test_cases_of_one_patient_alone_have_no_calibration_line() -> None:
    with pytest.raises(InvalidInput, match="cases of several patients"):
        calibration_line(TRUTH, GOOD, np.zeros(N, int))
    assert calibration_line(TRUTH, GOOD, np.arange(N) // (N // 2)).slope.n == N


def test_lists_of_cases_hold_what_their_names_say(numbers: ComparisonCache) -> None:
    table, at = numbers.cohort.table, {"good": 0.5, "poor": 0.5}
    missed = case_lists.list_cases(table, "good", "poor", at, case_lists.MISSED)
    assert len(missed) == (TRUTH & (GOOD < 0.5)).sum() and (missed["A: good"].to_numpy() < 0.5).all()
    assert missed["loss of A"].is_monotonic_decreasing
    disputed = case_lists.list_cases(table, "good", "poor", at, case_lists.DISPUTED)
    assert (
        len(disputed) == ((GOOD >= 0.5) != (POOR >= 0.5)).sum() and (disputed["A calls"] != disputed["B calls"]).all()
    )
    unsure = case_lists.list_cases(table, "good", None, at, case_lists.UNSURE, subgroup=("density", "A"))
    assert len(unsure) == 12 and np.abs(unsure["A: good"] - 0.5).is_monotonic_increasing
    assert case_lists.list_cases(table, "good", None, at, case_lists.DISPUTED).empty


def test_the_hybrid_of_two_useful_scorers_beats_both_and_weighs_them_on_other_cases() -> None:
    noise = np.random.default_rng(3)
    one, other = (np.clip(0.2 * TRUTH + 0.4 + 0.15 * noise.normal(size=N), 0, 1) for _ in range(2))
    table = made_table(one=one, other=other)
    mixed, weights = cross_validated(table, "one", "other")
    assert len(weights) == 5 and all(0 <= weight <= 1 for weight in weights) and not np.isnan(mixed).any()
    with_hybrid = made_table(one=one, other=other, mean=mean_of(table, "one", "other"), mixed=mixed)
    results = ComparisonCache(cohort_of_upload(with_hybrid)).results(("one", "other", "mean", "mixed"))
    areas = {name: result.measures["auc"].value for name, result in results.items()}
    assert min(areas["mean"], areas["mixed"]) > max(areas["one"], areas["other"])


def test_a_useless_partner_gets_no_weight() -> None:
    _, weights = cross_validated(made_table(), "good", "poor")
    assert min(weights) > 0.6


def test_of_weights_with_the_same_area_that_nearest_to_a_half_is_taken() -> None:
    _, weights = cross_validated(made_table(good=GOOD, again=GOOD), "good", "again")
    assert set(weights) == {0.5}


def test_labels_are_asked_for_only_where_they_are_names() -> None:
    assert label_names(b"case,patient,label,a\n1,1,0,.1\n2,2,1,.2\n") == ()
    assert label_names(b"case,patient,label,a\n1,1,benign,.1\n2,2,cancer,.2\n") == ("benign", "cancer")


def test_the_report_says_the_same_in_both_layouts_and_markup_in_a_name_is_inert() -> None:
    name = "<script>alert(1)</script>"
    numbers = ComparisonCache(cohort_of_upload(made_table(**{name: GOOD, "poor": POOR})))
    at = dict.fromkeys((name, "poor"), 0.5)
    report = ComparisonReport(
        numbers=numbers,
        rows=operating_rows(numbers.cohort.table, at),
        calls=compare_calls_by_class(numbers.cohort.table, at),
        mode="positive at or above a score of 0.500",
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        made_by="Ada",
    )
    html = build_html(comparison_document(report))
    pdf = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(comparison_document(report)))).pages)
    assert "<script" not in html and "&lt;script&gt;" in html
    area = f"{numbers.results([name])[name].measures['auc'].value:.3f}"
    for words in (area, "240", numbers.cohort.data_sha256[:8], "0.500", "Ada", "Holm", software()):
        assert words in html and words in pdf, words


def test_the_report_and_the_tables_name_a_pair_that_shares_no_case_and_call_nobody_best() -> None:
    half = np.arange(len(GOOD)) < len(GOOD) // 2
    table = made_table(early=np.where(half, GOOD, np.nan), late=np.where(half, np.nan, POOR), every=GOOD)
    numbers = ComparisonCache(cohort_of_upload(table))
    names = ("early", "late", "every")
    at = dict.fromkeys(names, 0.5)
    rows, calls = operating_rows(table, at), compare_calls_by_class(table, at)
    report = ComparisonReport(numbers, rows, calls, "one score", datetime(2026, 1, 1, tzinfo=UTC), "Ada")
    pages = PdfReader(io.BytesIO(build_pdf(comparison_document(report)))).pages
    text = " ".join(page.extract_text() for page in pages)
    assert "not compared" in text and "nan" not in text.casefold()
    assert "nan" not in pairs_figure(numbers.pairs(names)).to_json().casefold()
    assert numbers.pairs(names)[0].why_not and not differ_by(numbers.pairs(names))("early", "late")


def test_a_table_that_leaves_opens_again() -> None:
    frame = pd.DataFrame({"scorer": ["=1+1", "@x", "-2", "plain"], "value": [-0.5, 1.0, 2.0, 3.0]})
    text = safe_csv(frame)
    again = pd.read_csv(io.StringIO(text))
    assert list(again["scorer"]) == ["'=1+1", "'@x", "-2", "plain"] and list(again["value"]) == list(frame["value"])


def test_a_scorer_is_never_replaced_by_one_that_is_made_of_it() -> None:
    cohort = cohort_of_upload(made_table(**{"mean of both": GOOD, "poor": POOR}))
    with pytest.raises(InvalidInput, match="A scorer is called 'mean of both'"):
        with_scorers(cohort, {"mean of both": (GOOD + POOR) / 2})
    assert with_scorers(cohort, {"mean of two": (GOOD + POOR) / 2}).names == ("mean of both", "poor", "mean of two")


@pytest.mark.parametrize("names", [("one", "other"), ("other", "one")])  # weights below a half, and above
def test_a_case_of_a_hybrid_is_placed_among_the_cases_of_the_other_folds_with_the_weight_of_its_own(
    names: tuple[str, str],
) -> None:
    rng = np.random.default_rng(5)
    one, other = (np.round(np.clip(0.2 * TRUTH + 0.8 * rng.random(N), 0, 1), 1) for _ in range(2))
    table = made_table(one=one, other=other)
    mixed, weights = cross_validated(table, *names, folds=3, seed=4)
    assert any(weight not in (0.0, 0.5, 1.0) for weight in weights)
    people = patient_indices(table.patients, N)
    fold_of = (np.random.default_rng(4).permutation(people.max() + 1) % 3)[people]
    for number, weight in enumerate(weights):
        score = weight * table.scorers[names[0]] + (1 - weight) * table.scorers[names[1]]
        known = score[fold_of != number]
        for case in np.flatnonzero(fold_of == number):
            assert mixed[case] == pytest.approx((known < score[case]).mean() + (known == score[case]).mean() / 2)


@pytest.mark.parametrize(("n", "draws"), [(0, 2000), (10_000, 2000), (10_001, 1999), (1_000_000, 200)])
def test_up_to_ten_thousand_cases_all_draws_are_made(n: int, draws: int) -> None:
    assert resamples_for(n) == draws
