"""The worker: a job in a process of its own, epoch by epoch into the database, through every way it can end."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from release_site import MODEL, SHIPPED, add_candidate
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from core.errors import DatabaseAway, NotSaved
from core.models.live import candidate_dir
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.people.permissions import Person
from core.records.queue import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Queue
from core.records.releases import promotion_check
from core.settings import REPOSITORY, Settings
from train.fitting.checkpoint import StepFile, newest_step
from train.queue import child, supervision, trainings, worker
from train.queue import worker as worker_module
from train.queue.child import LocalExecutor, ended_badly
from train.queue.supervision import machine_name, still_doing, supervised, training_slots
from train.queue.trainings import QUEUE
from train.queue.worker import TrainingWork, Worker

STATEMENT = "SELECT 'Anna Muster'"
EPOCH = '{"epoch": %d, "loss": 0.5, "validation_loss": 0.6, "seconds": 0.1}'
BEGIN = """
import json, os, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1:], sys.argv[2:]))
out, work = Path(given["--out"]), Path(given["--work"])
work.mkdir(parents=True, exist_ok=True)
lines = work / "epochs.jsonl"
done = len(lines.read_text().splitlines()) if lines.exists() else 0
def epoch(number):
    with lines.open("a") as file:
        file.write('{"epoch": %d, "loss": 0.5, "validation_loss": 0.6, "seconds": 0.1}\\n' % number)
def card():
    folder = out / "ultrasound-cnn"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text('{"model_id": "ultrasound-cnn", "weights": {"sha256": "' + "a" * 64 + '"}}')
"""


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    """SQLite only: what the two kinds of database do with the queue is tested with the queue."""
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def training(records: Database, tmp_path: Path) -> Callable[[str], LocalExecutor]:
    """An executor whose training is this script: what takes minutes is not what is tested here."""

    def of(body: str) -> LocalExecutor:
        script = tmp_path / "training.py"
        script.write_text(BEGIN + textwrap.dedent(body))
        return LocalExecutor(records.settings, (sys.executable, str(script)))

    return of


def trains(db: Database, runs: LocalExecutor, **more: object) -> Worker:
    return Worker(db, TrainingWork(db, runs), **more)  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_job_ends_with_a_candidate_and_all_its_epochs(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    body = "print('hello');[epoch(n) for n in range(1, 5)]; card()"
    assert trains(records, training(body)).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and row.result == {
        "model_id": "ultrasound-cnn", "weights_sha256": "a" * 64, "folder": "ultrasound-cnn",
    }  # fmt: skip
    assert (candidate_dir(records.settings, job_id) / "ultrasound-cnn" / "card.json").is_file()
    assert [epoch.epoch for epoch in trainings.epochs_of(records, admin, job_id)] == [1, 2, 3, 4]
    assert "hello" in trainings.log_tail(records, admin, job_id)
    assert not (trainings.folder_of(records.settings, job_id) / "work").exists()


def test_epochs_are_seen_while_it_runs_and_a_cancel_ends_it_within_seconds(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    thread = threading.Thread(target=trains(records, training("epoch(1); time.sleep(300)")).work_once)
    thread.start()
    until(lambda: trainings.load_job(records, admin, job_id).message == "Trains: 1 of at most 4 epochs.")
    assert len(trainings.epochs_of(records, admin, job_id)) == 1
    trainings.cancel(records, admin, job_id)
    thread.join(60)
    assert not thread.is_alive()
    assert trainings.load_job(records, admin, job_id).state == CANCELLED
    assert [path.name for path in trainings.folder_of(records.settings, job_id).iterdir()] == ["log.txt"]
    assert not candidate_dir(records.settings, job_id).exists()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit('The split leaks.')", "The split leaks."),
        ("raise MemoryError", "memory of this machine"),
        ("raise OSError(28, 'No space left on device')", "disk is full"),
        ("os.kill(os.getpid(), 9)", "killed the training"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("1 / 0", "our fault"),
        ("epoch(1)", "our fault"),  # ends well but without a model
    ],
)
def test_what_fails_is_failed_with_a_sentence_and_its_log(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor], body: str, sentence: str
) -> None:
    trains(records, training(body)).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == FAILED and sentence in row.message
    assert "attempt 1" in trainings.log_tail(records, admin, job_id)
    assert not trains(records, training(body)).work_once()  # a failure is not tried again


def test_a_data_set_that_was_damaged_is_told(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    next((records.settings.state_dir / "data_sets" / "manifests").iterdir()).write_text("file,label\n")
    trains(records, training("card()")).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == FAILED and "missing or damaged" in row.message


def test_a_worker_that_lost_its_job_stops_training(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    thread = threading.Thread(target=trains(records, training("epoch(1); time.sleep(300)")).work_once)
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    with records.begin() as connection:
        connection.execute(update(tables.job).values(worker="another", attempts=2))
    thread.join(60)
    assert not thread.is_alive()
    assert trainings.load_job(records, admin, job_id).state == RUNNING  # the other worker's


def test_a_worker_that_is_told_to_end_gives_the_job_back(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    told = threading.Event()
    thread = threading.Thread(
        target=trains(records, training("epoch(1); time.sleep(300)"), should_end=told.is_set).work
    )
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    told.set()
    thread.join(60)
    assert not thread.is_alive()
    row = trainings.load_job(records, admin, job_id)
    assert (row.state, row.attempts) == (QUEUED, 0)
    assert (trainings.folder_of(records.settings, job_id) / "work" / "epochs.jsonl").is_file()  # to go on from


MAKES_A_MODEL = """
    import shutil
    shutil.copytree(sys.argv[0] + ".model", out / "ultrasound-cnn")
