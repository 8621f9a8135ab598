"""Data sets from a zip or a folder: kept once by content, without names, split and audited, never changed."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_data_sets import class_folders, picture, with_copies, zipped
from PIL import Image as Raster
from PIL.PngImagePlugin import PngInfo
from record_site import add_person

from core.errors import AppError, Conflict, InvalidInput, NotAllowed, NotFound, UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.raster import read_raster
from core.records import data_sets
from core.records.audit import trail
from core.records.database.db import Database
from core.records.people.permissions import ROLES, Person
from core.settings import REPOSITORY, Settings
from core.types import Modality
from train.datasets import ingest, near_duplicates, overview, versions
from train.datasets.cases import prepare
from train.datasets.ingest import Ingested
from train.datasets.manifest import read_manifest
from train.datasets.staging import unpack
from train.datasets.versions import SplitRequest
from train.queue import duration, trainings
from train.recipe.request import FitRequest


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(state_dir=tmp_path / "state", data_root=str(tmp_path / "data"))


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def added(db: Database, person: Person, archive: Path, name: str = "Set", seed: int = 0) -> Ingested:
    return ingest.add_zip(
        db, person, archive, name=name, modality=Modality.ULTRASOUND, seed=seed, progress=lambda *_: None
    )


def cases_of(db: Database, person: Person, version_id: int) -> list[dict[str, str]]:
    sha256 = data_sets.load_version(db, person, version_id).manifest_sha256
    text = data_sets.checked_manifest(db.settings, sha256).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_zip_of_class_folders_becomes_a_split_and_audited_version(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    found = added(records, admin, zipped(tmp_path / "a.zip", class_folders()), seed=3)
    row = data_sets.load_version(records, admin, found.version_id)
    assert (row.name, row.number, row.n_cases, row.modality) == ("Set", 1, 20, "ultrasound")
    assert set(row.counts) == {"train", "validation", "test"} and row.split == {"kind": "60/20/20", "seed": 3}
    assert not row.is_leaking and row.audit["findings"]
    assert next(entry.action for entry in trail.entries(records, admin)) == "add data set"
    assert not list((records.settings.state_dir / "tmp").iterdir())


def test_no_name_of_a_file_or_a_patient_is_kept(records: Database, admin: Person, tmp_path: Path) -> None:
    rows = "".join(f"{i}_Muster.png,{('benign', 'malignant')[i % 2]},PAT{i // 2}\n" for i in range(20))
    files = {f"{i}_Muster.png": picture(i) for i in range(20)} | {
        "manifest.csv": f"file,label,patient\n{rows}".encode()
    }
    found = added(records, admin, zipped(tmp_path / "a.zip", files))
    cases = cases_of(records, admin, found.version_id)
    assert len({case["patient"] for case in cases}) == 10  # still told apart
    for path in (records.settings.state_dir / "data_sets").rglob("*"):
        assert "Muster" not in path.name
        assert not path.is_file() or (b"Muster" not in path.read_bytes() and b"PAT1" not in path.read_bytes())


def test_what_parts_a_patients_exams_and_the_density_stay_the_exam_as_a_hash(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    rows = "".join(f"{i}.png,{('benign', 'malignant')[i % 2]},P{i // 4},ACC{i // 2},{'AB'[i % 2]}\n" for i in range(20))
    files = {f"{i}.png": picture(i) for i in range(20)} | {
        "manifest.csv": f"file,label,patient,Exam,density\n{rows}".encode()
    }
    cases = cases_of(records, admin, added(records, admin, zipped(tmp_path / "a.zip", files)).version_id)
    assert (
        len({case["exam"] for case in cases}) == 10 and len({(case["patient"], case["exam"]) for case in cases}) == 10
    )
    assert {case["density"] for case in cases} == {"A", "B"}
    assert not any("ACC" in value for case in cases for value in case.values())


def test_a_picture_is_stored_once_whatever_it_is_called(records: Database, admin: Person, tmp_path: Path) -> None:
    files = class_folders()
    added(records, admin, zipped(tmp_path / "a.zip", files))
    twice = files | {"set/benign/again.png": picture(0), "set/benign/other label.png": picture(1)}
    found = added(records, admin, zipped(tmp_path / "b.zip", twice), name="Second")
    assert len(list(data_sets.files_dir(records.settings).glob("*/*"))) == 20
    assert data_sets.load_version(records, admin, found.version_id).n_cases == 19
    assert "1 picture left out: the same file once more." in found.notes
    assert "2 pictures left out: the same file has different labels." in found.notes


def test_a_new_split_is_a_new_version_and_the_old_one_stays_as_it_was(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    first = added(records, admin, zipped(tmp_path / "a.zip", class_folders())).version_id
    before = cases_of(records, admin, first)
    second = versions.split_anew(records, admin, first, SplitRequest(seed=5))
    row = data_sets.load_version(records, admin, second)
    assert (row.number, row.split["seed"], row.n_cases) == (2, 5, 20)
    assert cases_of(records, admin, first) == before
    assert [case["split"] for case in cases_of(records, admin, second)] != [case["split"] for case in before]


def _divided(parts: list[str], folds: list[str] | None = None) -> dict[str, bytes]:
    """A picture a part, malignant and benign in turn, with a manifest that says so."""
    files = {f"{number}.png": picture(number) for number in range(len(parts))}
    rows = [f"{number}.png,{('benign', 'malignant')[number % 2]},{part}" for number, part in enumerate(parts)]
    header = "file,label,split"
    if folds is not None:
        header, rows = f"{header},fold", [f"{row},{fold}" for row, fold in zip(rows, folds, strict=True)]
    return files | {"manifest.csv": "\n".join([header, *rows]).encode()}


GIVEN = [("Train", "val", "TEST", "training")[number // 2 % 4] for number in range(24)]
MEANT = [("train", "validation", "test", "train")[number // 2 % 4] for number in range(24)]


@pytest.mark.parametrize("folds", [None, [str(number % 4) for number in range(24)]], ids=["split", "split and folds"])
def test_a_given_split_is_taken_in_whatever_words_and_before_folds(
    folds: list[str] | None, records: Database, admin: Person, tmp_path: Path
) -> None:
    found = added(records, admin, zipped(tmp_path / "a.zip", _divided(GIVEN, folds)))
    row, cases = near_duplicates.version_cases(records, admin, found.version_id)
    assert row.split == {"kind": "as the manifest says"} and "fold" not in cases
    assert list(cases["split"]) == list(near_duplicates.parts_of(cases)) == MEANT
    assert {part: sum(counts.values()) for part, counts in row.counts.items()} == {
        "train": 12, "validation": 6, "test": 6,
    }  # fmt: skip
    assert not any("split" in note for note in found.notes)


@pytest.mark.parametrize(
    ("parts", "folds", "sentence"),
    [
        ([*GIVEN[:-1], ""], None, "is not used, and a new one was made: 1 picture had neither train nor validation"),
        ([*GIVEN[:-2], "a", "b"], None, "a new one was made: 2 pictures had neither train nor validation nor test"),
        ([""] * 24, [str(number % 4) for number in range(24)], "The folds that were given are not used"),
        ([""] * 24, None, None),
    ],
)
def test_a_given_split_that_cannot_be_used_is_said_to_be_made_anew(
    parts: list[str], folds: list[str] | None, sentence: str | None, records: Database, admin: Person, tmp_path: Path
) -> None:
    found = added(records, admin, zipped(tmp_path / "a.zip", _divided(parts, folds)))
    row = data_sets.load_version(records, admin, found.version_id)
    assert row.split["kind"] == "60/20/20" and set(row.counts) == {"train", "validation", "test"}
    told = [note for note in found.notes if "not used" in note]
    assert len(told) == (sentence is not None) and all(str(sentence) in note for note in told)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"readme.txt": b"hello"}, "No picture was found"),
        ({"benign/1.png": picture(1), "benign/2.png": picture(2)}, "same label"),
        ({"a/1.png": b"no picture", "b/2.png": b"none"}, "None of the pictures"),
        ({"manifest.csv": b"file,label\n../../site.key,benign\n", "1.png": picture(1)}, "outside"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    records: Database, admin: Person, tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        added(records, admin, zipped(tmp_path / "a.zip", files))
    assert data_sets.list_versions(records, admin) == []


def test_a_damaged_zip_is_refused(records: Database, admin: Person, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UnreadableImage):
        added(records, admin, tmp_path / "a.zip")


def test_a_folder_is_read_only_below_the_sites_data_root(records: Database, admin: Person, tmp_path: Path) -> None:
    for name, content in class_folders().items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "data" / "set" / "benign" / "link.png").symlink_to(records.settings.state_dir / "site.key")

    def add(folder: str) -> Ingested:
        return ingest.add_folder(
            records, admin, folder, name=folder[-9:], modality=Modality.ULTRASOUND, seed=0, progress=lambda *_: None
        )

    found = add("set")
    assert data_sets.load_version(records, admin, found.version_id).n_cases == 20
    with pytest.raises(InvalidInput, match="outside"):
        add("../state")
    with pytest.raises(InvalidInput, match="outside"):
        add(str(records.settings.state_dir))
    with pytest.raises(NotFound):
        add("nothing here")


def test_a_removed_data_set_takes_its_pictures_but_not_those_of_another(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    first = added(records, admin, zipped(tmp_path / "a.zip", class_folders(20))).version_id
    second = added(records, admin, zipped(tmp_path / "b.zip", class_folders(24)), name="Second").version_id
    data_sets.remove_data_set(records, admin, data_sets.load_version(records, admin, second).data_set_id)
    assert len(list(data_sets.files_dir(records.settings).glob("*/*"))) == 20
    assert [row.id for row in data_sets.list_versions(records, admin)] == [first]
    added(records, admin, zipped(tmp_path / "b.zip", class_folders(24)), name="Second")  # the name is free again
    with pytest.raises(Conflict, match="already"):
        added(records, admin, zipped(tmp_path / "a.zip", class_folders()))


def test_what_an_import_kept_is_removed_again_when_it_is_refused_or_stopped(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    class Stopped(BaseException):
        """As Streamlit ends a script whose page went away."""

    def stop(sentence: str, done: float) -> None:
        if sentence == "Looking for leaks":
            raise Stopped

    archive = zipped(tmp_path / "a.zip", class_folders())
    with pytest.raises(Stopped):
        ingest.add_zip(records, admin, archive, name="x", modality=Modality.ULTRASOUND, seed=0, progress=stop)
    with pytest.raises(InvalidInput, match="same label"):
        added(records, admin, zipped(tmp_path / "b.zip", {"a/1.png": picture(1), "a/2.png": picture(2)}))
    assert left_in(records) == [] and data_sets.list_versions(records, admin) == []
    added(records, admin, archive, name="x")


def test_what_a_killed_import_left_is_swept_a_day_later(records: Database, admin: Person, tmp_path: Path) -> None:
    orphan = data_sets.files_dir(records.settings) / data_sets.store_file(records.settings, picture(99), "png")
    young = data_sets.files_dir(records.settings) / data_sets.store_file(records.settings, picture(98), "png")
    os.utime(orphan, (time.time() - 25 * 3600,) * 2)
    added(records, admin, zipped(tmp_path / "a.zip", class_folders()))
    assert not orphan.exists() and young.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from core.records.database.db import open_database
from core.records.people.permissions import LocalTerminal, Person
from core.settings import REPOSITORY, Settings
from core.types import Modality
from train.datasets import ingest

def kill(sentence, done):
    if sentence == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

db = open_database(Settings(state_dir=Path(sys.argv[1])))
ada = LocalTerminal(1)
ingest.add_zip(db, ada, Path(sys.argv[2]), name="x", modality=Modality.ULTRASOUND, seed=0, progress=kill)
"""


