"""Backup and restore: everything is there again, or nothing has changed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from record_site import CALM, add_person, picture, sqlite_only, stored_files

from core import __main__ as program
from core.errors import Conflict, InvalidInput
from core.records.audit import heads, trail
from core.records.backup import site_backup
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.people.permissions import LocalTerminal, Person
from core.records.reads.reads import reads_of, record_first_read
from core.records.reads.studies import create_study, load_study
from core.settings import Settings

pytestmark = sqlite_only


@pytest.fixture
def site(records: Database) -> tuple[Person, str]:
    """A reader with a study of two pictures and a first read, and a trained model's file."""
    ann = add_person(records, "Ann", "radiologist")
    study_id = create_study(records, ann, display_name="x", images=[picture(1), picture(2)])
    record_first_read(records, ann, study_id, {"R": CALM}, "kept")
    candidate = records.settings.state_dir / "candidates" / "7" / "card.json"
    candidate.parent.mkdir(parents=True)
    candidate.write_text("{}")
    heads.write_head(records)
    return ann, study_id


def test_everything_is_there_again(records: Database, site: tuple[Person, str], tmp_path: Path) -> None:
    ann, study_id = site
    cookie = sessions.start_session(records, ann)
    summary = site_backup.back_up(records, tmp_path / "site.backup")
    assert (tmp_path / "site.backup").stat().st_mode & 0o077 == 0
    record_first_read(records, add_person(records, "Bob", "radiologist"), study_id, {"R": CALM})

    new = Settings(state_dir=tmp_path / "new state")
    assert site_backup.restore(new, tmp_path / "site.backup") == summary
    db = open_database(new)
    first, again = load_study(records, ann, study_id), load_study(db, LocalTerminal(ann.id), study_id)
    for one, other in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(one.image.pixels, other.image.pixels)
    assert [read.comment for read in reads_of(db, LocalTerminal(ann.id), study_id)] == ["kept"]
    assert db.site_key == records.site_key and stored_files(db) == stored_files(records)
    assert (new.state_dir / "candidates" / "7" / "card.json").read_text() == "{}"
    assert heads.verify(db) == trail.Verdict(summary.n_audit + 1, ())
    assert sessions.person_of(db, new, cookie) is None
    assert new.state_dir.stat().st_mode & 0o077 == 0
    db.close()
    assert not list(new.state_dir.glob(".restore-*")) and not list(records.settings.state_dir.glob("backup-*"))


def test_a_state_folder_with_something_in_it_is_left_alone(
    records: Database, site: tuple[Person, str], tmp_path: Path
) -> None:
    site_backup.back_up(records, tmp_path / "site.backup")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "note.txt").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        site_backup.restore(Settings(state_dir=tmp_path / "new"), tmp_path / "site.backup")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["note.txt"]


def test_a_broken_backup_is_a_sentence_and_changes_nothing(
    records: Database, site: tuple[Person, str], tmp_path: Path
) -> None:
    site_backup.back_up(records, tmp_path / "site.backup")
    whole = (tmp_path / "site.backup").read_bytes()
    middle = whole.index(b"\x89PNG") + 200
    damaged = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "other": b"PK\x03\x04" + bytes(2000),
    }
    new = Settings(state_dir=tmp_path / "new")
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match="Nothing was restored"):
            site_backup.restore(new, tmp_path / name)
        assert not any(new.state_dir.iterdir()), name


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "store/../../escaped", "pages/evil.py"])
def test_no_name_in_a_backup_leads_out_of_the_state_folder(
    records: Database, site: tuple[Person, str], tmp_path: Path, name: str
) -> None:
    site_backup.back_up(records, tmp_path / "site.backup")
    with tarfile.open(tmp_path / "site.backup") as whole, tarfile.open(tmp_path / "evil", "w") as evil:
        for entry in whole:
            content = whole.extractfile(entry).read()  # type: ignore[union-attr]
            if entry.name == site_backup.LIST:
                content = content.replace(b"candidates/7/card.json", name.encode())
            entry.name = name if entry.name == "candidates/7/card.json" else entry.name
            entry.size = len(content)
            evil.addfile(entry, io.BytesIO(content))
    with pytest.raises(InvalidInput):
        site_backup.restore(Settings(state_dir=tmp_path / "deep" / "new"), tmp_path / "evil")
    assert not list(tmp_path.rglob("*escaped*")) and not any((tmp_path / "deep" / "new").iterdir())


def test_no_file_is_overwritten_by_a_backup(records: Database, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("mine")
    with pytest.raises(Conflict):
        site_backup.back_up(records, tmp_path / "letter")
    assert (tmp_path / "letter").read_text() == "mine"


def test_both_commands_work_and_are_recorded(
    records: Database,
    site: tuple[Person, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    assert program.main(["backup", str(tmp_path / "site.backup")]) == 0
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "new"))
    assert program.main(["restore", str(tmp_path / "site.backup")]) == 0
    assert program.main(["restore", str(tmp_path / "site.backup")]) == 1
    assert "not empty" in capsys.readouterr().err
    ada = LocalTerminal(1)
    assert trail.entries(records, ada)[0].action == "backup"
    db = open_database(Settings(state_dir=tmp_path / "new"))
    assert trail.entries(db, ada)[0].action == "restore"
    db.close()
