"""The door in a real browser: first start, signing in and out, lock-out, uploads, people, screens left alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_app import RunningApp, chromium, running_app, set_up, sign_in

from core.records.people.throttle import FAILURES_BEFORE_LOCK

pytestmark = pytest.mark.browser

NAME, PASSWORD = "Anna Berg", "correct horse battery"
COOKIE = "secondread_session"
PATIENCE_MS = 90_000  # a machine that trains beside the tests answers late


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[RunningApp]:
    """A running application in which Anna Berg is administrator. Its first start is a test of its own below."""
    with running_app(tmp_path_factory.mktemp("door") / "state", upload_mib=4) as started:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        set_up(context.new_page(), started, name=NAME, password=PASSWORD)
        context.close()
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab that fails the test when a script fails or the security policy stops something."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    yield tab
    context.close()
    assert problems == []


def session_cookie(page: Any) -> dict[str, Any]:
    return next((cookie for cookie in page.context.cookies() if cookie["name"] == COOKIE), {})


def test_from_the_setup_code_to_the_first_administrator(browser: Any, page: Any, tmp_path: Path) -> None:
    with running_app(tmp_path / "state") as app:
        page.goto(app.url)
        for field, text in (("code", "WRONG-CODE"), ("who", NAME), ("password", PASSWORD), ("repeated", PASSWORD)):
            page.fill(f"[name={field}]", text)
        page.click("text=Create and sign in")
        page.wait_for_selector("text=This is not the setup code")
        set_up(page, app, name=NAME, password=PASSWORD)
        assert "radiologist, researcher, administrator" in page.inner_text(".sr-frame")
        page.click("text=Sign out")
        page.wait_for_selector("form[action='/login']")


def test_the_session_survives_a_reload_and_scripts_cannot_read_it(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME.lower(), password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    page.reload()
    page.wait_for_selector("text=Sign out")
    cookie = session_cookie(page)
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert COOKIE not in page.evaluate("document.cookie")


def test_after_signing_out_the_old_cookie_opens_nothing(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    cookie = session_cookie(page)
    page.click("text=Sign out")
    page.wait_for_selector("form[action='/login']")
    assert session_cookie(page) == {}
    page.context.add_cookies([cookie])
    page.goto(app.url)
    page.wait_for_selector("form[action='/login']")


@pytest.mark.parametrize("path", ["worklist", "read", "truth", "models", "people", "account"])
def test_signed_out_no_address_leads_past_the_sign_in_page(app: RunningApp, page: Any, path: str) -> None:
    page.goto(f"{app.url}/{path}")
    page.wait_for_selector("form[action='/login']")
    assert "Sign out" not in page.inner_text("body")


def test_a_link_opened_while_signed_out_is_where_one_is_after_signing_in(app: RunningApp, page: Any) -> None:
    page.goto(f"{app.url}/models?kind=ultrasound")
    page.wait_for_selector("form[action='/login']")
    assert "Page not found" not in page.inner_text("body")
    page.fill("[name=who]", NAME)
    page.fill("[name=password]", "wrong password")
    page.click("form[action='/login'] button")
    page.wait_for_selector("text=do not match")
    page.fill("[name=who]", NAME)
    page.fill("[name=password]", PASSWORD)
    page.click("form[action='/login'] button")
    page.wait_for_selector("text=Sign out")
    assert page.url.endswith("/models?kind=ultrasound")
    page.goto(f"{app.url}/worklist")  # where this person arrives, sent by somebody who arrives elsewhere
    page.get_by_role("button", name="New study").wait_for()
    assert "Page not found" not in page.inner_text("body")


def test_the_sign_in_form_works_with_the_keyboard_alone(app: RunningApp, page: Any) -> None:
    page.goto(app.url)
    page.focus("[name=who]")
    page.keyboard.type(NAME)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Sign out")


def test_too_many_wrong_passwords_lock_the_name(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    add_person(page, app, "Ben Okoye")
    page.click("text=Sign out")
    for _ in range(FAILURES_BEFORE_LOCK):
        sign_in(page, app, name="Ben Okoye", password="wrong password")
        page.wait_for_selector("text=do not match")
    sign_in(page, app, name="Ben Okoye", password=PASSWORD)
    page.wait_for_selector("text=do not match")
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    page.goto(f"{app.url}/people")
    page.wait_for_selector("text=locked for some minutes")
    page.get_by_role("button", name="Change", exact=True).nth(1).click()
    page.click("text=Let this person sign in again")
    page.wait_for_selector("text=locked for some minutes", state="detached")


def test_disabling_a_person_takes_the_page_from_their_screen(app: RunningApp, browser: Any, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    add_person(page, app, "Carl Nye")
    elsewhere = browser.new_context()
    elsewhere.set_default_timeout(PATIENCE_MS)
    other = elsewhere.new_page()
    sign_in(other, app, name="Carl Nye", password=PASSWORD)
    other.wait_for_selector("text=Sign out")
    page.goto(f"{app.url}/people")
    row = page.locator("[data-testid=stHorizontalBlock]", has_text="Carl Nye")
    row.get_by_role("button", name="Change").click()
    page.click("text=Disable and sign out everywhere")
    page.wait_for_selector("text=disabled")
    other.wait_for_selector("form[action='/login']")  # nobody touched that screen
    elsewhere.close()


def test_a_changed_password_is_the_one_that_counts(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    add_person(page, app, "Dora Lind")
    page.click("text=Sign out")
    sign_in(page, app, name="Dora Lind", password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    page.goto(f"{app.url}/account")
    for field, text in (("old", PASSWORD), ("password", "another long one"), ("repeated", "another long one")):
        page.fill(f"[name={field}]", text)
    page.click("text=Change the password")
    page.wait_for_selector("text=The new password is kept")
    page.click("text=Sign out")
    sign_in(page, app, name="Dora Lind", password="another long one")
    page.wait_for_selector("text=Sign out")


def test_files_are_uploaded_with_progress_and_refused_with_sentences(
    app: RunningApp, page: Any, tmp_path: Path
) -> None:
    for name, size in (("one.dcm", 300_000), ("two <b>.png", 1000), ("empty.png", 0), ("large.dcm", 5_000_000)):
        (tmp_path / name).write_bytes(os.urandom(size))
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    page.goto(f"{app.url}/read")
    page.wait_for_selector("button.choose")
    page.set_input_files("input.pick", [str(path) for path in sorted(tmp_path.iterdir())])
    page.wait_for_selector("text=/^2 files uploaded$/")  # not "0 of 2 files uploaded"
    lines = page.locator(".files li").all_inner_texts()
    assert [line.split("\n")[0] for line in lines] == ["empty.png", "large.dcm", "one.dcm", "two <b>.png"]
    assert "The file is empty." in lines[0] and "larger than 4 MiB" in lines[1]
    assert len(uploads(app)) == 2
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.get_by_role("button", name="Remove one.dcm").click()
    page.wait_for_selector("text=/^1 file uploaded$/")
    assert len(uploads(app)) == 1
    terminal = app.output.read_text(errors="replace")
    assert "one.dcm" not in terminal and "Traceback" not in terminal


def test_a_picture_address_is_worth_nothing_without_the_session(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    token = session_cookie(page)["value"]
    assert httpx.get(f"{app.url}/media/none.png").status_code == 403
    assert httpx.get(f"{app.url}/media/none.png", cookies={COOKIE: token}).status_code == 404


@pytest.mark.parametrize("width", [390, 1440])
def test_the_door_fits_small_and_large_screens(app: RunningApp, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(app.url)
    page.wait_for_selector("form[action='/login']")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("form[action='/login'] button").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 36


def test_the_database_file_holds_no_token_and_no_password(app: RunningApp, page: Any) -> None:
    sign_in(page, app, name=NAME, password=PASSWORD)
    page.wait_for_selector("text=Sign out")
    token = session_cookie(page)["value"]
    with sqlite3.connect(app.state_dir / "secondread.sqlite3") as connection:
        dump = "\n".join(connection.iterdump())
    assert token not in dump and PASSWORD not in dump


def uploads(app: RunningApp) -> list[Path]:
    return list((app.state_dir / "inbox").glob("*/*/*/data"))


def add_person(page: Any, app: RunningApp, name: str) -> None:
    """By the form of the people page, as a signed-in administrator; the person sets PASSWORD with their link."""
    page.goto(f"{app.url}/people")
    page.get_by_role("textbox", name="Name", exact=True).fill(name)
    page.get_by_role("button", name="Add, and make a link", exact=True).click()
    link = page.locator("[data-testid=stCode] code").inner_text()
    elsewhere = page.context.browser.new_context()
    elsewhere.set_default_timeout(PATIENCE_MS)
    theirs = elsewhere.new_page()
    theirs.goto(link)
    theirs.fill("[name=password]", PASSWORD)
    theirs.fill("[name=repeated]", PASSWORD)
    theirs.click("text=Set the password and sign in")
    theirs.wait_for_selector("text=Sign out")
    elsewhere.close()
