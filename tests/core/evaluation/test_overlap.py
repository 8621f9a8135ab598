"""Which tested cases a model has seen: same picture, same patient, nearly the same picture."""

from __future__ import annotations

import pandas as pd

from core.evaluation.promotion import Overlap, overlap


def test_a_case_counts_once_and_nearness_is_a_number_of_bits() -> None:
    def rows(*found: tuple[str, str, str]) -> pd.DataFrame:
        return pd.DataFrame(found, columns=["sha256", "patient", "perceptual_hash"])

    zero, near, far = "00" * 32, "00" * 31 + "0f", "00" * 31 + "1f"
    known = rows(("a", "p", zero), ("x", "", ""))
    tested = rows(("a", "p", zero), ("b", "p", zero), ("c", "q", near), ("d", "r", far), ("e", "", ""))
    assert overlap(tested, known, alike_bits=4) == Overlap(same=1, patients=1, alike=1, of=5)
    assert overlap(tested, known, alike_bits=5).alike == 2
    assert overlap(tested, known.iloc[:0], alike_bits=4).text == "none of 5"
    assert overlap(tested, known, alike_bits=4).text == (
        "3 of 5: 1 the same picture, 1 the same patient, 1 nearly the same picture"
    )
