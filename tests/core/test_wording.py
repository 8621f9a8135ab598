"""Numbers and the words after them."""

from __future__ import annotations

from core.wording import how_many


def test_one_thing_is_not_several() -> None:
    assert [how_many(n, "pair") for n in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]
    assert [how_many(n, "study", "studies") for n in (1, 2)] == ["1 study", "2 studies"]
