"""RJafroc's Excel workbook: sheets TRUTH, FP and TP, in and out (its ROC paradigm).

TRUTH has a row a case: CaseID, LesionID (0 without disease, 1 with it), Weight, and in the newer form ReaderID,
ModalityID and Paradigm, whose first two cells are ROC and the design. FP holds the ratings of cases without disease, TP
those of cases with it. Older sheets are called NL and LL.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from openpyxl import Workbook

from core.errors import InvalidInput
from core.evaluation.statistics.reader_study import ReaderStudy
from core.evaluation.tables.cells import normal_id
from core.evaluation.tables.workbooks import Sheet, read_sheets, sheet_names

TRUTH, FALSE_POSITIVE, TRUE_POSITIVE = "TRUTH", ("FP", "NL"), ("TP", "LL")
_TRUTH_COLUMNS = ("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm")
_RATINGS = ("FP_Rating", "NL_Rating", "TP_Rating", "LL_Rating")


def read_workbook(content: bytes) -> tuple[list[tuple[str, str, str, str]], dict[str, str]]:
    """(modality, reader, case, rating) of every read, and case -> "0" or "1". Raises InvalidInput."""
    names = {name.upper().strip(): name for name in sheet_names(content)}
    titles = []
    for wanted in ((TRUTH,), FALSE_POSITIVE, TRUE_POSITIVE):
        title = next((names[one] for one in wanted if one in names), None)
        if title is None:
            raise InvalidInput(
                f"The workbook has no sheet {' or '.join(wanted)}. RJafroc's workbooks have TRUTH, FP and TP."
            )
        titles.append(title)
    (truth,) = read_sheets(content, titles[:1], header="CaseID")
    ratings = read_sheets(content, titles[1:], header="CaseID")
    truths = _truths(truth)
    reads = []
    for sheet, expected in zip(ratings, "01", strict=True):
        if not sheet.rows:
            continue
        places = [sheet.required_index(name) for name in ("ModalityID", "ReaderID", "CaseID")]
        rating = sheet.required_index(*(name for name in _RATINGS if sheet.index(name) is not None), _RATINGS[0])
        for number, row in zip(sheet.numbers, sheet.rows, strict=True):
            modality, reader, case = (_text(row[place]) for place in places)
            if truths.get(case) != expected:
                raise InvalidInput(
                    f"Sheet {sheet.title}, row {number}: TRUTH does not say that this case is "
                    f"{'with' if expected == '1' else 'without'} disease. Only RJafroc's ROC paradigm is read here."
                )
            reads.append((modality, reader, case, _text(row[rating])))
    return reads, truths


def _truths(sheet: Sheet) -> dict[str, str]:
    case, lesion, paradigm = sheet.required_index("CaseID"), sheet.required_index("LesionID"), sheet.index("Paradigm")
    words = {_text(row[paradigm]).upper() for row in sheet.rows} - {""} if paradigm is not None else set()
    truths: dict[str, str] = {}
    for number, row in zip(sheet.numbers, sheet.rows, strict=True):
        found = _text(row[lesion])
        if "FROC" in words or found not in ("0", "1") or truths.get(_text(row[case])) is not None:
            raise InvalidInput(
                f"Sheet {sheet.title}, row {number}: every case has one row with LesionID 0 or 1 in the ROC paradigm; "
                "free-response studies (FROC) are not read here."
            )
        truths[_text(row[case])] = found
    return truths


def _text(cell: Any) -> str:
    """A number that is whole without its decimals: Excel knows no others."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else normal_id(str(cell))


def write_workbook(study: ReaderStudy) -> bytes:
    """The study as RJafroc reads it (newer form). Cases, readers and modalities are numbered: names stay here.

    Raises InvalidInput where not every reader read every case: RJafroc knows no design of groups.
    """
    if not study.fully_crossed:
        raise InvalidInput(
            "RJafroc reads studies in which every reader reads every case under every modality; here reads are "
            "missing. Use the table for iMRMC."
        )
    n_modalities, n_readers, _ = study.scores.shape
    readers = ", ".join(str(number + 1) for number in range(n_readers))
    modalities = ", ".join(str(number + 1) for number in range(n_modalities))
    # Cases without disease first, as the package's own workbooks have them.
    order = [int(place) for place in np.argsort(study.is_positive, kind="stable")]
    words = dict(zip(order, ("ROC", "FCTRL"), strict=False))
    book = Workbook(write_only=True)
    rows: list[Sequence[Any]] = [_TRUTH_COLUMNS]
    for place in order:
        disease = int(study.is_positive[place])
        rows.append((place + 1, disease, disease, readers, modalities, words.get(place)))
    _add_sheet(book, TRUTH, rows)
    false_positive: list[Sequence[Any]] = [("ReaderID", "ModalityID", "CaseID", "FP_Rating")]
    true_positive: list[Sequence[Any]] = [("ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating")]
    for modality, reader in np.ndindex(n_modalities, n_readers):
        for place in order:
            score = float(study.scores[modality, reader, place])
            if study.is_positive[place]:
                true_positive.append((str(reader + 1), str(modality + 1), place + 1, 1, score))
            else:
                false_positive.append((str(reader + 1), str(modality + 1), place + 1, score))
    _add_sheet(book, FALSE_POSITIVE[0], false_positive)
    _add_sheet(book, TRUE_POSITIVE[0], true_positive)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def _add_sheet(book: Workbook, title: str, rows: Sequence[Sequence[Any]]) -> None:
    sheet = book.create_sheet(title)
    for row in rows:
        sheet.append(row)
