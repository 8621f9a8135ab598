"""What was begun is taken back by any failure, and by nothing else."""

from __future__ import annotations

import pytest

from core.records.database.files import undone_by


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_any_exception_takes_back_what_was_begun_and_goes_on(failure: BaseException) -> None:
    told: list[str] = []
    with pytest.raises(type(failure)) as raised, undone_by(lambda: told.append("undone")):
        raise failure
    assert raised.value is failure and told == ["undone"]


def test_what_succeeds_stays() -> None:
    told: list[str] = []
    with undone_by(lambda: told.append("undone")):
        told.append("done")
    assert told == ["done"]
