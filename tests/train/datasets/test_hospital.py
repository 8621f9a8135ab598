"""A hospital's two workbooks and folders of pictures, linked through everything a spreadsheet does to a key."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import made_workbooks as made
import openpyxl
import pandas as pd
import pytest

from core.errors import InvalidInput, NotFound
from core.evaluation.tables import workbooks
from core.evaluation.tables.workbooks import read_headers, read_sheets
from train.__main__ import main
from train.datasets.hospital.columns import KeyColumns, LinkColumns
from train.datasets.hospital.join import link, write_linked
from train.datasets.hospital.keys import date_text, full_ids, id_text, is_day, key_of, name_text, time_text
from train.datasets.manifest import read_manifest

KEYS = ("InputFileName", "StudyDate", "StudyTime", "PatientID.x")
CANCER = ("FILE0004", "20141225", "112603", "DIT439120108")


class Hospital:
    """Workbooks and pictures in the making; rows are (InputFileName, StudyDate, StudyTime, PatientID.x)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "jpg from dicom"
        self.images.mkdir()
        self.cancer: list[tuple[Any, ...]] = []
        self.non_cancer: list[tuple[Any, ...]] = []
        self.validation: list[tuple[Any, ...]] = []
        self.width = 6

    def picture(self, file: str, content: str | None = None) -> None:
        path = self.images / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content or f"picture {file}")

    def known(self, row: tuple[Any, ...], path: str | None) -> None:
        self.validation.append((*row, path))

    def write(self) -> tuple[Path, Path]:
        combined = openpyxl.Workbook(write_only=True)
        extra = tuple(f"feature {number}" for number in range(self.width - len(KEYS)))
        for title, rows in (("Cancer", self.cancer), ("Non-Cancer", self.non_cancer)):
            sheet = combined.create_sheet(title)
            sheet.append((*KEYS, *extra))
            for row in rows:
                sheet.append((*row, *(0.5 for _ in extra)))
        validation = openpyxl.Workbook(write_only=True)
        sheet = validation.create_sheet("Sheet1")
        filler = tuple(f"note {number}" for number in range(11))
        sheet.append((*KEYS, "AbsolutePath", *filler))
        for row in self.validation:
            sheet.append((*row, *("x" for _ in filler)))
        paths = self.folder / "datacombined.xlsx", self.folder / "data_validation_x.xlsx"
        combined.save(paths[0])
        validation.save(paths[1])
        return paths

    def linked(self) -> tuple[dict[str, Any], Path]:
        """The counts, and the folder with the four files."""
        out = self.folder / "out"
        result = link(*self.write(), self.images)
        write_linked(result, out)
        return result.counts(), out

    def matched(self) -> dict[str, str]:
        """file -> label of the manifest."""
        _, out = self.linked()
        table = pd.read_csv(out / "manifest.csv", dtype=str, keep_default_na=False)
        return dict(zip(table["file"], table["label"], strict=True))

    def reasons(self, part: str) -> dict[str, int]:
        return self.linked()[0][part]["unmatched"]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20141225", "20141225"),
        (20141225, "20141225"),
        (20141225.0, "20141225"),
        ("20141225.0", "20141225"),
        (dt.datetime(2014, 12, 25), "20141225"),
        (dt.date(2014, 12, 25), "20141225"),
        ("2014-12-25", "20141225"),
        ("2014-12-25 00:00:00", "20141225"),
        (" 2014/12/25 ", "20141225"),
        ("25.12.2014", "20141225"),
        ("12/25/2014", "20141225"),
        ("25/12/2014", "20141225"),
        (41998, "20141225"),
        ("03/04/2014", "03/04/2014"),
        (None, ""),
        (float("nan"), ""),
        ("²³", "²³"),
        ("٤١٩٩٨", "٤١٩٩٨"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_date_is_eight_digits_however_excel_kept_it(value: object, expected: str) -> None:
    assert date_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("112603", "112603"),
        (112603.0, "112603"),
        (91503, "091503"),
        ("91503", "091503"),
        (7, "000007"),
        (0, "000000"),
        ("112603.250", "112603"),
        (112603.25, "112603"),
        (dt.time(9, 15, 3), "091503"),
        (dt.datetime(1899, 12, 30, 9, 15, 3), "091503"),
        (dt.timedelta(hours=9, minutes=15, seconds=3), "091503"),
        ("9:15:03", "091503"),
        ("09:15", "091500"),
        ("9:15:03 PM", "211503"),
        ((9 * 3600 + 15 * 60 + 3) / 86400, "091503"),
        (None, ""),
        (".5E999", ".5E999"),
        (".٥", ".٥"),
        ("²", "²"),
    ],
)
def test_a_time_is_six_digits_however_excel_kept_it(value: object, expected: str) -> None:
    assert time_text(value) == expected


