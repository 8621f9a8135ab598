"""What is fuzzed: every place where bytes of other people become values of ours, each as a function of bytes.

A target ends in a value or in one of the project's own errors, whose sentence is fit to be shown. Everything else that
leaves it is a fault: another exception, a sentence that is none, a patient's name in a log, more than `MOST_SECONDS` of
processor time. Used by `make fuzz` (`fuzz_rounds.py`) and by the tests.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "core" / "imaging"), str(HERE.parent.parent)]

import made_frames as frames  # noqa: E402
import made_hostile_files  # noqa: E402
import numpy as np  # noqa: E402
from made_cards import card_content  # noqa: E402
from made_images import US, dicom, encoded, mammogram, stored_mammogram, tissue, ultrasound  # noqa: E402
from made_workbooks import HEADER, PARTS, TITLES, WHOLE, cell, row, sheet_part, workbook  # noqa: E402
from PIL import Image as Raster  # noqa: E402

from core.errors import AppError, UnreadableImage  # noqa: E402
from core.evaluation.tables import scores, workbooks  # noqa: E402
from core.imaging import decode_process, intake  # noqa: E402
from core.imaging.decoded import Decoded, Limits  # noqa: E402
from core.imaging.dicom import codestream, frame, header  # noqa: E402
from core.imaging.dicom.source import OF_INSTANCE, OF_STUDY  # noqa: E402
from core.imaging.picture import decode_here  # noqa: E402
from core.imaging.sniff import HEAD_BYTES, READ, kind_of  # noqa: E402
from core.imaging.zip_members import members  # noqa: E402
from core.models import cards  # noqa: E402
from core.settings import Settings  # noqa: E402
from train.datasets import manifest  # noqa: E402
from train.datasets.deidentify import without_metadata  # noqa: E402
from train.datasets.hospital import join, keys  # noqa: E402
from train.datasets.hospital.columns import KeyColumns  # noqa: E402

PATIENT = "SECRET"
"""What patients are called in the seeds; it must stand in no log."""
MOST_SECONDS = 10.0
SETTINGS = Settings(upload_mib=1, study_mib=4, study_files=8, image_megapixels=1, decode_memory_mib=1024)
LIMITS = Limits.of(SETTINGS)


class Fault(AssertionError):
    """A target broke its promise."""


@dataclass(frozen=True, slots=True)
class Target:
    """runs: of a whole `make fuzz`. act: raises AppError or nothing. seeds: what mutations begin with."""

    name: str
    runs: int
    act: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    most_bytes: int = 8192


def judged(target: Target, data: bytes) -> bool:
    """Whether `data` was taken (False: refused). Raises `Fault`, or what it raised, if it broke its promise."""
    with _log_heard() as heard:
        began, is_taken = time.process_time(), True
        try:
            target.act(data)
        except AppError as refused:
            is_taken = False
            require_sentence(str(refused))
        seconds = time.process_time() - began
    if seconds > MOST_SECONDS:
        raise Fault(f"took {seconds:.0f} seconds")
    for line in heard:
        if PATIENT in line:
            raise Fault("the log names the patient")
    return is_taken


def require_sentence(text: str) -> None:
    """The words of an `AppError`: something to read, of one line, not the inside of a program."""
    if not text or len(text) > 4000 or not text.endswith(".") or "Traceback" in text or "np." in text:
        raise Fault("the refusal is no sentence")


class _Ear(logging.Handler):
    """Hears what would be logged while an input is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


_EAR = _Ear()


@contextmanager
def _log_heard() -> Iterator[list[str]]:
    _EAR.heard.clear()
    root = logging.getLogger()
    root.addHandler(_EAR)
    try:
        yield _EAR.heard
    finally:
        root.removeHandler(_EAR)


