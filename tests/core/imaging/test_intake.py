"""From files, folders and zips to images: limits, colours, warnings, and that one bad file loses no other."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_images import US, chest_film, dicom, encoded, mammogram, photograph, stored_mammogram, tissue, ultrasound

from core.errors import UnreadableImage
from core.imaging.decode_process import decode
from core.imaging.decoded import Limits
from core.imaging.hanging import CONTRADICTING_WALL, chest_wall_side, hang
from core.imaging.intake import Intake, read_study, read_upload
from core.imaging.sniff import kind_of
from core.imaging.zip_members import members
from core.models.aggregate import counts_for_breast
from core.reports.content import warnings_of
from core.settings import MIB, REPOSITORY, Settings
from core.types import Image, Modality

SETTINGS = Settings()
PNG = encoded(mammogram())
DICOM = dicom(stored_mammogram(), WindowCenter=2048, WindowWidth=4096)
RGB_ULTRASOUND = dicom(
    np.repeat((ultrasound() * 255).astype(np.uint8)[..., None], 3, axis=2), bits=8, SOPClassUID=US, Modality="US"
)


def one(data: bytes | Path, name: str = "a.png", **options: object) -> Intake:
    (intake,) = read_upload(data, name, settings=SETTINGS, **options)  # type: ignore[arg-type]
    return intake


def image_of(data: bytes | Path, **options: object) -> Image:
    intake = one(data, **options)
    assert intake.refused is None and intake.image is not None, intake.refused
    return intake.image


def zipped(members: dict[str, bytes], **options: object) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_content_counts_and_the_name_does_not() -> None:
    assert image_of(PNG, name="x.dcm").modality_source == "pixels"
    assert image_of(DICOM, name="x.png").modality_source == "tags"


def test_the_sha256_is_of_the_file_from_bytes_and_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "a b.dcm"
    path.write_bytes(DICOM)
    assert one(path).sha256 == one(DICOM).sha256 == hashlib.sha256(DICOM).hexdigest()


def test_the_modality_comes_from_tags_then_the_person_then_the_pixels() -> None:
    tagged = image_of(DICOM, modality=Modality.ULTRASOUND)
    assert (tagged.modality, tagged.modality_source) == (Modality.MAMMOGRAPHY, "tags")
    assert any("tags are believed" in warning for warning in tagged.warnings)
    said = image_of(encoded(ultrasound()), modality=Modality.ULTRASOUND)
    assert (said.modality, said.modality_source) == (Modality.ULTRASOUND, "argument")
    assert image_of(encoded(ultrasound())).modality is Modality.ULTRASOUND
    assert "look more like mammography than like ultrasound" in (one(PNG, modality=Modality.ULTRASOUND).refused or "")


def test_ultrasound_is_grey_and_tissue_is_colour() -> None:
    assert image_of(RGB_ULTRASOUND).pixels.ndim == 2
    assert image_of(encoded(tissue())).pixels.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (photograph(), "photograph"),
        (chest_film(), "chest film"),
        (np.zeros((90, 90), np.float32), "blank"),
        (np.random.default_rng(0).random((90, 90)), "noise"),
    ],
    ids=["photograph", "chest film", "blank", "noise"],
)
@pytest.mark.parametrize("modality", [None, Modality.ULTRASOUND])
def test_what_is_no_breast_image_is_refused_whatever_the_person_says(
    pixels: np.ndarray, words: str, modality: Modality | None
) -> None:
    assert words in (one(encoded(pixels), modality=modality).refused or "")


def test_a_doubtful_dicom_is_read_with_a_warning() -> None:
    stored = (chest_film() * 4095).astype(np.uint16)
    image = image_of(dicom(stored, WindowCenter=2048, WindowWidth=4096))
    assert any("chest film" in warning for warning in image.warnings)


def test_patient_ids_leave_only_as_keyed_hashes() -> None:
    key = b"k" * 32
    image = image_of(DICOM, site_key=key)
    assert image.patient_hash == hmac.new(key, b"SECRET-ID-1|", hashlib.sha256).hexdigest()
    assert image_of(DICOM).patient_hash is None
    assert "SECRET" not in repr(image)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GIF89a" + b"\0" * 60, "GIF"),
        (b"<?xml version='1.0'?><svg onload='x'/>", "web page or SVG"),
        (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"BM" + b"\0" * 60, "BMP"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
        (b"patient name: SECRET", "text file"),
        (bytes(range(200, 256)) * 4, "not a file this product knows"),
        (b"PK\x05\x06" + b"\0" * 18, "no files"),
        (b"PK\x03\x04" + b"rubbish" * 20, "zip is damaged"),
    ],
)
def test_other_files_are_refused_by_what_they_are(data: bytes, words: str) -> None:
    refused = one(data, "SECRET.png").refused or ""
    assert words in refused and "SECRET" not in refused and refused.endswith(".")


def test_a_zip_gives_one_intake_a_member_and_survives_bad_ones() -> None:
    data = zipped(
        {"s/one.dcm": DICOM, "s/bad.png": PNG[:500], "__MACOSX/s/._one": b"x", ".DS_Store": b"x", "t.png": PNG}
    )
    found = {intake.name: intake for intake in read_upload(data, "a.zip", settings=SETTINGS)}
    assert list(found) == ["a.zip/s/one.dcm", "a.zip/s/bad.png", "a.zip/t.png"]
    assert found["a.zip/s/one.dcm"].image and found["a.zip/t.png"].image and found["a.zip/s/bad.png"].refused


class _Entry(zipfile.ZipInfo):
    """An entry that may have no name; zipfile's own cannot be asked then."""

    def is_dir(self) -> bool:
        return self.filename.endswith("/")


