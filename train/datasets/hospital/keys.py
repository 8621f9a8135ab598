"""What identifies one image in a hospital's workbooks, however a spreadsheet program has bent it.

The key is `InputFileName-StudyDate-StudyTime-PatientID.x`, for example `FILE0004-20141225-112603-DIT439120108`: the
date `YYYYMMDD`, the time `HHMMSS`, names and ids in capitals without spaces.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.evaluation.tables.cells import normal_id

FILE_SUFFIXES = {".jpg", ".jpeg", ".png", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".webp"}
_EXCEL_DAY_ZERO = dt.datetime(1899, 12, 30)  # Excel's serial 1 is 1 January 1900, and it believes in 29 February 1900.
_SERIAL_DATES = range(10_000, 80_000)  # 1927 to 2119; a date written YYYYMMDD has eight digits
_MOST_DIGITS = 32
"""More than any date, time or id has; of thousands Python makes no number at all."""
_DATE_ORDERS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y")


@dataclass(frozen=True, slots=True)
class Key:
    """The four parts in their written form; "" for a part that the workbook does not give.

    is_bare_number: the id came as a number (or as digits), so leading zeros may have been lost on the way.
    """

    name: str
    date: str
    time: str
    patient: str
    is_bare_number: bool = False

    @property
    def text(self) -> str:
        return "-".join((self.name, self.date, self.time, self.patient))

    @property
    def is_complete(self) -> bool:
        return all((self.name, self.date, self.time, self.patient))

    @property
    def loose(self) -> tuple[str, str, str, str]:
        """Equal for keys that differ only in the leading zeros of a number."""
        return without_zeros(self.name), self.date, self.time, without_zeros(self.patient)


def key_of(name: object, date: object, time: object, patient: object) -> Key:
    """The key of four cells as a workbook gives them (text, numbers, dates, times, None)."""
    identity = id_text(patient)
    return Key(name_text(name), date_text(date), time_text(time), identity, is_digits(identity))


def without_zeros(text: str) -> str:
    return (text.lstrip("0") or "0") if is_digits(text) else text


def is_digits(text: str) -> bool:
    """Whether it is a whole number as people write one: 0 to 9, not the raised or other digits that Unicode has."""
    return text.isascii() and text.isdigit()


def plain(value: object) -> str:
    """A cell as text: no space around, no ".0" behind whole numbers, "" for an empty cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    text = str(value).strip()
    return "" if text.lower() in ("nan", "nat", "none") else text


def is_day(text: str) -> bool:
    """Whether it is a day of 1900 to 2199 written YYYYMMDD."""
    if not (is_digits(text) and len(text) == 8 and 1900 <= int(text[:4]) < 2200):
        return False
    try:
        dt.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def id_text(value: object) -> str:
    """Capitals without spaces, in one form of the letters; a number written 439120108.0 or 4.39120108E8 becomes its
    digits."""
    text = re.sub(r"\s+", "", normal_id(plain(value))).upper()
    if re.fullmatch(r"\d+\.0+", text, re.ASCII):
        return text.partition(".")[0]  # its own digits: a float has no more than sixteen
    if len(text) <= _MOST_DIGITS and re.fullmatch(r"\d(\.\d+)?E\+?\d{1,2}", text, re.ASCII):
        number = float(text)
        return str(int(number)) if number.is_integer() else text
    return text


def name_text(value: object) -> str:
    """The name of a file without folders and ending, in capitals without spaces."""
    last = plain(value).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return stem_text(last) if PurePosixPath(last.strip()).suffix.lower() in FILE_SUFFIXES else id_text(last)


def stem_text(file_name: str) -> str:
    """A name on disk as it stands in keys: ending off, capitals, no spaces, in one form of the letters."""
    stem = normal_id(file_name)
    if PurePosixPath(stem).suffix.lower() in FILE_SUFFIXES:
        stem = stem.rpartition(".")[0]
    return re.sub(r"\s+", "", stem).upper()


def date_text(value: object) -> str:
    """`YYYYMMDD`; text that is no date stays as it is, without spaces, so that it can only match itself."""
    if isinstance(value, (dt.datetime, dt.date)):
        return value.strftime("%Y%m%d")
    text = re.sub(r"(\.0+|[T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)$", "", plain(value)).strip()
    if is_digits(text) and len(text) <= _MOST_DIGITS and int(text) in _SERIAL_DATES:
        return (_EXCEL_DAY_ZERO + dt.timedelta(days=int(text))).strftime("%Y%m%d")
    for order in _DATE_ORDERS:
        try:
            return dt.datetime.strptime(text, order).strftime("%Y%m%d")
        except ValueError:
            continue
    return _slashed_date(text) or re.sub(r"\s+", "", text).upper()


def _slashed_date(text: str) -> str:
    """12/25/2014 and 25/12/2014 are told apart by the number above twelve; 03/04/2014 cannot be, and stays as it is."""
    found = re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", text)
    if not found:
        return ""
    first, second, year = (int(part) for part in found.groups())
    if first > 12 or first == second:
        first, second = second, first
    elif second <= 12:
        return ""
    try:
        return dt.date(year, first, second).strftime("%Y%m%d")
    except ValueError:
        return ""


def time_text(value: object) -> str:
    """`HHMMSS`, fractions of a second dropped; leading zeros that a number has lost are put back."""
    if isinstance(value, (dt.datetime, dt.time)):
        return value.strftime("%H%M%S")
    if isinstance(value, dt.timedelta):
        return _of_seconds(value.total_seconds())
    text = re.sub(r"\s+", "", plain(value))
    if re.fullmatch(r"0?\.\d+(E-\d+)?|\d(\.\d+)?E-\d+", text, re.IGNORECASE | re.ASCII):
        return _of_seconds(float(text) * 86_400)  # a part of a day: a time cell whose format was lost
    found = re.fullmatch(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?([AP]M)?", text, re.IGNORECASE)
    if found:
        hour = int(found[1])
        if found[4]:
            hour = hour % 12 + (12 if found[4].upper() == "PM" else 0)
        return f"{hour:02d}{int(found[2]):02d}{int(found[3] or 0):02d}"
    whole = text.partition(".")[0]
    return whole.zfill(6) if is_digits(whole) else text.upper()


def _of_seconds(seconds: float) -> str:
    minutes, second = divmod(round(seconds) % 86_400, 60)
    return f"{minutes // 60:02d}{minutes % 60:02d}{second:02d}"


def full_ids(ids: Iterable[str]) -> dict[str, str]:
    """Digits without their leading zeros -> the one written form that has them, where there is exactly one.

    Ids that only ever appear without zeros, or with different numbers of them, are not in the answer.
    """
    forms: dict[str, set[str]] = {}
    for identity in set(ids):
        if is_digits(identity) and identity != without_zeros(identity):
            forms.setdefault(without_zeros(identity), set()).add(identity)
    return {bare: next(iter(written)) for bare, written in forms.items() if len(written) == 1}
