"""What a file is, by its content: names and extensions lie."""

from __future__ import annotations

import codecs

READ = ("DICOM", "PNG", "JPEG", "TIFF", "WebP", "ZIP")
HEAD_BYTES = 512

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"PK00PK\x03\x04", "ZIP"),  # was to be split over several disks and fitted on one (APPNOTE 8.5.4)
    (b"PK\x07\x08PK\x03\x04", "ZIP"),
    (b"II+\0", "a BigTIFF file"),
    (b"MM\0+", "a BigTIFF file"),
    (b"GIF8", "a GIF file"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"BM", "a BMP file"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 file"),
    (b"\0\0\0\x0cjP  ", "a bare JPEG 2000 file"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"\x89HDF", "an HDF5 file"),
    (b"8BPS", "a Photoshop file"),
)


def kind_of(head: bytes) -> str:
    """One of `READ`, or a phrase like "a PDF document", or "" when unknown; `head` is the file's first 512 bytes.

    A DICOM preamble may hold anything, another format's signature included, so the letters at 128 count first.
    """
    if head[128:132] == b"DICM":
        return "DICOM"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "a NIfTI file"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype", b"<html", b"<script")):
        return "a web page or SVG drawing"
    if _may_be_headless_dicom(head):
        return "DICOM"
    return "a text file" if head and _is_text(head) else ""


def _may_be_headless_dicom(head: bytes) -> bool:
    """A data set without preamble begins with a small element of group 0002 or 0008, in either byte order."""
    if len(head) < 16:
        return False
    group_little, group_big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
    element = head[2:4] if group_little in (2, 8) else head[3:1:-1]
    return (group_little in (2, 8) or group_big in (2, 8)) and int.from_bytes(element, "little") <= 0x0100


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)
