"""Manifests: what is read, what is left out and counted, what is refused and why."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import InvalidInput, NotFound
from train.datasets.manifest import joined, read_manifest, write_manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "manifest.csv"


def test_columns_are_kept_as_text_and_stripped(manifest: Path) -> None:
    manifest.write_text("\ufefffile, label ,patient,scanner\n a.png , benign,007,\nb.png,malignant,8.0,X1\n")
    read = read_manifest(manifest)
    assert read.cases.to_dict("records") == [
        {"file": "a.png", "label": "benign", "patient": "007", "scanner": ""},
        {"file": "b.png", "label": "malignant", "patient": "8.0", "scanner": "X1"},
    ]
    assert read.root == manifest.parent and read.lines == (2, 3)


def test_rows_without_a_label_and_conflicting_look_alikes_are_left_out_and_counted(manifest: Path) -> None:
    manifest.write_text(
        "file,label,label_conflict_with\na.png,benign,\nb.png,,\nc.png,benign,d.png\nd.png,malignant,\n"
    )
    read = read_manifest(manifest)
    assert list(read.cases["file"]) == ["a.png", "d.png"] and read.lines == (2, 5)
    assert read.left_out == {"no label": 1, "look-alike with another label": 1}


@pytest.mark.parametrize("header", ["file,label, file", "file,label,label", "label ,file,mask,label"])
def test_two_columns_of_one_name_are_refused(header: str, manifest: Path) -> None:
    manifest.write_text(f"{header}\na.png,benign,b.png\n")
    with pytest.raises(InvalidInput, match=r"has two columns '(file|label)'\. Give each column a name of its own\."):
        read_manifest(manifest)


def test_a_manifest_is_read_again_as_it_was_written_whatever_breaks_its_lines(manifest: Path) -> None:
    manifest.write_bytes(b'file,label,note\na.png,x,"one\rtwo"\nb.png,y,"one\r\ntwo"\n')
    read = read_manifest(manifest)
    write_manifest(read.cases, manifest)
    assert read_manifest(manifest).cases.equals(read.cases) and len(read.cases) == 2


def test_where_keeps_rows_that_meet_every_condition(manifest: Path) -> None:
    manifest.write_text("file,label,source,view\na,x,BUSI,CC\nb,x,BUSI,MLO\nc,x,other,CC\n")
    assert list(read_manifest(manifest, where=["source=BUSI", "view=CC"]).cases["file"]) == ["a"]
    for condition in ("source", "colour=1"):
        with pytest.raises(InvalidInput, match="COLUMN=VALUE"):
            read_manifest(manifest, where=[condition])
    with pytest.raises(InvalidInput, match="no labelled row"):
        read_manifest(manifest, where=["source=nowhere"])


def test_the_hash_is_of_files_and_labels_alone(manifest: Path) -> None:
    manifest.write_text("file,label,note\na,x,1\nb,y,2\n")
    first = read_manifest(manifest).sha256
    manifest.write_text("file,label,note\na,x,3\nb,y,4\n")
    assert read_manifest(manifest).sha256 == first
    manifest.write_text("file,label,note\na,x,3\nb,x,4\n")
    assert read_manifest(manifest).sha256 != first


@pytest.mark.parametrize("file", ["../a.png", "/etc/passwd", "C:\\a.png", "ok/../../a.png", ".."])
@pytest.mark.parametrize("column", ["file", "mask"])
def test_files_outside_the_folder_are_refused_by_line(manifest: Path, file: str, column: str) -> None:
    row = f"{file},x,m.png" if column == "file" else f"b.png,x,{file}"
    manifest.write_text(f"file,label,mask\na.png,x,\n{row}\n")
    with pytest.raises(InvalidInput, match=f"Line 3 .* {column} outside"):
        read_manifest(manifest)


def test_backslashes_of_windows_separate_folders(manifest: Path) -> None:
    manifest.write_text("file,label\nbenign\\a.png,x\n")
    assert list(read_manifest(manifest).cases["file"]) == ["benign/a.png"]


def test_a_file_that_is_listed_twice_is_refused_by_line(manifest: Path) -> None:
    manifest.write_text("file,label\na/b.png,x\nc.png,x\na//./b.png,x\n")
    with pytest.raises(InvalidInput, match=r"1 files more than once, first on line 4\."):
        read_manifest(manifest)
    assert len(read_manifest(manifest, allow_repeats=True).cases) == 3


def test_what_is_no_manifest_is_refused_with_a_sentence(manifest: Path) -> None:
    with pytest.raises(NotFound, match="file,label"):
        read_manifest(manifest)
    for content, sentence in ((b"", "not a CSV"), (b"\xff\xfe\0", "not a CSV"), (b"path,class\na,b\n", "column file")):
        manifest.write_bytes(content)
        with pytest.raises(InvalidInput, match=sentence):
            read_manifest(manifest)
    manifest.write_text("file,label\n,benign\n")
    with pytest.raises(InvalidInput, match=r"Line 2 .* names no file"):
        read_manifest(manifest)


def test_a_written_manifest_reads_back_the_same(manifest: Path, tmp_path: Path) -> None:
    manifest.write_text('file,label,note\n"a, b.png",x,"says ""no"""\nc.png,y,é\n')
    first = read_manifest(manifest)
    write_manifest(first.cases, tmp_path / "new" / "copy.csv")
    second = read_manifest(tmp_path / "new" / "copy.csv")
    assert second.cases.equals(first.cases) and second.sha256 == first.sha256
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.csv"]