def _with_entry(name: str, mode: int = 0o100644, flag: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = _Entry(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, PNG)
    data = bytearray(out.getvalue())
    data[data.index(b"PK\x01\x02") + 8] |= flag
    return bytes(data)


ODD_NAMES = (
    ".", "", "./", "a/./b.png", "x" * 300 + ".png", "ü" * 200 + ".png", "2024-05-06T10:32/IM1.png", "L CC 10:32.png",
    "10:32 R CC.png", "C:notes.png", "d/" * 600 + "deep.png", "a\\b:c\\d.png", "tab\tname.png", "trailing .png ",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_members_with_odd_names_are_read_and_can_be_written(name: str, tmp_path: Path) -> None:
    """Nothing is lost by its name: no colon, length, point or missing name keeps a picture from being read."""
    data = _with_entry(name)
    intake = one(data, "a.zip")
    if name == "./":  # a folder, and no file
        assert "no files" in (intake.refused or "")
        return
    assert intake.image is not None and intake.name.startswith("a.zip/"), intake.refused
    (member,) = members(data, settings=SETTINGS)
    path = (tmp_path / member.path).resolve()
    assert path.is_relative_to(tmp_path.resolve()) and path != tmp_path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(member.data or b"")
    assert path.read_bytes() == PNG and not set(str(member.path)) & set(':<>"|?*')


def test_names_that_were_changed_to_be_written_stay_apart() -> None:
    names = ["a:b.png", "a?b.png", "a_b.png", "x" * 300 + "1.png", "x" * 300 + "2.png", "", "."]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(_Entry(name), PNG)
    paths = [member.path for member in members(out.getvalue(), settings=SETTINGS)]
    assert len(set(paths)) == len(names) and all(len(part.encode()) <= 255 for path in paths for part in path.parts)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_with_entry("../up.png"), "outside the zip"),
        (_with_entry("/etc/x.png"), "outside the zip"),
        (_with_entry("a\\..\\..\\x.png"), "outside the zip"),
        (_with_entry("C:/x.png"), "outside the zip"),
        (_with_entry("link", 0o120777), "link"),
        (_with_entry("secret.png", flag=1), "encrypted"),
        (zipped({"inner.zip": zipped({"a.png": PNG})}), "zip itself"),
        (zipped({"bomb.dcm": b"\0" * (40 << 20)}), "far more than a picture"),
        (zipped({f"{number}.png": b"x" for number in range(1100)}), "too many files"),
        (zipped({f"{number}.png": b"x" for number in range(300)}), "300 files"),
    ],
    ids=["up", "absolute", "backslashes", "drive", "link", "encrypted", "nested", "bomb", "1100 files", "300 files"],
)
def test_hostile_zips_are_refused_and_write_nothing(
    data: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    intake = one(data, "a.zip")
    assert intake.image is None and words in (intake.refused or "")
    assert not any(tmp_path.rglob("*")) and not (tmp_path.parent / "up.png").exists()


def test_the_whole_study_is_capped() -> None:
    small = replace(SETTINGS, study_mib=1)
    (intake,) = read_upload(zipped({"a": os.urandom(1 << 20), "b": PNG}), "a.zip", settings=small)
    assert "1 MiB" in (intake.refused or "")
    assert "1 MiB" in (read_upload(b"\0" * (2 << 20), "a", settings=replace(SETTINGS, upload_mib=1))[0].refused or "")


def test_the_pictures_of_a_study_are_capped_however_small_their_files_are(tmp_path: Path) -> None:
    """As float32 each of these takes 1.1 of the 2 MiB that the pictures of a study of 1 MiB of files may take."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(mammogram(600, 480, seed=number)))
    small = replace(SETTINGS, study_mib=1)
    found = read_study([tmp_path], settings=small)
    assert sum(one.image is not None for one in found) == 1
    assert all(one.image or "may take 2 MiB here" in (one.refused or "") for one in found)
    assert read_study([tmp_path / "2.png"], settings=small)[0].image is not None
    room = 2 * MIB - 600 * 480 * 4  # what is kept beside it, and a byte more
    assert [
        read_upload(tmp_path / "2.png", "2.png", settings=small, taken=taken)[0].image is not None
        for taken in (room, room + 1)
    ] == [True, False]


@pytest.mark.parametrize("kind", [Path, bytes])
def test_an_archive_of_no_bytes_is_damaged(tmp_path: Path, kind: type) -> None:
    """A copy that broke off at its beginning; a file of no size cannot be mapped."""
    path = tmp_path / "set.zip"
    path.touch()
    with pytest.raises(UnreadableImage, match="damaged"):
        list(members(path if kind is Path else b"", settings=Settings()))


def test_files_folders_and_zips_make_one_study_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "2.png").write_bytes(PNG)
    (folder / "1.dcm").write_bytes(DICOM)
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"m.png": encoded(ultrasound())}))
    missing = tmp_path / "gone.dcm"
    told: list[tuple[int, int]] = []
    found = read_study([folder, archive, missing], settings=SETTINGS, progress=lambda done, of: told.append((done, of)))
    expected = [f"{folder}/1.dcm", f"{folder}/2.png", f"{archive}/m.png", str(missing)]
    assert [Path(intake.name) for intake in found] == [Path(name) for name in expected]
    assert [intake.image is None for intake in found] == [False, False, False, True]
    assert told[-1] == (4, 4)


def test_more_files_than_a_study_may_have_are_named_one_by_one(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"GIF89a")
    found = read_study([tmp_path], settings=replace(SETTINGS, study_files=2))
    assert len(found) == 3 and "2 files" in (found[2].refused or "")


def test_a_picture_beyond_the_cap_is_refused_from_its_header() -> None:
    tight = replace(SETTINGS, image_megapixels=1)
    for data in (encoded(np.zeros((1100, 1000), np.float32)), dicom(np.zeros((1100, 1000), np.uint16))):
        assert "1 megapixels" in (read_upload(data, "a", settings=tight)[0].refused or "")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux only")
def test_the_child_s_memory_is_limited() -> None:
    tight = replace(SETTINGS, decode_memory_mib=200)
    big = dicom(np.tile(stored_mammogram(), (12, 12)))
    assert "memory or time" in (read_upload(big, "a", settings=tight)[0].refused or "")


def test_a_child_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.imaging.decode_process._WALL_FACTOR", 0.005)
    assert "memory or time" in (one(DICOM).refused or "")


def test_the_child_sees_no_environment_and_prints_nothing(monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    monkeypatch.setenv("SECONDREAD_SECRET_OF_THE_TEST", "1")  # a child that read settings would refuse this name
    decoded = decode(DICOM, "DICOM", limits=Limits.of(SETTINGS), frame=0, window=None)
    assert decoded.pixels.shape == (320, 240)


def test_the_decoding_process_never_loads_tensorflow() -> None:
    code = (
        "import sys, core.imaging.decode_process, core.imaging.dicom, core.imaging.raster, core.imaging.intake;"
        "assert not {'tensorflow', 'keras', 'streamlit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)


def test_it_works_from_a_checkout_whose_path_has_a_space(tmp_path: Path) -> None:
    import shutil

    home = tmp_path / "second read" / "core"
    shutil.copytree(REPOSITORY / "core", home, ignore=shutil.ignore_patterns("__pycache__"))
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    code = (
        "from pathlib import Path; from core.imaging.intake import read_upload; from core.settings import Settings;"
        f"assert read_upload(Path({str(picture)!r}), 'a', settings=Settings())[0].image is not None"
    )
    subprocess.run([sys.executable, "-c", code], cwd=home.parent, check=True, timeout=120)


def test_many_readers_at_once_all_get_their_picture() -> None:
    results: list[Intake] = []
    threads = [threading.Thread(target=lambda: results.append(one(PNG))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(result.image is not None for result in results)


@pytest.mark.parametrize("marker", [b"PK00", b"PK\x07\x08"])
def test_a_zip_that_was_to_be_split_is_opened(marker: bytes) -> None:
    data = marker + _zip_of({"a.png": b"x"})
    assert kind_of(data[:512]) == "ZIP"
    assert [(one.name, one.data) for one in members(data, settings=Settings())] == [("a.png", b"x")]


def test_a_comment_that_looks_like_an_end_does_not_hide_what_a_zip_holds() -> None:
    buffer = io.BytesIO(_zip_of({"a.png": b"x"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(30)
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        list(members(buffer.getvalue(), settings=Settings()))


def test_what_computers_leave_beside_pictures_is_not_listed() -> None:
    left = ("x\\Thumbs.db", "__MACOSX\\a", "__MACOSX/._a.png", "._a.png", "x/._a.png")
    data = _zip_of({"a.png": b"x", **dict.fromkeys(left, b"\0\x05\x16\x07"), "._b.png": b"y"})
    assert [one.name for one in members(data, settings=Settings())] == ["a.png", "._b.png"]


@pytest.mark.parametrize("inner", [b"PK00PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_a_zip_in_a_zip_is_said_to_be_one_however_it_begins(inner: bytes) -> None:
    (member,) = members(_zip_of({"a.zip": inner}), settings=Settings())
    assert member.refused is not None and "only one level" in member.refused


def test_a_dicom_whose_preamble_looks_like_a_zip_is_read_from_a_zip() -> None:
    data = b"PK\x03\x04" + bytes(124) + b"DICM"
    (member,) = members(_zip_of({"a.dcm": data}), settings=Settings())
    assert (member.data, member.refused) == (data, None)


def _zip_of_bytes(names: list[bytes], *, is_flagged: bool, extra: bytes = b"") -> bytes:
    """Members whose names are these bytes; content: the name and more, so that each is known again."""
    out, central = bytearray(), bytearray()
    for name in names:
        content, flag = name + b"!" * 40, 0x800 if is_flagged else 0
        sizes = zlib.crc32(content), len(content), len(content)
        place = len(out)
        out += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, flag, 0, 0, 33, *sizes, len(name), 0) + name + content
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, flag, 0, 0, 33, *sizes, len(name), len(extra), 0, 0, 0, 0, place
        ) + name + extra  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(names), len(names), len(central), len(out), 0)
    return bytes(out + central + end)


@pytest.mark.parametrize("is_flagged", [True, False])
@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["患者A/右.png", "表示/左 CC.dcm", "ﾃｽﾄ①.png"], "cp932"),
        (["患者A/右.png", "r\u00e9my.png", "re\u0301my.png"], "utf-8"),
        (["Größe/Müller.png", "Hélène créée.png"], "cp437"),
        (["Größe/M\u00fcller.png", "Ärzte.png", "à.png"], "cp1252"),
        (["CC右.png", "MLO左.png"], "cp932"),
        (["Ñandú Ávila.png"], "cp850"),
        (["plain.png"], "ascii"),
    ],
)
def test_names_are_what_their_bytes_say_whatever_the_flag_says(
    names: list[str], encoding: str, is_flagged: bool, tmp_path: Path
) -> None:
    raw = [name.encode(encoding) for name in names]
    data = _zip_of_bytes(raw, is_flagged=is_flagged)
    (tmp_path / "a.zip").write_bytes(data)
    for source in (data, tmp_path / "a.zip"):
        found = list(members(source, settings=Settings()))
        assert [one.name for one in found[:2]] == names[:2]
        assert [one.data for one in found] == [one + b"!" * 40 for one in raw]


def test_no_member_is_lost_for_its_name_and_none_takes_another_ones_place(tmp_path: Path) -> None:
    names = [b"\xff\xfe\x80.png", b"a.png", b"a.png", b"A.png", "é.png".encode(), "é.png".encode("cp437"), b"a-3.png",
             b"\x82", b"nul.png\0x", b"nul.png"]  # fmt: skip
    for is_flagged in (True, False):
        found = list(members(_zip_of_bytes(names, is_flagged=is_flagged), settings=Settings()))
        assert [one.data for one in found] == [name + b"!" * 40 for name in names]
        paths = [str(one.path).casefold() for one in found]
        assert len(set(paths)) == len(names) == len({one.name for one in found})
        for one in found:
            (tmp_path / one.path).write_bytes(b"")
    many = list(
        members(_zip_of_bytes([b"a.png"] * 20_000, is_flagged=True), settings=replace(SETTINGS, study_files=20_000))
    )
    assert len({one.path for one in many}) == 20_000


def test_a_member_whose_own_header_has_another_name_is_read_under_that_of_the_directory() -> None:
    raw = "é.png".encode("cp437")
    data = bytearray(_zip_of_bytes([raw, b"b.png"], is_flagged=True))
    data[30 : 30 + len(raw)] = "\x82".encode("latin-1") + b".jpg"
    found = list(members(bytes(data), settings=Settings()))
    assert [(one.name, one.data is not None) for one in found] == [("é.png", True), ("b.png", True)]


def test_a_name_in_unicode_beside_another_counts_and_a_damaged_extra_field_loses_nothing() -> None:
    raw = "右.png".encode("cp932")
    beside = b"\1" + struct.pack("<L", zlib.crc32(raw)) + "右の乳房.png".encode()
    extra = struct.pack("<HH", 0x7075, len(beside)) + beside
    (member,) = members(_zip_of_bytes([raw], is_flagged=False, extra=extra), settings=Settings())
    assert member.name == "右の乳房.png" and member.data is not None
    for damaged in (b"\x75\x70\xff\xff\1", b"\1\0\x08\0", extra[:-3], b"\x75"):
        found = list(members(_zip_of_bytes([raw, b"b.png"], is_flagged=False, extra=damaged), settings=Settings()))
        assert [one.name for one in found] == ["右.png", "b.png"] and all(one.data for one in found)


def _zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_picture_of_both_breasts_is_read_by_no_model_before_its_side_is_stated() -> None:
    image = image_of(dicom(stored_mammogram(), ImageLaterality="B"))
    assert image.laterality is None and image.unread in image.warnings and not image.not_scored
    assert not image.is_read_by(Modality.MAMMOGRAPHY) and not counts_for_breast(image)
    stated = replace(image, laterality="L")
    assert stated.is_read_by(Modality.MAMMOGRAPHY) and counts_for_breast(stated) and not stated.unread
    assert image.unread not in warnings_of(stated)


def test_pixels_that_nobody_can_know_are_read_by_no_model_whatever_they_show() -> None:
    rng = np.random.default_rng(0)
    values = np.clip((ultrasound() * 255)[..., None] + rng.normal(0, [0, 30, 60], (300, 400, 3)), 0, 255)
    image = image_of(
        dicom(values.astype(np.uint8), bits=8, SOPClassUID=US, Modality="US", PhotometricInterpretation="YBR_ICT")
    )
    assert image.modality is Modality.ULTRASOUND and image.unread in image.warnings
    assert not image.is_read_by(Modality.ULTRASOUND)


@pytest.mark.parametrize(
    ("orientation", "said"),
    [
        (["A", "F"], ""),
        (["A", "R"], ""),
        (["A", "H"], "upside down"),
        (["P", "HL"], "upside down"),
        (["F", "A"], "on its side"),
    ],
)
def test_a_mammogram_that_is_stored_upside_down_or_on_its_side_is_said(orientation: list[str], said: str) -> None:
    tags = {"PatientOrientation": orientation, "ImageLaterality": "L", "ViewPosition": "ML"}
    image = image_of(dicom(stored_mammogram(), **tags))
    turned = [
        warning for warning in image.warnings if "stored upside down" in warning or "stored on its side" in warning
    ]
    assert len(turned) == bool(said) and said in "".join(turned)
    assert image.laterality == "L" and not any("contradict each other on the side" in one for one in image.warnings)


@pytest.mark.parametrize(("direction", "is_said"), [("P", True), ("A", False)])
def test_a_chest_wall_at_the_other_edge_than_the_tags_say_is_said_and_hung_by_the_pixels(
    direction: str, is_said: bool
) -> None:
    column = "L" if direction == "P" else "R"
    side = "R" if direction == "P" else "L"
    image = image_of(dicom(stored_mammogram(), PatientOrientation=[direction, column], ImageLaterality=side))
    assert (CONTRADICTING_WALL in image.warnings) == is_said
    assert chest_wall_side(image) == ("left", not is_said)
    (place,) = [place for place in hang([image]).places if place.index is not None]
    assert place.is_mirrored == is_said and ("judged by pixels" in place.label) == is_said
