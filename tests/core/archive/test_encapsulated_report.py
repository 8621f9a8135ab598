"""The final read as a PDF in a DICOM object: valid, with the patient, and readable by a second program."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from pypdf import PdfReader
from test_structured_report import CONTENT, FINDING

from core.archive.results.content import ResultContent
from core.archive.results.encapsulated_report import encapsulated_report
from core.types import Modality


def text_of(content: ResultContent, folder: Path) -> str:
    """What DCMTK takes out of the object, as text."""
    path = folder / "report.dcm"
    found = encapsulated_report(content, series_uid="2.25.1", uid="2.25.2")
    found.save_as(path, enforce_file_format=True)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert said.split("\n") == ["EncapsulatedPDF", ""], said
    subprocess.run(["dcm2pdf", str(path), str(folder / "report.pdf")], check=True, capture_output=True)
    return "\n".join(page.extract_text() for page in PdfReader(folder / "report.pdf").pages)


def test_the_page_says_what_was_read_by_whom_and_what_the_models_said(tmp_path: Path) -> None:
    text = text_of(replace(CONTENT, findings=(FINDING,), sentence="Routine screening.", supersedes=(3,)), tmp_path)
    for said in (
        "Müster, Änne", "P1", "A1", "Ada Muster", "BI-RADS 4B", "BI-RADS 1", "Breast composition: D", "ensemble",
        "42 %", "abababab", "Routine screening.", "spiculated", "replaces an earlier final read",
        "Not a medical device",
    ):  # fmt: skip
        assert said in text, said


def test_what_was_not_given_is_not_said(tmp_path: Path) -> None:
    text = text_of(replace(CONTENT, density=None, breasts=(), answers=()), tmp_path)
    for unsaid in ("composition", "Second read", "Findings", "replaces"):
        assert unsaid not in text, unsaid


def test_a_breast_that_models_of_several_kinds_read_is_named_with_the_kind(tmp_path: Path) -> None:
    kinds = (Modality.MAMMOGRAPHY, Modality.ULTRASOUND)
    breasts = tuple(replace(CONTENT.breasts[0], modality=kind) for kind in kinds)
    text = " ".join(text_of(replace(CONTENT, breasts=breasts), tmp_path).split())
    assert "Right breast, mammography" in text and "Right breast, ultrasound" in text


def test_it_refers_to_the_images_each_once() -> None:
    first, second = CONTENT.images
    found = encapsulated_report(replace(CONTENT, images=(first, first, second)), series_uid="2.25.1", uid="2.25.2")
    referenced = [one.ReferencedSOPInstanceUID for one in found.SourceInstanceSequence]
    assert referenced == ["1.2.3.4.1", "1.2.3.4.2"]