@cache
def scratch() -> Path:
    """A folder of this process for targets that read files, in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    _KEPT.append(folder)  # until the process ends
    return Path(folder.name)


_KEPT: list[Any] = []


# Pictures


def read_picture(data: bytes) -> None:
    """PNG, JPEG, TIFF and WebP, which data sets decode in the server itself."""
    data = with_right_sums(data)
    kind = kind_of(data[:HEAD_BYTES])
    if kind not in READ or kind in ("ZIP", "DICOM"):
        raise UnreadableImage("This is no picture.")
    _require_pixels(decode_here(io.BytesIO(data), kind, limits=LIMITS))
    if kind != "TIFF":
        _require_pixels(decode_here(io.BytesIO(without_metadata(data, kind)), kind, limits=LIMITS))


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold: else no change would ever reach a decoder."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + min(struct.unpack(">I", data[at : at + 4])[0], len(data))
        parts += [data[at:end], struct.pack(">I", zlib.crc32(data[at + 4 : end]))]
        at = end + 4
    return b"".join([*parts, data[at:]])


def _require_pixels(decoded: Decoded) -> None:
    pixels = decoded.pixels
    if pixels.dtype != np.float32 or not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise Fault("pixels outside 0 to 1")


def picture_seeds() -> list[bytes]:
    grey, colour = mammogram(48, 40), tissue(40)
    both = [encoded(grey, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP")]
    both += [encoded(colour, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP")]
    deep = [encoded(grey, "PNG", 12), encoded(grey, "TIFF", 16)]
    values = Raster.fromarray((grey * 255).astype(np.uint8))
    saved, turned = made_hostile_files.saved, Raster.Exif()
    turned[0x0112], turned[0x010E] = 6, PATIENT
    pages = {"save_all": True, "append_images": [values]}
    others = [
        saved(values.convert("P")), saved(values.convert("RGBA")), saved(values.convert("LA")),
        saved(values, "JPEG", exif=turned.tobytes()), saved(values, "PNG", exif=turned.tobytes()),
        saved(values.convert("RGB"), "WEBP", lossless=True, exif=turned.tobytes()),
        saved(values, "TIFF", **pages), saved(values, "TIFF", compression="tiff_lzw"),
        saved(Raster.fromarray(grey), "TIFF"), saved(values.convert("RGB"), "JPEG", progressive=True),
        saved(values, "PNG", dpi=(50, 100)),
    ]  # fmt: skip
    return [*both, *deep, *others, *small(made_hostile_files.pictures())]


def small(files: dict[str, tuple[str, bytes]]) -> list[bytes]:
    return [content for _, content in files.values() if 0 < len(content) <= 8192]


# DICOM


def read_dicom(data: bytes) -> None:
    """Header, frames and grey scale in this process; what C libraries decode goes through the child's target."""
    with without_c_decoders():
        _require_pixels(decode_here(io.BytesIO(data), "DICOM", limits=LIMITS))


@contextmanager
def without_c_decoders() -> Iterator[None]:
    """The reader refuses what only a C library could decode: such a library may end the process, which is why the
    product decodes in a child."""
    decode = frame._decode

    def decode_here_only(described: Any, syntax: str) -> np.ndarray:
        if syntax not in header.NATIVE and syntax not in (header.RLE, frame._BASELINE):
            raise UnreadableImage("Not decoded here.")
        return decode(described, syntax)

    frame._decode = decode_here_only
    try:
        yield
    finally:
        frame._decode = decode