"""
SCORES = """
import shutil, sys, time
candidate, live, root, manifest, out = sys.argv[1:]
print("a library's words", flush=True)
print("> Scoring 117 test cases with the live model", flush=True)
"""


@pytest.fixture
def with_comparison(
    records: Database, admin: Person, tmp_path: Path, training: Callable[[str], LocalExecutor]
) -> Callable[[str], LocalExecutor]:
    """A training that makes a candidate with weights, and a comparison that is this script."""

    def of(body: str) -> LocalExecutor:
        made = candidate_dir(records.settings, add_candidate(records, admin, 3)) / MODEL
        made.rename(tmp_path / "training.py.model")
        script = tmp_path / "comparison.py"
        script.write_text(SCORES + textwrap.dedent(body))
        runs = training(MAKES_A_MODEL)
        runs.comparison = (sys.executable, str(script))
        return runs

    return of


def test_at_the_end_of_a_training_the_live_model_is_scored_on_its_test_cases(
    records: Database, admin: Person, job_id: int, with_comparison: Callable[[str], LocalExecutor]
) -> None:
    body = f"""
        time.sleep(1)
        shutil.copyfile(candidate + "/{{}}.test_scores.csv".format(__import__("json").load(open(candidate + "/card.json"
            ))["weights"]["sha256"][:8]), out + "/{SHIPPED.weights_sha256[:8]}.test_scores.csv")
        open(out + "/{SHIPPED.weights_sha256[:8]}.json", "w").write('{{"candidate": 0.1, "live": 0.2}}')
    """
    thread = threading.Thread(target=trains(records, with_comparison(body)).work_once)
    thread.start()
    until(lambda: "Scoring 117 test cases" in trainings.load_job(records, admin, job_id).message)
    running = trainings.load_job(records, admin, job_id)
    assert running.is_comparing and running.message == (
        "The training is over; now the comparison with the live model: Scoring 117 test cases with the live model."
    )
    thread.join(60)
    row = trainings.load_job(records, admin, job_id)
    assert (row.state, row.message) == (DONE, trainings.CANDIDATE_READY)
    found = promotion_check.examine(records, admin, job_id)
    assert found.is_scored and found.speeds == {"candidate": 0.1, "live": 0.2}
    assert "comparison with the live model" in trainings.log_tail(records, admin, job_id)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("sys.exit('1 of 6 files are not there.')", "1 of 6 files are not there."),
        ("raise MemoryError", "The memory of this machine was not enough. Try again later."),
        ("1 / 0", "The comparison stopped with an error that is our fault."),
    ],
)
def test_a_comparison_that_fails_does_not_lose_the_candidate(
    records: Database, admin: Person, job_id: int, with_comparison: Callable[[str], LocalExecutor], body: str, why: str
) -> None:
    trains(records, with_comparison(body)).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and why in row.message and "A button there does it." in row.message
    assert not promotion_check.examine(records, admin, job_id).speeds  # the page offers the button


def test_a_cancel_during_the_comparison_ends_it_and_keeps_the_candidate(
    records: Database, admin: Person, job_id: int, with_comparison: Callable[[str], LocalExecutor]
) -> None:
    thread = threading.Thread(target=trains(records, with_comparison("time.sleep(300)")).work_once)
    thread.start()
    until(lambda: trainings.load_job(records, admin, job_id).is_comparing)
    trainings.cancel(records, admin, job_id)
    thread.join(60)
    assert not thread.is_alive()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and "It was cancelled." in row.message
    assert promotion_check.examine(records, admin, job_id).candidate.model_id == MODEL


def test_a_job_whose_worker_dies_during_the_comparison_is_done(records: Database, admin: Person, job_id: int) -> None:
    held = QUEUE.claim(records, worker="first", machine="here", lease_seconds=0)
    assert held is not None and trainings.store_result(records, held, {"model_id": MODEL, "weights_sha256": "a" * 64})
    time.sleep(0.01)
    assert QUEUE.claim(records, worker="second", machine="here") is None
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and row.result is not None and "a button there does it" in row.message
    assert not trainings.store_result(records, held, {}) and not QUEUE.finish(records, held, FAILED, "late")


def test_the_training_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    """The pipe on its standard input closes, whatever the worker died of."""
    process = subprocess.Popen(
        [sys.executable, "-m", "train.queue.child", "worker"],  # any command that does not end by itself
        cwd=REPOSITORY, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "SECONDREAD_STATE_DIR": str(tmp_path / "state")},
    )  # fmt: skip
    until(lambda: (tmp_path / "state" / "secondread.sqlite3").exists())
    assert process.poll() is None and process.stdin is not None
    process.stdin.close()
    assert process.wait(120) == 75


def test_the_training_ends_with_its_own_status_while_its_worker_lives(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "train.queue.child", "audit", "--data", str(tmp_path / "missing.csv")],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    words = process.stderr.read().decode()
    assert process.wait(240) == 1 and "There is no manifest" in ended_badly(1, words)


def test_a_worker_beside_the_application_is_replaced_when_it_is_killed_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    settings = Settings(state_dir=tmp_path / "state")
    open_database(settings).close()
    with supervised(settings):
        until(lambda: len(workers()) == 1)
        (first,) = workers()
        os.kill(first, signal.SIGKILL)
        until(lambda: workers() and workers() != {first})
    until(lambda: not workers())


def test_a_worker_beside_the_application_starts_once_its_folder_is_back_and_lives_on_without_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    popen, started = subprocess.Popen, []

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        started.append(popen(["cat"], stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(supervision, "FIRST_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(supervision, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(supervision.subprocess, "Popen", start)
    (tmp_path / "logs" / "worker.log").mkdir(parents=True)
    with supervised(Settings(state_dir=tmp_path)):
        until(lambda: "does not start: IsADirectoryError" in caplog.text)
        (tmp_path / "logs" / "worker.log").rmdir()
        until(lambda: started)
        (tmp_path / "logs").rename(tmp_path / "elsewhere")
        time.sleep(1.2)  # it looked at its log at least once
        started[0].kill()
        until(lambda: caplog.text.count("does not start") > 1)
        (tmp_path / "elsewhere").rename(tmp_path / "logs")
        until(lambda: len(started) == 2)
    assert started[1].wait(10) == 0, "it ended when its input closed"


@pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
def test_a_stopping_server_says_what_its_worker_does_and_what_becomes_of_it(
    records: Database, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert still_doing(records) == ""
    QUEUE.claim(records, worker="w", machine="elsewhere")
    assert still_doing(records) == ""
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert f"goes on with training {job_id} and ends after that" in still_doing(records)
    records.settings = replace(records.settings, worker_at_stop="hand_back")
    assert f"hands back training {job_id}; it goes on after the next start" in still_doing(records)


@pytest.mark.parametrize(("at_stop", "is_handed_back"), [("finish", False), ("hand_back", True)])
def test_whether_a_job_is_handed_back_when_the_application_is_gone_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_stop: str, is_handed_back: bool
) -> None:
    """Standard input closes at once; what the loop of trainings is asked then is what counts."""
    asked: list[tuple[bool, bool]] = []

    class Asked:
        def __init__(self, *_: object, is_ending: Callable[[], bool], should_end: Callable[[], bool], **__: object):
            self.is_ending, self.should_end = is_ending, should_end

        def work(self) -> None:
            until(self.is_ending)
            time.sleep(0.05)
            asked.append((self.is_ending(), self.should_end()))

    monkeypatch.setattr(worker_module, "Worker", Asked)
    monkeypatch.setattr(worker_module.os, "read", lambda *_: b"")
    monkeypatch.setattr(worker_module.signal, "signal", lambda *_: None)
    worker_module.run_worker(Settings(state_dir=tmp_path, worker_at_stop=at_stop), with_app=True)
    assert asked == [(True, is_handed_back)] * 2


def workers() -> set[int]:
    """Process ids of the workers that this process started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if b"--with-app" in words and parent == os.getpid():
            found.add(int(folder.name))
    return found