def test_ids_and_names_are_capitals_without_spaces_or_endings() -> None:
    assert id_text(" dit 439120108 ") == "DIT439120108"
    assert id_text(439120108.0) == id_text("439120108.0") == id_text("4.39120108E8") == "439120108"
    assert id_text("12345678901234567891.0") == "12345678901234567891", "more digits than a float has"
    assert id_text("\uff24\uff29\uff34 \uff14\u00a0") == "DIT4" and name_text("re\u0301.png") == name_text(
        "R\u00c9.jpg"
    )
    assert id_text("1E999") == "1E999" and key_of("1", "20141225", "112603", "²").is_bare_number is False
    assert name_text(" file0004 .JPG") == name_text(r"D:\x\FILE0004.dcm") == name_text("File 0004") == "FILE0004"
    assert name_text("scan.2") == "SCAN.2"


def _reaching(place: str, *, quoted: str = 'r="{}"') -> bytes:
    """A workbook of 3 kB whose last cell is at this place."""
    last = made.row(int(place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")), f"<c {quoted.format(place)}><v>7</v></c>")
    return made.workbook({"xl/worksheets/sheet1.xml": made.sheet_part(made.TITLES, last).encode()})


@pytest.mark.parametrize(
    ("place", "quoted"),
    [
        ("XFD1048576", 'r="{}"'), ("XFD5000", "r='{}'"), ("CV700000", 'r = "{}"'), ("A999999999999", 'r="{}"'),
        ("D" + "I" * 110 + "3", 'r="{}"'), ("XFD1048576", f'{"x" * 3_000_000}="" r="{{}}"'),
    ],
)  # fmt: skip
def test_a_sheet_that_would_fill_the_memory_is_refused_before_it_is_read(
    place: str, quoted: str, tmp_path: Path
) -> None:
    path = tmp_path / "sparse.xlsx"
    path.write_bytes(_reaching(place, quoted=quoted))
    for read in (lambda: read_sheets(path, (), header=KEYS[0]), lambda: read_headers(path, (), like=KEYS)):
        with pytest.raises(InvalidInput, match=r"A sheet of sparse\.xlsx reaches to row [\d,]+ and column [\d,]+"):
            read()


def test_a_sheet_with_a_forgotten_cell_far_below_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one cell below.xlsx"
    path.write_bytes(_reaching("B1048576"))
    (sheet,) = read_sheets(path, (), header=KEYS[0])
    assert sheet.numbers == (1048576,)


def test_cells_without_a_place_count_too(tmp_path: Path) -> None:
    path = tmp_path / "no places.xlsx"
    rows = "<row>" + "<c/>" * 9000 + "</row>" + "<row></row>" * 9000
    path.write_bytes(made.workbook({"xl/worksheets/sheet1.xml": made.sheet_part(made.TITLES, rows).encode()}))
    with pytest.raises(InvalidInput, match="Delete the rows and columns behind the last one"):
        read_sheets(path, (), header=KEYS[0])


def test_a_workbook_unpacks_to_so_many_bytes_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.xlsx"
    path.write_bytes(made.workbook({}))
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(entry.file_size for entry in archive.infolist())
        monkeypatch.setattr(workbooks, "_UNPACKED_LIMIT", n_bytes)
        workbooks._require_moderate(archive, "sheet.xlsx")
        monkeypatch.setattr(workbooks, "_UNPACKED_LIMIT", n_bytes - 1)
        with pytest.raises(InvalidInput, match="unpacks to more than 4 GiB"):
            workbooks._require_moderate(archive, "sheet.xlsx")


@pytest.mark.parametrize("n_bytes", [1, 7, 64])
def test_where_a_sheet_ends_does_not_depend_on_how_it_is_cut(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    last = made.row(9, made.cell("XX9", "x"), "<c/>" * 30) + "<row></row>" * 4
    content = made.workbook({"xl/worksheets/sheet1.xml": made.sheet_part(made.TITLES, last).encode()})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo("xl/worksheets/sheet1.xml")
        whole = workbooks._extent(archive, entry)
        monkeypatch.setattr(workbooks, "_PART_BYTES", n_bytes)
        assert workbooks._extent(archive, entry) == whole == (9 + 6, 24 * 26 + 24 + 31)
        monkeypatch.setattr(workbooks, "_TAG_BYTES", 20)
        with pytest.raises(zipfile.BadZipFile):
            workbooks._extent(archive, entry)


@pytest.mark.parametrize("name", ["xl/workbook.bin", "content.xml"])
def test_another_program_s_workbook_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other.xlsx"
    path.write_bytes(made.workbook({name: b"x"}))
    with pytest.raises(InvalidInput, match="not an Excel workbook"):
        read_sheets(path, (), header=KEYS[0])


def test_lost_zeros_come_back_only_where_one_written_form_is_known() -> None:
    assert full_ids(["00123", "123", "DIT1", "077", "0077"]) == {"123": "00123"}


def test_the_right_one_of_several_files_of_a_name_is_found_by_the_longest_common_tail(hospital: Hospital) -> None:
    for batch in ("batch_1", "batch_2"):
        for patient in ("P17", "P18"):
            hospital.picture(f"{batch}/{patient}/FILE0004.jpg")
    hospital.cancer = [CANCER]
    hospital.known(CANCER, r"C:\Users\Ann\Desktop\Mammo\BATCH_2\p17\FILE0004.dcm")
    assert hospital.matched() == {"batch_2/P17/FILE0004.jpg": "malignant"}


def test_a_cancer_row_never_takes_the_file_of_another_patients_folder(hospital: Hospital) -> None:
    hospital.picture("batch_1/P99/FILE0004.jpg")
    hospital.cancer = [CANCER]
    hospital.known(CANCER, r"C:\Mammo\batch_1\P17\FILE0004.jpg")
    assert hospital.reasons("cancer") == {"file missing": 1}


def test_every_disguise_of_a_key_is_seen_through(hospital: Hospital) -> None:
    hospital.cancer = [
        ("file0004", dt.datetime(2014, 12, 25), 112603.0, " dit 439120108"),
        ("FILE 0005.dcm", 20150102.0, dt.time(9, 15, 3), 4411.0),
        ("FILE0006", "2015-01-03", 91503, "dit7"),
    ]
    hospital.known(CANCER, r"D:\b\p1\FILE0004.jpg")
    hospital.known(("FILE0005", "20150102", "091503", "0004411"), r"D:\b\p2\FILE0005.jpg")
    hospital.known(("FILE0006 ", dt.date(2015, 1, 3), "9:15:03", "DIT7"), "/mnt/b/p3/FILE0006.jpg")
    for number, patient in ((4, "p1"), (5, "p2"), (6, "p3")):
        hospital.picture(f"b/{patient}/file000{number}.JPG")
    counts, out = hospital.linked()
    assert counts["cancer"] == {"rows": 3, "matched": 3, "unmatched": {}}
    keys = [row["UniqueKey"] for row in rows_of(out / "CANCER.csv")]
    assert keys == [
        "FILE0004-20141225-112603-DIT439120108",
        "FILE0005-20150102-091503-0004411",
        "FILE0006-20150103-091503-DIT7",
    ]


def test_the_files_hold_all_columns_the_key_and_a_path_that_exists(hospital: Hospital) -> None:
    hospital.picture("b/p1/FILE0004.jpg")
    hospital.picture("c/N1.jpg")
    hospital.cancer, hospital.non_cancer = [CANCER], [("N1", 20150101, 101010, 77.0)]
    hospital.known(CANCER, r"D:\b\p1\FILE0004.jpg")
    counts, out = hospital.linked()
    assert counts["non_cancer"] == {"rows": 1, "matched": 1, "unmatched": {}}
    for name in ("CANCER.csv", "NON CANCER.csv"):
        (row,) = rows_of(out / name)
        assert set(KEYS) | {"feature 0", "feature 1", "UniqueKey", "ImagePath"} == set(row)
        assert Path(row["ImagePath"]).is_file()
    manifest = read_manifest(out / "manifest.csv", root=hospital.images)
    assert manifest.cases.to_dict("records") == [
        {"file": "b/p1/FILE0004.jpg", "label": "malignant", "patient": "DIT439120108"},
        {"file": "c/N1.jpg", "label": "not_malignant", "patient": "77"},
    ]


def test_every_row_without_a_file_is_listed_with_its_reason(hospital: Hospital) -> None:
    other = ("FILE0009", "20150101", "101010", "DIT9")
    twice = ("FILE0001", "20150101", "101010", "DIT5")
    hospital.cancer = [
        CANCER,  # no validation row
        other,  # no file
        twice,  # two validation rows, two folders
        twice,  # said before
        ("FILE0003", "20150101", None, "DIT5"),  # no time, no key
        ("FILE0002", "20150101", "101010", "DIT6"),  # a validation row without a path
    ]
    hospital.known(other, r"D:\b\p9\FILE0009.jpg")
    hospital.known(twice, r"D:\b\p1\FILE0001.jpg")
    hospital.known(twice, r"D:\b\p2\FILE0001.jpg")
    hospital.known(hospital.cancer[5], None)
    for patient in ("p1", "p2"):
        hospital.picture(f"b/{patient}/FILE0001.jpg")
    counts, out = hospital.linked()
    assert counts["cancer"]["matched"] == 0
    assert [(row["sheet"], row["row"], row["reason"]) for row in rows_of(out / "unmatched.csv")] == [
        ("Cancer", "2", "no validation row"),
        ("Cancer", "3", "file missing"),
        ("Cancer", "4", "ambiguous"),
        ("Cancer", "5", "duplicate key"),
        ("Cancer", "6", "incomplete key"),
        ("Cancer", "7", "file missing"),
    ]


def test_a_file_that_two_keys_claim_equally_is_given_to_none(hospital: Hospital) -> None:
    later = (CANCER[0], "20160101", *CANCER[2:])
    hospital.cancer = [CANCER, later]
    hospital.picture("b/p1/FILE0004.jpg")
    for row in hospital.cancer:
        hospital.known(row, r"D:\b\p1\FILE0004.jpg")
    assert hospital.reasons("cancer") == {"ambiguous": 2}


def test_ids_that_differ_in_their_zeros_are_not_mixed_up(hospital: Hospital) -> None:
    hospital.cancer = [("FILE0004", "20141225", "112603", 55.0)]
    for number, identity in enumerate(("055", "0055")):
        hospital.known(("FILE0004", "20141225", "112603", identity), rf"D:\b\p{number}\FILE0004.jpg")
        hospital.picture(f"b/p{number}/FILE0004.jpg")
    assert hospital.reasons("cancer") == {"ambiguous": 1}


def test_a_non_cancer_file_found_twice_is_used_only_when_both_are_the_same_picture(hospital: Hospital) -> None:
    hospital.non_cancer = [(name, "20150101", "101010", f"DIT{name}") for name in ("N1", "N2", "N3")]
    for batch in "ab":
        hospital.picture(f"{batch}/N1.jpg", "the same picture")
        hospital.picture(f"{batch}/N2.jpg", f"another in {batch}")
        hospital.picture(f"{batch}/N3.jpg")
    hospital.known(hospital.non_cancer[2], r"D:\b\N3.jpg")
    assert set(hospital.matched()) == {"a/N1.jpg", "b/N3.jpg"}
    assert hospital.reasons("non_cancer") == {"ambiguous": 1}


def test_bytes_that_lie_under_several_names_do_not_say_which_picture_it_is(hospital: Hospital) -> None:
    hospital.non_cancer = [("N1", "20150101", "101010", "DIT1")]
    for file in ("a/N1.jpg", "b/N1.jpg", "b/N7.jpg"):
        hospital.picture(file, "placeholder")
    assert hospital.reasons("non_cancer") == {"ambiguous": 1}


def test_a_file_that_may_be_a_cancer_is_never_called_non_cancer(hospital: Hospital) -> None:
    doubtful = ("FILE0008", "20150101", "101010", "DIT8")
    hospital.cancer = [CANCER, doubtful]
    hospital.non_cancer = [(name, "20160101", "090000", "DIT1") for name in ("FILE0004", "FILE0008")]
    hospital.known(CANCER, r"D:\b\p1\FILE0004.jpg")
    hospital.picture("b/p1/FILE0004.jpg")
    hospital.picture("b/p8/FILE0008.jpg")
    assert hospital.matched() == {"b/p1/FILE0004.jpg": "malignant"}
    assert hospital.reasons("non_cancer") == {"file of another row": 1, "ambiguous": 1}


@pytest.mark.parametrize(
    ("cancer", "path", "other", "file"),
    [
        pytest.param("FILE0008", "", "FILE0008", "b/p8/FILE0008.jpg", id="no path"),
        pytest.param("FILE0008", r"D:\b\DIT8\FILE0008.jpg", "FILE0008", "b/DIT 8/FILE0008.jpg", id="renamed folder"),
        pytest.param("17", None, "0017", "b/p8/0017.jpg", id="lost zeros"),
        pytest.param("0017", None, "17", "b/p8/0017.jpg", id="lost zeros of the other"),
    ],
)
def test_a_cancer_row_without_a_file_makes_every_file_of_its_name_doubtful(
    hospital: Hospital, cancer: str, path: str | None, other: str, file: str
) -> None:
    """path: of its validation row, None where it has none."""
    hospital.cancer = [(cancer, "20150101", "101010", "DIT8")]
    hospital.non_cancer = [(other, "20160101", "090000", "DIT1")]
    if path is not None:
        hospital.known(hospital.cancer[0], path)
    hospital.picture(file)
    assert hospital.matched() == {}
    assert hospital.reasons("non_cancer") == {"ambiguous": 1}


def test_a_copy_of_a_cancers_picture_is_never_called_non_cancer(hospital: Hospital) -> None:
    hospital.cancer, hospital.non_cancer = [CANCER], [("FILE0004", "20160101", "090000", "DIT1")]
    hospital.known(CANCER, r"D:\b\p1\FILE0004.jpg")
    for file in ("b/p1/FILE0004.jpg", "copies/FILE0004.jpg"):
        hospital.picture(file, "the same picture")
    assert hospital.matched() == {"b/p1/FILE0004.jpg": "malignant"}
    assert hospital.reasons("non_cancer") == {"file of another row": 1}


def test_a_free_file_of_a_name_that_a_cancer_row_has_too_goes_to_the_non_cancer_row(hospital: Hospital) -> None:
    hospital.cancer, hospital.non_cancer = [CANCER], [("FILE0004", "20160101", "090000", "DIT1")]
    hospital.known(CANCER, r"D:\b\p1\FILE0004.jpg")
    hospital.picture("b/p1/FILE0004.jpg")
    hospital.picture("screening/FILE0004.jpg")
    assert hospital.matched() == {"b/p1/FILE0004.jpg": "malignant", "screening/FILE0004.jpg": "not_malignant"}


def test_workbooks_that_cannot_be_used_are_refused_with_a_sentence(hospital: Hospital, tmp_path: Path) -> None:
    combined, validation = hospital.write()
    with pytest.raises(NotFound, match=r"no workbook nowhere\.xlsx"):
        link(tmp_path / "nowhere.xlsx", validation, hospital.images)
    (tmp_path / "text.xlsx").write_text("no workbook")
    with pytest.raises(InvalidInput, match="not an Excel workbook"):
        link(tmp_path / "text.xlsx", validation, hospital.images)
    with pytest.raises(InvalidInput, match="no sheet Cancer"):
        link(validation, validation, hospital.images)
    with pytest.raises(InvalidInput, match="AbsolutePath"):
        link(combined, combined, hospital.images)
    with pytest.raises(InvalidInput, match="--images"):
        link(combined, validation, tmp_path / "nowhere")


def test_the_command_prints_the_counts_as_json(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    hospital.cancer, hospital.non_cancer = [CANCER], [("N1", "20160101", "090000", "DIT1")]
    hospital.picture("b/N1.jpg")
    combined, validation = hospital.write()
    arguments = ["link", "--combined", str(combined), "--validation", str(validation)]
    arguments += ["--images", str(hospital.images), "--out", str(hospital.folder)]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "cancer": {"rows": 1, "matched": 0, "unmatched": {"no validation row": 1}},
        "non_cancer": {"rows": 1, "matched": 1, "unmatched": {}},
    }
    swapped = ["--cancer-sheet", "non cancer", "--non-cancer-sheet", "CANCER", "--validation-sheet", "sheet1"]
    assert main([*arguments, *swapped]) == 0
    assert "cancer: 0 of 1 rows found their file; 1 no validation row" in capsys.readouterr().out
    assert "FILE0004" in (hospital.folder / "unmatched.csv").read_text().splitlines()[2]  # now among the others
    assert main([*arguments, *swapped[:-1], "Patho"]) == 1
    assert "has no sheet Patho. Its sheets: Sheet1. Say which of them it is" in capsys.readouterr().err


def test_thousands_of_rows_against_twenty_thousand_files_take_seconds(hospital: Hospital) -> None:
    hospital.width = 12
    for number in range(4998):
        hospital.non_cancer.append((f"N{number:05d}", 20150101 + number % 28, 91500 + number % 60, float(number)))
    for number in range(105):
        row = (f"FILE{number % 9:04d}", "20150101", "101010", f"DIT{number}")
        hospital.cancer.append(row)
        hospital.known(row, rf"D:\Mammo\batch_{number % 4}\DIT{number}\{row[0]}.dcm")
    for number in range(20_000):
        folder = hospital.images / f"batch_{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"N{number:05d}.jpg").touch()
    for number in range(105):
        hospital.picture(f"batch_{number % 4}/DIT{number}/FILE{number % 9:04d}.jpg")
    combined, validation = hospital.write()
    start = time.process_time()
    counts = link(combined, validation, hospital.images).counts()
    assert counts["cancer"]["matched"] == 105 and counts["non_cancer"]["matched"] == 4998
    assert time.process_time() - start < 8


def test_with_paths_alone_a_row_is_found_by_its_patients_folder(tmp_path: Path) -> None:
    patients = ("DIT439120108", "0077001", "DIT3")
    cancer = [("FILE0001", "20141201", "091503", one) for one in patients]
    cancer.append(("FILE0001", "20150101", "091503", patients[0]))  # another day of the first patient
    paths = [
        rf"C:\x\{patients[0].lower()}\20141201\FILE0001.jpg",
        "/x/77001/20141201/file0001.jpg",
        "/x/DIT3/FILE0002.jpg",
    ]
    combined, validation = openpyxl.Workbook(), openpyxl.Workbook()
    for book, sheets in (
        (combined, {"Cancer": [KEYS, *cancer], "Non-Cancer": [KEYS, ("N1", "20150101", "101010", "5")]}),
        (validation, {"Sheet1": [("AbsolutePath",), *((path,) for path in paths)]}),
    ):
        book.remove(book.active)
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for row in rows:
                sheet.append(row)
    combined.save(tmp_path / "combined.xlsx")
    validation.save(tmp_path / "validation.xlsx")
    images = tmp_path / "images"
    for number, place in enumerate((f"{patients[0]}/20141201/FILE0001.jpg", "77001/20141201/FILE0001.jpg", "N1.jpg")):
        (images / place).parent.mkdir(parents=True, exist_ok=True)
        (images / place).write_bytes(bytes([number]))
    books = tmp_path / "combined.xlsx", tmp_path / "validation.xlsx", images
    with pytest.raises(InvalidInput, match="no column InputFileName"):
        link(*books)
    found = link(*books, LinkColumns(is_by_path=True))
    assert [(row.file, row.reason) for row in found.cancer] == [
        (f"{patients[0]}/20141201/FILE0001.jpg", ""),
        ("77001/20141201/FILE0001.jpg", ""),
        ("", "no validation row"),  # its path names another file
        ("", "no validation row"),  # the folder is another day
    ]
    assert LinkColumns(validation=KeyColumns("", "", "", ""), is_by_path=True).is_complete
    assert not LinkColumns(validation=KeyColumns("", "", "", "")).is_complete
    asked = ["link", "--combined", str(books[0]), "--validation", str(books[1]), "--images", str(images), "--by-path"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0 and len(rows_of(tmp_path / "out" / "CANCER.csv")) == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("20141201", True), ("20141301", False), ("00770012", False), ("2014120", False)]
)
def test_a_folder_is_a_day_only_where_the_calendar_has_it(text: str, expected: bool) -> None:
    assert is_day(text) is expected


def test_columns_of_one_name_are_numbered_from_the_second_on_and_those_without_one_by_their_place() -> None:
    assert workbooks._unique(("a", "", " a ", "a", "b")) == ("a", "column 2", "a (2)", "a (3)", "b")
