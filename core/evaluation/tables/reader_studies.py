"""The tables of reader studies: a long CSV table (also MRMCaov's), iMRMC's text file and RJafroc's workbook."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import one_case_each
from core.evaluation.statistics.reader_study import ReaderStudy
from core.evaluation.tables.cells import (
    names_nobody,
    normal_id,
    number_of,
    similar_ids,
    similar_ids_sentence,
)
from core.evaluation.tables.rjafroc import read_workbook
from core.evaluation.tables.scores import csv_cells

MAX_READS = 1_000_000
ALIASES = {"treatment": "modality", "rating": "score", "label": "truth"}
"""Names of columns that MRMCaov's own tables use."""
REQUIRED = ("reader", "modality", "case", "truth", "score")
BEGIN = "BEGIN DATA:"
TRUTH_READER = "-1"
"""iMRMC's number of the reader whose rows say the truth."""
INDEPENDENT_ELSEWHERE = (
    "MRMCaov, iMRMC and RJafroc take cases to be independent; here patients have several, so that their intervals and "
    "p are others than those here. The table for MRMCaov has a column patient, with which it is analysed here as the "
    "study itself; the files for iMRMC and RJafroc have no place for patients."
)
"""What is said beside the exports of a study in which patients have several cases."""

Read = tuple[str, str, str, float]
"""Modality, reader, case, score."""


