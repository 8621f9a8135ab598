"""Cases of one's own as hashes: read or refused, held against a shipped model's list, and split by split."""

from __future__ import annotations

import pytest

from core.errors import InvalidInput
from core.evaluation.promotion import Overlap
from core.evaluation.tables.own_cases import between_splits, cases_of_files, known_to, read_own_cases, remarks_on
from core.models.card_cases import read_cases
from core.models.cards import read_card
from core.settings import REPOSITORY

SHIPPED = read_card(REPOSITORY / "weights" / "ultrasound-cnn4")
A, B, NEAR = "a" * 64, "b" * 64, "b" * 63 + "a"


def test_a_model_knows_its_training_cases_and_not_its_test_cases() -> None:
    listed = read_cases(SHIPPED)
    assert listed is not None
    train, test = (listed[listed["split"] == split] for split in ("train", "test"))
    text = "SHA256\n" + "\n".join([train["sha256"].iloc[0].upper(), test["sha256"].iloc[0], A])
    assert known_to(SHIPPED, read_own_cases(text.encode())) == Overlap(1, 0, 0, 3)
    shown = f"pixels_sha256,perceptual_hash\n{train['pixels_sha256'].iloc[1]},\n,{train['perceptual_hash'].iloc[2]}\n"
    assert known_to(SHIPPED, read_own_cases(shown.encode())) == Overlap(1, 0, 1, 2)


def test_a_split_of_ones_own_leaks_by_file_by_patient_and_by_look() -> None:
    rows = [f"{A},,p1,train", f",{B},p2,train", f"{A},,p3,test", ",,p2,test", f",{NEAR},p4,test", ",,p5,test"]
    own = read_own_cases("\n".join(["sha256,perceptual_hash,patient,split", *rows]).encode())
    assert between_splits(own) == {("test", "train"): Overlap(1, 1, 1, 4)}
    assert between_splits(own.assign(split="")) == {}


def test_as_many_splits_as_there_may_be_are_looked_at() -> None:
    own = read_own_cases(("sha256,split\n" + "".join(f"{A},test{n}\n" for n in range(12))).encode())
    assert own["split"].nunique() == 12 and between_splits(own) == {}


def test_files_are_known_by_their_bytes() -> None:
    import hashlib

    assert list(cases_of_files([b"x", b""])["sha256"]) == [hashlib.sha256(one).hexdigest() for one in (b"x", b"")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has no header. The first row names the columns: any of sha256"),
        (b"file,label\nx,y\n", "at least one of the columns sha256"),
        (b"sha256\n", "a header and no cases"),
        (f"sha256\n{A},\n".encode(), "Row 2 has 2 cells and the header 1"),
        (f"sha256,split\n{A},test,x\n".encode(), "Row 2 has 3 cells and the header 2"),
        (f"sha256,split\n{A},test\n,test\n".encode(), "Row 3 has neither a hash nor a patient"),
        (f"sha256,SHA256\n,{A}\n".encode(), "Two columns of the table have the same name"),
        (("sha256,split\n" + "".join(f"{A},test{n}\n" for n in range(13))).encode(), "more than 12 splits"),
        (f"sha256\n{A}\n{A[1:]}\n".encode(), "Row 3, column sha256: a hash has 64 digits"),
        (b"sha256\n" + b"\n" * 0 + (A.encode() + b"\n") * 100_001, "more than 100,000 rows"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
    ids=["empty", "columns", "rows", "one more", "two more", "bare", "twice", "splits", "hash", "many", "bytes"],
)
def test_what_is_no_list_of_hashes_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        read_own_cases(content)


def test_a_patient_in_two_forms_of_letters_leaks_and_patients_that_may_be_one_are_named() -> None:
    rows = [",re\u0301my,train", "", ",r\u00e9my\u00a0,test", ",P01,train", ",p1,\uff54\uff45\uff53\uff54"]
    own = read_own_cases("\n".join(["sha256,patient,split", *rows]).encode())
    assert between_splits(own) == {("test", "train"): Overlap(0, 1, 0, 2)}
    (remark,) = remarks_on(own)
    assert remark.startswith(
        "The patients of rows 5, 6 differ only in capital letters, blanks, hyphens or leading zeros"
    )


def test_splits_of_which_none_is_tested_are_not_called_clean() -> None:
    own = read_own_cases(f"sha256,split\n{A},A\n{A},holdout\n".encode())
    assert between_splits(own) == {} and "The splits are: A, holdout." in remarks_on(own)[0]
    assert remarks_on(own.assign(split="")) == []


@pytest.mark.parametrize(
    ("one", "other"), [("P-1", "P\u20131"), ("P-1", "p_01"), ("\u0410 1", "A1"), ("'001", "1"), ("O'N", "O\u2019n")]
)
def test_names_that_may_be_one_are_seen_behind_hyphens_quotes_and_letters_that_look_the_same(
    one: str, other: str
) -> None:
    own = read_own_cases(f"sha256,patient,split\n,{one},train\n,{other},test\n,12,train\n,1-2,test\n".encode())
    assert len(set(own["patient"])) == 4 and remarks_on(own)[0].startswith("The patients of rows 2, 3 differ")
