"""A site with many radiologists and studies nobody has read, and what each of them does at a browser."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import page_socket
import warm_server
from page_socket import PageSocket
from record_site import Somebody, add_person, at_terminal

from core.demo.phantoms import mammogram_exam, ultrasound_image
from core.models.cards import Card
from core.models.prepared import Prepared
from core.records.database.db import open_database
from core.records.people import sessions
from core.records.reads import studies
from core.server.guards import SESSION_COOKIE
from core.settings import Settings
from core.types import Explanation, Image, Prediction

PAGES = ("worklist", "account", "models", "archive", "about")
"""Pages that ask no model."""
ANSWERED = "Probability of malignancy"
GIVEN = {"ultrasound": ("Left",), "exam": ("Right", "Left"), "view": ("Left",)}
"""Breasts of a study by its kind."""
MODEL_SECONDS = 0.1
page_socket.ANSWER_SECONDS = 900.0  # whoever waits in a long queue gets an answer


@cache
def _pictures(kind: str) -> tuple[Image, ...]:
    if kind == "ultrasound":
        return (replace(ultrasound_image(), laterality="L"),)
    # A detector's own size and depth: 16 bits, 3328 x 2560.
    return tuple(replace(one, pixels=_enlarged(one.pixels)) for one in mammogram_exam())


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    large = np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1)[:3328, :2560]
    return np.round(large * 65535).astype(np.float32) / 65535


def images_of(kind: str, number: int) -> tuple[Image, ...]:
    """Pictures that no other study has: each is another question to the models."""
    return tuple(
        replace(one, pixels=np.roll(one.pixels, number, axis=1), sha256=f"{number:032x}{place:032x}")
        for place, one in enumerate(_pictures(kind))
    )


@dataclass
class Figures:
    """Seconds by what was done, and what went wrong, a sentence each."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def longest_by_mean(self, what: str) -> float:
        return max(self.seconds[what]) / float(np.mean(self.seconds[what]))

    def percentile(self, what: str, percent: float) -> float:
        return float(np.percentile(self.seconds[what], percent))


class LoadSite:
    """People and studies in `folder`. tokens: a session of each person."""

    def __init__(
        self, folder: Path, *, n_people: int, weights: Path | None = None, archive_credentials: str = ""
    ) -> None:
        given: dict[str, Any] = {"weights_dir": weights} if weights else {}
        self.settings = Settings(state_dir=folder / "state", archive_credentials=archive_credentials, **given)
        self.db = open_database(self.settings)
        self.people: list[Somebody] = [add_person(self.db, f"Reader {n}", "radiologist") for n in range(n_people)]
        self.tokens = [sessions.start_session(self.db, at_terminal(one)) for one in self.people]
        self._n_studies = 0

    def studies(self, kind: str, n: int) -> list[str]:
        """The ids of so many new studies."""
        found, maker = [], at_terminal(self.people[0])  # whose session does not end while many are read
        for _ in range(n):
            self._n_studies += 1
            images = images_of(kind, self._n_studies)
            found.append(studies.create_study(self.db, maker, display_name=f"Case {kind}", images=images))
        return found


class Reader:
    """Somebody at a browser tab of this server; a context manager."""

    def __init__(self, url: str, token: str) -> None:
        self.page = PageSocket(url, {SESSION_COOKIE: token})

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.socket.close()

    def open(self, page: str, query: str = "") -> float:
        """Seconds until the page is drawn. Raises AssertionError for one that failed."""
        began = time.perf_counter()
        self.page.open(page, query)
        seconds = time.perf_counter() - began
        assert "that is our fault" not in self.page.text and self.page.elements, self.page.text[-400:]
        return seconds

    def first_impression(self, study: str, kind: str) -> None:
        """Open a study and save what was seen, up to the button that shows the second read."""
        self.open("read", f"study={study}")
        self.give_first_impression(kind)

    def next_study(self) -> bool:
        """From the worklist to what is next; False where there is nothing."""
        button = next(one for one in self.page.of_kind("button") if one.label.startswith("Next study"))
        if not button.disabled:
            self.page.act(press=button.id)
        return not button.disabled

    def can_begin(self) -> bool:
        """Whether the study that is open waits for this reader's first impression, and nobody else reads it."""
        return any(one.label == "Save first impression" for one in self.page.of_kind("button"))

    def give_first_impression(self, kind: str) -> None:
        self.page.act({self.page.widget("button_group", f"{breast} breast: BI-RADS"): ["2"] for breast in GIVEN[kind]})
        self.page.act(press=self.page.widget("button", "Save first impression"))

    def final_read(self) -> None:
        """Save what was said before as the final assessment. Raises KeyError where there is none to correct then."""
        self.page.act(press=self.page.widget("button", "Save final assessment"))
        self.page.widget("button", "Save the correction")

    def second_read(self) -> float:
        """Seconds from the click until the models' answers are drawn. Raises AssertionError where there are none."""
        press = self.page.widget("button", "Show second read")
        began = time.perf_counter()
        self.page.act(press=press)
        seconds = time.perf_counter() - began
        assert ANSWERED in self.page.text, self.page.text[:2500]
        return seconds


class SlowModel:
    """A model that takes its time and says the same of every image, in place of a network."""

    members = ()

    def __init__(self, card: Card) -> None:
        self.card = card

    def read_prepared(self, batch: Sequence[Prepared]) -> list[tuple[Prediction, Explanation]]:
        time.sleep(MODEL_SECONDS * len(batch))
        said = Prediction(
            self.card.model_id, self.card.weights_sha256, "", self.card.classes, (0.5, 0.42, 0.08), 0.42,
            (0.35, 0.4, 0.5), 0.3, 0.1, "a test's processor",
        )  # fmt: skip
        heat = {"fused": np.ones((3, 4, 4), np.float32)}
        return [(replace(said, image_sha256=one.image_sha256), _where(self.card, heat, one)) for one in batch]


def _where(card: Card, heat: dict[str, np.ndarray], one: Prepared) -> Explanation:
    return Explanation(card.classes, card.positive_index, heat, one.fits[0])


def serve_slow_models(port: int, environment: dict[str, str], output: Path) -> None:
    """As `warm_server.serve`, with `SlowModel` for every network."""
    from core.serving import inference

    inference.load_model = SlowModel  # type: ignore[assignment]
    warm_server.serve(port, environment, output)


def serve_quick_looks(port: int, environment: dict[str, str], output: Path) -> None:
    """The same, and archives are looked into every second, not every minute."""
    from core.archive import sending, watching

    watching.WATCH_SECONDS, sending.LOOK_SECONDS = 1.0, 0.2
    serve_slow_models(port, environment, output)


def at_once(acts: Sequence[Callable[[], None]], figures: Figures) -> None:
    """Every act in a thread of its own, until all are over; what one raises is wrong."""

    def guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # a client's outermost loop: the others go on
            figures.wrong.append(f"{type(error).__name__}: {error}"[:600])

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look_around(
    url: str, token: str, figures: Figures, what: str, *, seconds: float, think_seconds: float, seed: int
) -> None:
    """Pages that ask no model, at least one, with pauses of `think_seconds` on average between them."""
    draw = random.Random(seed)
    with Reader(url, token) as reader:
        time.sleep(draw.uniform(0, think_seconds))
        until = time.monotonic() + seconds
        is_first = True
        while is_first or time.monotonic() < until:
            is_first, page = False, draw.choice(PAGES)
            figures.seconds[f"{what} {page}"].append(reader.open(page))
            time.sleep(draw.expovariate(1 / think_seconds) if think_seconds else 0)
