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

import numpy as np
import page_socket
from page_socket import PageSocket
from record_site import Somebody, add_person, at_terminal

from core.demo.phantoms import mammogram_exam, ultrasound_image
from core.records.database.db import open_database
from core.records.people import sessions
from core.records.reads import studies
from core.server.guards import SESSION_COOKIE
from core.settings import Settings
from core.types import Image

PAGES = ("worklist", "account", "models", "archive", "about")
"""Pages that ask no model."""
ANSWERED = "Probability of malignancy"
GIVEN = {"ultrasound": ("Left",), "exam": ("Right", "Left")}
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

    def __init__(self, folder: Path, *, n_people: int, weights: Path | None = None) -> None:
        given = {"weights_dir": weights} if weights else {}
        self.settings = Settings(state_dir=folder / "state", **given)
        self.db = open_database(self.settings)
        self.people: list[Somebody] = [add_person(self.db, f"Reader {n}", "radiologist") for n in range(n_people)]
        self.tokens = [sessions.start_session(self.db, at_terminal(one)) for one in self.people]
        self._n_studies = 0

    def studies(self, kind: str, n: int) -> list[str]:
        """The ids of so many new studies."""
        found = []
        for _ in range(n):
            self._n_studies += 1
            images = images_of(kind, self._n_studies)
            found.append(studies.create_study(self.db, self.people[0], display_name=f"Case {kind}", images=images))
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
        self.page.act({self.page.widget("button_group", f"{breast} breast: BI-RADS"): ["2"] for breast in GIVEN[kind]})
        self.page.act(press=self.page.widget("button", "Save first impression"))

    def second_read(self) -> float:
        """Seconds from the click until the models' answers are drawn. Raises AssertionError where there are none."""
        press = self.page.widget("button", "Show second read")
        began = time.perf_counter()
        self.page.act(press=press)
        seconds = time.perf_counter() - began
        assert ANSWERED in self.page.text, self.page.text[-400:]
        return seconds


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
