"""A process that saves, reads, deletes, imports, releases and backs up through the functions of the pages, killed.

A round: a process of its own acts in random order and writes down each act that came back to it (what a person would
have been told is saved); it is killed by SIGKILL or SIGTERM; the site is opened as at a start, and all that was
acknowledged must be there, whole, and nothing else left over.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import made_data_sets
from kill_figures import Figures, drawn_signal, left_in
from record_site import CALM, AtTerminal, add_person, at_terminal, picture
from release_site import MODEL, add_candidate, promote

from core import files
from core.errors import AppError, NotFound
from core.models.cards import live_card
from core.models.live import read_live
from core.models.weights import check_shards
from core.records import data_sets
from core.records.audit import heads
from core.records.backup import site_backup
from core.records.database.db import Database, open_database
from core.records.reads import reads, studies
from core.records.releases import decisions
from core.settings import Settings
from core.types import Modality
from train.datasets import ingest

ACTS = ("save", "save", "delete", "import", "release", "head", "backup")
SECONDS_MOST = 2.5
"""How long a process acts before it is killed, at most."""


class Site:
    """A site in `folder`, with a person who may do everything, two candidates and a zip to import."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(state_dir=folder / "state")
        self.out = folder / "out"
        self.zip = folder / "pictures.zip"
        is_new = not self.out.is_dir()
        db = open_database(self.settings)
        try:
            if is_new:
                person = add_person(db, "Ann")
                made_data_sets.zipped(self.zip, made_data_sets.class_folders(6))
                for number in (1, 2):
                    add_candidate(db, at_terminal(person), number)
                heads.write_head(db)
                self.out.mkdir(parents=True)
            with db.read() as connection:
                row = connection.exec_driver_sql("SELECT id, name, roles FROM person WHERE name = 'Ann'").one()
            self.person: AtTerminal = AtTerminal(row.id, row.name, frozenset(json.loads(row.roles)))
        finally:
            db.close()


class Acting:
    """What the killed process does. told: writes one acknowledged act down, in one write that is there or is not."""

    def __init__(self, site: Site, seed: str, told: Callable[[str, str], None]) -> None:
        self.site, self.draw, self.told = site, random.Random(seed), told
        self.seed = seed
        self.own: list[str] = []

    def go_on(self) -> None:
        files.end_cleanly_on_sigterm()
        db = open_database(self.site.settings)
        try:
            for number in range(10_000):
                with suppress(AppError):
                    getattr(self, self.draw.choice(ACTS))(db, number)
        finally:
            db.close()

    def save(self, db: Database, number: int) -> None:
        person = self.site.person
        images = [picture(self.draw.randrange(400))]
        study = studies.create_study(db, person, display_name=f"{number}", images=images)
        self.told("study", study)
        self.own.append(study)
        reads.record_first_read(db, person, study, {"R": CALM})
        self.told("first read", study)
        reads.reveal(db, person, study)
        self.told("reveal", study)
        reads.record_final_read(db, person, study, {"R": CALM})
        self.told("final read", study)

    def delete(self, db: Database, number: int) -> None:
        if self.own:
            study = self.own.pop(self.draw.randrange(len(self.own)))
            self.told("deleting", study)
            studies.delete_study(db, self.site.person, study, reason="wrong upload")
            self.told("deleted", study)

    def head(self, db: Database, number: int) -> None:
        heads.write_head(db)
        self.told("head", "")

    def backup(self, db: Database, number: int) -> None:
        name = f"{self.seed}-{number}.backup"
        for old in self.site.out.glob("*.backup"):
            old.unlink(missing_ok=True)
        site_backup.back_up(db, self.site.out / name)
        self.told("backup", name)

    def release(self, db: Database, number: int) -> None:
        live = live_card(db.settings, MODEL).weights_sha256
        job = self.draw.choice((1, 2))
        promote(db, self.site.person, job, live_sha256=live)
        self.told("release", live_card(db.settings, MODEL).weights_sha256)

    def import_(self, db: Database, number: int) -> None:
        name = f"{self.seed} {number}"
        made = ingest.add_zip(
            db, self.site.person, self.site.zip, name=name, modality=Modality.ULTRASOUND, seed=0,
            progress=lambda *_: None,
        )  # fmt: skip
        self.told("import", str(made.version_id))


setattr(Acting, "import", Acting.import_)


