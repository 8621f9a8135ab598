"""app.py: which pages somebody gets, what every page shows, and the server that `streamlit run app.py` starts."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page_site import app_test
from record_site import at_terminal
from running_app import REPOSITORY, RunningApp, running_app

from core import version
from core.records.database.db import Database, open_database
from core.records.people import accounts, invitations, sessions, totp
from core.records.people.permissions import Person
from core.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_hashes: None) -> Iterator[Database]:
    """A database that the pages find by themselves."""
    import streamlit as st

    for name in [name for name in os.environ if name.startswith("SECONDREAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    st.cache_resource.clear()
    database = open_database(Settings.from_environment())
    yield database
    database.close()
    st.cache_resource.clear()


@pytest.fixture
def anna(db: Database) -> Person:
    code = accounts.setup_code(db)
    assert code is not None
    return at_terminal(accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD))


class Tab:
    """A browser tab in AppTest; `cookie` is what the browser would send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pages.parts import session as page_session

        self.cookie = ""
        monkeypatch.setattr(page_session, "session_token", lambda: self.cookie)
        self.app = app_test(seconds=60)

    def open(self, page: str = "") -> str:
        """The words of the page, or of the one that the application shows instead."""
        if page:
            self.app.switch_page(page)
        self.app.run()
        elements = (*self.app.title, *self.app.caption, *self.app.error, *self.app.text)
        frame = " ".join(html.proto.body.split("</style>")[-1] for html in self.app.get("html"))
        return " ".join([frame, *(element.value for element in elements)])


@pytest.fixture
def tab(db: Database, monkeypatch: pytest.MonkeyPatch) -> Tab:
    return Tab(monkeypatch)


def signed_in_as(tab: Tab, db: Database, anna: Person, *roles: str) -> Person:
    person = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=roles)
    tab.cookie = sessions.start_session(db, person)
    return person


PAGE_FILES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for room in ("reader", "research", "admin")
    for path in (REPOSITORY / "pages" / room).glob("*.py")
    if path.name != "__init__.py"
)


def test_no_page_lies_where_streamlit_would_serve_it_without_app_py() -> None:
    assert [path.name for path in (REPOSITORY / "pages").glob("*.py")] == ["__init__.py"]


def test_streamlit_finds_the_server_in_app_py() -> None:
    from streamlit.web.server.app_discovery import discover_asgi_app

    found = discover_asgi_app(REPOSITORY / "app.py")
    assert found.is_asgi_app and found.import_string == "app:app"


def test_the_first_visitor_is_asked_for_the_setup_code(tab: Tab) -> None:
    words = tab.open()
    assert "Create the first administrator" in words and 'action="/setup"' in words


def test_later_visitors_are_asked_to_sign_in(tab: Tab, anna: Person) -> None:
    words = tab.open()
    assert "Sign in" in words and 'action="/login"' in words and "/setup" not in words


@pytest.mark.parametrize("page", PAGE_FILES)
def test_signed_out_every_page_is_the_sign_in_page(tab: Tab, anna: Person, page: str) -> None:
    words = tab.open(page)
    assert 'action="/login"' in words and "Sign out" not in words


def test_about_is_open_to_everybody(tab: Tab, anna: Person) -> None:
    assert "About" in tab.open("pages/public/about.py")


def test_about_says_of_names_grey_levels_and_earlier_studies_what_is_so(tab: Tab, anna: Person) -> None:
    tab.open("pages/public/about.py")
    words = " ".join(" ".join(text.value for text in tab.app.markdown).split())
    assert "Of studies from an archive name, number, birth date and sex are, encrypted" in words
    assert "gets all 16 bits" in words and "models do not compare with earlier studies" in words
    for untrue in ("keeps no patient name", "sent to the browser in 8 bits", "It does not compare with earlier"):
        assert untrue not in words


@pytest.mark.parametrize("page", ["pages/admin/people.py", "pages/reader/worklist.py", "pages/reader/read.py"])
def test_a_page_of_another_role_says_so_in_a_sentence_and_shows_nothing(
    tab: Tab, db: Database, anna: Person, page: str
) -> None:
    signed_in_as(tab, db, anna, "researcher")
    tab.open(page)
    assert "role" in tab.app.error[0].value and not tab.app.title and not tab.app.exception