def dicom_seeds(*, with_c_decoders: bool = False) -> list[bytes]:
    stored = stored_mammogram(height=40, width=34)
    bright = (ultrasound(34, 40) * 255).astype(np.uint8)
    of_us: dict[str, Any] = {"SOPClassUID": US, "Modality": "US", "bits": 8}
    compressed = {
        frames.JPEG_LS: frames.jpeg_ls_frame, frames.JPEG_2000: frames.jpeg_2000_frame,
        frames.LOSSLESS: frames.lossless_frame,
    }  # fmt: skip
    of_c = [dicom(stored, syntax=syntax, frames=[make(stored)]) for syntax, make in compressed.items()]
    return [
        dicom(stored, WindowCenter=[2048, 9], WindowWidth=[4096, 9], PixelSpacing=[0.1, 0.1], StudyDate="20240131"),
        dicom(stored, syntax="1.2.840.10008.1.2"),
        dicom(stored, syntax="1.2.840.10008.1.2.2", VOILUTFunction="SIGMOID", WindowCenter=2000, WindowWidth=100),
        dicom(stored.astype(np.int16), PixelPaddingValue=-3, RescaleSlope=2, RescaleIntercept=-7),
        dicom(stored, syntax=frames.RLE, frames=[frames.rle_frame(stored)]),
        dicom(bright, syntax=frames.BASELINE, frames=[frames.jpeg_frame(bright)] * 2, NumberOfFrames=2, **of_us),
        dicom(np.repeat(bright[..., None], 3, 2), **of_us),
        *(of_c if with_c_decoders else []),
        *small(made_hostile_files.dicom_files()),
    ]


def read_codestream(data: bytes) -> None:
    """What is read of a compressed frame before it is decoded."""
    if data[:2] == b"\xff\xd8":
        codestream.read_jpeg_header(data)
        whole = data[: codestream.end_of_jpeg(data)]
        codestream.read_jpeg_header(codestream.with_jpeg_transform(whole, transform=1))
    else:
        bare = codestream.bare_jpeg2000(data)
        codestream.read_jpeg2000_header(bare)
        codestream.end_of_jpeg2000(bare)


def codestream_seeds() -> list[bytes]:
    stored = stored_mammogram(height=40, width=34)
    bright = (ultrasound(34, 40) * 255).astype(np.uint8)
    colour = np.repeat(bright[..., None], 3, 2)
    return [
        frames.jpeg_frame(bright), frames.jpeg_frame(colour, subsampling=2), frames.raw_jpeg_frame(colour, adobe=True),
        frames.jpeg_ls_frame(stored), frames.jpeg_2000_frame(stored), frames.lossless_frame(stored),
    ]  # fmt: skip


# Files as they come in


def take_in(data: bytes) -> None:
    """The whole intake of one file or zip, the child's part of it in this process; never raises for a bad file."""
    decode, intake.decode = intake.decode, _decode_as_the_child  # type: ignore[assignment]
    try:
        with without_c_decoders():
            found = intake.read_upload(with_right_sums(data), "file", settings=SETTINGS, site_key=b"key")
    finally:
        intake.decode = decode
    _require_intakes(found)


def take_in_by_child(data: bytes) -> None:
    """The same with the child, and all its decoders."""
    _require_intakes(intake.read_upload(with_right_sums(data), "file", settings=SETTINGS, site_key=b"key"))


def _require_intakes(found: Sequence[intake.Intake]) -> None:
    if not found:
        raise Fault("a file without an answer")
    for one in found:
        if (one.image is None) == (one.refused is None):
            raise Fault("neither a picture nor a refusal")
        if one.refused is not None:
            require_sentence(one.refused)
            if PATIENT in one.refused:
                raise Fault("the refusal names the patient")


def _decode_as_the_child(
    source: bytes, kind: str, *, limits: Limits, frame: int, window: int | None, source_tags: Sequence[str]
) -> Decoded:
    """The source is asked of every DICOM file, because what a file says of itself is read in the child."""
    request = {"kind": kind, "frame": frame, "window": window, "limits": _facts(limits)}
    request["source_tags"] = (*OF_STUDY, *OF_INSTANCE) if kind == "DICOM" else source_tags
    asked = json.loads(json.dumps(request))
    answer, pixels = decode_process.answered(decode_process.answer_here, asked, io.BytesIO(source))
    text = json.dumps(answer).encode()
    stream = io.BytesIO(struct.pack("<Q", len(text)) + text + pixels)
    told, shown = decode_process._receive(stream, limits)
    if told is None or (shown is None and "refused" not in told):
        raise Fault("an answer of the child that its parent does not take")
    if "refused" in told:
        raise UnreadableImage(told["refused"])
    return decode_process._decoded_from(told, shown)


