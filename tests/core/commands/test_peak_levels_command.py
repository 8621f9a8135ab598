"""What `python -m core peak-levels` says of words that it cannot work with; it writes nothing then."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.__main__ import main
from core.findings.proposals import LEVELS_FILE

MODEL = "ultrasound-cnn"


@pytest.mark.parametrize(
    ("manifest", "also", "model", "sentence"),
    [
        ("here.csv", [], "ultrasound-nobody", "Not a live model: ultrasound-nobody. Live are "),
        ("gone.csv", [], MODEL, "There is no file "),
        ("here.csv", ["--also", "gone.csv"], MODEL, "gone.csv. Each manifest is given as a path from here."),
        ("here.csv", [], MODEL, "The manifests name no picture with an outline that is here"),
        ("bare.csv", [], MODEL, "The manifests name no picture with an outline that is here"),
    ],
)
def test_what_is_not_there_is_said_and_no_level_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    manifest: str, also: list[str], model: str, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.csv").write_text("file,label,mask\ngone.png,benign,gone_mask.png\n")
    (tmp_path / "bare.csv").write_text("file,label\ngone.png,benign\n")
    before = LEVELS_FILE.read_bytes()
    assert main(["peak-levels", manifest, model, *also]) == 1
    assert sentence in capsys.readouterr().err
    assert LEVELS_FILE.read_bytes() == before