def test_the_ultrasound_data_leaves_its_conflicting_images_out(test_data: Path) -> None:
    data = test_data / "data"
    read = read_manifest(data / "ultrasound" / "manifest.csv", root=data, where=["source=BUSI"])
    with (data / "ultrasound" / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "BUSI"]
    conflicting = sum(bool(row["label_conflict_with"]) for row in rows)
    assert conflicting >= 6 and read.left_out["look-alike with another label"] == conflicting
    assert len(read.cases) == len(rows) - conflicting
    assert all((read.root / file).is_file() for file in read.cases["file"])


def test_where_takes_several_values(manifest: Path) -> None:
    manifest.write_text("file,label,source\na,x,BUSI\nb,x,BUS-BRA\nc,x,other\n")
    assert list(read_manifest(manifest, where=["source=BUSI|BUS-BRA"]).cases["file"]) == ["a", "b"]


def test_collections_are_joined_under_one_root(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "one.csv", tmp_path / "b" / "two.csv"
    for path, text in ((first, "file,label,group\na/1,x,g\na/2,,\n"), (second, "file,label,patient\nb/1,y,p\nb/2,,\n")):
        path.parent.mkdir()
        path.write_text(text)
    both = joined([read_manifest(path, root=tmp_path) for path in (first, second)])
    assert both.cases.to_dict("records") == [
        {"file": "a/1", "label": "x", "group": "g", "patient": ""},
        {"file": "b/1", "label": "y", "group": "", "patient": "p"},
    ]
    assert both.left_out == {"no label": 2} and both.root == tmp_path and both.lines == (2, 2)
    one = read_manifest(first, root=tmp_path)
    assert joined([one]) is one and both.sha256 != one.sha256
    with pytest.raises(InvalidInput, match="one --root"):
        joined([one, read_manifest(second)])
    with pytest.raises(InvalidInput, match="same file"):
        joined([one, one])


def test_labels_that_differ_only_in_capital_letters_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("file,label\na.png,benign\nb.png,malignant\nc.png,Malignant\n")
    with pytest.raises(InvalidInput, match=r"'malignant' \(line 3\) and 'Malignant' \(line 4\) differ only"):
        read_manifest(path)


@pytest.mark.parametrize("file", ["/up.png", "//up.png", "\\\\server\\up.png", "C:/up.png", "a/../up.png"])
def test_a_file_below_any_root_lies_outside(file: str, manifest: Path) -> None:
    manifest.write_text(f"file,label\n{file},x\n")
    with pytest.raises(InvalidInput, match="outside the data set's folder"):
        read_manifest(manifest)


def test_patients_are_one_in_every_form_of_letters_and_what_may_be_one_is_said(manifest: Path) -> None:
    rows = "a,x,re\u0301my,G1\nb,y,r\u00e9my\u00a0,g1\nc,x,P01,\nd,y,p1,\ne,y,\uff30\uff11,\n"
    manifest.write_text(f"file,label,patient,group\n{rows}")
    read = read_manifest(manifest)
    assert list(read.cases["patient"]) == ["r\u00e9my", "r\u00e9my", "P01", "p1", "P1"]
    patients, groups = read.remarks
    assert patients.startswith("The patients of lines 4, 5, 6 differ only in capital letters")
    assert groups.startswith("The groups of lines 2, 3 differ") and joined([read]).remarks == read.remarks


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a,MALIGN\nb,x\nc,malignant", r"'MALIGN' \(line 2\) and 'malignant' \(line 4\) may mean the same class"),
        ("a,1\nb,malignant\n\nc,benign", "label in line 2 is 0 or 1, and others are words"),
        ("a,x\n\nb,X", r"'x' \(line 2\) and 'X' \(line 4\) differ only"),
        ("a,b,malignant\nc,benign", "Line 2 of manifest.csv has 3 cells and the header 2"),
        ("a\0,x", "it is empty, or no text"),
    ],
)
def test_what_would_be_counted_wrongly_is_refused_by_line(rows: str, words: str, manifest: Path) -> None:
    manifest.write_text(f"file,label\n{rows}\n")
    with pytest.raises(InvalidInput, match=words):
        read_manifest(manifest)


