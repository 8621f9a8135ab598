"""The short run of `make load`: many readers at once, no error, everybody answered, and errors would be found.

Its models need no TensorFlow: what is tried is the server, its pages and the queue before the models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from load_site import Figures, LoadSite, Reader, at_once, look_around, serve_slow_models
from page_site import release
from warm_server import WarmServer, free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the server is forked from a warm process")
CLIENTS, READERS = 50, 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LoadSite]:
    weights = tmp_path / "weights"
    weights.mkdir()
    release(weights, "ultrasound-cnn")
    found = LoadSite(tmp_path, n_people=CLIENTS, weights=weights)
    yield found
    found.db.close()


def test_fifty_readers_meet_no_error_and_who_asks_first_is_answered_first(site: LoadSite, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"weights_dir": site.settings.weights_dir, "compute_ahead": 0}
    server = WarmServer(tmp_path / "state", free_port(), tmp_path / "terminal", target=serve_slow_models, **settings)
    figures = Figures()
    try:
        server.wait_until_ready()
        looking = [
            partial(look_around, server.url, token, figures, "page", seconds=2, think_seconds=2, seed=number)
            for number, token in enumerate(site.tokens[READERS:])
        ]
        reading = [
            partial(read_one, server.url, token, study, figures)
            for token, study in zip(site.tokens, site.studies("ultrasound", READERS), strict=False)
        ]
        at_once([*reading, *looking], figures)
    finally:
        server.process.kill()
        server.process.join()
    assert figures.wrong == []
    assert len(figures.seconds["second read"]) == READERS
    n_pages = sum(len(seconds) for what, seconds in figures.seconds.items() if what.startswith("page"))
    assert n_pages >= CLIENTS - READERS
    assert figures.longest_by_mean("second read") < 3, figures.seconds["second read"]


def read_one(url: str, token: str, study: str, figures: Figures) -> None:
    with Reader(url, token) as reader:
        reader.first_impression(study, "ultrasound")
        figures.seconds["second read"].append(reader.second_read())


def test_what_a_client_meets_is_wrong() -> None:
    """Or the load would be green whatever the server says."""
    figures = Figures()

    def failed() -> None:
        raise AssertionError("a page")

    at_once([lambda: None, failed], figures)
    at_once([partial(Reader, "http://localhost:9", "token")], figures)
    assert len(figures.wrong) == 2 and "a page" in figures.wrong[0]
    figures.seconds["read"] += [1.0, 2.0, 3.0]
    assert figures.longest_by_mean("read") == 1.5
