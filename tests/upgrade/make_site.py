"""`python tests/upgrade/make_site.py OUT`: a small site that holds one of everything, for the upgrade test of later.

Run it with the version that is about to become "the version before". It writes into OUT:

- `site-VERSION.tar.xz`: a state folder with an SQLite database, weights, pictures for imports and a backup file,
- `site-VERSION.sql.xz`: the same rows as a PostgreSQL dump (needs PostgreSQL's programs),
- `expected-VERSION.json`: rows, files, and what people see through the public functions.

Everything is made up: pictures are phantoms, nobody's name is anybody's. Times come from a clock of its own, so that a
row does not say when the script ran. See README.md beside this file.
"""

# ruff: noqa: E402  (run by its path, it must say first where the product lies)

from __future__ import annotations

import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import numpy as np
from observed import files_of, rows_of, seen_in
from PIL import Image as Raster
from record_site import find_postgres
from sqlalchemy import create_engine, func, select

from core.__main__ import main as core_main
from core.demo import phantoms
from core.models.cards import read_card
from core.models.live import candidate_dir
from core.models.weights import read_shards, to_float16, write_shards
from core.records import data_sets, site_settings
from core.records.audit import heads, trail
from core.records.backup import database_copy
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.monitoring import drift
from core.records.people import accounts, invitations, sessions, single_sign_on
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import LocalTerminal
from core.records.people.throttle import FAILURES_BEFORE_LOCK
from core.records.queue import ATTEMPTS, CANCELLED, DONE, FAILED, LEASE_SECONDS, STOP, Lease
from core.records.reads import predictions, reads, retention, studies, truths
from core.records.reads.reads import Impression
from core.records.releases import decisions, promotion_check, shadows
from core.settings import Settings
from core.types import Explanation, Fit, Image, Modality, Prediction, Window
from train.datasets import near_duplicates, versions
from train.datasets.hospital.columns import KeyColumns, LinkColumns, LinkSheets
from train.queue import imports, trainings
from train.queue.child import LocalExecutor
from train.queue.imports import ImportRequest, ImportWork
from train.queue.worker import TrainingWork, Worker
from train.recipe.request import FitRequest, with_seeds

PASSWORD = "four made up words here"
MODEL, SPARE = "ultrasound-cnn", "ultrasound-spare"
MACHINE, WORKER = "made-machine", "made-machine:1:0a0b0c0d"
CALM, WORRIED = Impression("2", 5), Impression("4C", 85)
EXPIRED = -1.0


