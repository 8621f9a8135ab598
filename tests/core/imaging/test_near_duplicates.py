"""Copies of a picture are known again, and other pictures are not taken for copies."""

from __future__ import annotations

import numpy as np
import pytest
from made_images import breast

from core.imaging.near_duplicates import (
    CANDIDATE_BITS,
    CORRELATION,
    hash_distance,
    long_hash,
    registered_correlation,
)
from core.imaging.preprocess import resize


def test_registration_decides_between_copies_and_others() -> None:
    one = breast(1)
    assert registered_correlation(one, np.roll(one, (4, 5), (0, 1))) > CORRELATION
    assert registered_correlation(one, breast(2)) < 0.95
    assert registered_correlation(one, np.full((9, 9), 0.5, np.float32)) == 0
    colour = np.repeat(one[..., None], 3, axis=2)
    assert registered_correlation(one, colour) > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_of_a_smaller_or_darker_copy_is_near_and_that_of_a_mirrored_one_is_not(seed: int) -> None:
    one = breast(seed)
    assert hash_distance(long_hash(one), long_hash(resize(one, (107, 80)))) <= CANDIDATE_BITS
    assert hash_distance(long_hash(one), long_hash(one**1.2)) <= CANDIDATE_BITS
    assert hash_distance(long_hash(one), long_hash(one[:, ::-1])) > CANDIDATE_BITS
    assert hash_distance(long_hash(one), "") == 256
