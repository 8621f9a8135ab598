"""Backup and restore: everything is there again, or nothing has changed."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from record_site import CALM, add_person, picture, remove_by_policy, sqlite_only, stored_files
from sqlalchemy import select

from core import __main__ as program
from core.archive.archives import ArchiveAddress, archives_to_manage, name_archive
from core.archive.watching import WatchRules, watch_archive, watches_to_manage
from core.commands import restore
from core.errors import Conflict, InvalidInput, NotAllowed
from core.records.archives import outbox
from core.records.audit import heads, trail
from core.records.backup import site_backup
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.language import endpoint
from core.records.people import invitations, sessions
from core.records.people.permissions import LocalTerminal, Person
from core.records.reads.reads import reads_of, record_first_read
from core.records.reads.studies import create_study, load_study
from core.records.site_settings import choose
from core.settings import REPOSITORY, Settings

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
    assert not any(path for state in (new, records.settings) for path in state.state_dir.glob("tmp/*"))


def test_no_link_in_a_backup_opens_anything_after_the_restore_used_since_or_not(
    records: Database, tmp_path: Path
) -> None:
    ada = add_person(records, "Ada")
    said: list[str] = []
    bea, used = invitations.invite_person(records, ada, name="Bea", roles=["radiologist"])
    _, unused = invitations.invite_person(records, ada, name="Cleo", roles=["radiologist"])
    assert invitations.is_open(records, used) and invitations.is_open(records, unused)
    site_backup.back_up(records, tmp_path / "site.backup")
    assert invitations.use_link(records, used, "a long enough password").id == bea.id
    new = Settings(state_dir=tmp_path / "new")
    site_backup.restore(new, tmp_path / "site.backup", said.append)
    db = open_database(new)
    assert not invitations.is_open(db, used) and not invitations.is_open(db, unused)
    assert "2 one-time links ended with the restore" in " ".join(said)
    db.close()


def test_a_restored_site_sends_no_picture_to_a_language_model_before_it_is_permitted_there(
    records: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    choose(records, ada, "language_model", True)
    named = endpoint.name_endpoint(records, ada, protocol="openai", url="https://models.example/v1", model="x")
    for is_permitted in (False, True):
        if is_permitted:
            endpoint.permit(records, ada, named, reason="a comparison")
        backup, new = tmp_path / f"{is_permitted}.backup", tmp_path / f"new {is_permitted}"
        site_backup.back_up(records, backup)
        monkeypatch.setenv("SECONDREAD_STATE_DIR", str(new))
        assert restore.run(Namespace(file=backup)) == 0
        said = "permission that pictures go to the language model x at models.example ended"
        assert (said in capsys.readouterr().err) == is_permitted
        db = open_database(Settings(state_dir=new))
        there = endpoint.endpoint_now(db)
        assert there is not None and there.id == named and not there.is_permitted
        with pytest.raises(NotAllowed), db.begin() as connection:
            endpoint.require_permitted(connection, Settings(language_model=True), named)
        ended = trail.entries(db, LocalTerminal(ada.id), action="end permission")
        assert [one.detail for one in ended] == [{"by": "restore"}] * is_permitted
        assert trail.verify(db).is_intact
        db.close()
    now = endpoint.endpoint_now(records)
    assert now is not None and now.is_permitted, "the site that the backup is of goes on"


def test_a_restored_site_sends_nothing_to_an_archive_before_an_administrator_says_so_there(
    records: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = add_person(records, "Ada")
    unused = name_archive(records, ada, ArchiveAddress("Old PACS", "http://old.example"))
    used = name_archive(records, ada, ArchiveAddress("Main PACS", "http://main.example", sends=("sr", "pdf")))
    watch_archive(records, ada, used, WatchRules())
    study_id = create_study(records, ada, display_name="x", images=[picture(1)])
    read_id = record_first_read(records, ada, study_id, {"R": CALM})
    with records.begin() as connection:
        for number, state in enumerate(("queued", "running", "done")):
            connection.execute(
                tables.outbox.insert().values(
                    study_id=study_id, read_id=read_id, archive_id=used, kind="sr", image=number, sop_instance_uid="",
                    state=state, message="Waits.", attempts=0, tries=0, created_at=tables.now(),
                )
            )  # fmt: skip
        for asked_by in ("watch", "push", "archive"):
            row = {"archive_id": used, "exam_hash": "e" * 64, "sealed": "", "asked_by": asked_by, "state": "queued"}
            row |= {"message": "Waits.", "attempts": 0, "tries": 0, "priors_due_at": tables.now()}
            row |= {"created_by": ada.id, "created_at": tables.now()}
            connection.execute(tables.arrival.insert().values(**row))
    site_backup.back_up(records, tmp_path / "site.backup")
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "new"))
    assert restore.run(Namespace(file=tmp_path / "site.backup")) == 0
    said = capsys.readouterr().err
    assert "Nothing goes to Main PACS or comes by rules from there, and 2 results that waited will not be sent" in said
    db = open_database(Settings(state_dir=tmp_path / "new"))
    at_terminal = LocalTerminal(ada.id)
    assert {one.id: (one.name, one.sends) for one in archives_to_manage(db, at_terminal)} == {
        used: ("Main PACS", ()), unused: ("Old PACS", ()),
    }  # fmt: skip
    assert watches_to_manage(db, at_terminal) == {}
    with db.read() as connection:
        arrivals = connection.execute(select(tables.arrival).order_by(tables.arrival.c.id)).all()
    assert [row.state for row in arrivals] == ["cancelled", "cancelled", "queued"], "a person asked for the last"
    assert {row.priors_due_at for row in arrivals} == {None}
    assert sorted(row.state for row in outbox.results_of(db, at_terminal, study_id)) == [
        "cancelled", "cancelled", "done",
    ]  # fmt: skip
    (changed,) = trail.entries(db, at_terminal, action="change archive")
    assert (changed.detail["by"], changed.detail["before"]["sends"]) == ("restore", ["sr", "pdf"])
    db.close()
    assert [one.sends for one in archives_to_manage(records, ada)] == [("sr", "pdf"), ()], "the site itself goes on"


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


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_a_backup_with_lost_heads_says_so_and_can_be_restored(
    records: Database, site: tuple[Person, str], tmp_path: Path, damage: str
) -> None:
    path = heads.heads_path(records.settings)
    for _ in range(2):
        heads.write_head(records)
    lines = path.read_text().splitlines()
    lines[1:2] = [lines[1][:9]] if damage == "torn" else []
    path.write_text("\n".join([*lines, ""]))
    told: list[str] = []
    site_backup.back_up(records, tmp_path / "site.backup", told.append)
    assert "audit_heads.jsonl" in " ".join(told)
    site_backup.restore(Settings(state_dir=tmp_path / "new"), tmp_path / "site.backup")
    db = open_database(Settings(state_dir=tmp_path / "new"))
    assert heads.verify(db).lost and heads.verify(db).problems == heads.verify(db).lost
    db.close()


def test_a_backup_that_could_not_be_restored_is_none(
    records: Database, site: tuple[Person, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = heads.heads_path(records.settings)
    path.write_text(path.read_text().replace('"id": ', '"id": 1'))
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    assert program.main(["backup", str(tmp_path / "site.backup")]) == 1
    assert not (tmp_path / "site.backup").exists() and not list(tmp_path.glob(".*.half"))


def test_a_picture_that_the_sites_policy_removed_is_not_missing(
    records: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = add_person(records, "Ann", "radiologist", "administrator")
    study_id = create_study(records, ann, display_name="x", images=[picture(1)])
    remove_by_policy(records, ann, study_id, monkeypatch)
    heads.write_head(records)
    told: list[str] = []
    site_backup.back_up(records, tmp_path / "site.backup", told.append)
    assert told == []


def test_a_picture_that_the_store_lost_is_said(records: Database, site: tuple[Person, str], tmp_path: Path) -> None:
    records.store.remove(records.store.blobs.keys()[0])
    told: list[str] = []
    site_backup.back_up(records, tmp_path / "site.backup", told.append)
    assert "1 stored pictures are missing" in " ".join(told)


def test_a_head_written_while_a_backup_is_made_is_in_it(
    records: Database, site: tuple[Person, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def late(source: Path, target: Path) -> Path:
        done = copy(source, target)
        if Path(source).name == heads.NAME:
            heads.write_head(records)
        return done

    monkeypatch.setattr(shutil, "copyfile", late)
    site_backup.back_up(records, tmp_path / "site.backup")
    monkeypatch.undo()
    site_backup.restore(Settings(state_dir=tmp_path / "new"), tmp_path / "site.backup")
    db = open_database(Settings(state_dir=tmp_path / "new"))
    assert heads.verify(db).is_intact
    db.close()


BACKUP = """
import sys, time
from pathlib import Path
from core.commands import backup
from core.records.backup import site_backup
def slow(*arguments):
    print("staged", flush=True)
    time.sleep(60)