class Clock:
    """Every look at it takes a second, and `later` lets more pass."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
        self._lock = threading.Lock()

    def look(self) -> datetime:
        with self._lock:
            self.moment += timedelta(seconds=1)
            return self.moment

    def later(self, **much: float) -> None:
        with self._lock:
            self.moment += timedelta(**much)

    @contextmanager
    def rules(self) -> Iterator[None]:
        """The product's `now` is this clock's."""
        clock = self

        class Scripted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return clock.look()

        with mock.patch.object(tables, "datetime", Scripted):
            yield


@dataclass
class Site:
    """The site while it is made. secrets: what the database keeps only hashes of."""

    db: Database
    clock: Clock
    root: Path
    admin: LocalTerminal
    people: dict[str, LocalTerminal]
    secrets: dict[str, str]


def settings_of(root: Path) -> Settings:
    """Of the site below `root`, which has a state folder, weights of its own and a folder for data."""
    return Settings(
        state_dir=root / "state",
        weights_dir=root / "weights",
        data_root=str(root / "pictures"),
        site_name="Made-up Hospital",
        public_url="https://secondread.example.org",
        sso_discovery_url="https://login.example.org/.well-known/openid-configuration",
        sso_client_id="secondread",
        sso_client_secret="made up",
        sso_roles="readers=radiologist, lab=researcher",
        worker=False,
    )


def fill(root: Path, clock: Clock) -> dict[str, Any]:
    """Make the site; what is to be known of it."""
    db = open_database(settings_of(root))
    code = accounts.setup_code(db) or ""
    with suppress(AccountRefused):
        accounts.create_first_administrator(db, code="WRONG", name="Nobody", password=PASSWORD)
    admin = accounts.create_first_administrator(db, code=code, name="Ada Admin", password=PASSWORD)
    site = Site(db, clock, root, LocalTerminal(admin.id), {}, {})
    _people(site)
    heads.write_head(db)
    _removed_pixels(site)
    clock.later(days=40)
    _settings(site)
    study_ids = _mammograms(site)
    _imports(site)
    version_ids = _versions(site)
    clock.later(days=1)
    heads.write_head(db)
    _trainings(site, version_ids)
    shas = _releases(site)
    _ultrasounds(site, shas)
    _exports(site, study_ids)
    clock.later(days=1)
    heads.write_head(db)
    _sessions(site)
    _queues(site, version_ids)
    _older_rows(site)
    heads.write_head(db)
    _backup(site)
    expected = {
        "admin": {"id": admin.id, "name": admin.name, "roles": sorted(admin.roles)},
        "password": PASSWORD,
        "secrets": site.secrets,
        "rows": rows_of(db.engine),
        "files": files_of(root / "state"),
        "seen": seen_in(db, site.admin),
    }
    db.close()
    return expected


def _people(site: Site) -> None:
    db, admin = site.db, site.admin
    for name, roles in (
        ("Rita Reader", ["radiologist"]),
        ("Rolf Reader", ["radiologist", "researcher"]),
        ("Rosa Research", ["researcher"]),
        ("Otto Operator", ["administrator"]),
        ("Dörte Gone", ["radiologist"]),
        ("Lena Locked", ["researcher"]),
        ("Nora New-Password", ["radiologist"]),
    ):
        person = accounts.create_person(db, admin, name=name, password=PASSWORD, roles=roles)
        site.people[name] = LocalTerminal(person.id)
    accounts.set_roles(db, admin, site.people["Rosa Research"].person_id, ["researcher", "radiologist"])
    accounts.set_roles(db, admin, site.people["Rosa Research"].person_id, ["researcher"])
    accounts.disable_person(db, admin, site.people["Dörte Gone"].person_id)
    accounts.disable_person(db, admin, site.people["Otto Operator"].person_id)
    accounts.enable_person(db, admin, site.people["Otto Operator"].person_id)
    accounts.reset_password(db, admin, site.people["Otto Operator"].person_id, PASSWORD)
    with suppress(AccountRefused):
        accounts.sign_in(db, db.settings, "an unknown name", PASSWORD)
    for _ in range(FAILURES_BEFORE_LOCK):
        with suppress(AccountRefused):
            accounts.sign_in(db, db.settings, "Lena Locked", "not her password")
    accounts.change_password(db, site.people["Rolf Reader"], old=PASSWORD, new=PASSWORD + " again")
    accounts.change_password(db, site.people["Rolf Reader"], old=PASSWORD + " again", new=PASSWORD)
    _, site.secrets["invitation"] = invitations.invite_person(db, admin, name="Ines Invited", roles=["researcher"])
    joined, token = invitations.invite_person(db, admin, name="Jan Joined", roles=["radiologist"])
    site.people["Jan Joined"] = LocalTerminal(joined.id)
    invitations.use_link(db, token, PASSWORD)
    with suppress(AccountRefused):
        invitations.use_link(db, token, PASSWORD)
    site.secrets["reset link"] = invitations.reset_by_link(db, admin, site.people["Nora New-Password"].person_id)
    claims = {"iss": "https://login.example.org", "sub": "made-up-subject-1", "name": "Sven Single-Sign-On"}
    single_sign_on.sign_in(db, db.settings, {**claims, "roles": "lab"})
    single_sign_on.sign_in(db, db.settings, {**claims, "roles": ["readers", "lab"]})
    with suppress(AccountRefused):
        single_sign_on.sign_in(db, db.settings, {**claims, "sub": "made-up-subject-2", "roles": ["cleaners"]})
    single_sign_on.record_failure(db)


def _settings(site: Site) -> None:
    db, admin = site.db, site.admin
    for key, value in (
        ("upload_mib", 256),
        ("study_files", 60),
        ("threshold_sensitivity", 92),
        ("thresholds", "site"),
        ("sensitivity_margin_percent", 4),
        ("session_hours", 10),
        ("keep_pixels_days", 3650),
    ):
        site_settings.choose(db, admin, key, value)
    site_settings.back_to_default(db, admin, "session_hours")
    site_settings.set_own(db, admin, read_card(site.root / "weights" / MODEL), 0.34567)
    site_settings.set_own(db, admin, read_card(site.root / "weights" / SPARE), 0.5)
    site_settings.forget_own(db, admin, read_card(site.root / "weights" / SPARE))
    site_settings.set_own(db, admin, read_card(site.root / "weights" / MODEL), 0.41)


def _small(image: Image, step: int, **fields: Any) -> Image:
    """A phantom with every `step`-th pixel."""
    return replace(image, pixels=np.ascontiguousarray(image.pixels[::step, ::step]), **fields)


def _mammograms(site: Site) -> dict[str, str]:
    """A study of four views with everything, and smaller ones whose truths a data set can be made of."""
    db, admin = site.db, site.admin
    rita, rolf = site.people["Rita Reader"], site.people["Rolf Reader"]
    extra = {
        "tags": {"Manufacturer": "Made-up Devices", "BodyPartExamined": "BREAST"},
        "windows": (Window(2048, 4096, explanation="normal"),),
        "window_index": 0,
        "patient_hash": "1" * 64,
    }
    ids = {}
    drift.record_intake(db, rita, n_read=4, n_refused=1)
    images = [_small(image, 16, **extra) for image in phantoms.mammogram_exam(1)]
    four = ids["four"] = studies.create_study(db, rita, display_name="Four views, Ängste & <b>", images=images)
    stored = studies.load_study(db, rita, four).images
    studies.correct_image(db, rita, stored[0].id, laterality="R", view="ML", modality=Modality.MAMMOGRAPHY)
    for number, one in enumerate(stored):
        _predict(db, four, one, "mammography-cnn", "c" * 64, 0.2 + 0.2 * number)
        _predict(db, four, one, "mammography-fusion", "d" * 64, 0.3)
    studies.record_opening(db, rita, four)
    both = {"R": CALM, "L": WORRIED}
    reads.record_first_read(db, rita, four, both, "Seen\nwith two lines.")
    reads.reveal(db, rita, four)
    site.clock.later(minutes=3)
    reads.record_first_read(db, rolf, four, {"R": WORRIED, "L": WORRIED})
    reads.record_final_read(db, rita, four, both, "Final.")
    reads.reveal(db, rolf, four)
    reads.record_final_read(db, rolf, four, both)
    site.clock.later(days=2)
    reads.record_final_read(db, rita, four, {"R": CALM, "L": Impression("5", 99)}, "Amended.")
    for breast, pathology in (("L", "benign"), ("L", "malignant"), ("R", "not biopsied, stable")):
        truths.record_truth(
            db, rita, four, breast=breast, pathology=pathology, happened_on=date(2026, 2, 1), source="core biopsy"
        )
    for number in range(6):
        views = phantoms.mammogram_exam(10 + number)[:2]
        images = [_small(image, 16, patient_hash=f"{2 + number // 2}" * 64) for image in views]
        study = studies.create_study(db, rolf, display_name=f"Two views {number}", images=images)
        reads.record_first_read(db, rolf, study, {"R": CALM, "L": WORRIED})
        reads.reveal(db, rolf, study)
        reads.record_final_read(db, rolf, study, {"R": CALM, "L": WORRIED})
        for breast, pathology in (("R", "benign"), ("L", ("malignant", "benign")[number % 2])):
            truths.record_truth(
                db, admin, study, breast=breast, pathology=pathology, happened_on=date(2026, 2, 2), source="surgery"
            )
    return ids


def _ultrasounds(site: Site, shas: dict[str, str]) -> None:
    """Studies in every state: concurrent, corrected, half read, deleted, synthetic, with shadow answers."""
    db = site.db
    rita, rolf = site.people["Rita Reader"], site.people["Rolf Reader"]

    def ultrasound(number: int, **fields: Any) -> Image:
        return _small(phantoms.ultrasound_image(number, is_irregular=number % 2 == 0), 8, **fields)

    drift.record_intake(db, rita, n_read=3, n_refused=0)
    earlier = studies.create_study(
        db, rita, display_name="Earlier ultrasound", images=[ultrasound(1, patient_hash="1" * 64)]
    )
    for one in studies.load_study(db, rita, earlier).images:
        _predict(db, earlier, one, MODEL, shas["live"], 0.61)
    reads.record_first_read(db, rita, earlier, {"U": WORRIED})
    reads.reveal(db, rita, earlier)
    images = [ultrasound(2, laterality="L", spacing_mm=(0.1, 0.12), patient_hash="1" * 64), ultrasound(3)]
    images[1] = replace(images[1], laterality="R", frame=4, n_frames=9)
    finished = studies.create_study(db, rolf, display_name="With shadow answers", images=images)
    for number, one in enumerate(studies.load_study(db, rolf, finished).images):
        _predict(db, finished, one, MODEL, shas["live"], 0.4 + number / 10)
        silent = _answer(one.image, MODEL, shas["shadow"], 0.5 + number / 10)
        shadows.record_shadow_answer(db, finished, one.id, silent)
    both = {"R": CALM, "L": WORRIED}
    reads.record_first_read(db, rolf, finished, both)
    reads.reveal(db, rolf, finished)
    reads.record_final_read(db, rolf, finished, both)
    truths.record_truth(
        db, rolf, finished, breast="L", pathology="malignant", happened_on=date(2026, 3, 1), source="pathology report"
    )
    unread = studies.create_study(
        db, rita, display_name="Corrected, unread", images=[replace(ultrasound(4), modality=None)]
    )
    (one,) = studies.load_study(db, rita, unread).images
    _predict(db, unread, one, MODEL, shas["live"], 0.2)
    studies.correct_image(db, rita, one.id, laterality="L", view=None, modality=Modality.ULTRASOUND)
    wrong = studies.create_study(db, rita, display_name="Wrong upload", images=[ultrasound(5, patient_hash="9" * 64)])
    (one,) = studies.load_study(db, rita, wrong).images
    _predict(db, wrong, one, MODEL, shas["live"], 0.2)
    studies.delete_study(db, rita, wrong)  # type: ignore[call-arg]  # of 0.1.0, which asked for no reason
    site_settings.choose(db, site.admin, "reading_mode", "concurrent")
    tile = _small(phantoms.histology_tile(6), 8)
    tiles = studies.create_study(db, rolf, display_name="Tile", images=[tile], is_synthetic=True)
    (one,) = studies.load_study(db, rolf, tiles).images
    _predict(db, tiles, one, "histology-cnn4", "e" * 64, 0.77)
    reads.record_final_read(db, rolf, tiles, {"U": Impression("6", 100)})


def _removed_pixels(site: Site) -> None:
    """A study whose pictures the site's own policy has removed."""
    db, jan = site.db, site.people["Jan Joined"]
    image = _small(phantoms.ultrasound_image(7), 8, laterality="R")
    study = studies.create_study(db, jan, display_name="Pixels removed", images=[image])
    (one,) = studies.load_study(db, jan, study).images
    _predict(db, study, one, MODEL, "a" * 64, 0.3)
    reads.record_first_read(db, jan, study, {"R": CALM})
    reads.reveal(db, jan, study)
    reads.record_final_read(db, jan, study, {"R": CALM})
    site_settings.choose(db, site.admin, "keep_pixels_days", 30)
    site.clock.later(days=31)
    assert retention.apply_policy(db) == 1