def _facts(limits: Limits) -> dict[str, int]:
    return {name: getattr(limits, name) for name in ("pixels", "unpacked_bytes", "memory_bytes", "seconds")}


def file_seeds() -> list[bytes]:
    return [*picture_seeds(), *dicom_seeds(), *zip_seeds()]


def child_seeds() -> list[bytes]:
    return [*picture_seeds(), *dicom_seeds(with_c_decoders=True), *zip_seeds()]


def open_zip(data: bytes) -> None:
    """Members in memory and in a file; no place of one may lie outside."""
    found = list(members(data, settings=SETTINGS))
    for member in found:
        if (member.data is None) == (member.refused is None):
            raise Fault("a member with neither content nor a reason")
        is_short = all(len(part.encode("utf-8", "replace")) <= 255 for part in member.path.parts)
        if member.path.is_absolute() or ".." in member.path.parts or not member.path.parts or not is_short:
            raise Fault("a member whose place is outside or cannot be written")
        str(member.path).encode()


def zip_seeds() -> list[bytes]:
    picture = encoded(ultrasound(34, 40))
    zip_of, stored = made_hostile_files.zip_of, zipfile.ZIP_STORED
    names = {"a/2024-05-06T10:32/x.png": picture, ".": b"x", "C:/up.png": b"z", "n" * 300: b"1", "é/ü.png": b""}
    return [
        zip_of({"one.png": picture, "folder/two.png": picture}),
        zip_of(names, stored),
        zip_of({"inner.zip": zip_of({"a": b"b"})}),
        made_hostile_files.slipping_zip(),
        zip_of({"__MACOSX/._a": b"a", "a\\b.png": b"c", ".DS_Store": b""}),
        b"PK\x05\x06" + bytes(18),
    ]


# Tables


def read_manifest(data: bytes) -> None:
    path = scratch() / "manifest.csv"
    path.write_bytes(data)
    read = manifest.read_manifest(path)
    if len(read.lines) != len(read.cases) or (read.cases["label"] == "").any():
        raise Fault("cases without a line or a label")
    manifest.write_manifest(read.cases, path)


def manifest_seeds() -> list[bytes]:
    return [
        b"file,label,patient\na.png,benign,SECRET-1\nb/c.png,malignant,SECRET-2\n",
        b'\xef\xbb\xbffile,label,mask,label_conflict_with\n"a,b.png",benign,m.png|n.png,\nc.png,malignant,,a.png\n',
        b"file,label\r\na\\b.png,x\r\n../up.png,y\r\n",
        b"file;label\na;b\n",
        b"file,file,label, file\na,b,c,d\n",
    ]


def read_scores(data: bytes) -> None:
    """Every question that a page asks of a table, with the labels that it has."""
    names = scores.label_names(data)
    scores.left_out_columns(data)
    table = scores.read_scores(data, positive=names[0] if names else None)
    for values in table.scorers.values():
        known = values[~np.isnan(values)]
        if len(values) != table.n or (known < 0).any() or (known > 1).any():
            raise Fault("scores outside 0 to 1")
    scores.safe_csv(table.subgroups)
    for left_out in table.left_out:
        require_sentence(str(left_out))
        if left_out.scale is not None:
            try:
                scores.read_scores(data, positive=names[0] if names else None, scales={left_out.name: left_out.scale})
            except AppError as refused:
                require_sentence(str(refused))


