"""Settings: what this site chooses, each with its default and who changed it when."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.archive import probe
from core.archive.archives import (
    PRIORS_MIB_MOST,
    PRIORS_MOST,
    Archive,
    ArchiveAddress,
    archives_to_manage,
    change_archive,
    choose_results,
    credentials_of,
    name_archive,
    remove_archive,
)
from core.archive.watching import DAYS_MOST, MODALITIES, Watch, WatchRules, watch_archive, watches_to_manage
from core.models.cards import Card, live_cards
from core.models.operating_point import OperatingPoint
from core.records import site_settings
from core.records.archives.outbox import RESULT_KINDS
from core.records.people.permissions import Actor
from core.records.reads import retention
from core.records.site_settings import Chosen, OwnThreshold
from core.reports.content import when
from pages.parts.markdown import plain, without_controls
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

actor = require("manage_settings")
db = database()
_SEEN = "archive_seen_"
_UNCHANGED, _IS_DEFAULT = "Nothing was changed yet.", "It is the default."


def value_input(row: Chosen) -> str | int:
    """The widget for one choice; its key holds the value, so that a change elsewhere shows."""
    key = f"setting_{row.choice.key}_{row.value}"
    if row.choice.options:
        options = list(row.choice.options)
        return st.selectbox(row.choice.title, options, index=options.index(str(row.value)), key=key)
    if row.choice.is_switch:
        return st.toggle(row.choice.title, bool(row.value), key=key)
    least, most = site_settings.bounds(row.choice, db.settings)
    return int(st.number_input(row.choice.title, least, most, int(row.value), 1, key=key))


def draw(actor: Actor, row: Chosen) -> None:
    """One choice: its widget, its story, and the two buttons."""
    with st.container(border=True):
        value = value_input(row)
        st.caption(row.choice.sentence)
        limit = " (also the most that can be chosen here)" if row.choice.is_cap else ""
        default = {True: "on", False: "off"}[bool(row.default)] if row.choice.is_switch else row.default
        st.caption(f"Default: {default}{limit}")
        if row.choice.key == "keep_pixels_days" and value != row.value:
            n = retention.n_due(db, actor, int(value))
            if n:
                st.warning(
                    f"Saving this removes the pictures of {n} {'study' if n == 1 else 'studies'} within an hour."
                )
        if row.at is not None:
            st.text(f"Changed by {row.by_name or 'somebody'}, {row.at:%Y-%m-%d %H:%M} UTC")
        save, back, _ = st.columns([1, 1, 3])
        same = _UNCHANGED if value == row.value else None
        if save.button("Save", key=f"save_{row.choice.key}", disabled=bool(same), width="stretch", help=same):
            with refusals_shown():
                site_settings.choose(db, actor, row.choice.key, value)
                st.rerun()
        is_default = _IS_DEFAULT if row.at is None else None
        if back.button(
            "Back to default",
            key=f"default_{row.choice.key}",
            disabled=bool(is_default),
            width="stretch",
            help=is_default,
        ):
            with refusals_shown():
                site_settings.back_to_default(db, actor, row.choice.key)
                st.rerun()


def draw_threshold(actor: Actor, card: Card, own: OwnThreshold | None, point: OperatingPoint) -> None:
    """One model's threshold: the site's own value, and what the threshold that counts now means."""
    with st.container(border=True):
        value = 100 * (own.value if own else card.threshold.value)
        percent = st.number_input(
            f"{plain(card.title)}, {card.modality} (%)",
            0.01, 99.99, value, 0.01, key=f"own_{card.weights_sha256}_{value:.3f}",
        )  # fmt: skip
        st.caption(f"Default: {100 * card.threshold.value:.2f}, the card's. Counts now: {plain(point.text)}")
        if own is not None:
            st.text(f"Set by {own.by_name or 'somebody'}, {own.at:%Y-%m-%d %H:%M} UTC")
        save, back, _ = st.columns([1, 1, 3])
        same = _UNCHANGED if percent == value else None
        if save.button("Save", key=f"save_own_{card.model_id}", disabled=bool(same), width="stretch", help=same):
            with refusals_shown():
                site_settings.set_own(db, actor, card, percent / 100)
                st.rerun()
        is_default = _IS_DEFAULT if own is None else None
        if back.button(
            "Back to default", key=f"default_own_{card.model_id}", disabled=bool(is_default), width="stretch",
            help=is_default,
        ):  # fmt: skip
            with refusals_shown():
                site_settings.forget_own(db, actor, card)
                st.rerun()


def archive_form(actor: Actor, archive: Archive | None, key: str) -> None:
    """An archive's address; a new one's without `archive`. key: of the form's widgets."""
    old = archive or ArchiveAddress("", "")
    # As this tab showed it first: what the form's widgets hold stays that, whatever somebody else has saved since.
    seen = st.session_state.setdefault(f"{_SEEN}{key}", old)
    with st.form(f"archive_{key}", border=False):
        name, url = st.columns([1, 2])
        given = ArchiveAddress(
            name=name.text_input("Name", old.name, max_chars=60, key=f"archive_name_{key}"),
            dicomweb_url=url.text_input("DICOMweb address", old.dicomweb_url, key=f"archive_url_{key}",
                                        placeholder="https://pacs.example/dicom-web"),
            **dimse_inputs(old, key),
            sends=old.sends, sends_preliminary=old.sends_preliminary,
            **prior_inputs(old, key),
            pushes=st.toggle("Takes what it sends by DICOM messages", old.pushes, key=f"pushes_{key}",
                             help="For python -m core dicom-listen: known by its AE title and host."),
        )  # fmt: skip
        if st.form_submit_button("Save", key=f"save_archive_{key}"):
            with refusals_shown():
                if archive is None:
                    name_archive(db, actor, given)
                else:
                    change_archive(db, actor, archive.id, given, seen=seen)
                    st.session_state.pop(f"{_SEEN}{key}")
                st.rerun()


