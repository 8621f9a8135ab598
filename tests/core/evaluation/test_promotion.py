"""The checks before a promotion, exactly at their limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card

from core.errors import InvalidInput
from core.evaluation.cache import ComparisonCache
from core.evaluation.promotion import Circumstances, Overlap, failed_checks, overlap, side_by_side
from core.types import Estimate

NOTHING = Circumstances(leaks=(), seen={}, is_replaced=True, is_compared=True)


def scores(positives: list[float], others: list[float]) -> pd.DataFrame:
    values = [*positives, *others]
    names = [f"c{number}" for number in range(len(values))]
    labels = ["malignant"] * len(positives) + ["benign"] * len(others)
    return pd.DataFrame(
        {"case": names, "patient": names, "label": labels, "benign": 1 - np.array(values), "malignant": values}
    )


def compared(folder: Path, candidate: pd.DataFrame, live: pd.DataFrame | None) -> ComparisonCache:
    card = made_card(folder)
    return ComparisonCache(side_by_side(card, candidate, None if live is None else card, live))


def keys(numbers: ComparisonCache, found: Circumstances = NOTHING, *, margin: float = 0.05) -> list[str]:
    return [line.key for line in failed_checks(numbers, found, margin=margin)]


def finding(n: int, of: int = 20) -> pd.DataFrame:
    """n of the positive cases at or above the threshold of .5, the others of both classes below it."""
    return scores([0.5] * n + [0.49] * (of - n), [0.1] * 20)


@pytest.mark.parametrize(
    ("live", "candidate", "margin", "fails"),
    [
        (20, 19, 0.05, False),  # exactly the margin
        (20, 18, 0.05, True),
        (20, 19, 0.049, True),
        (18, 17, 0.05, False),  # .9 - .85 is a little more than .05 in binary fractions
        (17, 17, 0.01, False),
        (15, 20, 0.01, False),
    ],
)
def test_sensitivity_may_be_lower_by_the_margin_and_no_more(
    live: int, candidate: int, margin: float, fails: bool, tmp_path: Path
) -> None:
    numbers = compared(tmp_path, finding(candidate), finding(live))
    assert ("sensitivity" in keys(numbers, margin=margin)) is fails


def calling(n: int, of: int = 20) -> pd.DataFrame:
    """n of the other cases called falsely at the threshold of .5, all positive ones found."""
    return scores([0.9] * 20, [0.5] * n + [0.1] * (of - n))


@pytest.mark.parametrize(
    ("live", "candidate", "margin", "fails"),
    [(0, 1, 0.05, False), (0, 2, 0.05, True), (0, 1, 0.049, True), (2, 3, 0.05, False), (3, 0, 0.01, False)],
)
@pytest.mark.parametrize("is_replaced", [True, False])  # a new name answers the same readers
def test_specificity_may_be_lower_by_the_margin_and_no_more(
    live: int, candidate: int, margin: float, fails: bool, is_replaced: bool, tmp_path: Path
) -> None:
    numbers = compared(tmp_path, calling(candidate), calling(live))
    found = Circumstances((), {}, is_replaced, is_compared=True, has_reference=True)
    assert ("specificity" in keys(numbers, found, margin=margin)) is fails


@pytest.mark.parametrize(("away", "fails"), [(0.15, False), (0.1501, True), (0.2, True), (0.1, False), (0.05, False)])
def test_calibration_may_be_worse_by_the_margin_and_no_more(away: float, fails: bool, tmp_path: Path) -> None:
    live = scores([0.9] * 20, [0.1] * 20)  # .1 from what is observed
    numbers = compared(tmp_path, scores([1 - away] * 20, [away] * 20), live)
    assert ("calibration" in keys(numbers)) is fails


def test_an_area_is_clearly_lower_only_where_its_whole_interval_is(tmp_path: Path) -> None:
    good = scores([0.9] * 20, [0.1] * 20)
    assert "area" in keys(compared(tmp_path, scores([0.9] * 20, [0.95] * 15 + [0.1] * 5), good))
    assert keys(compared(tmp_path, good, good)) == []
    one_lost = scores([0.9] * 19 + [0.55], [0.1] * 19 + [0.6])
    assert "area" not in keys(compared(tmp_path, one_lost, good))  # some draws of patients lose nothing


@pytest.mark.parametrize(("positives", "others", "fails"), [(20, 20, False), (19, 20, True), (20, 19, True)])
def test_fewer_than_twenty_of_a_class_say_too_little(positives: int, others: int, fails: bool, tmp_path: Path) -> None:
    table = scores([0.9] * positives, [0.1] * others)
    assert ("too small" in keys(compared(tmp_path, table, table))) is fails


@pytest.mark.parametrize(("women", "fails"), [(20, False), (19, True)])
def test_cases_of_fewer_than_twenty_patients_say_too_little(women: int, fails: bool, tmp_path: Path) -> None:
    table = scores([0.9] * 30, [0.1] * 30)
    table["patient"] = [f"{number % women}" for number in range(30)] * 2
    assert ("too small" in keys(compared(tmp_path, table, table))) is fails


def test_one_case_that_a_model_has_seen_is_enough(tmp_path: Path) -> None:
    numbers = compared(tmp_path, finding(20), finding(20))

    def seen(**models: Overlap | None) -> list[str]:
        return keys(numbers, Circumstances((), models, True, True))

    assert Overlap(3, 2, 1, 40).n == 6
    assert seen(candidate=Overlap(0, 0, 0, 40), live=None) == []
    assert seen(candidate=Overlap(1, 0, 0, 40)) == ["seen by candidate"]
    assert seen(candidate=Overlap(0, 1, 0, 40)) == ["seen by candidate"]
    assert seen(live=Overlap(0, 0, 1, 40)) == ["seen by live"]


def test_what_would_be_replaced_must_have_been_compared(tmp_path: Path) -> None:
    alone = compared(tmp_path, finding(20), None)
    assert keys(alone, Circumstances((), {}, is_replaced=True, is_compared=False)) == ["not compared"]
    assert keys(alone, Circumstances((), {}, is_replaced=False, is_compared=False)) == []
    new_name = Circumstances((), {}, is_replaced=False, is_compared=False, has_reference=True)
    assert keys(alone, new_name) == ["not compared"]
    assert keys(alone, Circumstances(("A patient is in two splits.",), {}, False, False)) == ["leak"]
    one_class = compared(tmp_path, scores([0.9] * 20, []), scores([0.9] * 20, []))
    assert keys(one_class) == ["not compared", "too small"]


def test_models_that_disagree_about_one_case_are_not_compared(tmp_path: Path) -> None:
    other = finding(20)
    other.loc[0, "label"] = "benign"
    with pytest.raises(InvalidInput, match="truth of 1 shared cases"):
        compared(tmp_path, finding(20), other)


def test_a_near_duplicate_differs_in_so_many_bits_and_no_more() -> None:
    tested = pd.DataFrame({"perceptual_hash": ["00" * 32], "sha256": ["a"], "pixels_sha256": [""], "patient": [""]})
    known = tested.assign(perceptual_hash="0f" + "00" * 31, sha256="b")  # four bits
    assert overlap(tested, known, alike_bits=4) == Overlap(0, 0, 1, 1)
    assert overlap(tested, known, alike_bits=3) == Overlap(0, 0, 0, 1)
    assert overlap(tested, known.assign(sha256="a"), alike_bits=4) == Overlap(1, 0, 0, 1)
    assert overlap(tested, known.iloc[:0], alike_bits=4).n == 0


@pytest.mark.parametrize(("low", "expected"), [(0.6, ["chance"]), (0.6001, [])])
def test_a_candidate_whose_interval_reaches_chance_needs_a_reason(
    low: float, expected: list[str], tmp_path: Path
) -> None:
    measured, numbers = Estimate(0.7, low, 0.8, 100), compared(tmp_path, finding(20), finding(20))
    assert keys(numbers, Circumstances((), {}, False, True, measured)) == expected


def test_a_candidate_that_breaks_its_threshold_s_promise_needs_a_reason(tmp_path: Path) -> None:
    numbers = compared(tmp_path, finding(20), finding(20))
    found = Circumstances((), {}, False, True, broken_promise="Its threshold finds too few.")
    (line,) = failed_checks(numbers, found, margin=0.05)
    assert line.key == "promise" and line.sentence.startswith("Its threshold finds too few. Promoted with a reason")


def test_where_the_card_names_no_area_that_on_the_compared_cases_counts(tmp_path: Path) -> None:
    blind = scores([0.1, 0.9] * 10, [0.1, 0.9] * 10)
    assert keys(compared(tmp_path, blind, blind)) == ["chance"]
