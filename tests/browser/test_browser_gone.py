"""Who was demoted or signed out elsewhere, in front of a page that is still open; and who knows another's address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record_site import CALM, picture
from running_app import RunningApp, chromium, running_app, sign_in

from core.records.audit import trail
from core.records.database.db import Database, open_database
from core.records.people import accounts
from core.records.people.permissions import LocalTerminal
from core.records.reads import reads, studies
from core.settings import Settings

pytestmark = pytest.mark.browser

PASSWORD = "a long enough password for tests"
TERMINAL = LocalTerminal(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningApp, Database, str]]:
    """The running application, its database, and a study that Ada has read to the end."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "weights").mkdir()
    db = open_database(Settings(state_dir=folder / "state"))
    accounts.create_first_administrator(db, code=accounts.setup_code(db) or "", name="Chief", password=PASSWORD)
    for name in ("Ada", "Otto"):
        accounts.create_person(db, TERMINAL, name=name, password=PASSWORD, roles=["radiologist", "administrator"])
    ada = LocalTerminal(2)
    study_id = studies.create_study(db, ada, display_name="Case", images=[picture()])
    reads.record_first_read(db, ada, study_id, {"R": CALM})
    reads.reveal(db, ada, study_id)
    reads.record_final_read(db, ada, study_id, {"R": CALM})
    with running_app(folder / "state", weights_dir=folder / "weights") as app:
        yield app, db, study_id
    db.close()


def test_a_demoted_administrator_ends_with_a_sentence_and_a_report_answers_its_maker_alone(
    site: tuple[RunningApp, Database, str],
) -> None:
    app, db, study_id = site
    with chromium() as browser:
        ada, otto = browser.new_context(accept_downloads=True), browser.new_context()
        page, other = ada.new_page(), otto.new_page()
        for tab, name in ((page, "Ada"), (other, "Otto")):
            tab.set_default_timeout(120_000)
            sign_in(tab, app, name=name, password=PASSWORD)
            tab.get_by_text("Sign out").first.wait_for()

        fetched: list[str] = []
        page.on("request", lambda request: fetched.append(request.url) if "/media/" in request.url else None)
        page.goto(f"{app.url}/read?study={study_id}")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Report as PDF").click()
        assert Path(waiting.value.path()).read_bytes().startswith(b"%PDF")
        address = next(url for url in [waiting.value.url, *fetched] if url.endswith(".pdf"))
        assert ada.request.get(address).status == 200
        assert otto.request.get(address).status == 404

        page.goto(f"{app.url}/audit")
        page.get_by_role("button", name="Prepare the file").click()
        with page.expect_download() as waiting:  # bytes that were made with the page, not when they are asked for
            page.get_by_role("button", name="Download (CSV)").click()
        assert b"export report" in Path(waiting.value.path()).read_bytes()

        page.goto(f"{app.url}/people")
        _open_dialog(page, "Otto")
        accounts.set_roles(db, TERMINAL, 2, ["researcher"])
        page.get_by_role("button", name="Disable and sign out everywhere").click()
        page.get_by_text("Your account may not do this").first.wait_for()
        assert not any(row.is_disabled for row in accounts.list_people(db, TERMINAL))
        assert trail.entries(db, TERMINAL, action="disable person") == []
        assert ada.request.get(address).status == 404


def test_a_download_that_is_refused_says_why(site: tuple[RunningApp, Database, str]) -> None:
    app, db, study_id = site
    accounts.set_roles(db, TERMINAL, 2, ["radiologist"])
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        sign_in(page, app, name="Ada", password=PASSWORD)
        page.get_by_text("Sign out").first.wait_for()
        page.goto(f"{app.url}/read?study={study_id}")
        page.get_by_role("button", name="Report as PDF").wait_for()
        accounts.set_roles(db, TERMINAL, 2, ["researcher"])
        page.get_by_role("button", name="Report as PDF").click()
        page.get_by_test_id("stDownloadButtonError").get_by_text("role radiologist").wait_for()


def test_an_administrator_whose_sessions_were_ended_does_nothing_more_from_an_open_dialog(
    site: tuple[RunningApp, Database, str],
) -> None:
    app, db, _ = site
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        sign_in(page, app, name="Otto", password=PASSWORD)
        page.get_by_text("Sign out").first.wait_for()
        page.goto(f"{app.url}/people")
        _open_dialog(page, "Chief")
        accounts.sign_out_everywhere(db, TERMINAL, 3)
        page.get_by_role("button", name="Reset the password with a link").click()
        page.get_by_text("You are not signed in any more").or_(page.get_by_text("Password")).first.wait_for()
        assert trail.entries(db, TERMINAL, action="reset by link") == []
        assert page.get_by_text("invitation?link=").count() == 0


def _open_dialog(page: Any, name: str) -> None:
    """The dialog of the person, by their place in the list, which is by name."""
    names = ["Ada", "Chief", "Otto"]
    page.get_by_role("button", name="Change", exact=True).nth(names.index(name)).click()
    # All of it: the dialog is there before its buttons are, and who he is is asked when they are drawn.
    page.get_by_role("dialog").get_by_role("button", name="Disable and sign out everywhere").wait_for()
