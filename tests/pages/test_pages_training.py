"""The form of the page Training without a browser: what is asked only where the site names a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from page_site import PageSite, Tab

from core.errors import InvalidInput
from core.records import data_sets
from core.types import Modality
from train.queue import trainings
from train.recipe.request import FitRequest


def data_set(site: PageSite) -> int:
    name = data_sets.store_file(site.db.settings, b"picture", "png")
    return data_sets.create_data_set(
        site.db, site.one, name="Set", modality=Modality.ULTRASOUND, manifest=f"file,label\n{name},benign\n".encode(),
        split={"kind": "60/20/20", "seed": 0}, counts={"train": {"benign": 4, "malignant": 4}},
        found={"leaking": False},
    )  # fmt: skip


def fields(tab: Tab) -> list[Any]:
    return [one for one in tab.app.number_input if one.label == "Workers"]


def test_workers_are_asked_for_where_the_site_names_a_cluster_and_are_in_the_row(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st

    version = data_set(opened_site)
    tab.open("admin/training")
    assert tab.has("Start the training") and not fields(tab)
    with pytest.raises(InvalidInput, match="this site names none"):
        trainings.enqueue(
            opened_site.db, opened_site.one, FitRequest("cnn", Modality.ULTRASOUND, init="random", workers=2), version
        )
    monkeypatch.setenv("SECONDREAD_RAY_ADDRESS", "10.1.0.5:6379")
    st.cache_resource.clear()  # as a server that was started with it
    tab.open("admin/training")
    (field,) = fields(tab)
    field.set_value(2)
    tab.settled()
    tab.press("Start the training")
    (job,) = trainings.list_jobs(opened_site.db, opened_site.one)
    assert job.request.workers == 2
