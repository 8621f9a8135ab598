"""A site of its own for each file whose tests need nothing set, and its first administrator in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from running_app import RunningApp, chromium, running_app, set_up

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_MS = 180_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("site") / "state") as app:
        yield app


@pytest.fixture(scope="module")
def page(site: RunningApp) -> Iterator[Page]:
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(PATIENCE_MS)
        set_up(tab, site, name="Ada", password="a long enough password for tests")
        yield tab