def score_seeds() -> list[bytes]:
    return [
        b"case,patient,label,a,b,age\n1,SECRET-1,0,.1,.2,50\n2,SECRET-2,1,.9,.8,61\n3,SECRET-3,1,.7,,49\n",
        b"case,patient,label,m:benign,m:malignant\nx,SECRET-1,benign,.9,.1\ny,SECRET-2,malignant,.2,.8\n",
        b"case,patient,label,benign,malignant,normal\nx,S,benign,.9,.1,0\ny,T,malignant,.2,.8,0\nz,U,normal,.1,.1,.8\n",
        b"\xef\xbb\xbfcase,patient,label,s\r\n1,p,Malignant,13%\r\n2,q,benign,90%\r\n",
        b"case,patient,label,logit,comma\n1,p,0,-3.5,\"0,5\"\n2,q,1,4.25,\"0,75\"\n",
        b"case,patient,label,s\n1,p,0,NA\n2,q,1,1e-3\n3,r,1,inf\n",
    ]  # fmt: skip


# A hospital's workbooks


def read_workbook(data: bytes) -> None:
    """One part of a workbook made of `data`: which, its first byte says; "Z" stands for the whole file."""
    which, content = data[:1], data[1:]
    number = which[0] - ord("0") if which else 0
    path = scratch() / "workbook.xlsx"
    path.write_bytes(content if which == b"Z" else workbook({PARTS[number % len(PARTS)]: content}))
    columns = KeyColumns()
    workbooks.sheet_names(path)
    workbooks.read_headers(path, (), like=HEADER)
    (sheet,) = workbooks.read_sheets(path, (), header=columns.name)
    for key in join._keys(sheet, columns):
        key.text.encode()


def workbook_seeds() -> list[bytes]:
    shared = row(2, cell("A2", "0", "s"), cell("B2", "41998", "n", ' s="1"'), cell("C2", "0.5", "n", ' s="2"'),
                  cell("D2", "1", "s"))  # fmt: skip
    texts = row(3, cell("A3", "a\\b.jpg"), cell("B3", "25/12/2014"), cell("C3", "1:02 PM"), cell("D3", "4.39E8"))
    odd = row(
        4, cell("A4", "1", "b"), cell("B4", "#N/A", "e"), cell("C4", "2014-12-25T11:26:03", "d"), "<c><v>7</v></c>"
    )
    sheets = [sheet_part(TITLES, shared, texts, odd), sheet_part(TITLES, row(900, cell("XX900", "x"))), sheet_part()]
    parts = [WHOLE[name] for name in PARTS[1:]]
    return [
        *(b"0" + sheet.encode() for sheet in sheets),
        *(str(number).encode() + part.encode() for number, part in enumerate(parts, 1)),
        b"Z" + workbook({}),
    ]


def read_keys(data: bytes) -> None:
    """Four cells, one a line: its first byte says what kind of cell a spreadsheet would have there."""
    cells = [_value(line) for line in data.split(b"\n")[:4]]
    cells += [None] * (4 - len(cells))
    key = keys.key_of(*cells)
    if key.is_complete != all((key.name, key.date, key.time, key.patient)) or not isinstance(key.text, str):
        raise Fault("a key without its parts")
    hash(key.loose)
    keys.full_ids([key.patient, key.patient.lstrip("0")])


def _value(line: bytes) -> object:
    kind, text = line[:1], line[1:].decode("utf-8", "replace")
    number = struct.unpack("<d", line[1:9].ljust(8, b"\0"))[0]
    seconds = int.from_bytes(line[1:6], "little")
    match kind:
        case b"f":
            return number
        case b"d":
            return dt.datetime(1, 1, 1) + dt.timedelta(seconds=seconds % (9999 * 365 * 86_400))
        case b"D":
            return dt.date.fromordinal(1 + seconds % 3_600_000)
        case b"t":
            return (dt.datetime(1, 1, 1) + dt.timedelta(seconds=seconds % 86_400)).time()
        case b"s":
            return dt.timedelta(seconds=seconds)
        case b"b":
            return bool(seconds % 2)
        case b"n":
            return None
        case _:
            return text


