"""The page Audit without a browser: what a row keeps is said in words, and studies by their display name."""

from __future__ import annotations

from page_site import PageSite, Tab, store

from core.records.people import accounts


def test_details_are_words_and_studies_have_their_display_name(opened_site: PageSite, tab: Tab) -> None:
    study_id = store(opened_site, "Dense, left")
    accounts.set_roles(opened_site.db, opened_site.one, opened_site.two.id, ["radiologist", "researcher"])
    tab.open("admin/audit")
    rows = tab.app.dataframe[0].value.set_index("Action")
    created = rows.loc["create study"]
    assert created["Subject"] == f"Dense, left (study {study_id})"
    assert "reading mode: read first" in created["Detail"] and "made-up pictures: no" in created["Detail"]
    assert "researcher" in rows.loc["set roles", "Detail"]
    assert not rows["Detail"].str.contains("[a-z]_[a-z]|[{}\\[\\]]|[0-9a-f]{64}").any()
