"""Data sets made in code, as zips and as a hospital's two workbooks, for tests of records, training and pages."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
from PIL import Image as Raster

from train.datasets.hospital.link import Sources

USUAL = ("InputFileName", "StudyDate", "StudyTime", "PatientID.x")


def picture(number: int, side: int = 40) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (side, side)).astype(np.uint8)
    out = io.BytesIO()
    Raster.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def class_folders(n: int = 20) -> dict[str, bytes]:
    return {f"set/{('benign', 'malignant')[i % 2]}/Anna Muster {i}.png": picture(i) for i in range(n)}


def smooth(number: int, brighter: int = 0) -> bytes:
    cells = np.random.default_rng(number).random((9, 9)).astype(np.float32)
    pixels = np.asarray(Raster.fromarray(cells).resize((96, 96), Raster.Resampling.BICUBIC)) * 200 + 20 + brighter
    out = io.BytesIO()
    Raster.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def with_copies(n: int = 40) -> dict[str, bytes]:
    """Picture 0 (benign) in train and, brighter, in test; picture 1 (malignant) again as benign."""
    files = {f"{i}.png": smooth(i) for i in range(n)}
    files |= {"copy0.png": smooth(0, 12), "copy1.png": smooth(1, 9)}
    splits = {f"{i}.png": ("train", "train", "validation", "test")[i // 2 % 4] for i in range(n)}
    splits |= {"copy0.png": "test", "copy1.png": "train"}
    rows = [f"{name},{('benign', 'malignant')[int(name[:-4]) % 2]},{splits[name]}" for name in list(files)[:n]]
    rows += ["copy0.png,benign,test", "copy1.png,benign,train"]
    return files | {"manifest.csv": ("file,label,split\n" + "\n".join(rows)).encode()}


def jpeg(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(number).random((9, 9)).astype(np.float32)
    pixels = np.asarray(Raster.fromarray(cells).resize((96, 96), Raster.Resampling.BICUBIC)) * 200 + 20
    Raster.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=95)


def sheet_of(book: Any, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    sheet = book.create_sheet(title)
    sheet.append(columns)
    for row in rows:
        sheet.append(row)


def hospital(
    folder: Path,
    images: Path,
    columns: tuple[str, ...] = USUAL,
    path: str = "AbsolutePath",
    sheets: tuple[str, str] = ("Cancer", "Non-Cancer"),
) -> Sources:
    """12 cancer images of 12 patients whose file names repeat, 20 others, and the traps of a spreadsheet."""
    cancer: list[tuple[Any, ...]] = []
    known: list[tuple[Any, ...]] = []
    for number in range(12):
        name, patient = f"FILE{number % 3:04d}", f"DIT43912{number:04d}"
        written = (name.lower(), dt.datetime(2014, 12, 1 + number), 91503.0, f" {patient.lower()} ")
        cancer.append(written)
        if number != 11:  # the last one has no validation row
            windows = rf"C:\\Users\\Dr Muster\\batch{number % 2}\\P{number}\\{name}.jpg"
            known.append((name, f"201412{1 + number:02d}", "09:15:03", patient, windows))
        jpeg(images / f"batch{number % 2}" / f"P{number}" / f"{name}.jpg", number)
    cancer.append(cancer[0])  # said twice
    others = [(f"N{number:03d}", 20150101, 101010, 77000 + number // 2) for number in range(20)]
    for number in range(19):  # the last one has no file
        jpeg(images / "screening" / f"N{number:03d}.jpg", 100 + number)
    combined, validation = openpyxl.Workbook(write_only=True), openpyxl.Workbook(write_only=True)
    sheet_of(combined, sheets[0], columns, cancer)
    sheet_of(combined, sheets[1], columns, others)
    sheet_of(validation, "Sheet1", (*columns, path), known)
    folder.mkdir(parents=True, exist_ok=True)
    combined.save(folder / "datacombined.xlsx")
    validation.save(folder / "data_validation_x.xlsx")
    return Sources(folder / "datacombined.xlsx", folder / "data_validation_x.xlsx", images)
