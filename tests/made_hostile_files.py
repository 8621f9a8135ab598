"""Files that were made to break a program that reads pictures, made in code; the base image is 64 x 48 pixels."""

from __future__ import annotations

import csv
import io
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from made_images import dicom, encoded, mammogram, ultrasound
from PIL import Image as Raster

REFUSE = "refuse"
EITHER = "refuse or read"
MIB = 1 << 20
GREY = (np.arange(48 * 64).reshape(64, 48) % 4096).astype(np.uint16)


def saved(raster: Raster.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    raster.save(out, kind, **options)
    return out.getvalue()


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, cut out or put in, more often in the head, and now and then the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        reach = min(len(changed), 1400) if draw.random() < 0.6 else len(changed)
        at, how = draw.randrange(max(1, reach)), draw.random()
        if how < 0.6:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif how < 0.75:
            del changed[at : at + draw.randrange(1, 9)]
        elif how < 0.9:
            changed[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            changed[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))
    return bytes(changed[: draw.randrange(1, len(changed))] if changed and draw.random() < 0.05 else changed)


def png(width: int, height: int, pixels: bytes) -> bytes:
    """An 8-bit grey PNG that says this size and holds these zlib bytes."""
    parts = ((b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def deflated_zeros(mib: int, before: bytes = b"", *, wbits: int = zlib.MAX_WBITS) -> bytes:
    squeeze = zlib.compressobj(1, wbits=wbits)
    parts = [squeeze.compress(before), *(squeeze.compress(bytes(MIB)) for _ in range(mib)), squeeze.flush()]
    return b"".join(parts)


def renamed_syntax(data: bytes, syntax: str) -> bytes:
    """The same bytes under another transfer syntax; the meta header's length is made to fit."""
    at = data.index(b"\x02\x00\x10\x00UI")
    old = struct.unpack("<H", data[at + 6 : at + 8])[0]
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    length = struct.pack("<I", struct.unpack("<I", data[140:144])[0] + len(uid) - old)
    said = struct.pack("<H", len(uid)) + uid
    return data[:140] + length + data[144 : at + 6] + said + data[at + 8 + old :]


def nested_sequences(depth: int) -> bytes:
    """(0008,1140) within itself, of undefined length."""
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = dicom(GREY)
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + opening * depth + closing * depth + data[at:]


def zip_of(files: dict[str | zipfile.ZipInfo, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def slipping_zip() -> bytes:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    picture = encoded(ultrasound(64, 64))
    return zip_of({"../../up.png": picture, "/tmp/absolute.png": picture, link: b"/etc/passwd"}, zipfile.ZIP_STORED)


def pictures() -> dict[str, tuple[str, bytes]]:
    grey = Raster.fromarray((GREY >> 4).astype(np.uint8))
    blank = Raster.new("L", (64, 64), 120)
    turned = Raster.Exif()
    turned[0x0112] = 6
    frames = [Raster.new("L", (64, 64), 6 * number) for number in range(41)]
    return {
        "alpha.png": (EITHER, saved(Raster.new("RGBA", (64, 64)))),
        "anim.gif": (REFUSE, saved(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        "bomb_20000x20000.png": (REFUSE, png(20000, 20000, deflated_zeros(96))),
        "cmyk.jpg": (REFUSE, saved(Raster.new("CMYK", (64, 64)), "JPEG")),
        "eps_as.png": (REFUSE, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "exif_rot6.jpg": (REFUSE, saved(blank, "JPEG", exif=turned.tobytes())),
        "flat.png": (REFUSE, saved(blank)),
        "gray16.png": (REFUSE, saved(Raster.fromarray(np.zeros((64, 64), np.uint16)))),
        "hdr_65535sq_noimg.png": (REFUSE, png(65535, 65535, b"")),
        "heic.heic": (REFUSE, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)),
        "html_as.jpg": (REFUSE, b"<html><script>alert(1)</script>"),
        "la.png": (REFUSE, saved(Raster.new("LA", (64, 64)))),
        "nan.tiff": (REFUSE, saved(Raster.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF")),
        "onebit.png": (REFUSE, saved(grey.convert("1"))),
        "svg_as.png": (REFUSE, b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        "trunc.png": (REFUSE, encoded(mammogram(512, 416))[:2000]),
        "zero.png": (REFUSE, b""),
        "zipbomb.zip": (REFUSE, zip_of({"bomb.dcm": bytes(160 * MIB)})),
        "zipslip.zip": ("refuse; nothing written outside", slipping_zip()),
    }


def dicom_files() -> dict[str, tuple[str, bytes]]:
    base = dicom(GREY)
    charset = dicom(GREY, SpecificCharacterSet="ISO_IR 100")
    markup = "<script>alert(1)</script>"
    # A JPEG 2000 codestream's SIZ marker that says 60000 x 60000 (ISO 15444-1 A.5.1), and nothing after it.
    siz = struct.pack(">H8IH3B", 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1, 7, 1, 1)
    lying = b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz + bytes(200)
    unseen = "refuse or read; preamble never leaves"
    return {
        "badcharset.dcm": (EITHER, charset.replace(b"ISO_IR 100", b"ISO_IR 471")),
        "deep_sq.dcm": (REFUSE, nested_sequences(3000)),
        "deflate_bomb.dcm": (
            REFUSE,
            renamed_syntax(base[: base.index(b"\x08\x00\x16\x00UI")], "1.2.840.10008.1.2.1.99")
            + deflated_zeros(160, base[base.index(b"\x08\x00\x16\x00UI") :], wbits=-zlib.MAX_WBITS),
        ),
        "frames_2e31.dcm": (REFUSE, dicom(GREY, NumberOfFrames=2147483647)),
        "html_polyglot.dcm": (unseen, dicom(GREY, preamble=f"<html>{markup}".encode().ljust(128, b" "))),
        "j2k_lying.dcm": (
            REFUSE, dicom(GREY, syntax="1.2.840.10008.1.2.4.90", frames=[lying], Rows=60000, Columns=60000)
        ),
        "mono1.dcm": (
            "refuse (too small) or read inverted", dicom(GREY, PhotometricInterpretation="MONOCHROME1")
        ),
        "no_preamble.dcm": (EITHER, base[132:]),
        "nobits.dcm": (REFUSE, dicom(GREY, BitsAllocated=None)),
        "nopixels.dcm": (REFUSE, dicom(GREY, PixelData=None)),
        "palette_nolut.dcm": (REFUSE, dicom(GREY, PhotometricInterpretation="PALETTE COLOR")),
        "pe_polyglot.dcm": (unseen, dicom(GREY, preamble=b"MZ".ljust(128, b"\x90"))),
        "rows0.dcm": (REFUSE, dicom(GREY, Rows=0)),
        "rows_65535.dcm": (REFUSE, dicom(GREY, Rows=65535, Columns=65535)),
        "slope_huge.dcm": (REFUSE, dicom(GREY, RescaleSlope="1E300")),
        "trunc_pixels.dcm": (REFUSE, base[: len(base) - GREY.nbytes + 100]),
        "ts_unknown.dcm": (REFUSE, renamed_syntax(base, "1.2.840.10008.9.9.9")),
        "wrong_modality.dcm": (REFUSE, dicom(GREY, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")),
        "ww0.dcm": (
            "refuse or read without dividing by zero", dicom(GREY, WindowCenter="2000", WindowWidth="0")
        ),
        "xss_csv_path.dcm": (
            "refuse or read; never unescaped anywhere",
            dicom(GREY, PatientName=f"{markup}^=1+1", PatientID="../../etc/passwd", Manufacturer=markup),
        ),
    }  # fmt: skip


def write_corpus(folder: Path) -> None:
    """The files, and manifest.csv with the columns file and expect."""
    folder.mkdir(parents=True)
    files = {**pictures(), **dicom_files()}
    for name, (_, content) in files.items():
        (folder / name).write_bytes(content)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "expect"), *((name, expect) for name, (expect, _) in files.items())])