def _answer(image: Image, model_id: str, weights: str, malignant: float) -> Prediction:
    low, high = malignant - 0.1, malignant + 0.1
    return Prediction(
        model_id, weights, image.sha256, ("benign", "malignant"), (1 - malignant, malignant), malignant,
        (low, malignant, high), 0.41, 0.25, "CPU", "the site's own value",
    )  # fmt: skip


def _predict(db: Database, study_id: str, stored: Any, model_id: str, weights: str, malignant: float) -> None:
    image = stored.image
    rng = np.random.default_rng(int(image.sha256[:8], 16))
    maps = {name: rng.random((2, 5, 5)).astype(np.float32) * scale for name, scale in (("fused", 1), ("cnn", 1e6))}
    fit = Fit((image.height, image.width), (0, image.height, 0, image.width), 32, 0, 3, 32, 26)
    answer = _answer(image, model_id, weights, malignant)
    predictions.record_predictions(db, study_id, stored.id, answer, Explanation(answer.classes, 1, maps, fit))


def make_pictures(folder: Path) -> Path:
    """Small pictures in a folder a label, some of them nearly the same, and a manifest of them; its path."""
    rng = np.random.default_rng(5)
    rows = ["file,label,patient,split"]
    for number in range(36):
        label = ("malignant", "benign")[number % 2]
        cells = rng.random((7, 9)).astype(np.float32)
        pixels = np.asarray(Raster.fromarray(cells).resize((64, 48), Raster.Resampling.BICUBIC)) * 120 + 50
        row, column = rng.integers(4, 30), rng.integers(4, 46)
        pixels[row : row + 12, column : column + 12] = 240 if label == "malignant" else 10
        names = [f"{label}/case{number:02d}.png"]
        if number < 6:  # the same again, a little brighter
            names.append(f"{label}/case{number:02d}-again.png")
        for brighter, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Raster.fromarray((pixels + 3 * brighter).clip(0, 255).astype(np.uint8)).save(folder / name)
            part = ("train", "train", "train", "validation", "test")[number // 2 % 5]
            rows.append(f"{name},{label},p{number},{part}")
    manifest = folder.parent / "cases.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def make_shipped(root: Path, manifest: Path, pictures: Path) -> None:
    """Two shipped models, fitted for one epoch and then mostly emptied, so that they take no room."""
    arguments = ["fit", "cnn", "--modality", "ultrasound", "--data", str(manifest), "--root", str(pictures)]
    arguments += ["--init", "random", "--epochs", "1", "--side", "32", "--seed", "9", "--out", str(root / "weights")]
    subprocess.run([sys.executable, "-m", "train", *arguments], cwd=REPOSITORY, check=True)
    folder = root / "weights" / MODEL
    change_weights(folder, keep_below=600)
    shutil.copytree(folder, root / "weights" / SPARE)
    path = root / "weights" / SPARE / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "model_id": SPARE}), encoding="utf-8")
    change_weights(path.parent, keep_below=600, add=0.125)


