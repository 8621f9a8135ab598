"""Pictures into the store of data sets, without names: every pixel of PNG and JPEG, of TIFF and DICOM nothing else.

Names of files and patients end here: pictures are called by the hash of their content, patients and groups by a keyed
hash that only this site can make again. A file that is refused never loses the others.

PNG and JPEG files without what converters and cameras write beside the picture; every pixel stays as it was.

Programs that make pictures of DICOM files copy headers, with names, into text chunks and comments. Kept are the parts
that decoding needs (PNG 3rd edition, 4.7; ITU-T T.81, annex B; JFIF; Adobe's APP14) and which way is up.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster

from core.errors import InvalidInput, NotFound, UnreadableImage
from core.imaging.decoded import Limits, frame_warning
from core.imaging.intake import Intake, read_study
from core.imaging.masks import lesion_grey
from core.imaging.picture import bits_of_studies, read_picture
from core.imaging.preprocess import square_pixels
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.records import data_sets
from core.records.database.db import Database
from core.records.database.image_store import pixels_blob
from core.settings import Settings
from core.types import Image, Modality
from core.wording import how_many
from train.datasets.importers.imported import PICTURES
from train.datasets.staging import FILES_MOST, UNPACKED_MIB, Progress

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD",
             b"acTL", b"fcTL", b"fdAT"}  # fmt: skip
_WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
"""Flags of the VP8X chunk (RFC 9649, 2.7)."""
_ORIENTATION = 0x0112
_SOI, _EOI, _SOS, _COM, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xEE
_ALONE = {0x01, *range(0xD0, 0xD8)}
_DAMAGED = "The file is damaged or cut short."


def without_metadata(content: bytes, kind: str) -> bytes:
    """The same picture; the same bytes where there was nothing to leave out. kind: "PNG", "JPEG" or "WebP".

    Raises UnreadableImage for a file whose parts do not follow each other as the format asks.
    """
    try:
        if kind == "PNG":
            return _PNG + b"".join(_png_parts(content, _orientation(content)))
        if kind == "WebP":
            return _webp(content, _orientation(content))
        return b"\xff\xd8" + b"".join(_jpeg_parts(content, _orientation(content)))
    except (struct.error, IndexError):
        raise UnreadableImage(_DAMAGED) from None


def _orientation(content: bytes) -> int:
    """EXIF's 1 (upright) to 8, as decoding will turn the picture (`core.imaging.raster`)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Raster.open(io.BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as raster:
                found = raster.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, struct.error):
        raise UnreadableImage(_DAMAGED) from None
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _exif(orientation: int) -> bytes:
    """A TIFF header with one entry: which way is up (EXIF 2.32, 4.6.4)."""
    return b"MM\x00*\x00\x00\x00\x08\x00\x01" + struct.pack(">HHIHHI", _ORIENTATION, 3, 1, orientation, 0, 0)


def _webp(content: bytes, orientation: int) -> bytes:
    """The RIFF container (RFC 9649) anew, without XMP and EXIF; which way is up stays."""
    end_of_file = 8 + struct.unpack_from("<I", content, 4)[0]
    if end_of_file > len(content):
        raise UnreadableImage(_DAMAGED)
    content, chunks, place = content[:end_of_file], [], 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        end = place + 8 + size + size % 2
        if place + 8 + size > len(content):
            raise UnreadableImage(_DAMAGED)
        body = content[place + 8 : place + 8 + size]
        if name == b"VP8X":
            flags = body[0] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if orientation != 1 else 0)
            body = bytes([flags]) + body[1:]
        if name in _WEBP_CHUNKS:
            chunks.append((name, body))
        place = end
    if not any(name in (b"VP8 ", b"VP8L") for name, _ in chunks):
        raise UnreadableImage(_DAMAGED)
    if orientation != 1:
        chunks.append((b"EXIF", _exif(orientation)))
    parts = (struct.pack("<4sI", name, len(body)) + body + b"\0" * (len(body) % 2) for name, body in chunks)
    riff = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


def _png_parts(content: bytes, orientation: int) -> Iterator[bytes]:
    place = len(_PNG)
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        end = place + 12 + size
        if end > len(content):
            raise UnreadableImage(_DAMAGED)
        if name == b"IDAT" and orientation != 1:
            body = b"eXIf" + _exif(orientation)
            yield struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            orientation = 1
        if name in _PNG_CHUNKS:
            yield content[place:end]
        if name == b"IEND":
            return
        place = end
    raise UnreadableImage(_DAMAGED)


