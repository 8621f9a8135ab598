"""What was begun is taken back by any failure, and by nothing else; what is written is whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from core import files
from core.errors import Conflict
from core.files import undone_by
from core.settings import REPOSITORY


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


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_whole(path, "old")
    with pytest.raises(ValueError), files.whole_file(path) as half:
        half.write_text("half of the n")
        raise ValueError
    assert path.read_text() == "old"
    files.write_whole(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new" and [one.name for one in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(FileExistsError):
        files.write_whole(path, "third", replaces=False)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_file_and_folder_are_on_the_disk_before_the_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of the content, then the rename, then fsync of the folder: nothing else outlives a power cut."""
    told: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched(descriptor: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "replace", lambda one, other: (told.append("rename"), replace(one, other)))
    files.write_whole(tmp_path / "a", "x")
    assert told == ["file", "rename", "folder"]
    files.write_whole(tmp_path / "a", "x", durable=False)
    assert told[3:] == ["rename"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_sentence_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files.write_whole(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Conflict, match=r"^No room\.$"):
        files.write_whole(tmp_path / "a", "new", full="No room.")
    with pytest.raises(Conflict, match="no space left"), files.whole_folder(tmp_path / "b") as half:
        (half / "x").write_text("x")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["a"]


def test_another_failure_of_the_disk_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_whole(tmp_path / "missing" / "a", "x")


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with files.whole_folder(target, within=tmp_path / "tmp") as half:
        (half / "one").write_text("1")
        assert not target.exists()
    with pytest.raises(ValueError), files.whole_folder(target, within=tmp_path / "tmp") as half:
        (half / "one").write_text("2")
        raise ValueError
    assert (target / "one").read_text() == "1" and not any((tmp_path / "tmp").iterdir())


WORKER = """
import sys
from pathlib import Path
from core import files
state = Path(sys.argv[1])
with files.temporary_folder(state / "tmp") as folder, files.whole_file(state / "store" / "a") as half, \
        files.whole_folder(state / "releases" / "b", within=state / "tmp") as release:
    (folder / "site.key").write_text("secret")
    half.write_text("half")
    (release / "card.json").write_text("{")
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there a killed process's files go a day later")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "store").mkdir(parents=True)

    def begun() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, state], cwd=REPOSITORY, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        return process

    killed, living = begun(), begun()
    killed.kill()
    killed.wait()
    assert len([path for path in state.rglob("*") if path.is_file()]) == 6
    assert files.sweep(state) == 3
    assert len([path for path in state.rglob("*") if path.is_file()]) == 3
    assert files.sweep(state) == 0
    living.communicate()
    assert sorted(path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file()) == [
        "releases/b/card.json", "store/a",
    ]  # fmt: skip


EARLIER = (
    "backup-abc_1234/site.key", ".restore-abc_1234/x", f"release-{'a' * 32}/card.json", f"site.key.{'b' * 32}",
    "live.json.half", f"store/ab/{'c' * 32}.half", "backups/secondread-0003.half", "jobs/1/work/.step.json.part",
    "cache/.features.partial/00.npy",
)  # fmt: skip
"""What version 0.1.0 left behind when it was killed."""
OTHERS = ("site.key", "live.json", "backup-of-mine/x", "release-notes.txt", "store/ab/0.png", "half/x", "a.part")


def test_what_earlier_versions_left_goes_a_day_later_and_nothing_else(tmp_path: Path) -> None:
    for name in (*EARLIER, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert files.sweep(tmp_path) == 0
    yesterday = time.time() - files.ABANDONED_SECONDS - 1
    for path in tmp_path.rglob("*"):
        os.utime(path, (yesterday, yesterday))
    assert files.sweep(tmp_path) == len(EARLIER)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(OTHERS)


def test_a_sweeper_between_making_and_locking_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = files._lock, []

    def late(descriptor: int) -> None:
        if len(swept) < 2:
            swept.append(files.sweep(tmp_path))
        lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    files.write_whole(tmp_path / "a", "x")
    with files.temporary_folder(tmp_path / "tmp") as folder:
        (folder / "x").write_text("x")
    assert swept == [1, 1] and (tmp_path / "a").read_text() == "x"


def test_libraries_get_their_temporary_files_in_the_state_folder(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with files.own_temporary_folder(tmp_path) as folder, tempfile.NamedTemporaryFile(delete=False) as file:
        assert Path(file.name).parent == folder
    assert tempfile.gettempdir() == before and not any((tmp_path / "tmp").iterdir())


DROPPED = """
import os, signal, sys, time
from core import files
files._AGAIN_SECONDS = 0.2
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
files.end_cleanly_on_sigterm()
try:
    Dropped()
    print("goes on", flush=True)
    time.sleep(60)
finally:
    print("taken back")
"""


def test_sigterm_ends_a_command_also_where_python_drops_the_first_exception() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 143 and done.stdout == "goes on\ntaken back\n"
