"""The page Back-reads without a browser: started, watched, stopped, gone on with; nodes as a worker saw them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from page_site import PageSite, Tab, release, store

from core.errors import InvalidInput
from core.models.cards import live_cards
from core.reading import back_read
from core.records.reads import back_reads, studies
from core.serving.cluster import Node


def test_a_back_read_is_started_stopped_gone_on_with_and_read(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-cnn")
    for _ in range(3):
        store(opened_site)
    tab.open("admin/back_reads")
    assert "There is no back-read yet." in tab.text + str([one.value for one in tab.app.info])
    tab.press("Start a back-read")
    assert "0 of 3 studies read" in progress(tab)
    assert back_read.read_next(opened_site.db, worker="here")
    tab.open("admin/back_reads")
    assert "1 of 3 studies read" in progress(tab) and not tab.app.button(key="stop_1").disabled
    tab.app.button(key="stop_1").click()
    tab.settled()
    assert back_reads.load(opened_site.db, opened_site.one, 1).counts == {"done": 1, "cancelled": 2}
    assert "2 stopped" in tab.text and tab.app.button(key="stop_1").disabled
    tab.app.button(key="go_on_1").click()
    tab.settled()
    assert back_read.work_until_done(opened_site.db, 1) == 2
    tab.open("admin/back_reads")
    assert "3 of 3 studies read" in progress(tab) and "Everything was read." in tab.text
    assert tab.app.button(key="go_on_1").disabled


def test_single_studies_are_chosen_by_name_and_only_those_are_read(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-cnn")
    wanted, _other = (store(opened_site, name) for name in ("Wanted <b>", "Other"))
    tab.open("admin/back_reads")
    (box,) = [one for one in tab.app.multiselect if one.label == "Studies"]
    assert len(box.options) == 2 and any(label.startswith("Wanted <b> · ") for label in box.options)
    box.select(wanted)
    tab.press("Start a back-read")
    assert "0 of 1 studies read" in progress(tab)
    assert back_read.work_until_done(opened_site.db, 1) == 1
    assert {line.split(",")[0] for line in scores(opened_site).splitlines()[1:]} == {wanted}


def scores(opened_site: PageSite) -> str:
    return back_reads.scores_csv(opened_site.db, opened_site.one, 1)


def test_a_study_without_pictures_cannot_be_chosen(opened_site: PageSite) -> None:
    release(opened_site.weights, "ultrasound-cnn")
    store(opened_site)
    with pytest.raises(InvalidInput, match="no pictures here"):
        back_reads.start(opened_site.db, opened_site.one, live_cards(opened_site.db.settings), only=["nothing"])


def test_without_a_cluster_no_node_is_spoken_of_and_with_one_the_page_shows_what_a_worker_saw(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st

    tab.open("admin/back_reads")
    assert "Cluster" not in subheaders(tab)
    monkeypatch.setenv("SECONDREAD_RAY_ADDRESS", "10.1.0.5:6379")
    st.cache_resource.clear()  # as a server that was started with it
    tab.open("admin/back_reads")
    assert "No worker has seen the cluster yet" in warnings(tab)
    nodes = [Node("10.1.0.6", True, 8, 1, 4096), Node("10.1.0.7", False, 0, 0, 0)]
    for at, is_stale in ((datetime.now(UTC), False), (datetime.now(UTC) - timedelta(minutes=2), True)):
        said = {"at": at.isoformat(), "nodes": [asdict(node) for node in nodes]}
        (opened_site.db.settings.state_dir / "cluster.json").write_text(json.dumps(said))
        tab.open("admin/back_reads")
        assert ("No worker sees the cluster now" in warnings(tab)) == is_stale
        (table,) = [one.value for one in tab.app.dataframe]
        assert list(table["Node"]) == ["10.1.0.6", "10.1.0.7"] and list(table["State"]) == ["alive", "lost"]


def test_of_a_back_read_whose_studies_were_all_deleted_that_is_said_and_the_others_are_shown(
    opened_site: PageSite, tab: Tab
) -> None:
    release(opened_site.weights, "ultrasound-cnn")
    for reason in ("wrong upload", ""):
        study = store(opened_site)
        tab.open("admin/back_reads").press("Start a back-read")
        if reason:
            studies.delete_study(opened_site.db, opened_site.one, study, reason=reason)
    tab.open("admin/back_reads")
    assert "Its studies were deleted." in tab.text and "**Back-read 1** by" in tab.text
    assert progress(tab).count("studies read") == 1 and "0 of 1 studies read" in progress(tab)
    assert not any(button.key == "stop_1" for button in tab.app.button) and not tab.app.button(key="stop_2").disabled


def test_a_radiologist_may_not(opened_site: PageSite, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Tab(opened_site, opened_site.two, monkeypatch).open("admin/back_reads")
    assert not other.has("Start a back-read")


def progress(tab: Tab) -> str:
    return str([one.proto.text for one in tab.app.get("progress")])


def warnings(tab: Tab) -> str:
    return str([one.value for one in tab.app.warning])


def subheaders(tab: Tab) -> str:
    return str([one.value for one in tab.app.subheader])
