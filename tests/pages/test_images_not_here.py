"""Images of an exam that the archive has and the study has not: beside the pictures and in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from record_site import add_person, picture

from core.records.database.db import open_database
from core.records.reads import studies
from core.reports.content import not_here_text
from core.settings import Settings


def test_the_reader_and_the_report_are_told_of_images_that_are_not_here(tmp_path: Path) -> None:
    from pages.reader.parts import study_report, study_tools

    db = open_database(Settings(state_dir=tmp_path / "state"))
    ada = add_person(db, "Ada")
    study = studies.load_study(db, ada, studies.create_study(db, ada, display_name="x", images=[picture()]))
    labels = {one.id: "R CC" for one in study.images}
    for n, sentence in ((0, ""), (1, not_here_text(1)), (3, not_here_text(3))):
        told = replace(study, n_not_here=n)
        beside = " ".join(study_tools.warnings(told, labels))
        notes = " ".join(study_report._not_here(told))
        assert ("of this exam" in beside, "of this exam" in notes) == (n > 0, n > 0)
        assert sentence in beside and sentence == notes
    assert "3 more images" in not_here_text(3)
    db.close()
