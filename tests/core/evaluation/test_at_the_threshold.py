"""A score exactly at the threshold is positive wherever something is counted; other limits, exactly at them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.errors import InvalidInput
from core.evaluation.statistics.agreement import agreement, correlation
from core.evaluation.statistics.comparison import EXACT_BELOW, compare_calls, mcnemar_p
from core.evaluation.statistics.drift import LEAST, Shift, shift_of_numbers, shift_of_text
from core.evaluation.statistics.metrics import confusion, evaluate_threshold
from core.evaluation.statistics.operating_points import operating_rows
from core.evaluation.statistics.shadow import ShadowComparison, compare_shadow
from core.evaluation.statistics.subgroups import SMALL, number_bands, subgroups
from core.evaluation.statistics.summary import table_warnings
from core.evaluation.tables.case_lists import DISPUTED, FALSE_ALARMS, MISSED, WORST, list_cases
from core.evaluation.tables.scores import ScoreTable, read_scores

TRUTH = np.array([True, True, False, False])
AT, BELOW = np.array([0.5, 0.4, 0.5, 0.4]), np.array([0.4, 0.4, 0.4, 0.4])


def table(**scorers: np.ndarray) -> ScoreTable:
    n = len(next(iter(scorers.values())))
    frame = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(n)],
            "patient": range(n),
            "label": (np.arange(n) < n / 2).astype(int),
            **scorers,
        }
    )
    return read_scores(frame.to_csv(index=False).encode())


def test_the_four_counts_and_the_shares() -> None:
    counts = confusion(TRUTH, AT, 0.5)
    found = (counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives)
    assert found == (1, 1, 1, 1)
    for threshold in (0.5, np.full(4, 0.5)):
        shares = evaluate_threshold(TRUTH, AT, threshold)
        assert [shares[f"{name}_at_threshold"].value for name in ("sensitivity", "specificity")] == [0.5, 0.5]
        assert shares["ppv_at_threshold"].n == 2
    (row,) = operating_rows(table(x=AT), {"x": 0.5})
    assert (row.sensitivity, row.false_positive_rate) == (0.5, 0.5)
    (row,) = operating_rows(table(x=np.where(TRUTH, AT, 0.1)), {"x": 0.5})
    assert (row.sensitivity, row.false_positive_rate) == (0.5, 0)


def test_what_two_scorers_call_differently() -> None:
    (pair,) = agreement({"a": AT, "b": BELOW}, {"a": 0.5, "b": 0.5})
    assert (pair.only_first, pair.only_second) == (2, 0)
    (pair,) = agreement({"a": BELOW, "b": AT}, {"a": 0.5, "b": 0.5})
    assert (pair.only_first, pair.only_second) == (0, 2)
    (test,) = compare_calls(TRUTH, {"a": AT, "b": BELOW}, {"a": 0.5, "b": 0.5})
    assert (test.only_first, test.only_second) == (1, 1)  # right about one positive, wrong about one other


def test_lists_of_cases() -> None:
    made = table(a=AT, b=BELOW)
    limits = {"a": 0.5, "b": 0.5}
    assert list(list_cases(made, "a", None, limits, MISSED)["case"]) == ["c1"]
    assert list(list_cases(made, "a", None, limits, FALSE_ALARMS)["case"]) == ["c2"]
    assert set(list_cases(made, "a", "b", limits, DISPUTED)["case"]) == {"c0", "c2"}
    assert set(list_cases(made, "b", "a", limits, DISPUTED)["case"]) == {"c0", "c2"}


def test_a_subgroup_and_how_few_cases_are_few() -> None:
    (group,) = subgroups("x", np.array(["g"] * 4), TRUTH, AT, threshold=0.5)
    assert group.sensitivity is not None and group.sensitivity.value == 0.5
    assert group.specificity is not None and group.specificity.value == 0.5
    assert replace(group, n=SMALL - 1).is_small and not replace(group, n=SMALL).is_small
    one_class = subgroups("x", np.array(["g"] * 2), np.array([True, True]), np.array([0.1, 0.2]))
    assert one_class[0].auc is None and one_class[0].sensitivity is None


def test_a_column_is_one_of_numbers_where_more_than_half_and_more_than_eight_are() -> None:
    nine = [*map(str, range(9))]
    assert "to" in number_bands(np.array([*nine, *["x"] * 8], object))[0]
    assert number_bands(np.array([*nine, *["x"] * 9], object))[0] == "0"
    assert number_bands(np.array([*map(str, range(8))], object))[0] == "0"


def test_twenty_cases_of_each_class_are_enough_for_a_table() -> None:
    assert table_warnings(table(x=np.linspace(0, 1, 40)), []) == []
    fewer = table(x=np.linspace(0, 1, 39))
    assert fewer.positives == 20 and "fewer than 20 cases" in table_warnings(fewer, [])[0]


def test_twenty_patients_of_each_class_are_enough_for_a_table_whatever_its_cases() -> None:
    whole = table(x=np.linspace(0, 1, 80))
    pairs = replace(whole, patients=np.array([f"p{number // 4}-{number % 2}" for number in range(80)]))
    assert "too narrow" not in " ".join(table_warnings(pairs, []))
    fewer = replace(pairs, patients=np.where(pairs.patients == "p19-1", "p19-0", pairs.patients))
    assert "of 19 patients only" in table_warnings(fewer, [])[0]
    names = np.array(["malignant"] * 40 + ["benign"] * 15 + ["normal"] * 25, object)
    assert table_warnings(replace(whole, labels=names, positive="malignant"), []) == []


def test_mcnemar_is_exact_below_its_limit_only() -> None:
    def exact(one: int, other: int) -> bool:
        from scipy.stats import binomtest

        return mcnemar_p(one, other) == pytest.approx(binomtest(one, one + other).pvalue, abs=1e-12)

    assert exact(5, EXACT_BELOW - 6) and not exact(5, EXACT_BELOW - 5)
    assert mcnemar_p(0, 0) == 1


def test_drift_needs_its_least_values_and_rings_at_its_line() -> None:
    values = list(np.linspace(0, 1, LEAST))
    assert shift_of_numbers(values, values).is_enough and shift_of_text(["A"] * LEAST, ["A"] * LEAST).is_enough
    for before, after in ((values, values[1:]), (values[1:], values)):
        assert not shift_of_numbers(before, after).is_enough
    assert not shift_of_text(["A"] * (LEAST - 1), ["A"] * LEAST).is_enough
    assert Shift(50, 50, psi=0.25, alarm_line=0.25).is_alarm and not Shift(50, 50, psi=0.2499, alarm_line=0.25).is_alarm


@pytest.mark.parametrize(("positives", "n", "is_tested"), [(2, 4, True), (1, 4, False), (3, 4, False), (2, 5, True)])
def test_areas_of_a_shadow_model_need_two_of_each_class(positives: int, n: int, is_tested: bool) -> None:
    labels = [1.0] * positives + [0.0] * (n - positives)
    scores = np.linspace(0.9, 0.1, n)
    rows = {"study": range(n), "patient": range(n), "label": labels, "live": scores, "shadow": scores[::-1]}
    called = {"live_called": True, "shadow_called": [True] * (n - 1) + [False]}
    found = compare_shadow(pd.DataFrame({**rows, **called}))
    assert (found.test is not None) is is_tested and found.disagreement == pytest.approx(1 / n)


@pytest.mark.parametrize("score", [-0.001, 1.001])
def test_scores_are_from_0_to_1_and_both_ends_are_scores(score: float) -> None:
    ends = table(x=np.array([0.0, 1.0, 0.5, 0.5]))
    assert list(ends.scorers["x"]) == [0, 1, 0.5, 0.5]
    with pytest.raises(InvalidInput):
        table(x=np.array([score, 1.0, 0.5, 0.5]))


def shadowed(live: list[float], shadow: list[float], labels: list[float]) -> ShadowComparison:
    n, called = range(len(live)), dict.fromkeys(("live_called", "shadow_called"), True)
    return compare_shadow(
        pd.DataFrame({"study": n, "patient": n, "label": labels, "live": live, "shadow": shadow, **called})
    )


def test_scores_of_a_shadow_model_go_together_from_three_images_on_unless_one_never_changes() -> None:
    unknown = [np.nan] * 3
    assert shadowed([0.1, 0.2, 0.3], [0.2, 0.3, 0.9], unknown).correlation == pytest.approx(1)
    assert np.isnan(shadowed([0.1, 0.2], [0.2, 0.3], unknown[:2]).correlation)
    assert np.isnan(shadowed([0.1, 0.2, 0.3], [0.5] * 3, unknown).correlation)
    assert np.isnan(shadowed([0.5] * 3, [0.1, 0.2, 0.3], unknown).correlation)
    assert shadowed([0.1, 0.2, 0.3], [0.1] * 3, unknown).test is None


def test_the_area_of_a_shadow_model_less_that_of_the_live_one_is_of_the_malignant_images_whose_truth_is_known() -> None:
    labels = [1, 1, 1, 0, 0, 0, np.nan]
    better = [0.9, 0.8, 0.7, 0.3, 0.2, 0.1, 0.0]
    worse = [0.9, 0.8, 0.1, 0.3, 0.2, 0.15, 1.0]
    found = shadowed(worse, better, labels).test
    assert found is not None and (found.n, found.first, found.second) == (6, "shadow", "live")
    assert found.difference == pytest.approx(3 / 9)


def test_the_largest_subgroups_come_first_and_a_cell_of_spaces_is_not_stated() -> None:
    values = np.array(["a", "b", "b", "c", "c", "c", " ", "b "], object)
    found = subgroups("x", values, np.arange(8) < 4, np.linspace(0, 1, 8))
    assert [(one.value, one.n) for one in found] == [("b", 3), ("c", 3), ("a", 1), ("not stated", 1)]


def test_two_cases_are_enough_for_a_correlation_and_one_is_not() -> None:
    assert correlation(np.array([0.1, 0.2]), np.array([0.3, 0.1])) == pytest.approx(-1)
    assert np.isnan(correlation(np.array([0.1]), np.array([0.3])))
    assert np.isnan(correlation(np.array([0.1, 0.1]), np.array([0.3, 0.1])))
    assert np.isnan(correlation(np.array([0.3, 0.1]), np.array([0.1, 0.1])))


def test_the_loss_of_a_case_called_with_certainty_and_wrongly_is_large_and_a_number() -> None:
    made = table(a=np.array([0.0, 1.0, 1.0, 0.0]))
    losses = list_cases(made, "a", None, {"a": 0.5}, WORST)["loss of A"].to_numpy()
    assert losses == pytest.approx([-np.log(1e-6)] * 2 + [0, 0], abs=1e-5)
