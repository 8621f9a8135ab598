"""A tab in which study after study is read holds no more on the server than its first studies."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from page_site import PageSite, Tab, picture, store

from core.server import allocator
from core.types import Image

if TYPE_CHECKING:
    from streamlit.runtime.state.session_state import SessionState


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server does at its start; taken back afterwards."""
    from streamlit.runtime.state.session_state import SessionState, WStates

    from pages.parts import stale_widgets

    monkeypatch.setattr(WStates, "remove_stale_widgets", WStates.remove_stale_widgets)
    monkeypatch.setattr(SessionState, "_remove_stale_widgets", SessionState._remove_stale_widgets)
    stale_widgets.install()
    stale_widgets.install()  # a second time changes nothing


def state_of(tab: Tab) -> SessionState:
    found: Any = tab.app.session_state
    while "_state" in getattr(found, "__dict__", {}):
        found = object.__getattribute__(found, "_state")
    return found  # type: ignore[no-any-return]


def held(tab: Tab) -> tuple[int, int, int]:
    """How many values, widgets and keys of widgets the tab has."""
    state = state_of(tab)
    return len(state._keys()), len(state._new_widget_state.widget_metadata), len(state._key_id_mapper.id_key_mapping)


@pytest.mark.usefixtures("_installed")
def test_a_tab_holds_the_study_that_it_shows_and_none_before(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.parts import viewer

    numbers = range(9000, 9004)  # no other test has these pictures
    ids = [store(opened_site, f"Case {n}", images=[picture(n, laterality="L")]) for n in numbers]
    tab = Tab(opened_site, opened_site.one, monkeypatch)
    sizes = [held(tab.open("reader/read", study)) for study in ids]
    assert sizes[1] == sizes[3], sizes
    assert min(sizes[1]) > 5, "the test looks where widgets are"
    viewer._prepared.clear()  # what is remembered by itself has its own bound
    opened_site.db.store._decoded.clear()
    gc.collect()
    shown = {one.sha256 for one in gc.get_objects() if isinstance(one, Image)}
    assert [n for n in numbers if f"{n:064x}" in shown] == [9003]


@pytest.mark.usefixtures("_installed")
def test_what_was_filled_in_comes_back_with_the_study_after_another_was_open(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (store(opened_site, f"Case {n}", images=[picture(n, laterality="L")]) for n in range(2))
    tab = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", first)
    tab.choose("Left breast: BI-RADS", "4A")
    tab.open("reader/read", second)
    assert not [key for key in state_of(tab)._keys() if first in str(key)]
    tab.open("reader/read", first)
    assert next(one.value for one in tab.app.button_group if one.label == "Left breast: BI-RADS") == "4A"


@pytest.mark.usefixtures("_installed")
def test_a_click_in_the_middle_of_the_first_drawing_leaves_no_older_values_for_later(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between filling a form and drawing it writes values that no widget has yet."""
    import streamlit as st

    from pages.reader.parts import marking

    study = store(opened_site, "Case", images=[picture(9010, laterality="L")])
    tab = Tab(opened_site, opened_site.one, monkeypatch)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(marking, "findings_form", lambda _sheet: st.stop())
        tab.open("reader/read", study)
    tab.open("reader/read", study).choose("Left breast: BI-RADS", "4A")
    tab.app.switch_page("pages/reader/worklist.py")
    del tab.app.query_params["study"]
    tab.settled()
    tab.open("reader/read", study)
    assert next(one.value for one in tab.app.button_group if one.label == "Left breast: BI-RADS") == "4A"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_the_server_gives_memory_back_unless_somebody_decided_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, setting: ctypes.c_int, value: ctypes.c_int) -> int:
            set_to.append((setting.value, value.value))
            return 1

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _name: Library())
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert allocator.give_memory_back() == ("MALLOC_MMAP_THRESHOLD_",)
    assert set_to == [(-3, allocator.MMAP_BYTES)]
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert allocator.give_memory_back() == () and len(set_to) == 1


HEAPS = """
import sys, threading
from core.server import allocator
if sys.argv[1] == "yes":
    assert allocator.give_memory_back() == ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_")
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    held.append([bytearray(1000) for _ in range(2000)])
    barrier.wait()
held = []
threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
import ctypes
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_threads_share_two_heaps() -> None:
    def heaps(is_set: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", HEAPS, is_set], capture_output=True, text=True, check=True, env={"PYTHONPATH": "."}
        )
        return done.stderr.count("Arena ")

    assert heaps("yes") <= allocator.ARENAS < heaps("no")
