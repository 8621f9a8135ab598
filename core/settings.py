"""The knobs, read from the environment once, at start, and passed down as one frozen value.

No other module reads `os.environ`. Importing this module creates nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import InvalidSettings

MIB = 1024 * 1024
REPOSITORY = Path(__file__).resolve().parent.parent
READING_MODES = ("read_first", "concurrent")
THRESHOLD_POLICIES = ("card", "sensitivity", "site")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may choose. Each field is the environment variable `SECONDREAD_<FIELD>` in capitals.

    state_dir: holds the database, the image store, the site's key and logs; nothing is written elsewhere.
    database_url: empty means SQLite in `state_dir`; `postgresql://user:password@host/name` moves it.
    weights_dir: the shipped models, one folder each.
    reading_mode: "read_first" hides everything of the AI until a first impression is saved; "concurrent" does not.
    thresholds: "card" takes each model's own, "sensitivity" the one that finds `threshold_sensitivity` per cent of its
        positive validation cases, "site" the site's own value where an administrator has set one.
    keep_pixels_days: pixels are removed so many days after a study's last read, once it is final; 0 keeps them.
    upload_mib: one file; study_mib: all files of one study, unpacked; study_files: how many of them.
    image_megapixels: rows x columns x frames that are decoded at most, in one image.
    decode_memory_mib, decode_seconds: limits of the process that decodes one file.
    session_idle_minutes, session_hours: when a sign-in ends by itself.
    sensitivity_margin_percent: how far a candidate's sensitivity may lie below that of the live model without a written
        reason, in percentage points.
    cookie_secure: send the session cookie over HTTPS only (set it behind TLS).
    worker: start a worker for trainings and imports with the application, on this machine.
    data_root: the folder below which an administrator may name folders of pictures to train on; empty for none.
    public_url: the address that people type, https://host, which the identity provider sends them back to.
    sso_discovery_url: the provider's …/.well-known/openid-configuration; empty for no single sign-on.
    sso_client_id, sso_client_secret: as the provider registered SecondRead. sso_name: what the button calls it.
    sso_role_claim: the claim of the identity token that holds roles; dots lead into nested claims.
    sso_roles: which of its values mean which of our roles, "value=role+role, value=role".
    demo: three demonstration users and synthetic studies, everything labelled synthetic.
    """

    state_dir: Path = Path.home() / ".secondread"
    database_url: str = ""
    weights_dir: Path = REPOSITORY / "weights"
    site_name: str = ""
    reading_mode: str = "read_first"
    thresholds: str = "card"
    threshold_sensitivity: int = 90
    keep_pixels_days: int = 0
    upload_mib: int = 512
    study_mib: int = 2048
    study_files: int = 200
    image_megapixels: int = 80
    decode_memory_mib: int = 3072
    decode_seconds: int = 30
    session_idle_minutes: int = 15
    session_hours: int = 12
    sensitivity_margin_percent: int = 5
    cookie_secure: bool = False
    worker: bool = True
    data_root: str = ""
    public_url: str = ""
    sso_discovery_url: str = ""
    sso_client_id: str = ""
    sso_client_secret: str = field(default="", repr=False)
    sso_name: str = "single sign-on"
    sso_role_claim: str = "roles"
    sso_roles: str = ""
    demo: bool = False
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        if self.reading_mode not in READING_MODES:
            raise InvalidSettings(
                f"SECONDREAD_READING_MODE is {self.reading_mode!r}; it can be {' or '.join(READING_MODES)}."
            )
        if self.thresholds not in THRESHOLD_POLICIES:
            raise InvalidSettings(
                f"SECONDREAD_THRESHOLDS is {self.thresholds!r}; it can be {' or '.join(THRESHOLD_POLICIES)}."
            )
        if self.threshold_sensitivity > 100:
            raise InvalidSettings(
                f"SECONDREAD_THRESHOLD_SENSITIVITY is {self.threshold_sensitivity}; it is a per cent."
            )
        for knob in fields(self):
            value = getattr(self, knob.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < (knob.name != "keep_pixels_days"):
                raise InvalidSettings(f"SECONDREAD_{knob.name.upper()} is {value}; it must be 1 or more.")
        _check_single_sign_on(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `SECONDREAD_*` variables; a variable that no field has is refused by name."""
        environment = os.environ if environment is None else environment
        known = {f"SECONDREAD_{knob.name.upper()}": knob for knob in fields(cls)}
        elsewhere = {"SECONDREAD_TEST_DATA", "SECONDREAD_TEST_POSTGRES_URL"}
        values: dict[str, object] = {}
        for variable, text in environment.items():
            if not variable.startswith("SECONDREAD_") or variable in elsewhere:
                continue
            if variable not in known:
                raise InvalidSettings(f"{variable} is not a setting. Known settings: {', '.join(sorted(known))}.")
            knob = known[variable]
            values[knob.name] = _converted(variable, text, type(knob.default))
        return cls(**values)  # type: ignore[arg-type]

    @property
    def has_sso(self) -> bool:
        """Whether people can sign in with the site's identity provider."""
        return bool(self.sso_discovery_url)

    @staticmethod
    def mlflow_tracking_uri() -> str:
        """MLflow's own variable, "" where it is not set."""
        return os.environ.get("MLFLOW_TRACKING_URI", "")

    @property
    def resolved_database_url(self) -> str:
        """The URL SQLAlchemy is given, driver included (SQLite in the state folder by default)."""
        if not self.database_url:
            return f"sqlite:///{self.state_dir / 'secondread.sqlite3'}"
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return "postgresql+pg8000://" + self.database_url.removeprefix(prefix)
        return self.database_url


def _check_single_sign_on(settings: Settings) -> None:
    """All that single sign-on needs, or nothing of it; over TLS, but on this machine."""
    needed = ("sso_discovery_url", "sso_client_id", "sso_client_secret", "sso_roles", "public_url")
    if not any(getattr(settings, name) for name in needed[:4]):
        return
    for name in needed:
        if not getattr(settings, name):
            raise InvalidSettings(f"Single sign-on also needs SECONDREAD_{name.upper()}.")
    for name in ("sso_discovery_url", "public_url"):
        parts = urlsplit(getattr(settings, name))
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or parts.scheme not in (("http", "https") if is_here else ("https",)):
            raise InvalidSettings(f"SECONDREAD_{name.upper()} must be an https:// address.")


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
