"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from real_data import forbidden_skips, real_folder, why_skipped
from record_site import PostgresServer, find_postgres, tables_made_once

from core.records.database.db import Database, open_database
from core.records.people import passwords
from core.settings import Settings

if TYPE_CHECKING:
    from page_site import PageSite, Tab

ROOM_IN_MEMORY = 8 << 30
_HEAVY = ("tensorflow", "keras", "tf_keras_vis", "streamlit")


@dataclass(frozen=True)
class Collected:
    """files: those with tests. loaded: what takes seconds to import, and whether it was in memory before a test ran."""

    files: frozenset[Path]
    loaded: dict[str, bool]


_COLLECTED = pytest.StashKey[Collected]()


@pytest.fixture(scope="session")
def test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with images (`data/`) and hostile files (`corpus/`): real where they are there, else made."""
    folder = real_folder()
    if folder:
        return folder
    from made_test_data import make_test_data  # here, because most runs of a few tests need none

    return make_test_data(tmp_path_factory.mktemp("made"))


def pytest_configure() -> None:
    """Temporary folders lie in memory where there is room: on a disk the tests would spend their time waiting until
    each commit is on it. And bytecode is written also where the machine is set to write none: every process that a test
    starts would compile the product anew.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    memory = Path("/dev/shm")
    is_usable = memory.is_dir() and os.access(memory, os.W_OK) and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    if is_usable and shutil.disk_usage(memory).free >= ROOM_IN_MEMORY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What measures real images is skipped, with a sentence that says what it measures, where they are not there."""
    files, loaded = frozenset(item.path for item in items), {name: name in sys.modules for name in _HEAVY}
    config.stash[_COLLECTED] = Collected(files, loaded)
    for item in items:
        if reason := why_skipped(item):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _tables_made_once() -> Iterator[None]:
    with tables_made_once():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server. Skips with a reason where there is none, and fails where CI=true."""
    server = find_postgres()
    if isinstance(server, str):
        if os.environ.get("CI") == "true":
            pytest.fail(server)
        pytest.skip(server)
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def record_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a new site with an empty state folder, once with each kind of database."""
    state_dir = tmp_path / "state of 100 %"
    if request.param == "sqlite":
        yield Settings(state_dir=state_dir)
        return
    server = request.getfixturevalue("postgres")
    url = server.database_with_tables() if "records" in request.fixturenames else server.empty_database()
    yield Settings(state_dir=state_dir, database_url=url)


@pytest.fixture
def records(record_settings: Settings) -> Iterator[Database]:
    """An open, empty database of a new site, once of each kind."""
    db = open_database(record_settings)
    yield db
    db.close()


@pytest.fixture(scope="session")
def collected(request: pytest.FixtureRequest) -> Collected:
    """What this process was asked to collect, and what that loaded."""
    return request.config.stash[_COLLECTED]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI=true nothing may be skipped but what `forbidden_skips` allows."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return
    if forbidden := forbidden_skips(reporter.stats.get("skipped", [])):
        reporter.write_line(f"{len(forbidden)} skipped tests fail the run where CI=true: {forbidden[0]}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hashes of passwords that take a moment, where how long guessing takes is not what is tested."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: quick)
    passwords.nobodys_hash.cache_clear()
    yield
    passwords.nobodys_hash.cache_clear()


@pytest.fixture
def db(settings: Settings, quick_hashes: None) -> Iterator[Database]:
    """The new database of a file's own `settings`, for tests of accounts."""
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture
def opened_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_hashes: None) -> Iterator[PageSite]:
    """A site with two radiologists and models without a network, for tests of pages."""
    from page_site import open_page_site  # here, because it imports all of Streamlit

    yield from open_page_site(tmp_path, monkeypatch)


@pytest.fixture
def tab(opened_site: PageSite, monkeypatch: pytest.MonkeyPatch) -> Tab:
    """A tab of the site's first person."""
    from page_site import Tab

    return Tab(opened_site, opened_site.one, monkeypatch)