def _jpeg_parts(content: bytes, orientation: int) -> Iterator[bytes]:
    if orientation != 1:
        body = b"Exif\x00\x00" + _exif(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    place = 2
    while True:
        if content[place] != 0xFF:
            raise UnreadableImage(_DAMAGED)
        marker = content[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker in _ALONE:
            yield content[place : place + 2]
            place += 2
            continue
        if marker == _EOI:
            yield content[place : place + 2]
            return
        (size,) = struct.unpack_from(">H", content, place + 2)
        end = place + 2 + size
        if marker == _SOS:
            end = _end_of_scan(content, end)
        if end > len(content):
            raise UnreadableImage(_DAMAGED)
        is_application = 0xE0 <= marker <= 0xEF and marker not in (_APP0, _APP14)
        if not is_application and marker != _COM:
            yield content[place:end]
        place = end


def _end_of_scan(content: bytes, place: int) -> int:
    """Where the next marker after entropy-coded data begins; in these data 0xFF is followed by 0 or a restart."""
    while True:
        place = content.find(b"\xff", place)
        if place < 0:
            raise UnreadableImage(_DAMAGED)
        if content[place + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8)):
            return place
        place += 1 if content[place + 1] == 0xFF else 2


STORED_COLUMNS = (
    "split", "fold", "source", "licence", "laterality", "view", "modality", "magnification", "subtype", "density",
    "manufacturer",
)  # fmt: skip
"""Columns of a manifest that are kept as they are, beside file, label, mask and `HASHED_COLUMNS`."""
HASHED_COLUMNS = ("patient", "group", "exam")
FRAMES_MOST = 16
"""Of one DICOM file: neighbouring frames of a clip show nearly the same, and one clip must not outweigh a data set."""
_BATCH = 8
"""DICOM files decoded together: a mammogram takes 60 MB while it is held."""
_WARNINGS_MOST = 6
_EXACT_FROM = 1 / 4
"""Grey below this in a 16-bit PNG would be taken for a picture of fewer bits (`core.imaging.raster`)."""
_NOT_THERE = "The file is not there."
_NO_PICTURE = "The file is no picture that is read here (PNG, JPEG, TIFF, DICOM)."


@dataclass(slots=True)
class IngestedPictures:
    """cases: as they go into a manifest. notes: sentences. refused: (name as it was given, why), for the screen only.

    names: every file that was kept on the way, also of cases that are not among `cases` in the end.
    """

    notes: list[str]
    cases: pd.DataFrame = field(default_factory=pd.DataFrame)
    refused: list[tuple[str, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def ingest_cases(
    db: Database, cases: pd.DataFrame, root: Path, retained: IngestedPictures, *, modality: Modality, progress: Progress
) -> None:
    """Keep every picture of `cases` by content; what is kept and refused is added to `kept`, also on the way.

    Raises InvalidInput when nothing, or only one label, is left; Conflict when the disk is full.
    """
    ingester = _Ingester(db, root.resolve(), modality, retained, progress, len(cases))
    rows = ingester.all_of([{str(k): str(v) for k, v in row.items()} for row in cases.to_dict("records")])
    columns = list(dict.fromkeys(["file", "label", *(column for row in rows for column in row)]))
    counts = Counter(sentence for _, sentence in retained.refused)
    retained.notes += [f"{how_many(n, 'picture')} left out: {sentence}" for sentence, n in counts.items()]
    retained.notes += ingester.frames.notes()
    warned = ingester.warnings.most_common(_WARNINGS_MOST)
    retained.notes += [f"{how_many(n, 'file')}: {sentence}" for sentence, n in warned]
    retained.cases = each_once(pd.DataFrame(rows, columns=columns).fillna(""), retained.notes)


def each_once(cases: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The same file twice is one case; under two labels it is none, because nobody knows which is right."""
    if cases.empty:
        raise InvalidInput("None of the pictures could be kept." + "".join(f" {note}" for note in notes[:3]))
    labels = cases.groupby("file")["label"].transform("nunique")
    if (labels > 1).any():
        notes.append(f"{how_many(int((labels > 1).sum()), 'picture')} left out: the same file has different labels.")
    cases = cases[labels == 1]
    again = int(cases["file"].duplicated().sum())
    if again:
        notes.append(f"{how_many(again, 'picture')} left out: the same file once more.")
    cases = cases.drop_duplicates("file").reset_index(drop=True)
    if cases["label"].nunique() < 2:
        raise InvalidInput("All pictures have the same label; a data set needs two labels at least.")
    return cases


def store_pixels(settings: Settings, pixels: np.ndarray, retained: IngestedPictures) -> str:
    """Pixels without anything else: 16-bit grey or 8-bit RGB PNG, so that they are read back as they are.

    pixels: float32 [0, 1], (H, W) or (H, W, 3). A dark grey picture becomes a TIFF of decimal numbers, because 16-bit
    files are read by the smallest bit depth that holds their values.
    """
    if pixels.ndim == 2 and pixels.max() < _EXACT_FROM:
        content = io.BytesIO()
        Raster.fromarray(pixels).save(content, "TIFF", compression="tiff_deflate")
        return _store_file(settings, content.getvalue(), "tiff", retained)
    return _store_file(settings, pixels_blob(pixels).content, "png", retained)


def hashed(key: bytes, column: str, value: str) -> str:
    """A name for a patient or group that only this site can make again; 16 hex digits."""
    return hmac.new(key, f"{column}\n{value}".encode(), hashlib.sha256).hexdigest()[:16]


def frames_of(n_frames: int) -> list[int]:
    """Which frames of a file are kept, from 0: all, or `FRAMES_MOST` evenly spaced from the first to the last."""
    if n_frames <= FRAMES_MOST:
        return list(range(n_frames))
    return [round(place) for place in np.linspace(0, n_frames - 1, FRAMES_MOST)]


@dataclass(slots=True)
class _Frames:
    """Of files with several frames: how many files, frames in them, and frames kept; refused: sentence -> frames."""

    files: int = 0
    there: int = 0
    retained: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        if not self.files:
            return []
        words = (
            f"{self.files} files have several frames: {self.retained} of their {self.there} frames were kept, at most "
            f"{FRAMES_MOST} of a file and evenly spaced; the frames of a file stay together."
        )
        return [words, *(f"{how_many(n, 'frame')} left out: {sentence}" for sentence, n in self.refused.items())]


@dataclass(slots=True)
class _Ingester:
    db: Database
    root: Path
    modality: Modality
    retained: IngestedPictures
    progress: Progress
    total: int
    warnings: Counter[str] = field(default_factory=Counter)
    frames: _Frames = field(default_factory=_Frames)
    done: int = 0
    bits: dict[str, int] = field(default_factory=dict)
    """Patient or group -> bits of its pictures, where files do not say them."""

    def all_of(self, cases: list[Mapping[str, str]]) -> list[dict[str, str]]:
        """In the order of the cases."""
        rows: dict[int, list[dict[str, str]]] = {}
        waiting: list[tuple[int, Path]] = []
        paths = [((self.root / case["file"]).resolve(), _study_of(case)) for case in cases]
        self.bits = bits_of_studies((path, study) for path, study in paths if path.is_relative_to(self.root))
        for number, case in enumerate(cases):
            try:
                self._require_modality(case.get("modality", ""), "its manifest")
                path, kind = self._found(case["file"])
                if kind == "DICOM":
                    waiting.append((number, path))
                    continue
                rows[number] = [self._row(case, self._picture(path, kind, self.bits.get(_study_of(case))))]
            except (NotFound, UnreadableImage) as refused:
                self.retained.refused.append((case["file"], str(refused)))
            self._report()
        for (number, path), read in self._decoded(waiting):
            case = cases[number]
            try:
                rows[number] = self._of_dicom(case, read, path)
            except (NotFound, UnreadableImage) as refused:
                self.retained.refused.append((case["file"], str(refused)))
            self._report()
        return [row for number in sorted(rows) for row in rows[number]]

    def _report(self) -> None:
        self.done += 1
        self.progress("Keeping the pictures", self.done / max(self.total, 1))

    def _require_modality(self, said: str, by: str) -> None:
        if said and said != self.modality.value:
            raise UnreadableImage(f"By {by} it is another kind of picture than {self.modality.value}.")

    def _found(self, file: str) -> tuple[Path, str]:
        path = (self.root / file).resolve()
        if not path.is_relative_to(self.root) or not path.is_file():
            raise NotFound(_NOT_THERE)
        with path.open("rb") as stream:
            kind = kind_of(stream.read(HEAD_BYTES)) or ""
        is_picture = path.suffix.lower() in PICTURES and kind in ("PNG", "JPEG", "TIFF", "WebP")
        if not is_picture and kind != "DICOM":
            raise UnreadableImage(_NO_PICTURE)
        return path, kind

    def _picture(self, path: Path, kind: str, bits: int | None = None) -> str:
        """PNG, JPEG and WebP without the words beside them; a TIFF has them between its pixels and is written anew."""
        if kind != "TIFF":
            suffix = path.suffix.lower().removeprefix(".")
            return _store_file(self.db.settings, without_metadata(path.read_bytes(), kind), suffix, self.retained)
        limits = Limits.of(self.db.settings)
        picture = read_picture(path.read_bytes(), self.modality, limits=limits, bits=bits)
        return store_pixels(self.db.settings, square_pixels(picture), self.retained)

    def _mask(self, path: Path, kind: str) -> str:
        """The outline of a lesion; one of 1 bit is no picture to read, and a mask all the same."""
        if kind != "TIFF":
            return self._picture(path, kind)
        out = io.BytesIO()
        try:
            with Raster.open(path, formats=["TIFF"]) as raster:
                lesion_grey(raster).save(out, "PNG")  # anew: nothing else goes with it
        except (OSError, SyntaxError, ValueError, KeyError):
            raise UnreadableImage("Its mask is damaged or cut short.") from None
        return _store_file(self.db.settings, out.getvalue(), "png", self.retained)

    def _decoded(self, waiting: list[tuple[int, Path]]) -> Iterator[tuple[tuple[int, Path], Intake]]:
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            yield from zip(batch, self._read([path for _, path in batch]), strict=True)

    def _read(self, paths: list[Path], frame: int = 0) -> tuple[Intake, ...]:
        limits = replace(self.db.settings, study_files=FILES_MOST, study_mib=UNPACKED_MIB)
        return read_study(paths, settings=limits, modality=self.modality, frame=frame, site_key=self.db.site_key)

    def _of_dicom(self, case: Mapping[str, str], read: Intake, path: Path) -> list[dict[str, str]]:
        """A row a frame. An outline belongs to the first one; a group of their own keeps frames in one part."""
        if read.image is None:
            raise UnreadableImage(read.refused or _NO_PICTURE)
        first, n_frames = read.image, read.image.n_frames
        if n_frames > 1 and not case.get("group"):
            case = {**case, "group": f"frames of {first.sha256}"}
        rows = [self._row(*self._of_frame(case, first))]
        self.warnings.update(set(first.warnings) - {frame_warning(0, n_frames)})
        if n_frames == 1:
            return rows
        self.frames.files += 1
        self.frames.there += n_frames
        for frame in frames_of(n_frames)[1:]:
            (again,) = self._read([path], frame)
            if again.image is None:
                self.frames.refused[again.refused or _NO_PICTURE] += 1
                continue
            rows.append(self._row(*self._of_frame({**case, "mask": ""}, again.image)))
        self.frames.retained += len(rows)
        return rows

    def _of_frame(self, case: Mapping[str, str], image: Image) -> tuple[dict[str, str], str]:
        """The case with what the tags say where it is silent, and the file of its pixels."""
        self._require_modality(str(image.modality), "its tags")
        if image.not_scored and image.n_frames == 1:  # a specimen, a phantom: what is not read is not learned from
            raise UnreadableImage(image.not_scored)
        told = {"laterality": image.laterality or "", "view": image.view or "", "modality": str(image.modality)}
        told |= {"patient": image.patient_hash or "", "manufacturer": str(image.tags.get("Manufacturer", ""))}
        merged = {**case, **{column: value for column, value in told.items() if not case.get(column)}}
        return merged, store_pixels(self.db.settings, square_pixels(image), self.retained)

    def _row(self, case: Mapping[str, str], file: str) -> dict[str, str]:
        row = {"file": file, "label": case["label"], "mask": "|".join(self._masks(case.get("mask", "")))}
        row |= {column: case[column] for column in STORED_COLUMNS if case.get(column)}
        for column in HASHED_COLUMNS:
            if case.get(column):
                row[column] = hashed(self.db.site_key, column, case[column])
        return row

    def _masks(self, masks: str) -> Iterator[str]:
        for mask in filter(None, masks.split("|")):
            path, kind = self._found(mask)
            if kind == "DICOM":
                raise UnreadableImage("Its mask is a DICOM file; masks are read as PNG, JPEG or TIFF.")
            yield self._mask(path, kind)


def _store_file(settings: Settings, content: bytes, kind: str, retained: IngestedPictures) -> str:
    name = data_sets.store_file(settings, content, kind)
    retained.names.add(name)
    return name


def _study_of(case: Mapping[str, str]) -> str:
    return case.get("patient") or case.get("group") or ""