def dimse_inputs(old: ArchiveAddress, key: str) -> dict[str, Any]:
    """AE title, host and port, which DICOMweb does without."""
    title, host, port = st.columns([1, 2, 1])
    return {
        "ae_title": title.text_input("AE title", old.ae_title, max_chars=16, key=f"archive_ae_{key}"),
        "host": host.text_input("Host for DICOM messages", old.host, key=f"archive_host_{key}"),
        "port": port.number_input("Port", 1, 65535, old.port, 1, key=f"archive_port_{key}"),
    }


def prior_inputs(old: ArchiveAddress, key: str) -> dict[str, Any]:
    """How many earlier exams come with a new one; what the archive is asked for, and how, by DICOM messages."""
    number, size, commits, tls = st.columns([1, 1, 2, 2], vertical_alignment="bottom")
    return {
        "priors": number.number_input("Earlier exams", 0, PRIORS_MOST, old.priors, 1, key=f"priors_{key}",
                                      help="Fetched with each new exam of a patient, the newest first."),
        "priors_mib": size.number_input("MiB together", 1, PRIORS_MIB_MOST, old.priors_mib, 1, key=f"priors_mib_{key}"),
        "commits": commits.toggle("Is asked to commit to results", old.commits, key=f"commits_{key}",
                                  help="Storage commitment: a result counts as delivered once the archive answers for "
                                       "it. Its answers come to python -m core dicom-listen, which must run."),
        "has_tls": tls.toggle("DICOM messages over TLS", old.has_tls, key=f"tls_{key}"),
    }  # fmt: skip


def watch_form(actor: Actor, archive: Archive, known: Watch | None) -> None:
    """By which rules the archive's studies come by themselves."""
    rules = known.rules if known else WatchRules()
    seen = st.session_state.setdefault(f"{_SEEN}watch_{archive.id}", known.rules if known else None)
    with st.form(f"watch_{archive.id}"):
        is_on = st.toggle("Fetch new studies by rules", known is not None, key=f"watch_on_{archive.id}")
        if known:
            st.caption(f"Looked at {when(known.looked_at)}. {plain(known.sentence)}" if known.looked_at else "Begins.")
        kinds, days, words, stations = st.columns([3, 1, 2, 2])
        given = WatchRules(
            modalities=tuple(kinds.multiselect("Kinds", list(MODALITIES), rules.modalities,
                                               format_func=MODALITIES.__getitem__, key=f"watch_kinds_{archive.id}")),
            days=days.number_input("Days back", 0, DAYS_MOST, rules.days, 1, key=f"watch_days_{archive.id}"),
            words=tuple(words.text_input("Words in descriptions", ", ".join(rules.words),
                                         key=f"watch_words_{archive.id}",
                                         help="For studies without mammograms: one of them must be in a description or "
                                              "the body part. Empty for all.").split(",")),
            stations=tuple(stations.text_input("Stations", ", ".join(rules.stations), placeholder="All",
                                               key=f"watch_stations_{archive.id}").split(",")),
        )  # fmt: skip
        if st.form_submit_button("Save rules", key=f"save_watch_{archive.id}"):
            with refusals_shown():
                watch_archive(db, actor, archive.id, given if is_on else None, seen=seen)
                st.session_state.pop(f"{_SEEN}watch_{archive.id}")
                st.rerun()


