"""Clips: every frame is stored with its image, the reader chooses the one that the models read, marks lie on any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from made_images import dicom, ultrasound
from record_site import CALM, add_person, answer, explanation, stored_files
from sqlalchemy import select

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.findings.finding import Annotations, Finding, Measurement
from core.findings.marks import Mark, Measured
from core.imaging import intake
from core.imaging.intake import read_study, read_upload
from core.records.audit import trail
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, retention
from core.records.reads.annotations import measured_here
from core.records.reads.frames import frame_pixels
from core.records.reads.studies import choose_frame, create_study, delete_study, load_study
from core.settings import MIB, Settings
from core.types import Image, Modality

N = 4
STORED = np.stack([np.rint(ultrasound(seed=number) * 255).astype(np.uint8) for number in range(N)])
US = {"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "NumberOfFrames": N, "bits": 8}


@pytest.fixture(scope="module")
def clip() -> Image:
    [found] = read_upload(dicom(STORED, **US, FrameTime="40"), "clip.dcm", settings=Settings(), with_frames=True)
    assert found.image is not None, found.refused
    return replace(found.image, laterality="R")


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist")


def study_with(records: Database, ann: Person, image: Image) -> tuple[str, str]:
    study_id = create_study(records, ann, display_name="clip", images=[image])
    return study_id, load_study(records, ann, study_id).images[0].id


def test_every_frame_is_stored_as_it_would_be_read_alone(records: Database, ann: Person, clip: Image) -> None:
    alone = [read_upload(dicom(STORED, **US), "c", settings=Settings(), frame=one)[0].image for one in range(N)]
    study_id, image_id = study_with(records, ann, clip)
    [stored] = load_study(records, ann, study_id).images
    assert len(stored.frames) == N and stored.image.tags["FrameTime"] == "40"
    assert not any("frames" in warning for warning in stored.image.warnings)
    for frame, image in enumerate(alone):
        assert image is not None
        pixels, key = frame_pixels(records, ann, image_id, frame)
        assert key == stored.frames[frame] and np.abs(pixels - image.pixels).max() <= 1 / 65535
    with pytest.raises(NotFound):
        frame_pixels(records, ann, image_id, N)
    with pytest.raises(NotAllowed):
        frame_pixels(records, add_person(records, "Rex", "researcher"), image_id, 0)


def test_the_models_read_the_frame_that_was_chosen_until_a_read_is_saved(
    records: Database, ann: Person, clip: Image
) -> None:
    study_id, image_id = study_with(records, ann, clip)
    said = answer(clip), explanation()
    [as_read] = (one.image for one in load_study(records, ann, study_id).images)
    predictions.record_predictions(records, study_id, image_id, *said, as_read=as_read)
    assert choose_frame(records, ann, image_id, 2) and not choose_frame(records, ann, image_id, 2)
    [stored] = load_study(records, ann, study_id).images
    assert stored.image.frame == 2
    assert np.array_equal(stored.image.pixels, frame_pixels(records, ann, image_id, 2)[0])
    with records.read() as connection:
        assert connection.execute(select(tables.prediction)).all() == []
    with pytest.raises(Conflict, match="frame, side, view or kind"):  # an answer that was on its way
        predictions.record_predictions(records, study_id, image_id, *said, as_read=as_read)
    for changed in ({"laterality": "L"}, {"view": "CC"}, {"modality": Modality.MAMMOGRAPHY}):
        with pytest.raises(Conflict, match="frame, side, view or kind"):
            predictions.record_predictions(records, study_id, image_id, *said, as_read=replace(stored.image, **changed))
    predictions.record_predictions(records, study_id, image_id, *said, as_read=stored.image)
    for frame in (-1, N):
        with pytest.raises(InvalidInput, match=f"{N} frames"):
            choose_frame(records, ann, image_id, frame)
    [entry, *_] = trail.entries(records, add_person(records, "Adm", "administrator"), action="correct image")
    assert entry.detail["before"] == {"frame": 0} and entry.detail["after"] == {"frame": 2}
    reads.record_first_read(records, ann, study_id, {"R": CALM}, "")
    with pytest.raises(Conflict, match="stays as it was"):
        choose_frame(records, ann, image_id, 1)
    assert load_study(records, ann, study_id).images[0].image.frame == 2


def test_a_mark_on_any_frame_is_measured_on_that_frame(records: Database, ann: Person, clip: Image) -> None:
    study_id, image_id = study_with(records, ann, clip)
    box = ((100.0, 100.0), (140.0, 130.0))
    marks = [Mark(clip.sha256, frame, "ellipse", box) for frame in (0, 3)]
    given = Annotations((), tuple(Measurement(mark, Measured(False)) for mark in marks), ())
    first, last = (one.measured.mean_grey for one in measured_here(records, study_id, given).measurements)
    pixels = frame_pixels(records, ann, image_id, 3)[0]
    assert first != last and last == pytest.approx(pixels[100:130, 100:140].mean(), abs=0.05)
    beyond = replace(given, measurements=(Measurement(replace(marks[0], frame=N), Measured(False)),))
    with pytest.raises(InvalidInput, match="not in this study"):
        measured_here(records, study_id, beyond)


def test_a_mark_on_another_frame_goes_to_the_archive_with_that_frame() -> None:
    from core.archive.results.content import ResultContent, ResultImage
    from core.archive.results.dicom_object import marked_places

    image = ResultImage("i", "a" * 64, {}, "R", Modality.ULTRASOUND, None, 2, N, 0, 1.0)
    marks = tuple(Mark("a" * 64, frame, "point", ((1.0, 1.0),)) for frame in (2, 3))
    finding = Finding("R", Modality.ULTRASOUND, "mass", marks)
    content = cast(ResultContent, SimpleNamespace(images=(image,), findings=(finding,)))
    assert [place.image.frame for place in marked_places(content)] == [2, 3]
    assert [place.mark.frame for place in marked_places(content, image)] == [2], "its picture shows no other frame"


def test_a_finding_on_another_frame_than_the_models_read_is_saved_and_goes_in_the_report_alone(
    records: Database, ann: Person, clip: Image
) -> None:
    from core.archive.archives import ArchiveAddress, name_archive
    from core.records.archives.identity import SourceIdentity, record_identity

    address = ArchiveAddress("pacs", "http://127.0.0.1:9/web", sends=("sr", "sc", "pr"))
    archive_id = name_archive(records, add_person(records, "Adm", "administrator"), address)
    study_id, _ = study_with(records, ann, clip)
    source = {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.1", "PatientID": "p"}
    identity = SourceIdentity.from_sources({clip.sha256: source})
    with records.begin() as connection:
        record_identity(
            connection, records.site_key, study_id, archive_id=archive_id, exam_hash="e" * 64, identity=identity
        )
    marks = [Mark(clip.sha256, frame, "ellipse", ((100.0, 100.0), (140.0, 130.0))) for frame in (3, 0)]
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    sent = []
    for shown in (marks[:1], marks):
        found = Annotations((Finding("R", Modality.ULTRASOUND, "mass", tuple(shown)),))
        read_id = reads.record_final_read(records, ann, study_id, {"R": CALM}, annotations=found)
        with records.read() as connection:
            query = select(tables.outbox.c.kind).where(tables.outbox.c.read_id == read_id)
            sent.append(set(connection.execute(query).scalars()))
    assert sent == [{"sr"}, {"sr", "sc", "pr"}]


def test_frames_go_with_their_study_and_nothing_else_takes_them(records: Database, ann: Person, clip: Image) -> None:
    study_id, _ = study_with(records, ann, clip)
    assert len(stored_files(records)) == N  # the chosen frame is one of them
    with records.begin() as connection:
        image_store.delete_unused(connection, records.store, records.store.blobs.keys())
    assert len(stored_files(records)) == N
    delete_study(records, ann, study_id, reason="a test")
    assert stored_files(records) == []
    with records.read() as connection:
        assert connection.execute(select(tables.image_frame)).all() == []


def test_the_policy_on_pixels_takes_frames_too(records: Database, ann: Person, clip: Image) -> None:
    study_id, _ = study_with(records, ann, clip)
    reads.record_first_read(records, ann, study_id, {"R": CALM}, "")
    reads.record_final_read(records, ann, study_id, {"R": CALM}, "")
    assert retention._remove(records, study_id, 0)
    assert stored_files(records) == [] and load_study(records, ann, study_id).images[0].frames == ()


def test_frames_that_take_too_much_are_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "FRAMES_MIB_MOST", 0)
    [found] = read_upload(dicom(STORED, **US), "clip.dcm", settings=Settings(), with_frames=True)
    assert found.image is not None and found.image.frames == ()
    assert any("frame 1 is shown" in warning for warning in found.image.warnings)
    assert any("other frames are not here" in warning for warning in found.image.warnings)


def test_frames_of_several_clips_share_what_one_study_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(dicom(STORED, **US))
    [alone] = read_study([tmp_path / "a.dcm"], settings=Settings(), with_frames=True)
    assert alone.image is not None
    takes = alone.image.pixels.nbytes + sum(map(len, alone.image.frames))
    most = intake._Room(Settings(), 0)
    most.take(most.most_mib * MIB - takes - alone.image.pixels.nbytes)
    monkeypatch.setattr(intake, "_Room", lambda *_: most)
    monkeypatch.setattr(intake, "_DECODERS", 1)
    first, second = (one.image for one in read_study([tmp_path], settings=Settings(), with_frames=True))
    assert first is not None and len(first.frames) == N
    assert second is not None and second.frames == (), "its own picture is here"
    assert "together may take 4096 MiB" in second.warnings[-1]
    assert most.take_frame(0) and not most.take_frame(1)
    assert most.take(sum(map(len, first.frames))) and not most.take(1), "frames keep no picture out"


def test_a_clip_is_as_coloured_as_its_most_coloured_frame(records: Database, ann: Person) -> None:
    """Another frame may be chosen to be read, of which no colours are kept."""
    coloured = np.repeat(STORED[..., None], 3, axis=3)
    coloured[2, 100:200, 100:200] = (200, 30, 30)
    [found] = read_upload(dicom(coloured, **US), "clip.dcm", settings=Settings(), with_frames=True)
    assert found.image is not None and len(found.image.frames) == N, found.refused
    assert found.image.colour_share == pytest.approx(100 * 100 / STORED[0].size)
    [grey] = read_upload(dicom(coloured, **US), "clip.dcm", settings=Settings())
    assert grey.image is not None and grey.image.colour_share == 0.0