def test_a_model_that_was_put_in_place_by_a_worker_that_died_too_often_goes_with_its_job(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    """Killed between the move of the model and the note of its result, for the third time."""
    for attempt in range(3):
        lease = QUEUE.claim(records, worker=f"w{attempt}", machine=f"m{attempt}", lease_seconds=-1)
        assert lease is not None
    (trainings.folder_of(records.settings, job_id) / "out" / "ultrasound-cnn").mkdir(parents=True)
    card = '{"model_id": "ultrasound-cnn", "weights": {"sha256": "a"}}'
    (trainings.folder_of(records.settings, job_id) / "out" / "ultrasound-cnn" / "card.json").write_text(card)
    child.store_candidate(records, lease)
    assert candidate_dir(records.settings, job_id).is_dir()
    assert not trains(records, training("1")).work_once()
    assert trainings.load_job(records, admin, job_id).state == "dead"
    assert not candidate_dir(records.settings, job_id).exists()


def test_a_half_written_line_is_not_read_as_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "epochs.jsonl").write_text(EPOCH % 1 + "\n" + (EPOCH % 2)[:10])
    assert [(part, len(rows)) for part, rows in child.epochs_in(tmp_path)] == [("fold0", 1)]


def test_the_sentence_of_a_refusal_is_the_last_line() -> None:
    assert ended_badly(1, "12:00 60 images\nThe split leaks. Split anew.\n") == "The split leaks. Split anew."