def change_weights(folder: Path, *, keep_below: int = 0, add: float = 0.0) -> str:
    """Other weights in a model's folder, with the card that names them; their SHA-256.

    keep_below: larger arrays become 0, where it is not 0. add: to the smallest array.
    """
    card = read_card(folder)
    state = read_shards(folder, card.weights_files, card.weights_sha256)
    if keep_below:
        state = {name: values if values.size < keep_below else np.zeros_like(values) for name, values in state.items()}
    smallest = min(state, key=lambda name: (state[name].size, name))
    state[smallest] = state[smallest] + np.float32(add)
    for name in card.weights_files:
        (folder / name).unlink()
    sha256, files = write_shards(to_float16(state), folder)
    text = (folder / "card.json").read_text(encoding="utf-8")
    raw = json.loads(text.replace(card.weights_sha256, sha256).replace(card.weights_sha256[:8], sha256[:8]))
    raw["weights"]["files"] = list(files)
    (folder / "card.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    for path in folder.glob(f"{card.weights_sha256[:8]}.*"):
        path.rename(folder / path.name.replace(card.weights_sha256[:8], sha256[:8]))
    return sha256


def _zip(site: Site, name: str) -> Path:
    """The pictures and a text that is no picture, not compressed."""
    path = site.root / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for picture in sorted((site.root / "pictures" / "ultrasound").rglob("*.png")):
            archive.write(picture, picture.relative_to(site.root / "pictures" / "ultrasound").as_posix())
        archive.writestr("benign/no picture.png", b"this is not a picture")
    return path


def _import(site: Site, request: ImportRequest, files: dict[str, Path] | None = None) -> int:
    return imports.enqueue(site.db, site.admin, request, files or {})


def _imports(site: Site) -> None:
    """Imports that are over, in every way an import can end; their data sets."""
    db, admin = site.db, site.admin
    worker = Worker(db, ImportWork(db))
    worker.machine, worker.name = MACHINE, WORKER
    ultrasound = Modality.ULTRASOUND
    _import(site, ImportRequest("zip", "Made ultrasound", ultrasound, seed=3), {"archive": _zip(site, "a.zip")})
    (site.root / "b.zip").write_bytes(b"PK\x03\x04 not a zip at all")
    _import(site, ImportRequest("zip", "Never made", ultrasound), {"archive": site.root / "b.zip"})
    _import(site, ImportRequest("folder", "Removed again", ultrasound, folder="ultrasound"))
    own = ImportRequest("own reads", "Own reads", Modality.MAMMOGRAPHY, labelling="malignant or not", is_confirmed=True)
    _import(site, own)
    while worker.work_once():
        pass
    cancelled = _import(site, ImportRequest("folder", "Cancelled", ultrasound, folder="ultrasound"))
    imports.cancel(db, admin, cancelled)
    _import(site, ImportRequest("folder", "Cancelled while it ran", ultrasound, folder="ultrasound"))
    held = imports.QUEUE.claim(db, worker=WORKER, machine=MACHINE)
    assert held is not None
    imports.cancel(db, admin, held.id)
    assert imports.QUEUE.heartbeat(db, held, {"message": "Reads.", "done": 0.5}) == STOP
    imports.QUEUE.finish(db, held, CANCELLED, "Cancelled; nothing was added.")
    _import(site, ImportRequest("folder", "Dead", ultrasound, folder="ultrasound"))
    for _ in range(ATTEMPTS):
        assert imports.QUEUE.claim(db, worker=WORKER, machine=MACHINE, lease_seconds=EXPIRED)
        site.clock.later(minutes=1)
    assert imports.QUEUE.claim(db, worker=WORKER, machine=MACHINE) is None
    imports.close(db, admin, 2)
    removed = next(row for row in data_sets.list_versions(db, admin) if row.name == "Removed again")
    data_sets.remove_data_set(db, admin, removed.data_set_id)


def _versions(site: Site) -> dict[str, int]:
    """Versions with pairs settled, in folds, and of a balanced part."""
    db, admin = site.db, site.admin
    first = next(row for row in data_sets.list_versions(db, admin) if row.name == "Made ultrasound")
    pairs = near_duplicates.near_duplicates(db, admin, first.id, progress=lambda *_: None)
    assert len(pairs) >= 3, pairs
    decided = dict(zip([(one.first, one.second) for one in pairs], versions.DECISIONS[:3], strict=False))
    settled = versions.settle_pairs(db, admin, first.id, decided)
    folds = versions.split_anew(db, admin, settled, versions.SplitRequest(seed=4, folds=3))
    part = versions.split_anew(db, admin, settled, versions.SplitRequest(seed=5, per_class=10))
    own = next(row for row in data_sets.list_versions(db, admin) if row.name == "Own reads")
    return {"first": first.id, "settled": settled, "folds": folds, "part": part, "own": own.id}


def _trainings(site: Site, version_ids: dict[str, int]) -> None:
    """Trainings that are over: one for real, then one of every other end."""
    db, admin, ultrasound = site.db, site.admin, Modality.ULTRASOUND
    worker = Worker(db, TrainingWork(db, LocalExecutor(db.settings)))
    worker.machine, worker.name = MACHINE, WORKER
    small = FitRequest("cnn", ultrasound, init="random", epochs=2, side=32, seed=1, why="The site's first training.")
    trainings.enqueue(db, admin, small, version_ids["settled"])
    trainings.enqueue(db, admin, replace(small, positive="no such label"), version_ids["first"])
    while worker.work_once():
        pass
    first, refused = (trainings.load_job(db, admin, number) for number in (1, 2))
    assert (first.state, refused.state) == (DONE, FAILED), (first.message, refused.message)
    trainings.enqueue(db, admin, replace(small, seed=2, name=MODEL), version_ids["settled"])
    _finish_by_hand(site, _claimed(site))
    trainings.enqueue(db, admin, replace(small, folds=3, name="folded"), version_ids["folds"])
    held = _claimed(site)
    for part in ("fold0", "fold1", "all"):
        trainings.add_epochs(db, held, part, [_epoch(1), _epoch(2)])
    trainings.QUEUE.finish(
        db, held, FAILED, "The training stopped with an error that is our fault. The log tells where."
    )
    trainings.enqueue(db, admin, replace(small, trials=4, refits=2, name="searched"), version_ids["settled"])
    held = _claimed(site)
    trials = [{"number": 0, "settings": {"dropout": 0.3}, "state": "done", "epochs": 2, "validation_auc": 0.7}]
    trainings.cancel(db, admin, held.id)
    progress = {"part": "", "epoch": 2, "step": 1, "steps": 9, "trials": trials}
    assert trainings.QUEUE.heartbeat(db, held, {"progress": progress}) == STOP
    trainings.QUEUE.finish(db, held, CANCELLED, "Cancelled; nothing of it was kept but the log.")
    cancelled = trainings.enqueue(db, admin, replace(small, name="cancelled"), version_ids["part"])
    trainings.cancel(db, admin, cancelled)
    trainings.enqueue(db, admin, replace(small, name="dead"), version_ids["part"])
    for _ in range(ATTEMPTS):
        _claimed(site, EXPIRED)
        site.clock.later(minutes=1)
    assert trainings.QUEUE.claim(db, worker=WORKER, machine=MACHINE) is None


def _claimed(site: Site, lease_seconds: float = LEASE_SECONDS) -> Lease:
    held = trainings.QUEUE.claim(site.db, worker=WORKER, machine=MACHINE, lease_seconds=lease_seconds)
    assert held is not None
    return held


def _epoch(number: int) -> dict[str, float]:
    return {
        "epoch": number, "loss": 0.7 / number, "validation_loss": 0.8 / number, "validation_auc": 0.6,
        "validation_accuracy": 0.55, "seconds": 0.5,
    }  # fmt: skip


def _finish_by_hand(site: Site, held: Lease) -> None:
    """What a worker does at the end of a training, with the first candidate's weights a little changed."""
    db = site.db
    log = trainings.folder_of(db.settings, held.id) / "log.txt"
    log.parent.mkdir(mode=0o700, parents=True)
    log.write_text("--- attempt 1\nEpoch 1\nEpoch 2\n", encoding="utf-8")
    said = {"memory_mib": 321, "device": "CPU", "message": "Trains: 1 of at most 2 epochs.", "progress": {}}
    trainings.QUEUE.heartbeat(db, held, said)
    trainings.add_epochs(db, held, "", [_epoch(1), _epoch(2)])
    folder = candidate_dir(db.settings, held.id) / MODEL
    shutil.copytree(candidate_dir(db.settings, 1) / MODEL, folder)
    sha256 = change_weights(folder, add=0.25)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / card.pop("cases")["file"]).unlink()  # as of models from before there were lists of cases
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    result = {"model_id": MODEL, "weights_sha256": sha256, "folder": MODEL}
    trainings.store_result(db, held, result)
    trainings.QUEUE.finish(db, held, DONE, trainings.CANDIDATE_READY, result=result)


