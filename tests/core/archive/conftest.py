"""One archive for all tests of this folder: it takes a second to start. Who uses it empties it first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from orthanc_site import Orthanc, running_orthanc


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running
