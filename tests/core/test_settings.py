"""The knobs: read once, refused by name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from core.errors import InvalidSettings
from core.settings import REPOSITORY, Settings


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = Settings.from_environment({})
    assert settings.reading_mode == "read_first" and settings.demo is False
    assert settings.resolved_database_url == f"sqlite:///{settings.state_dir / 'secondread.sqlite3'}"


def test_each_kind_of_value_is_converted() -> None:
    settings = Settings.from_environment(
        {"SECONDREAD_STATE_DIR": "~/x", "SECONDREAD_UPLOAD_MIB": "12", "SECONDREAD_DEMO": "yes", "HOME": "/h"}
    )
    assert settings.state_dir == (Path.home() / "x").resolve()
    assert settings.upload_mib == 12 and settings.demo is True


def test_postgresql_gets_the_driver_that_is_installed() -> None:
    url = Settings.from_environment({"SECONDREAD_DATABASE_URL": "postgresql://a:b@c/d"}).resolved_database_url
    assert url == "postgresql+pg8000://a:b@c/d"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SECONDREAD_UPLOAD_MB", "1", "is not a setting"),
        ("SECONDREAD_UPLOAD_MIB", "much", "whole number"),
        ("SECONDREAD_UPLOAD_MIB", "0", "1 or more"),
        ("SECONDREAD_DEMO", "perhaps", "use 1 or 0"),
        ("SECONDREAD_READING_MODE", "ai_first", "read_first or concurrent"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_s_name(variable: str, value: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says) as refused:
        Settings.from_environment({variable: value})
    assert variable in str(refused.value)


def test_the_readme_explains_every_setting() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`SECONDREAD_{field.name.upper()}`" in readme, field.name