def _releases(site: Site) -> dict[str, str]:
    """Promoted, in shadow, rolled back, retired; the weights that are live and in shadow at the end."""
    db, admin = site.db, site.admin
    first = promotion_check.examine(db, admin, 1)
    _promote(site, 1, "Better than what was shipped.")
    second = promotion_check.examine(db, admin, 3).candidate.weights_sha256
    live = first.candidate.weights_sha256
    decisions.start_shadow(db, admin, 3, reason="To see how it does.")
    decisions.end_shadow(db, admin, MODEL, second, reason="Seen enough.")
    _promote(site, 3, "A second one.")
    decisions.roll_back(db, admin, MODEL, live, live_sha256=second, reason="Worse in practice.")
    spare = decisions.live_now(db, admin, SPARE)
    decisions.retire(db, admin, SPARE, live_sha256=spare, reason="Nobody uses it.")
    decisions.start_shadow(db, admin, 3, reason="Once more, beside the live one.")
    return {"live": live, "shadow": second}


def _promote(site: Site, job_id: int, reason: str) -> None:
    found = promotion_check.examine(site.db, site.admin, job_id)
    passed = {line.key: f"Made up; passes {line.key}." for line in found.lines}
    promotion_check.promote(site.db, site.admin, job_id, live_sha256=found.live_sha256, reason=reason, passed=passed)