def key_seeds() -> list[bytes]:
    number = b"f" + struct.pack("<d", 439120108.0)
    return [
        b"xFILE0004.jpg\nx20141225\nx112603\nxDIT439120108",
        b"x/a/b\\c.dcm\nx25/12/2014\nx1:02:03 PM\n" + number,
        b"f" + struct.pack("<d", 4.0) + b"\nd12345\nt123\nx4.39E+8",
        b"x1.0\nx2014-12-25T10:11\nx0.25\nx00012",
        b"n\nD00000\ns01234\nb1",
        b"xa\nx41998\nx9.5E-1\nxNaN",
    ]


# Cards


def read_card(data: bytes) -> None:
    """`card.json`, and everything that pages and commands say of it."""
    folder = scratch() / "weights" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_bytes(data)
    (folder / f"{'e' * 8}.test_scores.csv").unlink(missing_ok=True)
    _ask(cards.read_card(folder))


def read_card_scores(data: bytes) -> None:
    """The table of test scores beside a good card."""
    folder = scratch() / "scored" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card_content(data={"split_by": "image"})))
    (folder / f"{'e' * 8}.test_scores.csv").write_bytes(data)
    _ask(cards.read_card(folder))


def _ask(card: cards.Card) -> None:
    from core.evaluation.tables.cohort import cohort_of_cards, group_cards

    json.dumps(card.content())
    cards.retrain_text(card), cards.chance_text(card), cards.leaks_of(card)
    cards.no_opinion_text(card.modality, [card])
    for group in group_cards([card]):
        cohort_of_cards(group)


def card_seeds() -> list[bytes]:
    full = card_content(
        members=[{"model_id": "model", "weights_sha256": "e" * 64}],
        ensemble={"method": "mean", "weights": [0.5]},
        data={"name": "x", "n": 9, "split_by": "image", "splits": {"test": {"benign": 3}}, "leaks": [{"n": 1}]},
        training={"command": "train", "minutes": 2.5, "history": [{"loss": 0.1, "val": None}]},
        folds={"n": 2, "thresholds": [0.1, 0.2]},
        measured={"auc": 0.7, "low": 0.55, "high": 0.8, "n": 60},
        localisation={"test": {"n": 3, "pointing_game": {"a": 0.5}}},
        limits=["Weak: x."], later={"deep": [1, {"a": None}]},
    )  # fmt: skip
    return [json.dumps(card_content()).encode(), json.dumps(full).encode()]


def card_score_seeds() -> list[bytes]:
    return [
        b"case,patient,label,benign,malignant\na,SECRET-1,benign,.9,.1\nb,SECRET-2,malignant,.2,.8\n",
        b"case,patient,label,benign,malignant,fold\na,1,benign,.9,.1,0\nb,1,malignant,.2,.8,1\n",
        b"case,label\na,b\n",
    ]


def all_targets() -> dict[str, Target]:
    """By name, in the order in which they run."""
    from asgi_target import ask, route_seeds
    from report_target import make_report, report_seeds

    found = [
        Target("codestreams", 350_000, read_codestream, codestream_seeds),
        Target("routes", 10_000, ask, route_seeds, 4096),
        Target("scores", 20_000, read_scores, score_seeds, 4096),
        Target("DICOM", 10_000, read_dicom, dicom_seeds),
        Target("card scores", 10_000, read_card_scores, card_score_seeds, 4096),
        Target("manifests", 10_000, read_manifest, manifest_seeds, 4096),
        Target("workbooks", 10_000, read_workbook, workbook_seeds),
        Target("pictures", 30_000, read_picture, picture_seeds),
        Target("zips", 130_000, open_zip, zip_seeds),
        Target("cards", 150_000, read_card, card_seeds),
        Target("keys", 250_000, read_keys, key_seeds, 256),
        Target("intake", 10_000, take_in, file_seeds),
        Target("reports", 10_000, make_report, report_seeds, 2048),
        Target("child", 1_000, take_in_by_child, child_seeds),
    ]
    return {target.name: target for target in found}