def draw_archive(actor: Actor, archive: Archive, known: Watch | None) -> None:
    """One archive: its address, its rules, its test, and its end."""
    with st.expander(plain(archive.name), icon=":material/dns:", key=f"archive_box_{archive.id}"):
        archive_form(actor, archive, str(archive.id))
        with refusals_shown():
            has = credentials_of(db.settings, archive.name) is not None
            st.caption("Signs in with what the environment names." if has else "Signs in with nothing.")
        watch_form(actor, archive, known)
        test, remove, _ = st.columns([1, 1, 3])
        if test.button("Test", key=f"test_archive_{archive.id}", icon=":material/network_check:", width="stretch"):
            with refusals_shown(), st.spinner("The archive is asked"):
                for found in probe.probe_archive(db, actor, archive.id):
                    icon = {True: ":material/check_circle:", False: ":material/error:", None: ":material/remove:"}
                    st.markdown(f"{icon[found.works]} **{found.service}** {plain(found.sentence)}")
        if remove.button("Remove", key=f"remove_archive_{archive.id}", icon=":material/delete:", width="stretch"):
            with refusals_shown():
                remove_archive(db, actor, archive.id)
                st.rerun()


def draw_results_table(actor: Actor, named: list[Archive]) -> None:
    """Which results go to which archive: a row for each kind, with the archives that get it."""
    names = {one.id: one.name for one in named}

    def picker(column: DeltaGenerator, label: str, key: str, chosen: list[int]) -> list[int]:
        return column.multiselect(
            label, list(names), chosen, format_func=lambda one: without_controls(names[one]), key=f"{key}_{chosen}",
            placeholder="Nowhere",
        )  # fmt: skip

    with st.form("results_table"):
        final, preliminary = {}, {}
        for kind, title in RESULT_KINDS.items():
            after, before = st.columns(2)
            now = [one.id for one in named if kind in one.sends]
            final[kind] = picker(after, f"{title}: after the final read", f"goes_{kind}", now)
            now = [one.id for one in named if kind in one.sends_preliminary]
            preliminary[kind] = picker(before, f"{title}: preliminary", f"early_{kind}", now)
        if st.form_submit_button("Save what goes where", key="save_results"):
            with refusals_shown():
                choose_results(db, actor, final, preliminary)
                st.rerun()


st.title("Settings", anchor=False)
st.caption("A change counts from the next upload, study or click on, for everybody, without a restart.")
with refusals_shown(stops=True):
    choices = site_settings.chosen(db, actor)
for choice in choices:
    draw(actor, choice)

with refusals_shown(stops=True):
    cards = live_cards(settings())
    own = site_settings.own_thresholds(db, actor)
    points = site_settings.points_here(db, cards)
if cards:
    st.subheader("The site's own thresholds", anchor=False)
    st.caption(
        "They count while Thresholds is set to site. A value belongs to the weights it was set for: other weights "
        "begin with their card's threshold again."
    )
for card in cards:
    draw_threshold(actor, card, own.get(card.weights_sha256), points[card.weights_sha256])

st.subheader("Archives", anchor=False)
st.caption(
    "Where readers fetch studies and results go back to. What signs in is named outside the database, by "
    f"SECONDREAD_ARCHIVE_CREDENTIALS or a file. SecondRead calls itself {plain(db.settings.ae_title)} there."
)
with refusals_shown(stops=True):
    named, watched = archives_to_manage(db, actor), watches_to_manage(db, actor)
for one in named:
    draw_archive(actor, one, watched.get(one.id))
with st.expander("Name an archive", icon=":material/add:", key="archive_box_new"):
    archive_form(actor, None, f"new_{len(named)}")  # empty again once it is named
if named:
    st.subheader("Results", anchor=False)
    st.caption(
        "What of a read goes back to the archive that its study came from. Of findings only those that the reader "
        "marked or accepted. Preliminary results follow the first impression, say in each form that nobody verified "
        "them, and are replaced by the final read; of a double reading there are none."
    )
    draw_results_table(actor, named)
if settings().language_model:
    from pages.admin.settings_parts import language_model  # loaded only where the site wants one

    language_model.draw_language_model(actor)