def _exports(site: Site, study_ids: dict[str, str]) -> None:
    db, admin, rita = site.db, site.admin, site.people["Rita Reader"]
    reads.record_export(db, rita, study_ids["four"], what="pdf")
    trail.record_comparison_export(db, site.people["Rosa Research"], what="comparison.csv", data_sha256="f" * 64)
    trail.export_csv(db, admin, trail.entries(db, admin, limit=20))


def _sessions(site: Site) -> None:
    """Sessions that are alive now, and one that was ended."""
    db = site.db
    site.secrets["session"] = accounts.sign_in(db, db.settings, "Rita Reader", PASSWORD)
    sessions.sign_out(db, accounts.sign_in(db, db.settings, "Rosa Research", PASSWORD))
    accounts.sign_in(db, db.settings, "Rolf Reader", PASSWORD)
    accounts.sign_out_everywhere(db, site.admin, site.people["Rolf Reader"].person_id)


def _backup(site: Site) -> None:
    """After which the trail has one row more, and nothing else changes any more."""
    assert core_main(["backup", str(site.root / "site.backup")]) == 0


def _queues(site: Site, version_ids: dict[str, int]) -> None:
    """What waits and what runs when the site is stopped; the machine that ran them does not come back."""
    db, admin, ultrasound = site.db, site.admin, Modality.ULTRASOUND
    _import(site, ImportRequest("folder", "Was running", ultrasound, seed=1, folder="ultrasound"))
    files = {"archive": _zip(site, "c.zip")}
    _import(site, ImportRequest("zip", "Waiting zip", ultrasound, seed=8), files)
    books = {}
    for name in ("combined", "validation", "images"):
        books[name] = site.root / f"{name}.part"
        books[name].write_bytes(f"made up {name}\n".encode())
    columns = LinkColumns(KeyColumns("File", "Date", "Time", "Patient"), sheets=LinkSheets("Ca", "Non-Ca", "Seen"))
    _import(site, ImportRequest("workbooks", "Waiting books", Modality.MAMMOGRAPHY, columns=columns), books)
    own = ImportRequest("own reads", "Waiting own", Modality.MAMMOGRAPHY, labelling="as entered", is_confirmed=True)
    _import(site, own)
    held_import = imports.QUEUE.claim(db, worker=WORKER, machine=MACHINE, lease_seconds=EXPIRED)
    assert held_import is not None
    said = {"message": "Comparing the pictures with each other", "done": 0.4}
    imports.QUEUE.heartbeat(db, held_import, said, seconds=EXPIRED)

    running = FitRequest("cnn", ultrasound, init="random", epochs=9, side=48, name="was-running")
    trainings.enqueue(db, admin, running, version_ids["first"])
    held = _claimed(site)
    trainings.enqueue(
        db, admin, FitRequest("cnn4", ultrasound, init="random", name="handed.back_1"), version_ids["part"]
    )
    other = trainings.QUEUE.claim(db, worker="other-machine:1:0", machine="other-machine")
    assert other is not None
    trainings.QUEUE.hand_back(db, other)
    for request, version in _waiting():
        trainings.enqueue(db, admin, request, version_ids[version])
    seeds = with_seeds(FitRequest("cnn3", ultrasound, init="random", why="three seeds"), "0, 1, 2")
    trainings.enqueue_all(db, admin, seeds, version_ids["settled"])
    trainings.enqueue(db, admin, FitRequest("cnn", ultrasound), version_ids["first"])
    trainings.add_epochs(db, held, "", [_epoch(1)])
    said = {"memory_mib": 456, "device": "CPU", "message": "Trains: 1 of at most 9 epochs."}
    said |= {"progress": {"part": "", "epoch": 2, "step": 3, "steps": 8}}
    trainings.QUEUE.heartbeat(db, held, said, seconds=EXPIRED)


