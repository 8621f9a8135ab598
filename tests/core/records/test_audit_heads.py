"""The second file with the head of the chain, the command and the file for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from record_site import add_person, picture, sqlite_only, stranger
from sqlalchemy import text

from core import __main__ as program
from core.errors import NotAllowed
from core.records.audit import heads, trail
from core.records.database.db import Database, open_database
from core.records.reads.studies import create_study, record_opening
from core.settings import Settings

pytestmark = sqlite_only
NOT_ADMINISTRATORS = [(), ("radiologist",), ("researcher",), ("radiologist", "researcher")]


def act(db: Database, action: str = "sign in", subject: str = "person 1") -> None:
    with db.begin() as connection:
        trail.record(connection, 1, action, subject)


def test_the_head_that_was_written_verifies_while_the_chain_grows(records: Database) -> None:
    act(records)
    heads.write_head(records)
    act(records)
    assert heads.verify(records) == trail.Verdict(2, ())
    assert heads.heads_path(records.settings).stat().st_mode & 0o077 == 0


def test_an_older_copy_of_the_whole_database_shows(record_settings: Settings, tmp_path: Path) -> None:
    db = open_database(record_settings)
    act(db)
    db.close()
    file = record_settings.state_dir / "secondread.sqlite3"
    shutil.copy(file, tmp_path / "older")
    db = open_database(record_settings)
    act(db)
    heads.write_head(db)
    db.close()
    for rest in record_settings.state_dir.glob("secondread.sqlite3*"):
        rest.unlink()
    shutil.copy(tmp_path / "older", file)

    db = open_database(record_settings)
    assert trail.verify(db).is_intact
    assert "the chain reached row 2, which is not there" in " ".join(heads.verify(db).problems)
    act(db, "sign out")
    assert "Row 2 is another one" in " ".join(heads.verify(db).problems)
    db.close()


@pytest.mark.parametrize("damage", ["changed", "unreadable", "missing"])
def test_a_damaged_second_file_is_told(records: Database, damage: str) -> None:
    act(records)
    act(records)
    heads.write_head(records)
    path = heads.heads_path(records.settings)
    line = json.loads(path.read_text())
    path.write_text({"changed": json.dumps({**line, "id": 1}), "unreadable": "{", "missing": ""}[damage])

    assert len(heads.verify(records).problems) == 1
    assert {"changed": "was changed", "unreadable": "cannot be read", "missing": "is missing"}[damage] in (
        heads.verify(records).problems[0]
    )


def written(db: Database, n: int) -> Path:
    """Their file, with so many lines."""
    for _ in range(n):
        act(db)
        heads.write_head(db)
    return heads.heads_path(db.settings)


def test_a_deleted_or_shortened_second_file_stays_red_whatever_is_written_afterwards(records: Database) -> None:
    path = written(records, 3)
    last = path.read_text().splitlines()[-1]
    path.unlink()
    heads.write_head(records)
    assert heads.verify(records).lost == ("3 lines are missing from audit_heads.jsonl: 4 were written.",)
    path.write_text(last + "\n" + path.read_text())
    assert not heads.verify(records).is_intact
    with records.begin() as connection:
        connection.execute(text("UPDATE site SET value = '2 00' WHERE key = 'audit_heads'"))
    heads.write_head(records)
    assert "changed in the database" in heads.verify(records).problems[0]


@pytest.mark.parametrize(("remembered", "n_lines"), [(None, 0), ("2 00", 2)])
def test_a_backup_has_as_many_lines_as_its_copy_of_the_database_remembers(
    record_settings: Settings, remembered: str | None, n_lines: int, tmp_path: Path
) -> None:
    copy, own, staged = (tmp_path / name for name in ("copy", "own", "staged"))
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("CREATE TABLE site (key TEXT, value TEXT)")
        if remembered is not None:
            database.execute("INSERT INTO site VALUES ('audit_heads', ?)", (remembered,))
    own.write_text('{"id": 1}\n{"id": 2}\n{"id": 3}\n')
    staged.write_text("")
    heads.stage_for(copy, own, staged)
    assert staged.read_text().splitlines() == ['{"id": 1}', '{"id": 2}', '{"id": 3}'][:n_lines]


def test_a_line_that_a_crash_tore_was_never_promised_and_is_cut_off(
    records: Database, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(records, 2)
    whole = path.read_text()
    path.write_text(whole + '{"at": "2026-')
    assert heads.verify(records).is_intact
    heads.write_head(records)
    assert path.read_text().startswith(whole + '{"at"') and len(path.read_text().splitlines()) == 3
    assert heads.verify(records).is_intact and "cut off" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_last_line_that_only_lacks_its_end_is_kept(records: Database) -> None:
    path = written(records, 2)
    path.write_text(path.read_text().rstrip("\n"))
    heads.write_head(records)
    assert len(path.read_text().splitlines()) == 3 and heads.verify(records).is_intact


def test_a_repair_begins_anew_and_says_in_the_trail_what_was_lost(
    records: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(records, 3)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], lines[2], ""]))
    assert len(heads.verify(records).lost) == 1
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    assert program.main(["audit", "verify"]) == 3
    assert program.main(["audit", "repair-heads"]) == 0
    assert program.main(["audit", "verify"]) == 0
    assert "1 lines were lost" in capsys.readouterr().out
    entry = trail.entries(records, add_person(records, "Ada", "administrator"), action="repair audit heads")[0]
    assert entry.detail == {"lost": 1}
    assert path.read_text().startswith(f"{lines[0]}\n{lines[2]}\n") and len(list(path.parent.glob("*.damaged-*"))) == 1
    assert program.main(["audit", "repair-heads"]) == 0 and "Nothing was lost" in capsys.readouterr().out


def test_as_many_lines_as_are_gone_are_said_to_be_lost(records: Database) -> None:
    path = written(records, 5)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[4], ""]))
    assert heads.repair(records) == 3 and heads.repair(records) == 0


def test_what_contradicts_the_chain_is_no_loss_and_no_repair_removes_it(records: Database) -> None:
    path = written(records, 2)
    line = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps({**line, "id": 2}) + "\n" + path.read_text().splitlines()[1] + "\n")
    assert heads.repair(records) == 0
    assert "was changed" in heads.verify(records).problems[0] and not heads.verify(records).lost


def test_the_line_is_on_the_disk_before_the_database_knows_of_it(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(records, 1)
    monkeypatch.setattr(heads, "_remember", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        heads.write_head(records)
    monkeypatch.undo()
    assert len(path.read_text().splitlines()) == 2 and heads.verify(records).is_intact
    heads.write_head(records)
    assert heads.verify(records).is_intact


def test_the_head_is_written_at_start_and_again_on_another_day(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    act(records)
    path = heads.heads_path(records.settings)
    monkeypatch.setattr(heads, "LOOK_SECONDS", 0.02)

    def lines_within_a_moment(n: int) -> int:
        until = datetime.now(UTC) + timedelta(seconds=5)
        while datetime.now(UTC) < until and (not path.exists() or len(path.read_text().splitlines()) < n):
            pass
        return len(path.read_text().splitlines())

    with heads.written_daily(records):
        assert lines_within_a_moment(1) == 1
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        monkeypatch.setattr(heads, "now", lambda: tomorrow)
        assert lines_within_a_moment(2) == 2
    assert heads.last_written(records) == tomorrow.replace(microsecond=0)


def test_the_command_says_whether_the_chain_holds(
    records: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    act(records)
    heads.write_head(records)
    assert program.main(["audit", "verify"]) == 0
    assert "Chain verified: 1 rows" in capsys.readouterr().out

    with records.begin() as connection:
        connection.execute(text("DROP TRIGGER audit_refuses_update"))
        connection.execute(text("UPDATE audit SET subject = 'person 2'"))
    assert program.main(["audit", "verify"]) == 3
    told = capsys.readouterr().out
    assert "Row 1 was changed after it was written." in told and "NOT" in told


def test_a_mistyped_state_folder_does_not_verify(
    record_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "nowhere"))
    assert program.main(["audit", "verify"]) == 1
    assert "SECONDREAD_STATE_DIR" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_the_file_holds_no_formula_and_its_making_is_recorded(records: Database) -> None:
    ada = add_person(records, "=HYPERLINK(1)", "administrator")
    for subject in ("@SUM(A1)", "+1", "-1", " =1", "study 1"):
        act(records, subject=subject)

    content = trail.export_csv(records, ada, trail.entries(records, ada))
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))

    assert [row["subject"] for row in rows] == ["study 1", "' =1", "'-1", "'+1", "'@SUM(A1)"]
    assert {row["person"] for row in rows} == {"'=HYPERLINK(1)"}
    assert trail.entries(records, ada)[0].action == "export audit"


def test_the_trail_is_filtered_by_person_subject_and_time(records: Database) -> None:
    ada = add_person(records, "Ada", "administrator")
    act(records, subject="study 10%")
    act(records, subject="study 100")
    with records.begin() as connection:
        trail.record(connection, None, "sign-in refused", "unknown name")
    soon = datetime.now(UTC) + timedelta(hours=1)

    assert [entry.subject for entry in trail.entries(records, ada, subject="10%")] == ["study 10%"]
    assert len(trail.entries(records, ada, person_id=ada.id)) == 2
    assert trail.entries(records, ada, before=soon - timedelta(days=1)) == []
    assert len(trail.entries(records, ada, before=soon)) == 3
    assert trail.actions_and_people(records, ada) == (["sign in", "sign-in refused"], {ada.id: "Ada"})


@pytest.mark.parametrize("roles", NOT_ADMINISTRATORS)
def test_only_administrators_export_or_filter_the_trail(records: Database, roles: tuple[str, ...]) -> None:
    nobody = stranger(records, *roles)
    with pytest.raises(NotAllowed):
        trail.export_csv(records, nobody, [])
    with pytest.raises(NotAllowed):
        trail.actions_and_people(records, nobody)
    assert trail.verify(records).n == 0


def test_opening_a_study_is_recorded_once_a_visit(records: Database) -> None:
    ann, bob = add_person(records, "Ann", "radiologist"), add_person(records, "Bob", "administrator")
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    for person in (ann, ann, bob):
        record_opening(records, person, study_id)

    opened = trail.entries(records, bob, action="open study")
    assert [entry.person_name for entry in opened] == ["Bob", "Ann"]
    with pytest.raises(NotAllowed):
        record_opening(records, stranger(records, "researcher"), study_id)
