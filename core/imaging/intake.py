"""Files, folders and zips to Images: kind by content, caps, decoding in a child process, a look at the pixels.

One bad file never loses the others: it becomes an `Intake` with the sentence that says why it was refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np

from core.errors import AppError, UnreadableImage
from core.imaging.decode_process import decode, decode_frames
from core.imaging.decoded import Decoded, Limits, clean_text, frame_warning
from core.imaging.dicom.source import OF_INSTANCE, OF_STUDY, OF_UPLOAD
from core.imaging.picture import colour_share, in_colours_of, on_one_scale, png_of
from core.imaging.sniff import HEAD_BYTES, READ, kind_of
from core.imaging.suitability import Look, look_at
from core.imaging.zip_members import members
from core.settings import MIB, Settings
from core.types import NEEDS_SIDE, Image, Modality

_DECODERS = 2
_FOLDER_LIMIT = 20_000
_NAME_LIMIT = 200
FRAMES_MIB_MOST = 512
"""What the frames of one file may take, packed: a clip of some hundred, a stack of some eighty slices."""
_IN_MEMORY = 2
"""What the pictures of a study may take here, by the bytes of its files unpacked: stored in two, a value takes four."""
SIDE_UNKNOWN = "The file does not say which breast it shows; set left or right before reading."
"""A warning that is over once somebody has stated the side."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of one file: an image, or the sentence why it was refused.

    name: as given; members of a zip are "a.zip/member". It is for the person who chose the file, never for a log.
    sha256: of the file's bytes, hex; "" when they could not be read. source: which object a DICOM file is, and from an
    archive whose (`core.imaging.dicom.source`), only where it was asked for; to be sealed, so its `repr` is empty.
    """

    name: str
    sha256: str
    image: Image | None
    refused: str | None
    source: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Request:
    """How the caller wants the files read."""

    settings: Settings
    modality: Modality | None
    frame: int
    window: int | None
    site_key: bytes
    source_tags: tuple[str, ...] = ()
    with_frames: bool = False


class _Room:
    """Bytes that pictures which are read together may still take, for several threads. Other frames of a file have what
    the pictures leave, and never keep a picture out: which of them is decoded first is chance.

    taken: bytes that those read before have already.
    """

    def __init__(self, settings: Settings, taken: int) -> None:
        self.most_mib = _IN_MEMORY * settings.study_mib
        self._pictures, self._frames = taken, 0
        self._turn = Lock()

    def take(self, n_bytes: int) -> bool:
        """Whether there is room for a picture of so many, which is its own then."""
        with self._turn:
            if self._pictures + n_bytes > self.most_mib * MIB:
                return False
            self._pictures += n_bytes
            return True

    def take_frame(self, n_bytes: int) -> bool:
        """Whether there is room for another frame of so many. Of a negative number: give them back."""
        with self._turn:
            if n_bytes > 0 and self._pictures + self._frames + n_bytes > self.most_mib * MIB:
                return False
            self._frames += n_bytes
            return True


def bytes_of(image: Image) -> int:
    """What a picture takes in memory, with its other frames."""
    return image.pixels.nbytes + sum(map(len, image.frames))


def read_upload(
    data: bytes | Path,
    name: str,
    *,
    settings: Settings,
    modality: Modality | None = None,
    frame: int = 0,
    window: int | None = None,
    site_key: bytes = b"",
    with_source: bool = False,
    with_frames: bool = False,
    taken: int = 0,
) -> tuple[Intake, ...]:
    """One Intake for a picture, one a member for a zip; never raises for a bad file.

    modality: what the person says it is; a DICOM's tags win. frame: of a multi-frame file, from 0. window: which of
    the file's windows, from 0 (None: the first). site_key: keys `Image.patient_hash` and `Image.exam_hash`; without it
    there are none. with_source: fill `Intake.source` with `OF_UPLOAD`. with_frames: fill `Image.frames`. taken: what
    pictures take in memory that are kept beside these, in bytes. Pictures of a zip may be of several studies, so their
    guessed bits are not settled together here.
    """
    source_tags = OF_UPLOAD if with_source else ()
    request = _Request(settings, modality, frame, window, site_key, source_tags, with_frames)
    return tuple(_read_all(_expand(data, name, settings), request, taken=taken))


def read_study(
    paths: Sequence[Path],
    *,
    settings: Settings,
    modality: Modality | None = None,
    frame: int = 0,
    window: int | None = None,
    site_key: bytes = b"",
    progress: Callable[[int, int], None] = lambda done, known: None,
    decoded: Callable[[int, Intake], None] = lambda number, intake: None,
    with_source: bool = False,
    with_frames: bool = False,
) -> tuple[Intake, ...]:
    """All pictures of files, folders and zips, in order, two decoded at a time.

    progress: called with (files done, files known so far) from the calling thread. decoded: the same with the number of
    each file, from 0, and what it holds, while others are still being decoded; a picture whose bits are a guess
    (`Image.guessed_bits`) may still change its scale. with_source: fill `Intake.source` with `OF_STUDY` and
    `OF_INSTANCE`, which name the patient. with_frames: fill `Image.frames`.
    """
    source_tags = (*OF_STUDY, *OF_INSTANCE) if with_source else ()
    request = _Request(settings, modality, frame, window, site_key, source_tags, with_frames)
    files = [file for path in paths for file in _files_of(path)]
    sources = (source for path, name in files for source in _expand(path, name, settings))

    def arrived(done: list[Intake]) -> None:
        progress(len(done), max(len(done), len(files)))
        decoded(len(done) - 1, done[-1])

    return tuple(_on_one_scale(_read_all(sources, request, arrived)))


@dataclass(frozen=True, slots=True)
class _Source:
    """One file to read, or the reason why it is not read."""

    name: str
    data: bytes | Path | None
    refused: str | None = None


def _files_of(path: Path) -> list[tuple[Path, str]]:
    if not path.is_dir():
        return [(path, str(path))]
    found = islice((file for file in path.rglob("*") if file.is_file() and not file.is_symlink()), _FOLDER_LIMIT)
    return [(file, str(file)) for file in sorted(found) if not file.name.startswith(".")]


def _expand(data: bytes | Path, name: str, settings: Settings) -> Iterator[_Source]:
    """The file itself, or the members of a zip."""
    try:
        if kind_of(_head(data)) != "ZIP":
            yield _Source(name, data)
            return
        _require_size(data, settings)
        is_empty = True
        for member in members(data, settings=settings):
            is_empty = False
            yield _Source(f"{name}/{clean_text(member.name, _NAME_LIMIT)}", member.data, member.refused)
        if is_empty:
            raise UnreadableImage("This zip holds no files.")
    except AppError as refusal:
        yield _Source(name, data, str(refusal))
    except OSError:
        yield _Source(name, None, "This file cannot be opened. Check that it exists and that it may be read.")


def _read_all(
    sources: Iterator[_Source], request: _Request, arrived: Callable[[list[Intake]], None] = lambda done: None,
    taken: int = 0,
) -> list[Intake]:  # fmt: skip
    """Decode `_DECODERS` at a time while holding the bytes of few members; caps on the whole study are kept here."""
    done: list[Intake] = []
    room = _Room(request.settings, taken)
    with ThreadPoolExecutor(_DECODERS) as pool:
        running = []
        for position, source in enumerate(sources):
            if position >= request.settings.study_files:
                refused = f"A study may have {request.settings.study_files} files here; this one is beyond that."
                source = _Source(source.name, source.data, refused)
            running.append(pool.submit(_read_one, source, request, room))
            while len(running) > 2 * _DECODERS:
                done.append(running.pop(0).result())
                arrived(done)
        for future in running:
            done.append(future.result())
            arrived(done)
    return done


def _on_one_scale(done: list[Intake]) -> list[Intake]:
    settled = iter(on_one_scale([intake.image for intake in done if intake.image is not None]))
    return [replace(intake, image=next(settled)) if intake.image is not None else intake for intake in done]


def _read_one(source: _Source, request: _Request, room: _Room) -> Intake:
    sha256 = ""
    try:
        if source.data is not None:
            _require_size(source.data, request.settings)
            sha256 = _sha256(source.data)
        if source.refused is not None or source.data is None:
            return Intake(source.name, sha256, None, source.refused)
        kind = _require_kind(_head(source.data))
        decoded = decode(
            source.data, kind, limits=Limits.of(request.settings), frame=request.frame, window=request.window,
            source_tags=request.source_tags if kind == "DICOM" else (),
        )  # fmt: skip
        image = _finish(decoded, sha256, request)
        if not room.take(image.pixels.nbytes):
            raise UnreadableImage(
                f"Pictures that are read together may take {room.most_mib} MiB here; this one is beyond that. Read "
                "fewer at once, or ask an administrator to raise the largest study."
            )
        if request.with_frames and image.n_frames > 1:
            image = _with_frames(image, source.data, kind, request, room)
        return Intake(source.name, sha256, image, None, decoded.source)
    except AppError as refusal:
        return Intake(source.name, sha256, None, str(refusal))
    except OSError:
        return Intake(source.name, sha256, None, "This file cannot be opened. Check that it may be read.")


def _with_frames(image: Image, data: bytes | Path, kind: str, request: _Request, room: _Room) -> Image:
    """With all its frames; without, and with a warning, where they cannot be kept beside it."""
    frames: list[bytes] = []
    left, colours = FRAMES_MIB_MOST * MIB, image.colour_share
    why = f"together they take more than {FRAMES_MIB_MOST} MiB"

    def take(pixels: np.ndarray) -> bool:
        nonlocal left, colours, why
        frame = in_colours_of(image.modality, pixels)
        colours = max(colours, 0.0 if image.modality is Modality.HISTOLOGY else colour_share(pixels))
        if frame.shape != image.pixels.shape:
            why = "they differ in size"
            return False
        frame_png = png_of(frame)
        left -= len(frame_png)
        if left < 0:
            return False
        if not room.take_frame(len(frame_png)):
            why = f"pictures that are read together may take {room.most_mib} MiB"
            return False
        frames.append(frame_png)
        return True

    try:
        decode_frames(data, kind, limits=Limits.of(request.settings), window=request.window, take=take)
    except UnreadableImage as refused:
        why = str(refused).rstrip(".")
    if image.guessed_bits is not None:
        why = "the file does not say how many bits its grey values have"
    elif len(frames) == image.n_frames:
        shown = frame_warning(image.frame, image.n_frames)
        warnings = tuple(one for one in image.warnings if one != shown)
        return replace(image, frames=tuple(frames), warnings=warnings, colour_share=colours)
    room.take_frame(-sum(map(len, frames)))
    return replace(image, warnings=(*image.warnings, f"Its other frames are not here: {why}."))


def _head(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:HEAD_BYTES]
    with data.open("rb") as file:
        return file.read(HEAD_BYTES)


def _require_size(data: bytes | Path, settings: Settings) -> None:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    if size == 0:
        raise UnreadableImage("This file is empty (zero bytes). Export it again.")
    if size > settings.upload_mib * MIB:
        raise UnreadableImage(f"This file is larger than the {settings.upload_mib} MiB one file may have here.")


def _sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_kind(head: bytes) -> str:
    kind = kind_of(head)
    if kind in READ:
        return kind
    raise UnreadableImage(
        f"This is {kind or 'not a file this product knows'}, whatever its name says. "
        "Read are DICOM, PNG, JPEG, TIFF and WebP pictures, and zips of them."
    )


def _finish(decoded: Decoded, sha256: str, request: _Request) -> Image:
    """Settle modality and colour with a look at the pixels, hash the patient, and make the Image."""
    # scipy: a start does not wait for it
    from core.imaging.hanging import CONTRADICTING_WALL, contradicts_orientation, turned_text

    look = look_at(decoded.pixels)
    if look.refused is not None:
        raise UnreadableImage(look.refused)
    _settle_modality(decoded, look, request.modality)
    pixels = _settle_colour(decoded)
    is_sided = decoded.modality is not Modality.HISTOLOGY
    if is_sided and decoded.laterality is None and (decoded.needs_side or decoded.modality is not None):
        decoded.warnings.append(NEEDS_SIDE if decoded.needs_side else SIDE_UNKNOWN)
    is_mammogram = decoded.modality is Modality.MAMMOGRAPHY
    of_view = decoded.not_scored if is_mammogram else ""
    if is_mammogram and not of_view and contradicts_orientation(decoded.pixels, decoded.tags):
        decoded.warnings.append(CONTRADICTING_WALL)
    if is_mammogram and (turned := turned_text(decoded.tags)):
        decoded.warnings.append(turned)
    return Image(
        pixels=pixels,
        sha256=sha256,
        modality=decoded.modality,
        modality_source=decoded.modality_source,
        laterality=decoded.laterality,
        view=decoded.view,
        spacing_mm=decoded.spacing_mm,
        frame=decoded.frame,
        n_frames=decoded.n_frames,
        windows=decoded.windows,
        window_index=decoded.window_index,
        notes=tuple(decoded.notes),
        warnings=tuple(decoded.warnings),
        tags=decoded.tags,
        patient_hash=keyed_hash(decoded.patient, request.site_key),
        pixel_aspect=decoded.pixel_aspect,
        view_modifiers=decoded.view_modifiers,
        not_scored=of_view or decoded.pixels_unknown,
        needs_side=decoded.needs_side and is_sided,
        is_scored_alone=decoded.is_scored_alone and decoded.modality is Modality.MAMMOGRAPHY,
        guessed_bits=decoded.guessed_bits,
        exam_hash=keyed_hash(decoded.exam, request.site_key),
        taken_on=date.fromisoformat(decoded.taken_on) if decoded.taken_on else None,
        colour_share=colour_share(decoded.pixels) if decoded.modality is not Modality.HISTOLOGY else 0.0,
        regions=decoded.regions,
    )


def keyed_hash(value: str, site_key: bytes) -> str | None:
    """HMAC-SHA256, hex; None where the file says nothing or there is no key."""
    return hmac.new(site_key, value.encode(), hashlib.sha256).hexdigest() if site_key and value else None


def _settle_modality(decoded: Decoded, look: Look, asked: Modality | None) -> None:
    """Tags, else the person, else the pixels; a doubt refuses a picture without tags and warns on one with them.

    So does another modality than the one that the person chose: no model would say that it reads the wrong picture.
    """
    if decoded.modality is not None:
        if look.doubt is not None:
            decoded.warnings.append(look.doubt)
        elif look.modality not in (None, decoded.modality):
            decoded.warnings.append(f"The tags say {decoded.modality}, but the pixels look more like {look.modality}.")
        if asked is not None and asked is not decoded.modality:
            decoded.warnings.append(f"The file's tags say {decoded.modality}, not {asked}; the tags are believed.")
        return
    if look.doubt is not None:
        raise UnreadableImage(look.doubt)
    if asked is not None:
        if look.modality not in (None, asked):
            raise UnreadableImage(f"The pixels look more like {look.modality} than like {asked}; check the choice.")
        decoded.modality, decoded.modality_source = asked, "argument"
    elif look.modality is not None:
        decoded.modality, decoded.modality_source = look.modality, "pixels"
    else:
        decoded.warnings.append(
            "Nothing says what kind of picture this is; choose mammography, ultrasound or histology."
        )


def _settle_colour(decoded: Decoded) -> np.ndarray:
    """Histology is RGB, everything else grey; what was lost or missed is said."""
    is_grey = decoded.pixels.ndim == 2
    if decoded.modality is Modality.HISTOLOGY and is_grey:
        decoded.warnings.append("This tissue image has no colour; the models were made for stained tissue in colour.")
    if decoded.modality is not Modality.HISTOLOGY and not is_grey:
        decoded.notes.append("colour made grey")
    return in_colours_of(decoded.modality, decoded.pixels)