def _older_rows(site: Site) -> None:
    """Rows as they are from before there were more options of a training, thresholds of a site, and drift."""
    job, prediction, image = tables.job, tables.prediction, tables.image
    request = {"architecture": "cnn", "modality": "ultrasound", "init": "random"}
    with site.db.begin() as connection:
        last = connection.execute(select(func.max(job.c.id))).scalar_one()
        connection.execute(job.update().where(job.c.id == last).values(request=request))
        first = connection.execute(select(prediction).order_by(prediction.c.id).limit(1)).one()
        payload = {name: value for name, value in first.payload.items() if name != "threshold_rule"}
        connection.execute(prediction.update().where(prediction.c.id == first.id).values(payload=payload))
        unknown = {"n_rows": None, "n_columns": None, "brightness": None}
        connection.execute(image.update().where(image.c.id == first.image_id).values(**unknown))


def _waiting() -> Iterator[tuple[FitRequest, str]]:
    """Requests that use every option there is, and the versions they are for."""
    ultrasound, mammography = Modality.ULTRASOUND, Modality.MAMMOGRAPHY
    yield FitRequest("cnn", ultrasound), "first"
    yield (
        FitRequest(
            "fusion", ultrasound, init="offline", epochs=7, side=96, seed=3, name="site-fusion",
            positive="malignant", why='Dörte\'s wish: "quoted", with a \\ and 100 %', unfreeze="2",
            settings=("learning_rate=0.0002", "optimizer=sgd", "augmentation=none", "dropout=0.25"),
        ),
        "settled",
    )  # fmt: skip
    yield FitRequest("cnn2", ultrasound, init="random", folds=3, seed=2**31 - 1, name="folds"), "folds"
    yield (
        FitRequest("vgg16_gap", ultrasound, init="imagenet", trials=5, refits=2, name="search", settings=("batch=8",)),
        "settled",
    )
    yield FitRequest("efficientnet_lite0", ultrasound, unfreeze="0", name="features"), "first"
    yield FitRequest("resnet50_gap", mammography, init="imagenet", unfreeze="all", side=64, name="own"), "own"