site_backup.write_archive = slow
from core import __main__ as program
sys.exit(program.main(["backup", sys.argv[1]]))
"""


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_a_killed_backup_leaves_nothing_that_the_next_start_does_not_remove(
    records: Database, site: tuple[Person, str], tmp_path: Path, number: int, left: int
) -> None:
    """Database, site key and links of pictures lay there for ever: no deletion and no retention reached them."""
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", BACKUP, tmp_path / "out" / "site.backup"], cwd=REPOSITORY, stdout=subprocess.PIPE,
        env={**os.environ, "SECONDREAD_STATE_DIR": str(records.settings.state_dir)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"staged\n"
    assert list(records.settings.state_dir.glob("tmp/*/site.key"))
    process.send_signal(number)
    assert process.wait(30) == (143 if number == signal.SIGTERM else -number)
    assert len(list(records.settings.state_dir.glob("tmp/*"))) == left == len(list((tmp_path / "out").iterdir()))
    open_database(records.settings).close()
    assert not list(records.settings.state_dir.glob("tmp/*"))
    site_backup.back_up(records, tmp_path / "out" / "site.backup")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["site.backup"]


def test_a_full_disk_is_a_sentence_and_no_backup(records: Database, site: tuple[Person, str], tmp_path: Path) -> None:
    """Of SQLite's own words for it, too: they are no OSError."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000));"
        "from core import __main__ as program; sys.exit(program.main(['backup', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, tmp_path / "site.backup"], cwd=REPOSITORY, capture_output=True, text=True,
        env={**os.environ, "SECONDREAD_STATE_DIR": str(records.settings.state_dir)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "no space" in done.stderr or "could not be written" in done.stderr, done.stderr
    assert not list(tmp_path.glob("*.backup")) and not list(records.settings.state_dir.glob("tmp/*"))


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
