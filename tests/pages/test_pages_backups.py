"""The page Backups without a browser: made, verified, restored beside the site; nobody else sees it."""

from __future__ import annotations

import pytest
from page_site import PageSite, Tab

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
    assert "SECONDREAD_STATE_DIR=" in noted(tab)
    assert (copies.backups_dir(opened_site.db.settings) / "again" / "site.key").is_file()


def test_a_radiologist_is_told_that_the_page_is_for_administrators(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Tab(opened_site, opened_site.two, monkeypatch).open("admin/backups")
    assert "administrator" in other.text + str([one.value for one in other.app.error]) and not other.has(
        "Make a backup now"
    )