def test_a_label_that_says_nothing_is_no_label(manifest: Path) -> None:
    manifest.write_text("file,label\na,NA\nb,nan\nc,\u200b\nd,x\n\ne,y\n")
    read = read_manifest(manifest)
    assert (read.left_out["no label"], read.lines) == (3, (5, 7))


def test_who_asks_what_each_label_means_reads_words_of_one_meaning(manifest: Path, tmp_path: Path) -> None:
    manifest.write_text("file,label\na,cancer\nb,malignant\n")
    assert len(read_manifest(manifest, allow_synonyms=True).cases) == 2
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("file,label\na,cancer\nb,benign\n")
    other.write_text("file,label\nc,malignant\nd,benign\n")
    with pytest.raises(InvalidInput, match="may mean the same class"):
        joined([read_manifest(one), read_manifest(other)])


def test_patients_of_whom_nobody_knows_who_they_are_are_not_one(manifest: Path) -> None:
    manifest.write_text("file,label,patient,group\na,x,nan,NA\nb,y,Unknown,\nc,y,p3,g\n")
    assert read_manifest(manifest).cases[["patient", "group"]].to_numpy().tolist() == [["", ""], ["", ""], ["p3", "g"]]


@pytest.mark.parametrize(
    "header", ["File,LABEL,PatientID,Split", "file,label,patient_id,SPLIT", "file,label,Patient,split"]
)
def test_patients_and_splits_count_however_their_columns_are_called(header: str, manifest: Path) -> None:
    manifest.write_text(f"{header}\na,x,p1,train\nb,y,p1,test\n")
    assert list(read_manifest(manifest).cases.columns) == ["file", "label", "patient", "split"]
    manifest.write_text("file,label,patient,PatientID\na,x,p1,1\nb,y,p1,2\n")
    assert list(read_manifest(manifest).cases.columns) == ["file", "label", "patient", "PatientID"]


@pytest.mark.parametrize("command", ["fit", "search"])
def test_a_manifest_that_is_not_there_is_said_before_tensorflow_is_loaded(command: str, tmp_path: Path) -> None:
    script = (
        "import sys; from train.__main__ import main; status = main(sys.argv[1:]); "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules; sys.exit(status)"
    )
    arguments = [command, "cnn", "--modality", "ultrasound", "--data", str(tmp_path / "none.csv")]
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "There is no manifest at" in run.stderr, run.stderr
