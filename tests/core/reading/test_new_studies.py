"""Whose picture is in whose study: what tags prove, what they contradict, and what is asked before anything is kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
from made_images import dicom, encoded, mammogram, stored_mammogram
from record_site import Somebody, add_person, picture, sqlite_only
from sqlalchemy import select

from core.errors import InvalidInput
from core.imaging.intake import Intake, read_upload
from core.reading import new_studies
from core.reading.new_studies import NewPicture, NewStudy, doubts, folder_of, hinted, propose
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import studies
from core.settings import Settings
from core.types import SIDE_NOT_STATED, Image, Modality

ANN, BEA = "a" * 64, "b" * 64
FIRST, SECOND = "1" * 64, "2" * 64


def file(name: str, **tags: object) -> Intake:
    number = int.from_bytes(name.encode()[-6:], "big") % 400
    return Intake(name, f"{number:064x}", picture(number, **tags), None)


def tagged(number: int, patient: str | None, exam: str | None, day: date | None = None) -> Intake:
    return file(f"a.zip/{number}", patient_hash=patient, exam_hash=exam, taken_on=day)


def by_name(intakes: Sequence[Intake]) -> list[list[str]]:
    return [[intakes[position].name for position in members] for members in propose(intakes)]


def test_a_zip_of_two_patients_and_three_exams_is_three_studies_whatever_the_folders_say() -> None:
    intakes = [tagged(1, ANN, FIRST), tagged(2, BEA, "3" * 64), tagged(3, ANN, SECOND), tagged(4, ANN, FIRST)]
    assert propose(intakes) == [(0, 3), (1,), (2,)]


def test_two_patients_under_one_exam_number_are_two_studies_and_one_without_a_patient_is_neither() -> None:
    assert propose([tagged(1, ANN, FIRST), tagged(2, BEA, FIRST), tagged(3, None, FIRST)]) == [(0,), (1,), (2,)]
    assert propose([tagged(1, ANN, FIRST), tagged(2, None, FIRST)]) == [(0, 1)]


def test_without_exam_numbers_a_patient_s_days_are_studies() -> None:
    monday, tuesday = date(2026, 3, 2), date(2026, 3, 3)
    assert propose([tagged(1, ANN, None, monday), tagged(2, ANN, None, tuesday), tagged(3, ANN, None, monday)]) == [
        (0, 2), (1,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "groups",
    [
        [["x.zip/P01/L_CC.png", "x.zip/P01/R_CC.png"], ["x.zip/P02/L_CC.png", "x.zip/P02/R_CC.png"]],
        [["P1/left/cc.png", "P1/right/cc.png"], ["P2/images/left/cc.png"]],
        [["P1/2021-05-03/L_CC.png"], ["P1/2022-05-03/L_CC.png"]],
        [["P1_20210503_L_CC.png", "P1_20210503_R_CC.png"], ["P1_20220503_L_CC.png"]],
        [["P1_L_CC.png", "P1_R_CC.png"], ["P2_L_CC.png", "P2_R_CC.png"]],
        [["ann LCC.png"], ["bea LCC.png"]],
        [["x.zip/L_CC.png", "x.zip/R_CC.png", "x.zip/L_MLO.png"]],
        [["scan1.png", "scan2.png", "scan3.png"]],
        [["IM0.png", "left.png"]],
        [[r"x\P1\a.png", r"x\P1\b.png"], [r"x\P2\a.png"]],
    ],
)
def test_without_tags_folders_dates_and_names_propose_the_studies(groups: list[list[str]]) -> None:
    assert by_name([file(name) for group in groups for name in group]) == groups


def test_files_without_tags_are_never_put_among_those_with_them_and_refused_files_nowhere() -> None:
    refused = Intake("P1/c.dcm", "", None, "Not a picture.")
    intakes = [file("P1/a.dcm", patient_hash=ANN, exam_hash=FIRST), file("P1/b.png"), refused]
    assert propose(intakes) == [(0,), (1,)]


def test_two_patients_can_never_be_one_study_and_days_of_several_exams_cannot_either() -> None:
    assert "2 patients" in doubts([tagged(1, ANN, FIRST), tagged(2, BEA, SECOND)]).refusal
    assert "2 patients" in doubts([tagged(1, ANN, FIRST), tagged(2, BEA, FIRST)]).refusal
    days = date(2026, 3, 2), date(2025, 3, 2)
    assert "2 days" in doubts([tagged(1, ANN, FIRST, days[0]), tagged(2, ANN, SECOND, days[1])]).refusal


@pytest.mark.parametrize(
    ("intakes", "asked"),
    [
        ([file("a.png")], ""),
        ([tagged(1, ANN, FIRST), tagged(2, ANN, FIRST)], ""),
        ([tagged(1, None, FIRST), tagged(2, None, FIRST)], ""),
        ([tagged(1, ANN, FIRST), tagged(2, None, FIRST)], ""),
        ([file("a.png"), file("b.png")], "Nothing in these files"),
        ([tagged(1, ANN, FIRST), file("b.png")], "1 of the 2 files"),
        ([tagged(1, ANN, FIRST), tagged(2, ANN, SECOND)], "2 exams of one patient"),
        ([tagged(1, None, FIRST), tagged(2, None, SECOND)], "nothing in them says that they show one patient"),
        ([tagged(1, ANN, FIRST), tagged(2, None, SECOND)], "nothing in them says that they show one patient"),
        ([file("P1/a.dcm", exam_hash=FIRST), file("P2/a.dcm", exam_hash=FIRST)], "different folders"),
        ([tagged(1, ANN, FIRST, date(2026, 1, 1)), tagged(2, ANN, FIRST, date(2026, 1, 2))], "several days"),
    ],
)
def test_what_no_tag_proves_is_asked(intakes: list[Intake], asked: str) -> None:
    found = doubts(intakes)
    assert found.refusal == ""
    assert asked in " ".join(found.questions) and bool(asked) == bool(found.questions)


@pytest.fixture
def ann(records: Database) -> Somebody:
    return add_person(records, "Ann", "radiologist")


def study_of(*intakes: Intake, **facts: bool) -> NewStudy:
    return NewStudy("Case", tuple(NewPicture(intake) for intake in intakes), **facts)


def chosen_twice(
    laterality: tuple[str, str] = ("L", "L"),
    view: tuple[str, str] = ("CC", "CC"),
    modality: tuple[Modality, Modality] = (Modality.MAMMOGRAPHY, Modality.MAMMOGRAPHY),
) -> NewStudy:
    """One file that was chosen two times, each time with a side, view and kind."""
    found = file("a.png", laterality=None, view=None)
    assert found.image is not None
    pictures = tuple(
        NewPicture(replace(found, name=name, image=replace(found.image, modality=kind)), side, seen)
        for name, side, seen, kind in zip(("a.png", "again.png"), laterality, view, modality, strict=True)
    )
    return NewStudy("Case", pictures, is_confirmed=True)


@sqlite_only
def test_a_file_that_is_chosen_twice_with_one_side_is_kept_once(records: Database, ann: Somebody) -> None:
    (study_id,) = new_studies.save(records, ann, [chosen_twice()])
    assert len(studies.load_study(records, ann, study_id).images) == 1


@sqlite_only
def test_nothing_is_stored_of_any_study_before_all_are_settled(records: Database, ann: Somebody) -> None:
    good = study_of(tagged(1, ANN, FIRST))
    for bad, sentence in (
        (study_of(tagged(2, ANN, FIRST), tagged(3, BEA, FIRST), is_confirmed=True), "2 patients"),
        (study_of(file("a.png"), file("b.png")), "Confirm that they show one patient"),
        (study_of(), "at least one image"),
        (replace(good, display_name=" "), "Give the study a name"),
        (study_of(file("c.png", laterality=None)), "Choose the side of c.png"),
        (study_of(file("c.png", modality=None)), "Choose the kind of picture of c.png"),
        (study_of(replace(good.pictures[0].found, name="b.zip/1")), "are the same picture, in two studies"),
        (chosen_twice(laterality=("R", "L")), "again.png is the same picture as a.png, given another side"),
        (chosen_twice(laterality=("R", SIDE_NOT_STATED)), "given another side"),
        (chosen_twice(view=("CC", "MLO")), "given another view"),
        (chosen_twice(modality=(Modality.MAMMOGRAPHY, Modality.ULTRASOUND)), "given another kind"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            list(new_studies.save(records, ann, [good, bad]))
    assert studies.list_studies(records, ann) == []


@sqlite_only
def test_what_was_confirmed_is_in_the_audit_trail_and_the_side_may_be_unknown_when_somebody_says_so(
    records: Database, ann: Somebody
) -> None:
    pictures = [NewPicture(file(name, laterality=None), SIDE_NOT_STATED) for name in ("a.png", "b.png")]
    pictures.append(NewPicture(file("c.png", laterality=None, modality=Modality.MAMMOGRAPHY), "L", "CC"))
    (study_id,) = new_studies.save(records, ann, [NewStudy("Case", tuple(pictures), is_confirmed=True)])

    study = studies.load_study(records, ann, study_id)
    assert study.breasts == ("L", SIDE_NOT_STATED)  # what has no side is assessed too
    assert [(stored.image.laterality, stored.image.view) for stored in study.images] == [
        (None, None), (None, None), ("L", "CC"),
    ]  # fmt: skip
    with records.read() as connection:
        row = tables.audit.c
        (detail,) = connection.execute(select(row.detail).where(row.subject == f"study {study_id}")).scalars()
    assert detail["confirmed"] == ["Nothing in these files says whose pictures they are."]


def test_a_zip_of_two_patients_is_read_with_their_exams_apart_and_their_days() -> None:
    tags = [
        ("P1", "1.2.3", "20250102"),
        ("P1", "1.2.4", "2026.02.03"),
        ("P2", "1.2.5", "19000101"),
        ("anonymous", "", ""),
    ]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, (patient, exam, day) in enumerate(tags):
            made = {"PatientID": patient, "StudyInstanceUID": exam, "StudyDate": day}
            archive.writestr(f"{number}.dcm", dicom(stored_mammogram(), **made))
    intakes = read_upload(out.getvalue(), "a.zip", settings=Settings(), site_key=b"key")

    images = [intake.image for intake in intakes if intake.image]
    assert propose(intakes) == [(0,), (1,), (2,), (3,)]
    assert [image.taken_on for image in images] == [date(2025, 1, 2), date(2026, 2, 3), None, None]
    assert images[0].patient_hash == images[1].patient_hash != images[2].patient_hash
    assert images[3].patient_hash is None and images[3].exam_hash is None
    assert len({image.exam_hash for image in images}) == 4
    said = repr([replace(image, pixels=images[0].pixels[:1]) for image in images])
    assert "1.2.3" not in said and "P1" not in said


def test_the_grey_scale_of_one_patient_s_pictures_does_not_follow_another_s_in_the_same_zip() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, bits in (("P1/L_CC.png", 10), ("P2/L_CC.png", 12)):
            archive.writestr(name, encoded(mammogram(), bits=bits))
    images = [intake.image for intake in read_upload(out.getvalue(), "a.zip", settings=Settings())]
    assert [image.guessed_bits for image in images if isinstance(image, Image)] == [10, 12]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("L_CC.png", ("", "")),
        ("A.zip/P01/left/cc.png", ("a.zip/p01", "")),
        ("A.zip/P01/2021-05-03/x.png", ("a.zip/p01", "20210503")),
        ("a.zip/20210503/20220101_L.png", ("a.zip", "20220101")),
        ("120210503.png", ("", "")),
    ],
)
def test_the_folder_and_day_of_a_name(name: str, place: tuple[str, str]) -> None:
    assert folder_of(name) == place


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exam/L_CC.png", ("L", "CC")),
        ("RMLO.dcm", ("R", "MLO")),
        ("left-mlo 2.png", ("L", "MLO")),
        ("P_00820_R_CC.png", ("R", "CC")),
        ("Miller.png", (None, None)),
        ("calcification.png", (None, None)),
        ("LCC and RCC.png", (None, "CC")),
    ],
)
def test_a_file_name_suggests_side_and_view_only_where_it_is_clear(name: str, expected: tuple[str | None, str | None]):
    assert hinted(name) == expected
