"""De-identified exports: from an archive and from a folder into a zip, with who did it in the audit trail."""

from __future__ import annotations

import csv
import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_images import MG, dicom, stored_mammogram
from pydicom import dcmread
from record_site import Somebody, add_person, picture
from sqlalchemy import Connection

from core.__main__ import main
from core.archive import deidentified_export
from core.archive.archives import ArchiveAddress, name_archive
from core.archive.deidentified_export import can_export, export_study
from core.archive.dicomweb import DicomWeb, FoundInstance
from core.errors import ArchiveAway, InvalidInput, NotAllowed, NotFound
from core.imaging.dicom.source import OF_STUDY
from core.records.archives.identity import SourceIdentity, record_identity
from core.records.audit import trail
from core.records.database.db import Database, open_database
from core.records.reads import studies
from core.settings import Settings

STUDY = "1.2.826.0.1.3680043.8.498.4711"
SECRETS = (b"PLANTED", b"PETRA", STUDY.encode(), b"ACC-0815")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Settings(state_dir=tmp_path / "state"))
    yield opened
    opened.close()


@pytest.fixture
def ada(db: Database) -> Somebody:
    return add_person(db, "Dr Ada", "radiologist", "administrator")


def view(number: int, **tags: object) -> bytes:
    facts = {
        "PatientName": "Planted^Petra", "PatientID": "PLANTED-4711", "AccessionNumber": "ACC-0815",
        "StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": f"{STUDY}.1.{number}",
        "StudyDate": "20260102", "SOPClassUID": MG,
    }  # fmt: skip
    return dicom(stored_mammogram(seed=number), **{**facts, **tags})


def of_archive(db: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch, *contents: bytes) -> str:
    """A study that came from an archive, whose objects are these."""
    archive_id = name_archive(db, ada, ArchiveAddress("pacs", "http://127.0.0.1:9/web"))
    tags = {
        str(number): {"SOPInstanceUID": f"{STUDY}.1.{number}", "SeriesInstanceUID": f"{STUDY}.1", "SOPClassUID": MG,
                      "Modality": "MG", "Rows": "1", "Columns": "1"}
        for number in range(len(contents))
    }  # fmt: skip
    who = dict.fromkeys(OF_STUDY, "") | {"StudyInstanceUID": STUDY}

    def fetch(_web: DicomWeb, study_uid: str, instance: FoundInstance, target: Path, *, most: int) -> int:
        assert study_uid == STUDY and most > 0
        target.write_bytes(contents[int(instance.uid.rpartition(".")[2])])
        return target.stat().st_size

    def add(connection: Connection, study_id: str) -> None:
        record_identity(
            connection, db.site_key, study_id, archive_id=archive_id, exam_hash="e" * 64,
            identity=SourceIdentity(who, tags),
        )  # fmt: skip

    monkeypatch.setattr(DicomWeb, "fetch", fetch)
    return studies.create_study(db, ada, display_name="Case", images=[picture(laterality="L")], also=add)


def test_a_study_is_fetched_anew_and_handed_out_without_whom_it_shows(
    db: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = of_archive(db, ada, monkeypatch, view(0), view(1, BurnedInAnnotation="YES"), view(2))
    assert can_export(db, ada, study_id)
    content = export_study(db, ada, study_id)
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for secret in SECRETS:
        assert not [name for name, one in members.items() if secret in one.upper() or secret in name.upper().encode()]
    rows = list(csv.DictReader(io.StringIO(members["manifest.csv"].decode())))
    assert len(rows) == 2 and {row["laterality"] + row["view"] for row in rows} == {"RMLO"}
    for row in rows:
        one = dcmread(io.BytesIO(members[row["file"]]))
        assert (one.PatientID, one.StudyInstanceUID) == (row["patient"], row["study"])
        assert row["file"] == f"{row['patient']}/{row['study']}/{one.SOPInstanceUID}.dcm"
    facts = json.loads(members["manifest.json"])
    assert (facts["files"], facts["patients"], facts["studies"]) == (2, 1, 1)
    assert "inside them, and in other pictures, is not looked for" in facts["burnt_in"]
    assert "no file claims it" in facts["partly_done"]["113101"]
    assert all(row["burned_in_annotation"] == "" and "113101" not in row["methods"] for row in rows)
    assert list(facts["left_out"].values()) == [1] and "burnt into" in next(iter(facts["left_out"]))
    (entry,) = trail.entries(db, ada, action="export de-identified")
    assert entry.subject == f"study {study_id}" and entry.detail == {"files": 2, "left_out": 1}
    assert not list((db.settings.state_dir / "tmp").iterdir()), "nothing of it stays"


def test_what_is_not_here_is_said_and_nothing_is_recorded(
    db: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded = studies.create_study(db, ada, display_name="Uploaded", images=[picture()])
    assert not can_export(db, ada, uploaded)
    with pytest.raises(InvalidInput, match="was uploaded"):
        export_study(db, ada, uploaded)
    study_id = of_archive(db, ada, monkeypatch, view(0, BurnedInAnnotation="YES"))
    with pytest.raises(InvalidInput, match="None of the files"):
        export_study(db, ada, study_id)

    def away(*_: object, **__: object) -> int:
        raise ArchiveAway("pacs cannot be reached.")

    monkeypatch.setattr(DicomWeb, "fetch", away)
    with pytest.raises(ArchiveAway):
        export_study(db, ada, study_id)
    with pytest.raises(NotAllowed):
        export_study(db, add_person(db, "Rita", "researcher"), study_id)
    assert trail.entries(db, ada, action="export de-identified") == []


def test_whoever_may_not_export_any_more_when_the_files_have_come_gets_nothing(
    db: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = of_archive(db, ada, monkeypatch, view(0))
    real = deidentified_export.originals

    def lose_the_study(*arguments: object) -> list[Path]:
        found = real(*arguments)  # type: ignore[arg-type]
        studies.delete_study(db, ada, study_id, reason="wrong patient")
        return found

    monkeypatch.setattr(deidentified_export, "originals", lose_the_study)
    with pytest.raises(NotFound):
        export_study(db, ada, study_id)
    assert trail.entries(db, ada, action="export de-identified") == []


def test_the_command_cleans_a_folder_and_never_writes_over_a_file(
    db: Database, ada: Somebody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(db.settings.state_dir))
    folder = tmp_path / "Planted_Petra"
    folder.mkdir()
    for number, name in enumerate(("PLANTED_1.dcm", "PLANTED_2.dcm")):
        (folder / name).write_bytes(view(number))
    (folder / "again.dcm").write_bytes(view(0))
    (folder / "note.txt").write_text("PLANTED")
    out = tmp_path / "out.zip"
    assert main(["deidentify", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 files of 1 study, 1 patient." in said and "1 left out: This is no DICOM file." in said
    assert "is not looked for and may still be there" in said
    assert "once more" in said and "PLANTED" not in said.upper()
    with zipfile.ZipFile(out) as whole:
        assert len(whole.namelist()) == 4
        assert not [name for name in whole.namelist() if b"PLANTED" in whole.read(name).upper() + name.upper().encode()]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    assert main(["deidentify", str(folder), "--out", str(out)]) == 1 and out.read_bytes() == before
    assert "there already" in capsys.readouterr().err
    (entry,) = trail.entries(db, ada, action="export de-identified")
    assert entry.person_id is None and entry.detail == {"by": "local terminal", "files": 2, "left_out": 2}
