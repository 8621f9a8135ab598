"""What is gathered of a read for its results: the limits of a model's number stand in each form that states it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from page_site import CLASSES, release
from pypdf import PdfReader
from record_site import CALM, add_person, answer, explanation, picture
from sqlalchemy import Connection
from test_structured_report import KEY, WHO, _check, groups, image, items

from core.archive.archives import ArchiveAddress, name_archive
from core.archive.results.content import NO_CARD, ResultContent, gather
from core.archive.results.diagnostic_report import diagnostic_report
from core.archive.results.encapsulated_report import encapsulated_report
from core.archive.results.structured_report import structured_report
from core.errors import SiteFault
from core.models.training_distance import UNLIKE_TEXT
from core.records.archives.identity import SourceIdentity, record_identity
from core.records.database.db import Database, open_database
from core.records.reads import predictions, reads, studies
from core.settings import Settings

SHA256 = "e" * 64
LEAK = "Leaking split: 3 patients lie in two splits. It has not been tested on patients it never saw."
WEAK = "Weak: AUC 0.900 (95 % interval 0.700 to 0.950) on 60 test cases. Do not lean on it."


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "weights").mkdir()
    opened = open_database(Settings(state_dir=tmp_path / "state", weights_dir=tmp_path / "weights"))
    yield opened
    opened.close()


def read_of(db: Database, training_distance: float | None) -> ResultContent:
    """A final read of a study of an archive, whose one picture a model answered at that distance."""
    ada, shown = add_person(db, "Ada"), picture()
    archive_id = name_archive(db, ada, ArchiveAddress("pacs", "http://127.0.0.1:9/web"))

    def add(connection: Connection, study_id: str) -> None:
        identity = SourceIdentity(WHO, {shown.sha256: image(1, "R").tags})
        record_identity(connection, db.site_key, study_id, archive_id=archive_id, exam_hash="e" * 64, identity=identity)

    study_id = studies.create_study(db, ada, display_name="x", images=[shown], also=add)
    stored = studies.load_study(db, ada, study_id).images[0]
    given = replace(answer(shown, weights=SHA256), training_distance=training_distance)
    predictions.record_predictions(db, study_id, stored.id, given, explanation())
    reads.record_first_read(db, ada, study_id, {"R": CALM})
    reads.reveal(db, ada, study_id)
    return gather(db, reads.record_final_read(db, ada, study_id, {"R": CALM}))


def forms_of(content: ResultContent) -> list[list[str]]:
    """What the PDF, the structured report (by breast and by image) and the FHIR report say beside the number."""
    pdf = encapsulated_report(content, series_uid="2.25.1", uid="2.25.2").EncapsulatedDocument
    words = " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).split())
    by_breast, by_image, *_ = groups(structured_report(content, KEY, series_uid="2.25.1", uid="2.25.2"))
    (observed,) = [one for one in diagnostic_report(content)["contained"] if "device" in one]
    return [
        [words],
        *([one.TextValue for one in items(group, "Algorithm Parameters")] for group in (by_breast, by_image)),
        [one["text"] for one in observed["note"]],
    ]


def test_each_form_says_that_a_model_leaks_is_weak_and_never_saw_such_a_picture(db: Database, tmp_path: Path) -> None:
    leaks = ["3 patients lie in two splits."]
    release(db.settings.weights_dir, "ultrasound-fusion", sha256=SHA256, leaks=leaks, auc_low=0.7)
    content = read_of(db, 1.5)
    for said in forms_of(content):
        for sentence in (UNLIKE_TEXT, LEAK, WEAK):
            assert sum(sentence in one for one in said) == 1, (sentence, said)
    report = structured_report(content, KEY, series_uid="2.25.1", uid="2.25.2")
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    _check(tmp_path / "report.dcm")


def test_damaged_scores_are_said_and_a_live_list_that_cannot_be_read_is_waited_for(db: Database) -> None:
    data = {"name": "made", "n": 180, "splits": {"test": dict.fromkeys(CLASSES, 20)}, "split_by": "file"}
    release(db.settings.weights_dir, "ultrasound-fusion", sha256=SHA256, data=data)
    scores = db.settings.weights_dir / "ultrasound-fusion" / f"{SHA256[:8]}.test_scores.csv"
    scores.write_text('case,patient\n"')
    content = read_of(db, 1.0)
    (said,) = content.remarks.values()
    assert any("scores" in one for one in said)
    (db.settings.state_dir / "live.json").write_text("{")
    with pytest.raises(SiteFault, match="cannot be read"):
        gather(db, content.read_id)


def test_at_the_level_a_picture_is_not_unlike_and_a_card_that_is_gone_is_said(db: Database) -> None:
    for said in forms_of(read_of(db, 1.0)):
        assert not any(UNLIKE_TEXT in one or LEAK in one for one in said) and any(NO_CARD in one for one in said)
