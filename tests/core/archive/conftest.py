"""One archive for all tests of this folder: it takes a second to start. Who uses it empties it first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from orthanc_site import Orthanc, running_orthanc
from record_site import Somebody, add_person

from core.records.database.db import Database, open_database
from core.settings import Settings


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def db(orthanc: Orthanc, tmp_path: Path) -> Iterator[Database]:
    """An empty site that knows how to sign in at the archive, which is empty, too."""
    orthanc.empty()
    settings = Settings(state_dir=tmp_path / "state", archive_credentials=f"pacs = {orthanc.credentials}")
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture
def ada(db: Database) -> Somebody:
    return add_person(db, "Dr Ada")
