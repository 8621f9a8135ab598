"""What a site chooses: at once, within the environment's limits, by administrators, on record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from record_site import add_person, picture, stranger

from core.errors import InvalidInput, NotAllowed
from core.records import site_settings
from core.records.audit import trail
from core.records.database.db import Database, open_database
from core.records.people.permissions import Person
from core.records.reads.studies import create_study, load_study
from core.settings import Settings


@pytest.fixture
def ada(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def test_without_a_choice_the_environment_counts(records: Database, ada: Person) -> None:
    assert site_settings.current(records) == records.settings
    assert all(row.at is None and row.value == row.default for row in site_settings.chosen(records, ada))


def test_every_choice_is_a_setting(record_settings: Settings) -> None:
    assert all(hasattr(record_settings, choice.key) for choice in site_settings.CHOICES)


def test_a_reading_mode_counts_for_the_next_study_and_not_for_earlier_ones(records: Database, ada: Person) -> None:
    ann = add_person(records, "Ann", "radiologist")
    first = create_study(records, ann, display_name="x", images=[picture()])
    site_settings.choose(records, ada, "reading_mode", "concurrent")
    second = create_study(records, ann, display_name="y", images=[picture()])

    modes = [load_study(records, ann, study_id).row.reading_mode for study_id in (first, second)]
    assert modes == ["read_first", "concurrent"]


def test_a_choice_tells_who_and_when_and_is_in_the_trail(records: Database, ada: Person) -> None:
    site_settings.choose(records, ada, "upload_mib", 100)
    site_settings.choose(records, ada, "upload_mib", 50)
    row = next(row for row in site_settings.chosen(records, ada) if row.choice.key == "upload_mib")

    assert (row.value, row.default, row.by_name) == (50, 512, "Ada") and row.at is not None
    assert site_settings.current(records).upload_mib == 50
    entry = trail.entries(records, ada)[0]
    assert (entry.action, entry.subject, entry.detail) == (
        "change setting", "setting upload_mib", {"before": 100, "after": 50}
    )  # fmt: skip

    site_settings.back_to_default(records, ada, "upload_mib")
    assert site_settings.current(records).upload_mib == 512


def test_a_study_of_more_files_than_chosen_is_refused(records: Database, ada: Person) -> None:
    ann = add_person(records, "Ann", "radiologist")
    site_settings.choose(records, ada, "study_files", 1)
    with pytest.raises(InvalidInput, match="at most 1 image"):
        create_study(records, ann, display_name="x", images=[picture(1), picture(2)])


def test_the_environment_stays_the_most_also_when_it_is_lowered_later(records: Database, ada: Person) -> None:
    with pytest.raises(InvalidInput, match="1 to 512"):
        site_settings.choose(records, ada, "upload_mib", 513)
    site_settings.choose(records, ada, "upload_mib", 400)
    lowered = open_database(replace(records.settings, upload_mib=300))
    assert site_settings.current(lowered).upload_mib == 300
    lowered.close()


@pytest.mark.parametrize(
    ("key", "default", "least", "most"),
    [("threshold_sensitivity", 30, 30, 100), ("backup_days", 500, 0, 500), ("backups_most", 2000, 1, 2000)],
)
def test_what_the_environment_says_can_be_chosen_and_counts_as_far_as_it_goes_later(
    records: Database, ada: Person, key: str, default: int, least: int, most: int
) -> None:
    wide = open_database(replace(records.settings, **{key: default}))
    choice = next(one for one in site_settings.CHOICES if one.key == key)
    assert site_settings.bounds(choice, wide.settings) == (least, most)
    site_settings.choose(wide, ada, key, default)
    wide.close()
    narrow = {"threshold_sensitivity": 50, "backup_days": 365, "backups_most": 1000}[key]
    assert getattr(site_settings.current(records), key) == narrow
    assert next(row.value for row in site_settings.chosen(records, ada) if row.choice is choice) == narrow


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("upload_mib", 0),
        ("upload_mib", "9"),
        ("upload_mib", True),
        ("reading_mode", "ai_first"),
        ("state_dir", "/"),
        ("compute_ahead", "on"),
        ("compute_ahead", 1),
    ],
)
def test_what_cannot_be_chosen_is_refused(records: Database, ada: Person, key: str, value: str | int) -> None:
    with pytest.raises(InvalidInput):
        site_settings.choose(records, ada, key, value)
    assert site_settings.current(records) == records.settings


@pytest.mark.parametrize("roles", [(), ("radiologist", "researcher")])
def test_only_administrators_see_and_change_settings(records: Database, roles: tuple[str, ...]) -> None:
    who = stranger(records, *roles)
    with pytest.raises(NotAllowed):
        site_settings.chosen(records, who)
    with pytest.raises(NotAllowed):
        site_settings.choose(records, who, "reading_mode", "concurrent")
    with pytest.raises(NotAllowed):
        site_settings.back_to_default(records, who, "reading_mode")
    assert trail.verify(records).n == 0