def pack(root: Path, target: Path) -> None:
    """Everything of the site but what lies outside its folders, with owners and times taken off."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = int(datetime(2026, 1, 12, tzinfo=UTC).timestamp())
        return entry

    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in ("state", "weights", "pictures", "site.backup"):
            tar.add(root / name, name, filter=plain)


def dump(database: Path, target: Path) -> None:
    """The rows of an SQLite database as a plain dump of PostgreSQL, one INSERT a row, without psql's own commands."""
    server = find_postgres()
    if isinstance(server, str):
        sys.exit(server)
    try:
        url = server.empty_database()
        engine = create_engine(url.replace("postgresql://", "postgresql+pg8000://"))
        with engine.begin() as connection:
            database_copy.from_sqlite(database, connection, lambda _: None)
        engine.dispose()
        options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments", "--schema=public"]
        text = subprocess.run(["pg_dump", *options, url], check=True, capture_output=True, text=True).stdout
    finally:
        server.stop()
    lines = [line for line in text.splitlines() if not line.startswith(("\\", "--", "SET ", "CREATE SCHEMA"))]
    target.write_bytes(lzma.compress("\n".join(line for line in lines if line).encode() + b"\n", preset=9))


def lines_of(value: Any, depth: int) -> str:
    """JSON with what lies `depth` levels deep on one line each."""
    if depth and value and isinstance(value, dict):
        inner = [f"{json.dumps(key)}: {lines_of(value[key], depth - 1)}" for key in sorted(value)]
        return "{\n" + ",\n".join(inner) + "\n}"
    if depth and value and isinstance(value, list):
        return "[\n" + ",\n".join(lines_of(one, depth - 1) for one in value) + "\n]"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def checkpointed(database: Path) -> None:
    """One file, without a log beside it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        sys.exit(__doc__)
    out = Path(arguments[0]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if list(out.glob(f"*-{version}.*")):
        sys.exit(f"There is a site of {version} in {out} already, and what a version wrote is never made anew.")
    root = Path(tempfile.gettempdir()) / "secondread-site"  # the same each time: logs and cards name it
    root.mkdir()
    try:
        for knob in ("state_dir", "weights_dir"):
            os.environ[f"SECONDREAD_{knob.upper()}"] = str(getattr(settings_of(root), knob))
        pictures = root / "pictures" / "ultrasound"
        make_shipped(root, make_pictures(pictures), pictures)
        clock = Clock()
        with clock.rules():
            expected = fill(root, clock)
        checkpointed(root / "state" / "secondread.sqlite3")
        pack(root, out / f"site-{version}.tar.xz")
        dump(root / "state" / "secondread.sqlite3", out / f"site-{version}.sql.xz")
        text = lines_of({"version": version, **expected}, 3)
        (out / f"expected-{version}.json").write_text(text + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(root)
    for path in sorted(out.glob(f"*-{version}.*")):
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
