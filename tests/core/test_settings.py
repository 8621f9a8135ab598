"""The knobs: read once, refused by name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
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
        ("SECONDREAD_UPLOAD_MIB", "0", "is 0; it must be 1 or more."),
        ("SECONDREAD_UPLOAD_MIB", "1.5", "whole number"),
        ("SECONDREAD_UPLOAD_MIB", "", "whole number"),
        ("SECONDREAD_THRESHOLD_SENSITIVITY", "101", "is 101; it is a per cent."),
        ("SECONDREAD_THRESHOLD_SENSITIVITY", "0", "1 or more"),
        ("SECONDREAD_KEEP_PIXELS_DAYS", "-1", "0 or more"),
        ("SECONDREAD_THRESHOLDS", "x", "card or sensitivity or site"),
        ("SECONDREAD_DEMO", "perhaps", "use 1 or 0"),
        ("SECONDREAD_READING_MODE", "ai_first", "read_first or concurrent"),
        ("SECONDREAD_SERVING", "cluster", "also needs SECONDREAD_SERVE_URL"),
        ("SECONDREAD_SERVE_URL", "10.1.0.5:8000", "it is http://host:port of the replicas"),
        ("SECONDREAD_SERVE_REPLICAS_LEAST", "2", "is more than SECONDREAD_SERVE_REPLICAS_MOST"),
        ("SECONDREAD_SERVE_REPLICAS_MOST", "0", "1 or more"),
        ("SECONDREAD_SERVE_GPUS", "half", "must be a number, as in 0.5"),
        ("SECONDREAD_SERVE_GPUS", "inf", "must be a number"),
        ("SECONDREAD_SERVE_GPUS", "-0.5", "0 or more"),
        ("SECONDREAD_SERVE_GPUS", "1.5", "a part of one GPU"),
        ("SECONDREAD_PUBLIC_URL", "https://[", "is no address"),
        ("SECONDREAD_SSO_DISCOVERY_URL", "https://[", "is no address"),
        ("SECONDREAD_LOG_LEVEL", "loud", "it can be DEBUG or INFO or WARNING or ERROR or CRITICAL"),
        ("SECONDREAD_LOG_LEVEL", "", "it can be DEBUG or INFO"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_s_name(variable: str, value: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says) as refused:
        Settings.from_environment({variable: value})
    assert variable in str(refused.value)


def test_limits_themselves_may_be_chosen() -> None:
    chosen = {"SECONDREAD_THRESHOLD_SENSITIVITY": "100", "SECONDREAD_KEEP_PIXELS_DAYS": "0", "SECONDREAD_DEMO": ""}
    settings = Settings.from_environment(chosen | {"SECONDREAD_UPLOAD_MIB": "1", "SECONDREAD_WORKER": "off"})
    assert (settings.threshold_sensitivity, settings.keep_pixels_days, settings.upload_mib) == (100, 0, 1)
    assert not settings.demo and not settings.worker
    for word, level in (("debug", "DEBUG"), ("warn", "WARNING"), ("FATAL", "CRITICAL")):
        assert Settings.from_environment({"SECONDREAD_LOG_LEVEL": word}).log_level == level
    replicas = {"LEAST": "0", "MOST": "1"}
    chosen = {f"SECONDREAD_SERVE_REPLICAS_{name}": text for name, text in replicas.items()}
    for gpus in ("0", "0.25", "1", "2"):
        settings = Settings.from_environment(chosen | {"SECONDREAD_SERVE_GPUS": gpus})
        assert (settings.serve_replicas_least, settings.serve_gpus) == (0, float(gpus))


def test_a_value_that_code_gives_is_checked_as_one_from_the_environment() -> None:
    with pytest.raises(InvalidSettings, match="SECONDREAD_STUDY_FILES is 0; it must be 1 or more"):
        replace(Settings(), study_files=0)
    with pytest.raises(InvalidSettings, match="also needs SECONDREAD_SSO_CLIENT_ID"):
        Settings(sso_discovery_url="https://x")
    with pytest.raises(FrozenInstanceError):
        Settings().demo = True  # type: ignore[misc]
    assert "hidden" not in repr(
        Settings(
            sso_client_secret="hidden",
            sso_discovery_url="https://x",
            sso_client_id="y",
            sso_roles="a=reader",
            public_url="https://z",
        )
    )


def test_the_readme_explains_every_setting() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`SECONDREAD_{field.name.upper()}`" in readme, field.name
