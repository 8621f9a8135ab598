"""A few studies arrive while two people read: the short form of `make load-archive`."""

from __future__ import annotations

from pathlib import Path

from archive_load import run
from orthanc_site import running_orthanc


def test_nothing_is_lost_or_doubled_while_studies_arrive_and_two_read(tmp_path: Path) -> None:
    with running_orthanc(tmp_path) as orthanc:
        figures = run(orthanc, tmp_path / "state", 5, patience=240)
    assert (figures.arrived, figures.images, figures.failed, figures.exams_twice) == (5, 5, 0, 0), figures
    assert figures.results_delivered == figures.reports_in_archive == figures.reads, figures
    assert len(figures.sizes_mib) == 5 and figures.worklist_seconds
