"""What a page left to be done later: made for whoever may still have it, when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from page_site import PageSite, Tab, first_read, store
from record_site import CALM, add_person

from core.errors import NotAllowed, SignedOut
from core.records.audit import trail
from core.records.people import accounts
from core.records.people.permissions import LocalTerminal, SessionActor
from core.records.reads import reads, studies
from core.server.media_owners import MediaOwners, media_id, wrapped

Made = Callable[[], bytes]


@pytest.fixture
def downloads(opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch) -> dict[str, Made]:
    """What the buttons of a finished study's page would call, by their key; the page was drawn once."""
    import streamlit as st

    study_id = store(opened_site, "Case")
    first_read(opened_site, study_id)
    reads.reveal(opened_site.db, opened_site.one, study_id)
    reads.record_final_read(opened_site.db, opened_site.one, study_id, {"L": CALM})
    found: dict[str, Made] = {}

    def seen(_label: str, data: Made, *_: object, key: str, **__: Any) -> None:
        found[key] = data

    monkeypatch.setattr(st, "download_button", seen)
    tab.open("reader/read", study_id)
    assert set(found) == {"report_pdf", "report_html"}
    return found


def answered(error: Exception | None, *, is_known: bool = True) -> tuple[str, str]:
    """(address, sentence) of a download whose making ends with `error`, as Streamlit's server would send it."""
    from streamlit.proto.BackMsg_pb2 import BackendOperationRequest
    from streamlit.runtime.backend_operation_handler import DeferredFileHandler
    from streamlit.runtime.media_file_manager import MediaFileManager
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

    def made() -> bytes:
        if error is not None:
            raise error
        return b"a file"

    from pages.parts import media

    media.install()
    files = MediaFileManager(MemoryMediaFileStorage("/media"))
    known = files.add_deferred(made, "text/plain", "1", "a.txt")
    request = BackendOperationRequest(request_id="1", deferred_file={"file_id": known if is_known else "other"})
    answer = asyncio.run(DeferredFileHandler(lambda: files).handle(request, "session"))
    return answer.deferred_file.url, answer.error_msg


def test_a_refused_download_says_why_and_a_failed_one_gives_a_number(caplog: pytest.LogCaptureFixture) -> None:
    url, sentence = answered(None)
    assert url.startswith("/media/") and not sentence
    assert answered(SignedOut()) == ("", str(SignedOut()))
    url, sentence = answered(ValueError("Frau Berg"))
    number = sentence.removesuffix(".").rpartition(" ")[2]
    assert not url and "our fault" in sentence and "Berg" not in sentence
    assert any(number in record.getMessage() for record in caplog.records)
    assert answered(None, is_known=False)[1].startswith("This download is not offered any more.")


def exports(site: PageSite) -> int:
    return len(trail.entries(site.db, LocalTerminal(site.one.id), action="export report"))


def test_a_report_is_made_and_written_down_for_who_may_have_it(
    opened_site: PageSite, downloads: dict[str, Made]
) -> None:
    assert b"Dr One" in downloads["report_html"]() and downloads["report_pdf"]().startswith(b"%PDF")
    assert exports(opened_site) == 2


def test_a_report_says_what_holds_when_it_is_made_not_what_did_when_the_page_was_drawn(
    opened_site: PageSite, downloads: dict[str, Made]
) -> None:
    (row,) = studies.list_studies(opened_site.db, opened_site.one)
    assert b"looks otherwise by now" not in downloads["report_html"]()
    reads.record_final_read(opened_site.db, opened_site.one, row.id, {"L": CALM}, "It looks otherwise by now.")
    assert b"looks otherwise by now" in downloads["report_html"]()


@pytest.mark.parametrize("kind", ["report_pdf", "report_html"])
@pytest.mark.parametrize("end", ["signed out", "disabled", "demoted"])
def test_a_report_is_not_made_once_session_account_or_role_are_gone(
    opened_site: PageSite, downloads: dict[str, Made], kind: str, end: str
) -> None:
    db, one = opened_site.db, opened_site.one
    chief = add_person(db, "Chief", "administrator")
    if end == "signed out":
        accounts.sign_out_everywhere(db, chief, one.id)
    elif end == "disabled":
        accounts.disable_person(db, chief, one.id)
    else:
        accounts.set_roles(db, chief, one.id, ["researcher"])
    with pytest.raises(NotAllowed if end == "demoted" else SignedOut):
        downloads[kind]()
    assert exports(opened_site) == 0


def test_the_page_says_one_sentence_to_who_lost_the_role_and_offers_nothing(opened_site: PageSite, tab: Tab) -> None:
    study_id = store(opened_site, "Case")
    assert "Case" in tab.open("reader/read", study_id).text
    accounts.set_roles(opened_site.db, add_person(opened_site.db, "Chief"), opened_site.one.id, ["researcher"])
    tab.settled()
    assert not tab.app.exception and not tab.has("Save first impression")


def test_a_stored_file_belongs_to_the_session_and_the_action_that_it_was_made_for(
    opened_site: PageSite,
) -> None:
    from pages.parts.session import MADE_FOR

    db, one, owners = opened_site.db, opened_site.one, MediaOwners()
    stored = wrapped(lambda content, kind: f"id-of-{content}", owners, MADE_FOR.get)
    mine, other = SessionActor(one.token_sha256), SessionActor(opened_site.two.token_sha256)
    assert stored("nobody's", "text/plain") == "id-of-nobody's"
    MADE_FOR.set((mine, "export_report"))
    assert stored("report", kind="text/html") == "id-of-report"
    MADE_FOR.set(None)
    assert owners.may_fetch(db, media_id("/media/id-of-report.html"), mine)
    assert not owners.may_fetch(db, "id-of-report", other)
    assert not owners.may_fetch(db, "id-of-nobody's", mine)
    accounts.set_roles(db, add_person(db, "Chief", "administrator"), one.id, ["researcher"])
    assert not owners.may_fetch(db, "id-of-report", mine)