@pytest.mark.parametrize("moment", ["Unpacking", "Keeping the pictures", "Looking for leaks"])
def test_an_import_whose_process_is_killed_leaves_no_half_data_set(
    records: Database, admin: Person, tmp_path: Path, moment: str
) -> None:
    archive = zipped(tmp_path / "a.zip", class_folders())
    words = [sys.executable, "-c", KILLED, str(records.settings.state_dir), str(archive), moment]
    done = subprocess.run(words, cwd=REPOSITORY, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert data_sets.list_versions(records, admin) == []
    assert not any("data set" in entry.action for entry in trail.entries(records, admin))
    found = added(records, admin, archive, name="x")
    assert data_sets.load_version(records, admin, found.version_id).n_cases == 20
    assert len(list(data_sets.files_dir(records.settings).glob("??/*.png"))) == 20


def test_a_damaged_picture_is_left_out_and_the_others_stay(records: Database, admin: Person, tmp_path: Path) -> None:
    files = class_folders() | {"set/benign/cut.png": picture(50)[:900], "set/malignant/text.png": b"hello"}
    files["set/benign/small.png"] = picture(51, side=20)
    found = added(records, admin, zipped(tmp_path / "a.zip", files))
    assert data_sets.load_version(records, admin, found.version_id).n_cases == 20
    refused = dict(found.refused)
    assert set(refused) == {"set/benign/cut.png", "set/malignant/text.png"}
    assert "damaged" in refused["set/benign/cut.png"] and "no picture" in refused["set/malignant/text.png"]
    assert any(note.startswith("1 picture left out: it cannot be read") for note in found.notes)
    assert len(left_in(records)) == 22  # pictures, manifest, pairs


def test_what_a_converter_wrote_beside_a_picture_is_not_kept(records: Database, admin: Person, tmp_path: Path) -> None:
    info, wide = PngInfo(), Raster.fromarray(np.random.default_rng(7).integers(0, 4095, (40, 50)).astype(np.uint16))
    info.add_text("dcm:PatientName", "MUSTER^ANNA")
    png, tiff, mask = io.BytesIO(), io.BytesIO(), io.BytesIO()
    wide.save(png, "PNG", pnginfo=info)
    Raster.fromarray(np.full((40, 50), 4095, np.uint16) - np.asarray(wide)).save(
        tiff, "TIFF", description="MUSTER^ANNA"
    )
    Raster.fromarray(np.eye(40, 50) > 0).save(mask, "TIFF", description="MUSTER^ANNA")
    files = class_folders() | {"set/benign/a.png": png.getvalue(), "set/malignant/b.tif": tiff.getvalue()}
    files["set/malignant/b_mask.tif"] = mask.getvalue()
    found = added(records, admin, zipped(tmp_path / "a.zip", files))
    cases = cases_of(records, admin, found.version_id)
    assert len(cases) == 22 and found.refused == ()
    folder = data_sets.files_dir(records.settings)
    retained = [path for path in folder.rglob("*") if path.is_file()]
    assert not any(b"MUSTER" in path.read_bytes() for path in retained)
    (masked,) = [case for case in cases if case["mask"]]
    for case, whole in ((cases[10], np.asarray(wide)), (masked, 4095 - np.asarray(wide))):
        path = folder / case["file"]
        kind = "TIFF" if path.suffix == ".tiff" else "PNG"
        with path.open("rb") as stream:
            seen = read_raster(stream, kind, limits=Limits.of(Settings())).pixels
        np.testing.assert_allclose(seen, whole / 4095, atol=1e-4)
    with Raster.open(folder / masked["mask"]) as outline:
        assert (np.asarray(outline) > 0).sum() == 40


def test_a_version_in_folds_is_trained_in_these_folds(records: Database, admin: Person, tmp_path: Path) -> None:
    first = added(records, admin, zipped(tmp_path / "a.zip", class_folders(40))).version_id
    made = versions.split_anew(records, admin, first, SplitRequest(seed=2, folds=4))
    row = data_sets.load_version(records, admin, made)
    assert row.split == {"kind": "4 folds", "seed": 2, "folds": 4, "from": 1}
    assert (row.folds, row.n_training, row.is_leaking) == (4, 20, False)
    assert set(row.counts) == {"fold 0", "fold 1", "fold 2", "fold 3"}
    manifest = read_manifest(
        data_sets.checked_manifest(records.settings, row.manifest_sha256), root=data_sets.files_dir(records.settings)
    )
    prepared = prepare(manifest, Modality.ULTRASOUND, folds=4, seed=99)
    assert list(prepared.cases["fold"].astype(str)) == list(manifest.cases["fold"])  # the seed of the job is not asked
    with pytest.raises(InvalidInput, match="4 folds"):
        trainings.enqueue(records, admin, FitRequest("cnn", Modality.ULTRASOUND), made)
    assert trainings.enqueue(records, admin, FitRequest("cnn", Modality.ULTRASOUND, folds=4), made)


def test_a_balanced_subset_is_a_version_of_its_own(records: Database, admin: Person, tmp_path: Path) -> None:
    first = added(records, admin, zipped(tmp_path / "a.zip", class_folders(40))).version_id
    row = data_sets.load_version(
        records, admin, versions.split_anew(records, admin, first, SplitRequest(seed=1, per_class=15))
    )
    assert (row.n_cases, row.split["per_class"]) == (30, 15)
    assert {sum(counts[label] for counts in row.counts.values()) for label in ("benign", "malignant")} == {15}
    assert data_sets.load_version(records, admin, first).n_cases == 40
    with pytest.raises(InvalidInput, match="1 to 20"):
        versions.split_anew(records, admin, first, SplitRequest(per_class=21))
    with pytest.raises(InvalidInput, match="folds"):
        SplitRequest(folds=2)


def test_near_duplicates_are_kept_together_or_dropped_as_decided(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    found = added(records, admin, zipped(tmp_path / "a.zip", with_copies()))
    before = data_sets.load_version(records, admin, found.version_id)
    assert before.is_leaking and before.split == {"kind": "as the manifest says"}
    pairs = near_duplicates.near_duplicates(records, admin, found.version_id, progress=lambda *_: None)
    assert [(pair.is_across, pair.labels[0] == pair.labels[1]) for pair in pairs] == [(True, True), (False, False)]

    decided = {(pairs[0].first, pairs[0].second): "keep together", (pairs[1].first, pairs[1].second): "drop both"}
    after = data_sets.load_version(records, admin, versions.settle_pairs(records, admin, found.version_id, decided))
    assert not after.is_leaking and (after.n_cases, after.split["dropped"]) == (40, 2)
    old = {case["file"]: case["split"] for case in cases_of(records, admin, found.version_id)}
    new = {case["file"]: case["split"] for case in cases_of(records, admin, after.id)}
    assert new[pairs[0].first] == new[pairs[0].second] == "test"  # what was tested never trains
    assert {file for file in new if new[file] != old[file]} <= {pairs[0].first, pairs[0].second}
    assert set(old) - set(new) == {pairs[1].first, pairs[1].second}
    again = near_duplicates.near_duplicates(records, admin, after.id, progress=lambda *_: None)
    assert [(pair.is_across, pair.is_together) for pair in again] == [(False, True)]
    assert data_sets.load_version(records, admin, found.version_id) == before


def test_the_list_of_near_duplicates_can_be_made_again(records: Database, admin: Person, tmp_path: Path) -> None:
    found = added(records, admin, zipped(tmp_path / "a.zip", with_copies()))
    retained = near_duplicates.near_duplicates(records, admin, found.version_id, progress=lambda *_: None)
    row = data_sets.load_version(records, admin, found.version_id)
    data_sets.pairs_path(records.settings, row.manifest_sha256).unlink()
    made = near_duplicates.near_duplicates(records, admin, found.version_id, progress=lambda *_: None)
    assert [(pair.first, pair.second) for pair in made] == [(pair.first, pair.second) for pair in retained]
    with pytest.raises(InvalidInput, match="no near-duplicates"):
        versions.settle_pairs(records, admin, found.version_id, {("a", "b"): "keep together"})
    with pytest.raises(InvalidInput, match="Decide"):
        versions.settle_pairs(records, admin, found.version_id, {})


def left_in(db: Database) -> list[str]:
    """Every file below the folder of data sets."""
    return [path.name for path in (db.settings.state_dir / "data_sets").rglob("*") if path.is_file()]


ACTIONS: dict[str, Callable[[Database, Person, Path], object]] = {
    "add_zip": lambda db, person, path: added(db, person, path),
    "add_folder": lambda db, person, _: ingest.add_folder(
        db, person, "x", name="x", modality=Modality.ULTRASOUND, seed=0, progress=lambda *_: None
    ),
    "split_anew": lambda db, person, _: versions.split_anew(db, person, 1, SplitRequest()),
    "settle_pairs": lambda db, person, _: versions.settle_pairs(db, person, 1, {("a", "b"): "drop both"}),
    "near_duplicates": lambda db, person, _: near_duplicates.near_duplicates(db, person, 1, progress=lambda *_: None),
    "overview": lambda db, person, _: overview.overview(db, person, 1),
    "pictures_of": lambda db, person, _: overview.pictures_of(db, person, 1, label="a", most=1),
    "require_free_name": lambda db, person, _: data_sets.require_free_name(db, person, "x"),
    "create_data_set": lambda db, person, _: data_sets.create_data_set(
        db, person, name="x", modality=Modality.ULTRASOUND, manifest=b"", split={}, counts={}, found={}
    ),
    "add_version": lambda db, person, _: data_sets.add_version(
        db, person, "x", manifest=b"", split={}, counts={}, found={}
    ),
    "remove_data_set": lambda db, person, _: data_sets.remove_data_set(db, person, "x"),
    "list_versions": lambda db, person, _: data_sets.list_versions(db, person),
    "load_version": lambda db, person, _: data_sets.load_version(db, person, 1),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_only_an_administrator_may_do_anything_with_data_sets(records: Database, tmp_path: Path, action: str) -> None:
    archive = zipped(tmp_path / "a.zip", class_folders())
    for role in set(ROLES) - {"administrator"}:
        with pytest.raises(NotAllowed):
            ACTIONS[action](records, add_person(records, role, role), archive)


def test_the_time_of_a_training_is_estimated_from_one_that_was_timed(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    request = FitRequest("efficientnet_lite0", Modality.ULTRASOUND)
    once = duration.estimate(records, admin, request, 400)
    twice = duration.estimate(records, admin, request, 800)
    assert once is not None and twice is not None and "card of" in once.source
    assert twice.minutes == pytest.approx(2 * once.minutes) and once.minutes > 0
    assert duration.estimate(records, admin, FitRequest("cnn4", Modality.HISTOLOGY, init="imagenet"), 400) is None


def test_folders_whose_names_may_mean_one_class_are_refused(tmp_path: Path) -> None:
    for folder in ("malignant", "benign", "Cancer"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(picture(1))
    with pytest.raises(InvalidInput, match=r"'cancer' .* may mean the same class"):
        ingest.cases_in(tmp_path, [])


def test_a_member_that_is_called_like_a_folder_of_others_is_said_to_be_left_out(tmp_path: Path) -> None:
    archive, folder = zipped(tmp_path / "a.zip", {"benign": b"x", "benign/a.png": picture(1)}), tmp_path / "out"
    folder.mkdir()
    notes = unpack(archive, folder, Settings(), lambda *_: None)
    assert notes == ["1 left out: This member of the zip is called like a folder of others in it, so it has no place."]


def test_patients_of_a_manifest_that_may_be_one_are_among_the_notes(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,label,patient\na.png,x,A1\nb.png,y,a01\n")
    notes: list[str] = []
    ingest.cases_in(tmp_path, notes)
    assert notes[0].startswith("The patients of lines 2, 3 differ only in capital letters")