def test_the_memory_of_a_process_is_told_in_mib(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    program = "import time; kept = b'1' * (200 << 20); print('ready', flush=True); time.sleep(60)"
    run = child.LocalRun([sys.executable, "-c", program], tmp_path / "log", "attempt 1")
    try:
        until(lambda: "ready" in run.text())
        assert 200 <= (run.memory_mib() or 0) < 260
    finally:
        run.stop()
    assert run.memory_mib() is None


def test_a_worker_has_a_place_for_each_training_that_the_cluster_may_run_at_once(tmp_path: Path) -> None:
    here = Settings(state_dir=tmp_path)
    (name,) = training_slots(here)
    assert name == machine_name()
    there = training_slots(replace(here, ray_address="10.1.0.5:6379", ray_trainings=3))
    assert there == [f"{name[:60]}, place {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("status", "words"), [(128, "our fault"), (129, "by signal 1."), (143, "by signal 15."), (137, "The system killed")]
)
def test_above_128_a_status_is_a_signal(status: int, words: str) -> None:
    assert words in ended_badly(status, "")


def test_the_step_of_the_run_that_was_written_last_is_told(tmp_path: Path) -> None:
    told = {"epoch": 2, "step": 3, "steps": 40, "device": "a processor"}
    assert newest_step(tmp_path) is None
    for part in ("fold0", "fold1"):
        (tmp_path / part).mkdir()
        StepFile(tmp_path / part, "a processor").report(2, 3, 40)
        os.utime(tmp_path / part / "step.json", (1 if part == "fold1" else 5, 1 if part == "fold1" else 5))
    assert newest_step(tmp_path) == ("fold0", told)
    (tmp_path / "fold0" / "step.json").write_text("{")
    assert newest_step(tmp_path) == ("fold1", told)


def test_a_running_job_tells_its_step(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    body = (
        """(work / "step.json").write_text('{"epoch": 1, "step": 7, "steps": 9, "device": "a GPU"}'); time.sleep(300)"""
    )
    thread = threading.Thread(target=trains(records, training(body)).work_once)
    thread.start()
    until(lambda: trainings.load_job(records, admin, job_id).progress)
    assert trainings.load_job(records, admin, job_id).progress == {"part": "", "epoch": 1, "step": 7, "steps": 9}
    assert trainings.load_job(records, admin, job_id).device == "a GPU"
    trainings.cancel(records, admin, job_id)
    thread.join(60)
    assert not thread.is_alive() and trainings.load_job(records, admin, job_id).progress == {}


def test_a_training_that_writes_endlessly_is_cut_with_a_sentence_and_the_newest_stays(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(child, "LOG_BYTES_MOST", 20_000)
    log = trainings.folder_of(records.settings, job_id) / "log.txt"
    body = """
        n = 0
        while not (work / "stop").exists():
            n += 1
            print(f"line {n} " + 90 * "x", flush=True)
        sys.exit("The split leaks.")
    """
    sizes: list[int] = []
    thread = threading.Thread(target=trains(records, training(body)).work_once)
    thread.start()
    until(lambda: log.is_file() and b"was removed" in log.read_bytes()[:200])
    until(lambda: sizes.append(log.stat().st_size) or len(sizes) > 20)
    (log.parent / "work" / "stop").touch()
    thread.join(60)
    assert not thread.is_alive() and max(sizes) < 20_000 + 64 * 1024  # one piece of what it writes comes on top
    first, *lines, last = log.read_text().splitlines()
    assert first == "--- What was written before this was removed: a log holds 20000 bytes at most."
    assert last == "The split leaks." and trainings.load_job(records, admin, job_id).message == last
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert len(numbers) > 50 and numbers[-1] - numbers[0] == len(numbers) - 1


def test_a_log_is_cut_just_beyond_its_bound(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"12345678\n" * 10)
    child.cut_log(log, 90)
    assert log.stat().st_size == 90
    child.cut_log(log, 89)
    assert log.read_bytes().partition(b"at most.\n")[2] == b"12345678\n" * 4


@pytest.mark.parametrize("moment", ["claim", "finish"])
def test_a_worker_outlives_an_error_of_the_database(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str,
) -> None:  # fmt: skip
    """The row stays under its lease, and is taken up again once that is over."""
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.01)
    right, is_broken = getattr(Queue, moment), [True]

    def away(*given: object, **more: object) -> object:
        if is_broken.pop() if is_broken else False:
            raise OperationalError(STATEMENT, {}, Exception("the server went away"))
        return right(*given, **more)

    monkeypatch.setattr(Queue, moment, away)
    is_done = threading.Event()
    body = "shutil = __import__('shutil'); shutil.rmtree(out, ignore_errors=True); card()"
    one = trains(records, training(body), is_ending=is_done.is_set)
    one.lease_seconds = 0.5
    thread = threading.Thread(target=one.work)
    thread.start()
    until(lambda: trainings.load_job(records, admin, job_id).state == DONE, 30)
    is_done.set()
    thread.join(60)
    assert not thread.is_alive() and "OperationalError" in caplog.text and "Muster" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT 1", {}, Exception("the server went away")),
        DatabaseAway("It does not answer."),
        NotSaved("It is busy."),
    ],
)
def test_an_error_of_the_database_in_the_middle_of_a_training_fails_no_job(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor],
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    def away(*_: object) -> object:
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(trainings, "store_result", away)
        trains(records, training("card()"), lease_seconds=0.1).work_once()
    assert trainings.load_job(records, admin, job_id).state == RUNNING
    time.sleep(0.2)
    assert trains(records, training("card()")).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert (row.state, row.attempts) == (DONE, 2)


def test_working_files_of_a_job_that_ended_without_its_worker_are_swept(
    records: Database, admin: Person, job_id: int, training: Callable[[str], LocalExecutor]
) -> None:
    work = trainings.folder_of(records.settings, job_id) / "work"
    work.mkdir(parents=True)
    assert QUEUE.claim(records, worker="dead", machine="here", lease_seconds=-1) is not None
    trainings.cancel(records, admin, job_id)
    assert not trains(records, training("card()")).work_once()
    assert trainings.load_job(records, admin, job_id).state == CANCELLED and not work.exists()
