"""What a study costs, on a site without models, and the formulas that make a year of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.commands.capacity import (
    HOURS_A_YEAR,
    PEAK,
    STEPS,
    USE,
    YEARS,
    Cost,
    cost_lines,
    growth_lines,
    measure,
    needed,
)
from core.errors import InvalidInput


def test_a_study_is_measured_in_a_site_that_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_data: Path
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("SECONDREAD_WEIGHTS_DIR", str(tmp_path / "weights"))  # no model: nothing loads TensorFlow
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    picture = test_data / "data/dicom/us_breast/uta11_13a7a53c_IM0.dcm"
    cost = measure("an ultrasound image", [picture])
    assert cost.n_files == 1 and cost.file_bytes == picture.stat().st_size
    assert cost.seconds["decode and check"] > 0 and set(cost.seconds) == set(STEPS)
    assert 0 < cost.sent_first <= cost.sent and cost.stored > 0 and cost.memory > 50e6
    assert cost.database > 500 and cost.transactions >= 4  # study, first read, reveal, final read
    assert not (tmp_path / "state").exists()
    assert any("0 live models" in line for line in cost_lines(cost))


def test_files_that_are_no_study_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.dcm").write_text("no picture")
    with pytest.raises(InvalidInput, match="Not every file can be read"):
        measure("nothing", [tmp_path])


def test_a_year_is_the_study_times_its_number() -> None:
    cost = Cost(
        "exam", 4, 1, dict.fromkeys(STEPS, 0.5), stored=10_000_000, database=2_000, transactions=5, sent=9_000_000
    )
    n = 3600 * HOURS_A_YEAR // int(PEAK)  # one exam a second in the busiest hour
    needs = needed(cost, n)
    assert needs.by_hour == 3600 and needs.cores == pytest.approx(len(STEPS) * 0.5 / USE)
    assert needs.store == n * YEARS * 10_000_000 and needs.database == n * YEARS * 2_000
    assert needs.megabits == pytest.approx(72) and needs.writes == pytest.approx(5)
    (_, line) = growth_lines(cost, [n])
    assert line.split()[:2] == [f"{n:,}", "3,600"] and "72 Mbit/s" in line