def test_a_link_opened_while_signed_out_keeps_page_and_choices_in_the_sign_in_form(tab: Tab, anna: Person) -> None:
    tab.app.query_params.update({"data": "A & B", "scorers": ["x", "y"], "said": "wrong"})
    words = tab.open("pages/research/compare.py")
    assert 'name="page" value="compare"' in words
    assert 'name="choices" value="data=A+%26+B&amp;scorers=x&amp;scorers=y"' in words


def test_an_idle_sign_out_keeps_page_and_choices_too(tab: Tab, db: Database, anna: Person) -> None:
    tab.cookie = sessions.start_session(db, anna)
    tab.app.query_params["leader"] = "nobody"
    assert "Sign out" in tab.open("pages/admin/people.py")
    sessions.sign_out(db, tab.cookie)
    words = tab.open()
    assert 'action="/login"' in words and 'value="people"' in words and "leader=nobody" in words


def test_an_administrator_finds_the_people(tab: Tab, db: Database, anna: Person) -> None:
    tab.cookie = sessions.start_session(db, anna)
    words = tab.open("pages/admin/people.py")
    assert "People" in words and "Anna Berg" in words and "can sign in" in words


@pytest.mark.parametrize("page", PAGE_FILES)
def test_every_page_shows_research_use_and_who_is_signed_in(tab: Tab, db: Database, anna: Person, page: str) -> None:
    tab.cookie = sessions.start_session(db, anna)
    words = tab.open(page)
    assert "Research use only" in words and "Anna Berg" in words and 'action="/logout"' in words
    assert not tab.app.exception


def test_names_are_shown_as_text_not_as_markup(tab: Tab, db: Database, anna: Person) -> None:
    person = accounts.create_person(db, anna, name="<b>Eve</b>", password=PASSWORD, roles=["researcher"])
    tab.cookie = sessions.start_session(db, person)
    assert "&lt;b&gt;Eve&lt;/b&gt;" in tab.open()


def test_a_database_that_is_away_is_said_in_a_sentence(
    tab: Tab, db: Database, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.errors import Conflict

    def away(*_: object, **__: object) -> None:
        raise Conflict("The database is away.")

    tab.cookie = sessions.start_session(db, anna)
    monkeypatch.setattr(sessions, "person_of", away)
    assert "The database is away" in tab.open().replace("\\", "") and not tab.app.exception


def test_an_ended_session_leads_back_to_sign_in(tab: Tab, db: Database, anna: Person) -> None:
    tab.cookie = sessions.start_session(db, anna)
    assert "Sign out" in tab.open()
    sessions.sign_out(db, tab.cookie)
    assert 'action="/login"' in tab.open()


def test_the_next_person_finds_nothing_of_the_one_before(tab: Tab, db: Database, anna: Person) -> None:
    tab.cookie = sessions.start_session(db, anna)
    tab.open()
    tab.app.session_state["a_draft"] = "Anna's"
    tab.open()
    assert "a_draft" in tab.app.session_state
    signed_in_as(tab, db, anna, "radiologist")
    tab.open()
    assert "a_draft" not in tab.app.session_state


def test_a_refusal_is_a_known_sentence_or_nothing(tab: Tab, anna: Person) -> None:
    tab.app.query_params["said"] = "wrong"
    assert "do not match" in tab.open()
    tab.app.query_params["said"] = "Call 555-0100 to unlock your account"
    words = tab.open()
    assert "555-0100" not in words and not tab.app.error


def test_an_administrator_adds_a_person(tab: Tab, db: Database, anna: Person) -> None:
    tab.cookie = sessions.start_session(db, anna)
    tab.open("pages/admin/people.py")
    tab.app.text_input(key="new_person_name_0").input(" ")
    tab.app.button(key="new_person_add_0").click()
    assert "A name has" in tab.open()
    tab.app.text_input(key="new_person_name_0").input("Rosa Diaz")
    tab.app.button(key="new_person_add_0").click()
    assert "Rosa Diaz" in tab.open()
    link = tab.app.code[0].value.partition("/invitation?link=")[2]
    assert invitations.use_link(db, link, PASSWORD).name == "Rosa Diaz"
    rosa = next(row for row in accounts.list_people(db, anna) if row.name == "Rosa Diaz")
    assert rosa.roles == ("radiologist",)


# The server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("app") / "state") as started:
        yield started


def test_the_terminal_shows_the_setup_code_and_the_log_file_does_not(server: RunningApp) -> None:
    assert len(server.setup_code) == 23
    log = (server.state_dir / "logs" / "secondread.log").read_text(encoding="utf-8")
    assert "ready" in log and server.setup_code not in log


def test_streamlits_own_answers_are_guarded(server: RunningApp) -> None:
    page = httpx.get(server.url)
    assert page.status_code == 200 and "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{server.url}/_stcore/health").status_code == 200
    for path, status in (("/_stcore/metrics", 404), ("/_stcore/agent/openapi.json", 404), ("/media/x.png", 403)):
        assert httpx.get(server.url + path).status_code == status, path


