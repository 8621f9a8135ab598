"""The live model's scores of a candidate's test cases, and how fast both are: computed in a process of its own.

The worker starts that process at the end of every training (`train.queue.worker`), a person by `score_live`, which
yields what it says of its progress; the process is this module, run with `python -m train.publishing.score_live`. What
it finds lies beside the candidate (`core.records.releases.promotion_check.reference_dir`), whole or not at all.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import AppError, Conflict, NotFound
from core.files import end_cleanly_on_sigterm, own_temporary_folder, write_whole
from core.models.cards import Card, read_card, read_test_scores
from core.records import data_sets
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.records.releases import promotion_check
from core.settings import REPOSITORY, Settings
from train.queue.child import cut_log, end_with_parent, ended_badly

if TYPE_CHECKING:
    import pandas as pd

TIMED_RUNS = 11
_SAYS = "> "
"""What this process says to people, among the lines that libraries write."""


def score_live(db: Database, actor: Actor, job_id: int, *, reference: str | None = None) -> Iterator[str]:
    """Score the live model on the candidate's test cases; yields sentences on the way, for a person who waits.

    beside: which one, as `gate.examine`. Ends the process when the caller stops listening. Raises NotAllowed, NotFound,
    Conflict.
    """
    require_permission_now(db, actor, "manage_releases")
    found = promotion_check.examine(db, actor, job_id, reference=reference)
    if found.live is None:
        raise NotFound("No live model reads this kind of image, so there is nothing to compare with.")
    folders = folders_of(db, job_id, found.candidate, found.live)
    return _sentences(folders, folders[-1] / "log.txt")


def folders_of(db: Database, job_id: int, candidate: Card, live: Card) -> list[Path]:
    """What the process is told: both models, where the pictures lie and are listed, and where its answer goes."""
    with db.read() as connection:
        version = promotion_check.version_of_job(connection, job_id)
    manifest = data_sets.manifest_path(db.settings, version.manifest_sha256)
    out = promotion_check.reference_dir(db, job_id)
    out.mkdir(mode=0o700, exist_ok=True)
    return [candidate.folder, live.folder, data_sets.files_dir(db.settings), manifest, out]


def newest_sentence(words: str) -> str:
    """What the process said last in its log, "" before it said anything."""
    said = [line.removeprefix(_SAYS) for line in words.splitlines() if line.startswith(_SAYS)]
    return said[-1] if said else ""


def _sentences(folders: Sequence[Path], log: Path) -> Iterator[str]:
    log.unlink(missing_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "train.publishing.score_live", *map(str, folders)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        yield "Starting"
        assert process.stdout is not None
        for line in process.stdout:
            cut_log(log)
            yield line.strip().removeprefix(_SAYS)
        if process.wait() != 0:
            words = log.read_text(encoding="utf-8", errors="replace")
            raise Conflict(ended_badly(process.returncode, words, "comparison"))
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def main(candidate: Path, live: Path, root: Path, manifest: Path, out: Path) -> None:
    """Write `<sha8>.test_scores.csv` (labels in the live model's words) and, last, `<sha8>.json` with the speeds."""
    from train.publishing import evaluate

    new, old = read_card(candidate), read_card(live)
    tested = read_test_scores(new)
    if tested is None:
        raise NotFound("The candidate comes without the scores of its test cases. Train it anew.")
    _say(f"Scoring {len(tested)} test cases with the live model")
    logging.getLogger(evaluate.__name__).addHandler(_ProgressHandler())
    logging.getLogger(evaluate.__name__).setLevel(logging.INFO)
    labels = tested["label"].where(tested["label"] != new.positive, old.positive)
    scores = evaluate.score(old, _cases(tested.assign(label=labels), manifest), root)
    _say("Measuring how fast both models are")
    from core.models.inference import device_name

    speeds = {"candidate": _seconds(new), "live": _seconds(old), "device": device_name()}
    short = old.weights_sha256[:8]
    _write(out / f"{short}.test_scores.csv", scores.to_csv(index=False))
    _write(out / f"{short}.json", json.dumps(speeds))


def _cases(tested: pd.DataFrame, manifest: Path) -> pd.DataFrame:
    """The tested cases with what a read knows beside the picture: whose it is, and from where it was taken."""
    import pandas as pd

    cases = pd.DataFrame({"file": tested["case"], "label": tested["label"], "patient_key": tested["patient"]})
    cases["patient"] = cases["patient_key"].astype(str)
    listed = pd.read_csv(manifest, dtype=str, keep_default_na=False) if manifest.is_file() else pd.DataFrame()
    if "view" in listed:
        cases["view"] = cases["file"].map(listed.drop_duplicates("file").set_index("file")["view"]).fillna("")
    return cases


def _seconds(card: Card) -> float:
    """Median seconds for one image with its heat maps, as when reading, after a warm-up."""
    import numpy as np

    from core.models.inference import LoadedModel
    from core.models.loaded import load_model

    reader = load_model(card)
    networks = [reader] if isinstance(reader, LoadedModel) else list(reader.members)
    seconds = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        for network in networks:
            square = np.zeros((1, network.card.side, network.card.columns, network.card.channels), np.float32)
            network.forward(square)[0].numpy()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


class _ProgressHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


def _say(sentence: str) -> None:
    sys.stdout.write(f"{_SAYS}{sentence}\n")
    sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    write_whole(path, text)


if __name__ == "__main__":
    end_with_parent()
    end_cleanly_on_sigterm()
    try:
        with own_temporary_folder(Settings.from_environment().state_dir):
            main(*map(Path, sys.argv[1:]))
    except AppError as refused:
        sys.exit(str(refused))