def read_study(content: bytes) -> ReaderStudy:
    """A study from the bytes of a file; iMRMC's is known by its line "BEGIN DATA:", RJafroc's as an Excel workbook.

    Every refusal names the row.
    """
    if content[:2] == b"PK":
        return _from_workbook(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("The file is not text in UTF-8. Save it as CSV (UTF-8) and try again.") from error
    if any(row.strip().upper() == BEGIN for row in text.splitlines()):
        return _from_imrmc(text)
    return _from_long_table(content)


def _from_long_table(content: bytes) -> ReaderStudy:
    table = csv_cells(content, "reader,modality,case,truth and score")
    head = [ALIASES.get(name.lower(), name.lower()) for name in table.columns]
    missing = [name for name in REQUIRED if name not in head]
    if missing:
        raise InvalidInput(
            f"The table has no column {', '.join(missing)}. It needs reader, modality, case, truth (0 or 1) and score."
        )
    if len(set(head)) != len(head):
        raise InvalidInput("Two columns of the table have the same name. Rename or remove one.")
    place = {name: head.index(name) for name in (*REQUIRED, "patient") if name in head}
    reads: list[Read] = []
    truths: dict[str, bool] = {}
    patients: dict[str, str] = {}
    for name in set(place) - {"score"}:
        table.isetitem(place[name], table.iloc[:, place[name]].map(normal_id))
    numbers = [int(number) for number in table.index]
    for name in ("reader", "modality"):
        _require_one_name(table.iloc[:, place[name]], numbers, name)
    for number, row in zip(table.index, table.to_numpy(), strict=True):
        cell = {name: row[at] for name, at in place.items()}
        empty = [name for name in cell if name != "score" and not cell[name]]
        if empty:
            raise InvalidInput(f"Row {number} has no {empty[0]}. Fill it in or leave the row out.")
        _state(truths, cell["case"], _truth(cell["truth"], number), "truth", number)
        if "patient" in cell:
            if names_nobody(cell["patient"]):
                raise InvalidInput(f"Row {number}: nobody knows this patient. Repeat the case there.")
            _state(patients, cell["case"], cell["patient"], "patient", number)
        if cell["score"].upper() not in ("", "NA"):
            reads.append((cell["modality"], cell["reader"], cell["case"], _score(cell["score"], number)))
    remarks = [
        similar_ids_sentence(similar_ids(table.iloc[:, place[name]], numbers), f"{name}s")
        for name in ("patient", "case")
        if name in place
    ]
    return replace(_study(reads, truths, patients), remarks=tuple(filter(None, remarks)))


def _require_one_name(names: Iterable[str], numbers: Sequence[int], what: str) -> None:
    """Refuse readers or modalities that may be one: half of the reads would be of nobody else's."""
    found = similar_ids(names, numbers)
    if found:
        rows = ", ".join(map(str, found[0]))
        raise InvalidInput(
            f"Rows {rows}: names of a {what} differ only in capital letters, blanks, hyphens or leading zeros. Write "
            f"each {what} in one way, or give two of them names that cannot be mistaken."
        )


def _from_imrmc(text: str) -> ReaderStudy:
    reads: list[Read] = []
    truths: dict[str, bool] = {}
    began, numbers = False, []
    for number, line in enumerate(text.splitlines(), start=1):
        if not began or not line.strip():
            began = began or line.strip().upper() == BEGIN
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 4:
            raise InvalidInput(f"Row {number} has {len(cells)} cells; iMRMC's rows have reader, case, modality, score.")
        reader, case, modality, score = (normal_id(cell) for cell in cells)
        if reader == TRUTH_READER:
            _state(truths, case, _truth(score, number), "truth", number)
        else:
            reads.append((modality, reader, case, _score(score, number)))
            numbers.append(number)
    _require_one_name((read[0] for read in reads), numbers, "modality")
    _require_one_name((read[1] for read in reads), numbers, "reader")
    remark = similar_ids_sentence(similar_ids((read[2] for read in reads), numbers), "cases")
    return replace(_study(reads, truths, {}), remarks=(remark,) if remark else ())


def _from_workbook(content: bytes) -> ReaderStudy:
    found, truths = read_workbook(content)
    reads = [
        (modality, reader, case, _score(score, number))
        for number, (modality, reader, case, score) in enumerate(found, 1)
    ]
    return _study(reads, {case: truth == "1" for case, truth in truths.items()}, {})


def _truth(text: str, number: int) -> bool:
    if text not in ("0", "1"):
        raise InvalidInput(f"Row {number}: the truth must be 0 (negative) or 1 (positive).")
    return text == "1"


def _score(text: str, number: int) -> float:
    value = number_of(text)
    if not math.isfinite(value):
        raise InvalidInput(f"Row {number}: the score is not a number. Leave it empty where there is no read.")
    return value


def _state(known: dict[str, bool] | dict[str, str], case: str, value: bool | str, what: str, number: int) -> None:
    if known.setdefault(case, value) != value:  # type: ignore[arg-type]
        raise InvalidInput(f"Row {number}: this case has another {what} in an earlier row.")


def _study(reads: list[Read], truths: dict[str, bool], patients: dict[str, str]) -> ReaderStudy:
    if not reads or len(reads) > MAX_READS:
        raise InvalidInput(f"The file has {len(reads):,} reads; there must be 1 to {MAX_READS:,}.")
    modalities = tuple(dict.fromkeys(read[0] for read in reads))
    readers = tuple(dict.fromkeys(read[1] for read in reads))
    cases = list(truths)
    places = [{name: at for at, name in enumerate(names)} for names in (modalities, readers, cases)]
    if len(modalities) * len(readers) * len(cases) > 10 * MAX_READS:
        raise InvalidInput("There are too many modalities, readers and cases for the few reads between them.")
    scores = np.full((len(modalities), len(readers), len(cases)), np.nan)
    for modality, reader, case, score in reads:
        if case not in truths:
            raise InvalidInput("A case that was read has no truth. Add its row of truth.")
        at = places[0][modality], places[1][reader], places[2][case]
        if not np.isnan(scores[at]):
            raise InvalidInput("A reader has two scores for the same case and modality. Leave one of them.")
        scores[at] = score
    of_cases = np.array([patients[case] for case in cases]) if patients else None
    return ReaderStudy(modalities, readers, np.array([truths[case] for case in cases]), scores, of_cases)


def write_imrmc(study: ReaderStudy) -> str:
    """iMRMC's file. Cases and readers are numbered: names stay here."""
    n_negatives, n_positives = int((~study.is_positive).sum()), int(study.is_positive.sum())
    lines = [
        "Reader study",
        f"NR: {len(study.readers)}",
        f"N0: {n_negatives}",
        f"N1: {n_positives}",
        f"NM: {len(study.modalities)}",
        BEGIN,
        *(f"{TRUTH_READER},{at + 1},0,{int(truth)}" for at, truth in enumerate(study.is_positive)),
        *(f"{reader},{case},{modality},{score!r}" for modality, reader, case, score in _numbered(study)),
    ]
    return "\n".join(lines) + "\n"


def write_long_table(study: ReaderStudy) -> str:
    """reader, treatment, case, truth, rating: the table that MRMCaov reads, and patient where one has several cases.

    All but truth and rating is numbered.
    """
    patients = [""] * len(study.is_positive)
    if study.patients is not None and not one_case_each(study.patients):
        names = list(map(str, study.patients))
        # In the order of their cases: that of their names would tell of these.
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}
        patients = [f",{numbers[name]}" for name in names]
    lines = ["reader,treatment,case,truth,rating" + (",patient" if patients[0] else "")]
    for modality, reader, case, score in _numbered(study):
        truth = int(study.is_positive[case - 1])
        lines.append(f"{reader},{modality},{case},{truth},{score!r}{patients[case - 1]}")
    return "\n".join(lines) + "\n"


def _numbered(study: ReaderStudy) -> Iterable[tuple[int, int, int, float]]:
    for at in np.argwhere(~np.isnan(study.scores)):
        modality, reader, case = (int(number) for number in at)
        yield modality + 1, reader + 1, case + 1, float(study.scores[modality, reader, case])
