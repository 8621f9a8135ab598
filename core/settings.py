"""The knobs, read from the environment once, at start, and passed down as one frozen value.

No other module reads `os.environ`. Importing this module creates nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from core.errors import InvalidSettings

MIB = 1024 * 1024
REPOSITORY = Path(__file__).resolve().parent.parent
READING_MODES = ("read_first", "concurrent")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may choose. Each field is the environment variable `SECONDREAD_<FIELD>` in capitals.

    state_dir: holds the database, the image store, the site's key and logs; nothing is written elsewhere.
    database_url: empty means SQLite in `state_dir`; `postgresql://user:password@host/name` moves it.
    weights_dir: the shipped models, one folder each.
    reading_mode: "read_first" hides everything of the AI until a first impression is saved; "concurrent" does not.
    upload_mib: one file; study_mib: all files of one study, unpacked; study_files: how many of them.
    image_megapixels: rows x columns x frames that are decoded at most, in one image.
    decode_memory_mib, decode_seconds: limits of the process that decodes one file.
    session_idle_minutes, session_hours: when a sign-in ends by itself.
    cookie_secure: send the session cookie over HTTPS only (set it behind TLS).
    worker: start a training worker with the application, on this machine.
    data_root: the folder below which an administrator may name folders of pictures to train on; empty for none.
    demo: three demonstration users and synthetic studies, everything labelled synthetic.
    """

    state_dir: Path = Path.home() / ".secondread"
    database_url: str = ""
    weights_dir: Path = REPOSITORY / "weights"
    site_name: str = ""
    reading_mode: str = "read_first"
    upload_mib: int = 512
    study_mib: int = 2048
    study_files: int = 200
    image_megapixels: int = 80
    decode_memory_mib: int = 3072
    decode_seconds: int = 30
    session_idle_minutes: int = 15
    session_hours: int = 12
    cookie_secure: bool = False
    worker: bool = True
    data_root: str = ""
    demo: bool = False
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        if self.reading_mode not in READING_MODES:
            raise InvalidSettings(
                f"SECONDREAD_READING_MODE is {self.reading_mode!r}; it can be {' or '.join(READING_MODES)}."
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value <= 0:
                raise InvalidSettings(f"SECONDREAD_{field.name.upper()} is {value}; it must be 1 or more.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `SECONDREAD_*` variables; a variable that no field has is refused by name."""
        environment = os.environ if environment is None else environment
        known = {f"SECONDREAD_{field.name.upper()}": field for field in fields(cls)}
        elsewhere = {"SECONDREAD_TEST_DATA", "SECONDREAD_TEST_POSTGRES_URL"}
        values: dict[str, object] = {}
        for variable, text in environment.items():
            if not variable.startswith("SECONDREAD_") or variable in elsewhere:
                continue
            if variable not in known:
                raise InvalidSettings(f"{variable} is not a setting. Known settings: {', '.join(sorted(known))}.")
            field = known[variable]
            values[field.name] = _converted(variable, text, type(field.default))
        return cls(**values)  # type: ignore[arg-type]

    @property
    def resolved_database_url(self) -> str:
        """The URL SQLAlchemy is given, driver included (SQLite in the state folder by default)."""
        if not self.database_url:
            return f"sqlite:///{self.state_dir / 'secondread.sqlite3'}"
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return "postgresql+pg8000://" + self.database_url.removeprefix(prefix)
        return self.database_url


def _converted(variable: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("", "0", "false", "no", "off"):
            return False
        raise InvalidSettings(f"{variable} is {text!r}; use 1 or 0.")
    if kind is int:
        if not text.strip().isdigit():
            raise InvalidSettings(f"{variable} is {text!r}; it must be a whole number.")
        return int(text)
    if issubclass(kind, Path):
        return Path(text).expanduser().resolve()
    return text
