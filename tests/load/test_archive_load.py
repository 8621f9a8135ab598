"""A few studies arrive while two people read: the short form of `make load-archive`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from archive_load import run
from orthanc_site import running_orthanc

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the server is forked from a warm process")


def test_nothing_is_lost_or_doubled_while_studies_arrive_and_two_read(tmp_path: Path) -> None:
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        figures = run(orthanc, tmp_path, 3, n_views=2, patience=240)
    assert (figures.arrived, figures.images, figures.failed, figures.lost, figures.twice) == (3, 6, 0, 0, 0), figures
    assert not figures.wrong, figures.wrong
    assert figures.results_delivered == figures.reports_in_archive == figures.reads, figures
    assert len(figures.sizes_mib) > 1 and figures.worklist_seconds
