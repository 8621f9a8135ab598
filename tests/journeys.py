"""The files that a journey through the house passes: `make journeys`, or `python tests/journeys.py [NAME ...]`.

A journey is walked for real, on a site of its own and with what is shipped, by the calls that a page makes and without
drawing the page: a picture that is decoded in the child process, a network that reads it, a training in its own
process. A file counts when one of its functions ran, here or
in a child, in any thread; importing it does not count. Left out are the files that everything passes: the nouns, the
errors, the settings, the database and the audit trail.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = tuple(f"{ROOT}/{room}" for room in ("app.py", "core/", "pages/", "train/"))
EVERYWHERE = (
    "core/types.py", "core/errors.py", "core/settings.py", "core/files.py", "core/records/database/",
    "core/records/audit/",
)  # fmt: skip
FILES_MOST = 25
LONGER = {"upload to prediction": 42, "start to release": 63}
"""Journeys that are not there yet, with what they pass today: it may only become less."""
_MADE_BY_THE_COMPILER = {"<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
_IN_A_CHILD = """import sys
sys.path.insert(0, {tests!r})
import journeys
journeys.Passed(journeys.Path({file!r})).begin()
"""


class Passed:
    """Writes down which files' functions run between `begin` and `end`, in every thread that starts meanwhile.

    file: to which each name is added at once, because a child may be killed when it has answered.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.names: set[str] = set()
        self._seen: set[CodeType] = set()
        self._file = file

    def begin(self) -> None:
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def end(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self._seen:
            return
        self._seen.add(code)
        is_function = code.co_flags & inspect.CO_OPTIMIZED and code.co_name not in _MADE_BY_THE_COMPILER
        if is_function and code.co_filename.startswith(ROOMS):
            name = Path(code.co_filename).relative_to(ROOT).as_posix()
            if name not in self.names:
                self.names.add(name)
                if self._file is not None:
                    with self._file.open("a") as out:
                        out.write(f"{name}\n")


@contextlib.contextmanager
def noted() -> Iterator[set[str]]:
    """The files passed inside the block, by this process and by every Python process that it starts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(
            _IN_A_CHILD.format(tests=str(ROOT / "tests"), file=str(folder / "passed"))
        )
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [name, before]))
        sys.path.insert(0, name)  # the child that decodes gets a clean environment and this path
        passed, found = Passed(), set[str]()
        passed.begin()
        try:
            yield found
        finally:
            passed.end()
            sys.path.remove(name)
            os.environ["PYTHONPATH"] = before
            found |= passed.names
            if (folder / "passed").exists():
                found |= set((folder / "passed").read_text().splitlines())
            found -= {name for name in found if name.startswith(EVERYWHERE)}


def upload_to_prediction(folder: Path) -> set[str]:
    """A file that has arrived becomes a study; a person reads it, and then the model does."""
    from made_images import encoded, ultrasound
    from record_site import CALM, add_person
    from release_site import SHIPPED

    from core.imaging.intake import read_upload
    from core.models.cards import live_cards
    from core.reading import second_read
    from core.records.database.db import open_database
    from core.records.reads import reads, studies
    from core.server import inbox
    from core.server.inbox import InboxFile
    from core.settings import Settings
    from core.types import Modality

    db = open_database(Settings(state_dir=folder))
    ann = add_person(db, "Ann", "radiologist")
    with noted() as found:
        content = encoded(ultrasound())
        place = inbox.open_place(db.settings, ann, together="0" * 32, n_bytes=len(content))
        item = place.path.parent
        (item / "data").write_bytes(content)
        (intake,) = read_upload(item / "data", "a.png", settings=db.settings, modality=Modality.ULTRASOUND)
        assert intake.image is not None, intake.refused
        study_id = studies.create_study(db, ann, display_name="Case", images=[intake.image])
        inbox.discard([InboxFile(item / "data", "a.png")])
        study = studies.load_study(db, ann, study_id)
        reads.record_first_read(db, ann, study_id, dict.fromkeys(study.breasts, CALM))
        reads.reveal(db, ann, study_id)
        work = [pair for pair in second_read.unanswered(db.settings, study, []) if pair[0] in live_cards(db.settings)]
        work = [pair for pair in work if pair[0].model_id == SHIPPED.model_id]
        assert second_read.ask(db, study, work, lambda *_: None) == {}
        answers = second_read.answers_of(db, ann, study)
        assert len(second_read.breast_scores(study, answers)) == 1
    db.close()
    return found


def start_to_release(folder: Path) -> set[str]:
    """A training is asked for, the worker runs it in its own process, and what it made is examined and promoted."""
    from made_images import blots, encoded
    from record_site import add_person

    from core.records import data_sets
    from core.records.database.db import open_database
    from core.records.queue import DONE
    from core.records.releases import promotion_check
    from core.settings import Settings
    from core.types import Modality
    from train.queue import trainings
    from train.queue.child import LocalExecutor
    from train.queue.worker import TrainingWork, Worker
    from train.recipe.request import FitRequest

    weights = folder / "weights"
    weights.mkdir()
    db = open_database(Settings(state_dir=folder / "state", weights_dir=weights))
    ada = add_person(db, "Ada", "administrator")
    rows = ["file,label,patient,split"]
    for number, (label, pixels) in enumerate(blots(labels=("benign", "malignant"))):
        name = data_sets.store_file(db.settings, encoded(pixels / 255), "png")
        rows.append(f"{name},{label},p{number},{('train', 'train', 'validation', 'test')[number // 2 % 4]}")
    version = data_sets.create_data_set(
        db, ada, name="Set", modality=Modality.ULTRASOUND, manifest="\n".join(rows).encode() + b"\n",
        split={}, counts={"train": {"benign": 15, "malignant": 15}}, found={"leaking": False},
    )  # fmt: skip
    request = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=1, side=64)
    with noted() as found:
        job_id = trainings.enqueue(db, ada, request, version)
        assert Worker(db, TrainingWork(db, LocalExecutor(db.settings))).work_once()
        row = trainings.load_job(db, ada, job_id)
        assert row.state == DONE, trainings.log_tail(db, ada, job_id)
        lines = promotion_check.examine(db, ada, job_id).lines
        passed = {line.key: "A trial on made pictures." for line in lines}
        promotion_check.promote(db, ada, job_id, live_sha256=None, reason="A trial.", passed=passed)
    db.close()
    return found


def compare_to_chart(folder: Path) -> set[str]:
    """The models of a data set are measured on the same cases, and their curves are drawn."""
    from core.evaluation.cache import ComparisonCache
    from core.evaluation.charts import curves
    from core.evaluation.statistics.operating_points import compare_calls_by_class, operating_rows
    from core.evaluation.tables.cohort import cohort_of_cards, group_cards
    from core.models.cards import live_cards
    from core.settings import Settings

    with noted() as found:
        group = group_cards(live_cards(Settings(state_dir=folder)))[0]
        cohort = cohort_of_cards(group)
        assert cohort is not None
        numbers = ComparisonCache(cohort)
        numbers.resamples = 50
        names, of = cohort.names[:2], cohort.provenance(cohort.names[:2])
        assert set(numbers.results(names)) == set(names) and len(numbers.pairs(names)) == 1
        operating_rows(cohort.table, dict.fromkeys(names, 0.5))
        compare_calls_by_class(cohort.table, dict.fromkeys(names, 0.5))
        curves.roc_figure(numbers.roc(names), provenance=of)
        curves.precision_recall_figure(numbers.precision_recall(names), provenance=of)
        curves.reliability_figure(numbers.reliability(names), provenance=of)
        curves.decision_figure(numbers.decision(names), provenance=of)
    return found


JOURNEYS: dict[str, Callable[[Path], set[str]]] = {
    "upload to prediction": upload_to_prediction,
    "start to release": start_to_release,
    "compare to chart": compare_to_chart,
}


def most(name: str) -> int:
    """How many files this journey may pass."""
    return LONGER.get(name, FILES_MOST)


def main(names: list[str]) -> int:
    """Print each journey's files; 1 where there are more than there may be."""
    is_long = False
    for name in names or JOURNEYS:
        with tempfile.TemporaryDirectory() as folder:
            found = sorted(JOURNEYS[name](Path(folder)))
        is_long |= len(found) > most(name)
        sys.stdout.write(f"{name}: {len(found)} files\n" + "".join(f"    {one}\n" for one in found))
    return int(is_long)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