@pytest.mark.parametrize("path", ["/pages/admin/people.py", "/app.py", "/app/static/app.py", "/.streamlit/config.toml"])
def test_no_source_is_served(server: RunningApp, path: str) -> None:
    assert "import" not in httpx.get(server.url + path).text.replace("important", "").split("<script", 1)[0]
    assert "streamlit as st" not in httpx.get(server.url + path).text


def test_no_address_with_its_query_reaches_terminal_or_log(server: RunningApp) -> None:
    httpx.get(f"{server.url}/read?study=secretstudy")
    httpx.post(f"{server.url}/login?who=secretname", content="who=x", headers={"Origin": server.url})
    time.sleep(0.3)
    log = (server.state_dir / "logs" / "secondread.log").read_text(encoding="utf-8")
    assert "secret" not in log + server.output.read_text(errors="replace")


def test_a_setting_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failed, running_app(tmp_path / "state", reading_mode="sometimes"):
        pass
    assert "SecondRead cannot start. SECONDREAD_READING_MODE" in str(failed.value)
    assert "Traceback" not in str(failed.value)


def test_the_setup_code_is_gone_once_there_is_an_administrator(tmp_path: Path) -> None:
    with running_app(tmp_path / "state") as first:
        fields = {"code": first.setup_code, "who": "Anna", "password": PASSWORD, "repeated": PASSWORD}
        answer = httpx.post(f"{first.url}/setup", data=fields, headers={"Origin": first.url})
        assert answer.headers["location"] == "/"
    with running_app(tmp_path / "state") as second:
        assert second.setup_code == first.setup_code  # the terminal of both: nothing new was shown
        answer = httpx.post(f"{second.url}/setup", data=fields, headers={"Origin": second.url})
        assert answer.headers["location"] == "/?said=exists"


def test_about_says_the_version_and_its_libraries(tab: Tab, anna: Person) -> None:
    assert version.software() in tab.open("pages/public/about.py")


def test_an_administrator_without_a_second_factor_sets_it_up_where_it_is_demanded(
    tab: Tab, db: Database, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDREAD_SECOND_FACTOR", "administrators")
    person = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["administrator"])
    tab.cookie = sessions.start_session(db, person)
    assert "Sign out" in tab.open() and "People" not in [title.value for title in tab.app.title]
    tab.open("pages/reader/account.py")
    assert "the role counts once it is set up" in " ".join(info.value for info in tab.app.info)
    tab.app.button(key="factor_begin").click().run()
    secret = base64.b32decode(tab.app.code[0].value.replace(" ", ""))
    tab.app.text_input(key="factor_code").set_value("000000x")
    tab.app.button(key="factor_confirm").click().run()
    assert "This code is not right" in tab.app.error[0].value
    tab.app.text_input(key="factor_code").set_value(totp.code_at(secret, totp.step_of(time.time())))
    tab.app.button(key="factor_confirm").click().run()
    assert len(tab.app.code[0].value.splitlines()) == totp.RECOVERY_CODES and not tab.app.exception
    assert "People" in tab.open("pages/admin/people.py")


def test_who_is_asked_for_a_code_finds_its_page(tab: Tab, anna: Person) -> None:
    words = tab.open("pages/public/second_factor.py")
    assert 'action="/second-factor"' in words
