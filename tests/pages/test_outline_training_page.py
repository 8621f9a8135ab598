"""The outline network on the pages Training and Releases, from the form to the choice of a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_lesions import SHAPE, ellipse, picture
from page_site import PageSite, Tab, open_page_site
from PIL import Image as Raster

from core.records import data_sets
from core.types import Modality
from train.queue import trainings
from train.queue.child import LocalExecutor
from train.queue.worker import TrainingWork, Worker
from train.recipe.outline import OutlineConfig, OutlineRequest


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageSite]:
    yield from open_page_site(tmp_path, monkeypatch)


def add_lesions(site: PageSite, folder: Path) -> None:
    rows = []
    for number in range(15):
        mask = ellipse(60 + number, 50, (90, 80 + 9 * number)) if number % 5 else np.zeros(SHAPE, bool)
        row = {"label": "benign" if number % 5 else "normal", "patient": f"p{number}",
               "split": ("train", "validation", "test")[number % 3]}  # fmt: skip
        for name, values in (("file", picture(mask, seed=number)), ("mask", mask)):
            Raster.fromarray(np.round(values * 255.0).astype(np.uint8)).save(folder / "one.png")
            if name == "file" or number % 5:
                row[name] = data_sets.store_file(site.db.settings, (folder / "one.png").read_bytes(), "png")
        rows.append(row)
    data_sets.create_data_set(
        site.db, site.one, name="Lesions", modality=Modality.ULTRASOUND,
        manifest=pd.DataFrame(rows).fillna("").to_csv(index=False).encode(), split={"kind": "60/20/20", "seed": 0},
        counts={"train": {"benign": 4, "normal": 1}}, found={"leaking": False},
    )  # fmt: skip


def test_it_is_started_watched_and_found_on_releases(
    site: PageSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_lesions(site, tmp_path)
    tab = Tab(site, site.one, monkeypatch).open("admin/training")
    tab.app.selectbox(key="job_architecture").select("outline")
    tab.settled()
    assert "fit outline --modality ultrasound" in tab.app.code[0].value and "--epochs 12" in tab.app.code[0].value
    presets = next(group for group in tab.app.button_group if group.label == "Preset")
    assert presets.options == ["Quick look", "As recommended"]
    tab.app.selectbox(key="job_init_outline").select("random")
    tab.app.number_input(key="job_side_outline").set_value(96)
    tab.app.number_input(key="job_epochs_outline_As recommended").set_value(2)
    tab.app.text_input(key="job_seeds_outline").set_value("3")
    tab.settled()
    assert "--init random --side 96 --epochs 2 --seed 3" in tab.app.code[0].value
    tab.press("Start the training")
    (job,) = trainings.list_jobs(site.db, site.one)
    assert job.request == OutlineRequest(OutlineConfig(side=96, epochs=2, seed=3), init="random")

    assert Worker(site.db, TrainingWork(site.db, LocalExecutor(site.db.settings))).work_once()
    tab.open("admin/training")
    assert [done.value.replace("\\", "") for done in tab.app.success] == [trainings.CANDIDATE_READY]
    assert any("test Dice" in text.value and "seed 3" in text.value for text in tab.app.caption)

    tab.open("admin/releases")
    assert tab.app.info[0].value.startswith("No model that gives a probability was trained here yet."), "no candidate"
    (choice,) = [box for box in tab.app.selectbox if box.label == "A trained outline network"]
    (option,) = choice.options
    assert option.endswith(f"· training {job.id} · Lesions v1 · Dr One")
    assert tab.has("Promote this outline network")


def test_what_cannot_be_is_said_in_the_form(site: PageSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_lesions(site, tmp_path)
    tab = Tab(site, site.one, monkeypatch).open("admin/training")
    tab.app.selectbox(key="job_architecture").select("outline")
    tab.settled()
    tab.app.number_input(key="job_side_outline").set_value(100)
    tab.settled()
    assert any("steps of 32, not 100" in text.value.replace("\\", "") for text in (*tab.app.warning, *tab.app.error))
    assert not tab.has("Start the training")
