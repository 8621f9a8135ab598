"""The page Backups without a browser: made, verified, restored beside the site; nobody else sees it."""

from __future__ import annotations

import pytest
from page_site import PageSite, Tab

from core.errors import Conflict
from core.records import site_settings
from core.records.backup import copies


def noted(tab: Tab) -> str:
    return str([one.value.replace("\\", "") for one in tab.app.success])


def test_a_backup_is_made_verified_and_restored_from_the_page(opened_site: PageSite, tab: Tab) -> None:
    tab.open("admin/backups")
    tab.press("Make a backup now")
    assert "was made and verified" in noted(tab)
    (row,) = copies.list_backups(opened_site.db, opened_site.one)
    tab.press("Verify")
    assert "files, database and audit trail verify" in noted(tab)
    assert tab.app.button(key=f"restore_{row.name}").disabled
    tab.app.text_input(key=f"folder_{row.name}").input("again")
    tab.settled()
    tab.press("Restore")
    assert "SECONDREAD_STATE_DIR=" in noted(
        tab
    ) and "without SECONDREAD_DATABASE_URL and SECONDREAD_STORE_URL" in noted(tab)
    assert (copies.backups_dir(opened_site.db.settings) / "again" / "site.key").is_file()


def test_a_schedule_that_fails_is_told_of_on_the_page(opened_site: PageSite, tab: Tab) -> None:
    site_settings.choose(opened_site.db, opened_site.one, "backup_days", 1)
    assert copies.make_due(opened_site.db) is not None
    tab.open("admin/backups")
    assert "every day. The last one was made" in str([one.value for one in tab.app.caption]) and not tab.app.warning
    for path in copies.backups_dir(opened_site.db.settings).iterdir():
        path.unlink()
    copies.backups_dir(opened_site.db.settings).rmdir()
    copies.backups_dir(opened_site.db.settings).write_text("no folder")
    with pytest.raises(Conflict):
        copies.make_due(opened_site.db)
    tab.open("admin/backups")
    (warning,) = tab.app.warning
    assert "There is none yet, so one is overdue" in warning.value and "cannot be made" in warning.value


def test_a_radiologist_is_told_that_the_page_is_for_administrators(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Tab(opened_site, opened_site.two, monkeypatch).open("admin/backups")
    assert "administrator" in other.text + str([one.value for one in other.app.error]) and not other.has(
        "Make a backup now"
    )
