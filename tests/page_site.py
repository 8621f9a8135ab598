"""A site with two radiologists, models that need no TensorFlow, and pages without a browser: for tests of pages.

Only the network of a model is replaced: answers come from a function, so that no test waits for TensorFlow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from record_site import Somebody, signed_in

from core.models.cards import Card
from core.records.database.db import Database, open_database
from core.records.people import accounts, sessions
from core.records.reads import reads, studies
from core.records.reads.reads import Impression
from core.serving import inference
from core.settings import REPOSITORY, Settings
from core.types import Explanation, Fit, Image, Modality, Prediction

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest
    from streamlit.testing.v1.local_script_runner import LocalScriptRunner

PASSWORD = "a long enough password for tests"
CLASSES = ("benign", "malignant", "normal")
MALIGNANT = 0.42


@dataclass(frozen=True)
class PageSite:
    """A site with two radiologists and an empty worklist. weights: where released models lie."""

    db: Database
    one: Somebody
    two: Somebody
    weights: Path


def open_page_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageSite]:
    """The site; closed when it is over."""
    import streamlit as st

    for name in [name for name in os.environ if name.startswith("SECONDREAD_") and name != "SECONDREAD_TEST_DATA"]:
        monkeypatch.delenv(name)
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SECONDREAD_WEIGHTS_DIR", str(weights))
    st.cache_resource.clear()
    st.cache_data.clear()
    db = open_database(Settings.from_environment())
    code = accounts.setup_code(db) or ""
    one = signed_in(db, accounts.create_first_administrator(db, code=code, name="Dr One", password=PASSWORD))
    two = signed_in(db, accounts.create_person(db, one, name="Dr Two", password=PASSWORD, roles=["radiologist"]))
    monkeypatch.setattr(inference, "load_model", FakeModel)
    yield PageSite(db, one, two, weights)
    db.close()
    st.cache_resource.clear()
    st.cache_data.clear()


class FakeModel:
    """Says the same of every image; its heat map peaks at the upper left."""

    def __init__(self, card: Card) -> None:
        self.card = card

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        card = self.card
        heat = np.zeros((len(card.classes), 4, 4), np.float32)
        heat[:, 0, 0] = 1
        probabilities = (0.5, MALIGNANT, 0.08)
        answer = Prediction(
            card.model_id, card.weights_sha256, image.sha256, card.classes, probabilities, MALIGNANT,
            (0.35, 0.4, 0.5), card.threshold.value, 0.1, "a test's processor",
        )  # fmt: skip
        fit = Fit((image.height, image.width), (0, image.height, 0, image.width), 32, 0, 0, 32, 32)
        return answer, Explanation(card.classes, card.positive_index, {"vgg16": heat, "cnn": heat, "fused": heat}, fit)


def release(
    weights: Path,
    model_id: str,
    *,
    sha256: str = "ab" * 32,
    threshold: float = 0.3,
    leaks: Sequence[str] = (),
    auc_low: float | None = None,
    **more: object,
) -> None:
    """A card with test and validation scores, as `python -m train fit` leaves it; the weights' file holds nothing.

    auc_low: where the interval of its AUC begins, by default not on the card. more: further keys of the card.
    """
    folder = weights / model_id
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"")
    rows = ["case,patient,label,benign,malignant,normal"]
    for number in range(60):
        label = CLASSES[number % 3]
        scores = {name: 0.6 if name == label else 0.2 for name in CLASSES}
        rows.append(f"c{number},p{number},{label}," + ",".join(str(scores[name]) for name in CLASSES))
    for split in ("test", "validation"):
        (folder / f"{sha256[:8]}.{split}_scores.csv").write_text("\n".join(rows))
    modality, architecture = model_id.split("-")
    card = {
        "model_id": model_id, "title": architecture.capitalize(), "architecture": architecture, "modality": modality,
        "classes": CLASSES, "positive": "malignant", "input": {"side": 32, "channels": 1, "preprocessing": "none"},
        "weights": {"sha256": sha256, "files": ["weights.safetensors"]},
        "data": {"name": "made", "n": 180, "splits": {"test": dict.fromkeys(CLASSES, 20)},
                 "leaks": [{"check": "patient in two splits", "sentence": leak} for leak in leaks]},
        "calibration": {"slope": 1.0, "biases": [0, 0, 0], "samples": [], "method": "temperature"},
        "threshold": {"value": threshold, "rule": "the highest that finds most"}, "limits": ["Made <b>up</b>."],
    }  # fmt: skip
    if auc_low is not None:
        card["measured"] = {"auc": 0.9, "low": auc_low, "high": 0.95, "n": 60}
    (folder / "card.json").write_text(json.dumps(card | more))


def picture(number: int = 0, **facts: object) -> Image:
    rng = np.random.default_rng(number)
    facts.setdefault("modality", Modality.ULTRASOUND)
    return Image(rng.random((48, 64), dtype=np.float32), sha256=f"{number:064x}", modality_source="tags", **facts)


def store(
    opened_site: PageSite, name: str = "Case", *, images: Sequence[Image] = (), person: Somebody | None = None
) -> str:
    images = images or (picture(laterality="L"),)
    return studies.create_study(opened_site.db, person or opened_site.one, display_name=name, images=images)


def first_read(opened_site: PageSite, study_id: str, person: Somebody | None = None) -> None:
    reads.record_first_read(
        opened_site.db, person or opened_site.one, study_id, {"L": Impression("4A", 20)}, "seen first"
    )


def app_test(*, seconds: float) -> AppTest:
    """The application in AppTest, without what Streamlit's own spends time on: for each AppTest anew it would read the
    metadata of all installed packages, to find the components that they bring, and while a page is drawn it would look
    a thousand times a second whether it is.
    """
    from streamlit.components.v2 import manifest_scanner
    from streamlit.testing.v1 import AppTest, local_script_runner

    if not hasattr(manifest_scanner.scan_component_manifests, "cache_info"):
        manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)
    local_script_runner.require_widgets_deltas = _wait_until_drawn
    return AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=seconds)


def _wait_until_drawn(runner: LocalScriptRunner, timeout: float) -> None:
    thread = runner._script_thread
    assert thread is not None
    thread.join(timeout)
    if not runner.script_stopped():
        runner.request_stop()
        runner.join()
        raise RuntimeError(f"the page was not drawn within {timeout} s")


class Tab:
    """A browser tab of one person."""

    def __init__(self, opened_site: PageSite, person: Somebody, monkeypatch: pytest.MonkeyPatch) -> None:
        from pages.parts import session

        token = sessions.start_session(opened_site.db, person)
        monkeypatch.setattr(session, "session_token", lambda: token)
        self.app = app_test(seconds=120)

    def open(self, page: str, study: str = "") -> Tab:
        self.app.switch_page(f"pages/{page}.py")
        if study:
            self.app.query_params["study"] = study
        return self.settled()

    def settled(self) -> Tab:
        self.app.run()
        assert not self.app.exception, self.app.exception
        return self

    def press(self, label: str) -> Tab:
        next(button for button in self.app.button if button.label == label).click()
        return self.settled()

    def has(self, label: str) -> bool:
        return any(button.label == label for button in self.app.button)

    def choose(self, label: str, value: str) -> Tab:
        next(group for group in self.app.button_group if group.label == label).select(value)
        return self.settled()

    @property
    def text(self) -> str:
        """Everything a person could read on the page, spaces made plain."""
        app = self.app
        kinds = (
            app.title, app.header, app.subheader, app.markdown, app.caption, app.text, app.error, app.info, app.warning,
        )  # fmt: skip
        html = [element.proto.body.split("</style>")[-1] for element in app.get("html")]
        tables = [frame.value.to_string() for frame in (*app.dataframe, *app.table)]
        labels = [widget.label for widget in (*app.button, *app.toggle, *app.slider, *app.expander)]
        shown = [element.value for kind in kinds for element in kind]
        return " ".join([*shown, *html, *tables, *labels]).replace("\u00a0", " ").replace("\\", "")