class ActRounds:
    """Rounds over a site in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.site = Site(folder)

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        reading, writing = os.pipe()
        number = drawn_signal(draw)
        process = multiprocessing.get_context("fork").Process(target=_act, args=(self.site, seed, writing))
        process.start()
        os.close(writing)
        time.sleep(draw.uniform(0.02, SECONDS_MOST))
        os.kill(process.pid or 0, number)
        process.join(60)
        if process.is_alive():
            figures.half.append(f"{seed}: did not end by {number.name}")
            process.kill()
            process.join()
        elif process.exitcode not in (-number, 128 + number):
            figures.half.append(f"{seed}: ended by itself with {process.exitcode}, before it was killed")
        with os.fdopen(reading, encoding="utf-8") as told:
            acts = [tuple(json.loads(line)) for line in told if line.endswith("\n")]
        figures.killed("acts", number)
        for kind, _ in acts:
            if kind != "deleting":
                figures.told(kind)
        judge(self.site, seed, acts, figures)

    def close(self) -> None:
        """Nothing runs between rounds."""


def _act(site: Site, seed: str, writing: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    Acting(site, seed, lambda kind, what: _tell(writing, kind, what)).go_on()


def _tell(writing: int, kind: str, what: str) -> None:
    os.write(writing, (json.dumps([kind, what]) + "\n").encode())


def judge(site: Site, seed: str, acts: list[tuple[str, str]], figures: Figures) -> None:
    """Opens the site as a start does and adds what is wrong to `figures`."""
    db = open_database(site.settings)
    try:
        decisions.project(db)
        figures.half += [f"{seed}: {problem}" for problem in heads.verify(db).problems]
        _judge_studies(db, site, seed, acts, figures)
        _judge_data_sets(db, site, seed, acts, figures)
        _judge_releases(db, seed, acts, figures)
    finally:
        db.close()
    files.sweep_folder(site.out)
    figures.left_over += [f"{seed}: {name}" for name in left_in(site.settings.state_dir)]
    figures.left_over += [f"{seed}: {path.name}" for path in site.out.iterdir() if path.suffix != ".backup"]
    for path in site.out.glob("*.backup"):
        with files.temporary_folder(site.out) as again:
            try:
                site_backup.check_backup(path, again)
            except AppError as refused:
                figures.half.append(f"{seed}: {path.name}: {refused}")


def _judge_studies(db: Database, site: Site, seed: str, acts: list[tuple[str, str]], figures: Figures) -> None:
    going = {what for kind, what in acts if kind == "deleting"}
    gone = {what for kind, what in acts if kind == "deleted"}
    for kind, what in acts:
        if kind in ("study", "first read", "final read") and what not in going:
            try:
                loaded = studies.load_study(db, site.person, what)
                kinds = {read.kind for read in reads.reads_of(db, site.person, what)}
                if not loaded.images or (kind != "study" and kind.partition(" ")[0] not in kinds):
                    figures.lost.append(f"{seed}: {kind} of {what}")
            except NotFound as refused:
                figures.lost.append(f"{seed}: {kind} of {what}: {refused}")
    for what in gone:
        with suppress(NotFound):
            studies.load_study(db, site.person, what)
            figures.left_over.append(f"{seed}: deleted study {what}")
    with db.read() as connection:
        missing = {key for key in site_backup.image_store.all_referred(connection) if not db.store.has(key)}
    figures.half += [f"{seed}: {key} is named and not there" for key in missing]


def _judge_data_sets(db: Database, site: Site, seed: str, acts: list[tuple[str, str]], figures: Figures) -> None:
    versions = {str(row.id): row for row in data_sets.list_versions(db, site.person)}
    figures.lost += [f"{seed}: import {what}" for kind, what in acts if kind == "import" and what not in versions]
    for row in versions.values():
        try:
            manifest = data_sets.checked_manifest(db.settings, row.manifest_sha256)
        except NotFound as refused:
            figures.half.append(f"{seed}: {refused}")
            continue
        folder = data_sets.files_dir(db.settings)
        missing = [name for name in data_sets.files_of(manifest.read_bytes()) if not (folder / name).is_file()]
        figures.half += [f"{seed}: {name} of a manifest is not there" for name in missing]


def _judge_releases(db: Database, seed: str, acts: list[tuple[str, str]], figures: Figures) -> None:
    read_live(db.settings)
    card = live_card(db.settings, MODEL)
    check_shards(card.folder, card.weights_files, card.weights_sha256)
    with db.read() as connection:
        rows = connection.exec_driver_sql("SELECT weights_sha256 FROM release ORDER BY id").scalars().all()
    if rows and rows[-1] != card.weights_sha256:
        figures.half.append(f"{seed}: the model that answers is not the one that was decided last")
    figures.lost += [f"{seed}: release {what[:8]}" for kind, what in acts if kind == "release" and what not in rows]
