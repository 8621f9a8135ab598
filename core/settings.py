"""The knobs, read from the environment once, at start, and passed down as one frozen value.

No other module reads `os.environ`. Importing this module creates nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from core.errors import InvalidSettings

MIB = 1024 * 1024
REPOSITORY = Path(__file__).resolve().parent.parent
ReadingMode = Literal["read_first", "concurrent"]
ThresholdPolicy = Literal["card", "sensitivity", "site"]
SecondFactor = Literal["optional", "administrators"]
WorkerAtStop = Literal["finish", "hand_back"]
Serving = Literal["auto", "process", "inside", "cluster"]
READING_MODES: tuple[str, ...] = get_args(ReadingMode)
Triage = Literal["off", "on"]
TRIAGE: tuple[str, ...] = get_args(Triage)
WorklistIdentity = Literal["nothing", "accession number", "name"]
WORKLIST_IDENTITIES: tuple[str, ...] = get_args(WorklistIdentity)
SECOND_FACTORS: tuple[str, ...] = get_args(SecondFactor)
THRESHOLD_POLICIES: tuple[str, ...] = get_args(ThresholdPolicy)
Folder = Annotated[Path, BeforeValidator(lambda one: Path(one).expanduser().resolve() if isinstance(one, str) else one)]
_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}
"""Other words for two levels, as Python's logging has them."""
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda one: _LEVELS.get(one.upper(), one.upper()) if isinstance(one, str) else one),
]
Switch = Annotated[bool, BeforeValidator(lambda one: one or False if isinstance(one, str) else one)]
"""Of the words that pydantic knows for yes and no; nothing at all is no."""


def is_in_environment(variable: str) -> bool:
    """Whether whoever started the process has set this variable, which is not one of ours."""
    return variable in os.environ


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may choose. Each field is the environment variable `SECONDREAD_<FIELD>` in capitals.

    state_dir: holds the database, the image store, the site's key and logs; nothing is written elsewhere.
    database_url: empty means SQLite in `state_dir`; `postgresql://user:password@host/name` moves it.
    weights_dir: the shipped models, one folder each.
    store_url: s3://bucket/prefix, where pictures and heat maps lie instead of in `state_dir`, so that several machines
        share them; empty for the folder. store_endpoint: the address of an S3 service that is not
        Amazon's. store_cache_mib: of what was read from there, as copies on this machine.
    reading_mode: "read_first" hides everything of the AI until a first impression is saved; "concurrent" does not.
    thresholds: "card" takes each model's own, "sensitivity" the one that finds `threshold_sensitivity` per cent of its
        positive validation cases, "site" the site's own value where an administrator has set one.
    keep_pixels_days: pixels are removed so many days after a study's last read, once it is final; 0 keeps them.
    backup_dir: where backups that the page makes, or the schedule, are written; empty is `backups` in `state_dir`.
    backup_days: one is made by itself every so many days; 0 never. backups_most: so many of those stay.
    upload_mib: one file; study_mib: all files of one study, unpacked; study_files: how many of them.
    image_megapixels: rows x columns that are decoded at most, of one frame.
    decode_memory_mib, decode_seconds: limits of the process that decodes one file.
    pictures_mib: decoded pictures that a process remembers at most.
    session_idle_minutes, session_hours: when a sign-in ends by itself.
    sensitivity_margin_percent: how far a candidate's sensitivity may lie below that of the live model without a written
        reason, in percentage points.
    second_factor: "administrators" lets the administrator's role of a person with a password count only once they have
        set up a second factor; "optional" leaves it to each person.
    cookie_secure: send the session cookie over HTTPS only (set it behind TLS).
    worker: start a worker for trainings and imports with the application, on this machine.
    worker_at_stop: when the application stops, that worker finishes what it has in hand ("finish"), or hands it back
    after its last epoch, to go on with it after the next start ("hand_back").
    ray_address: host:port of the Ray cluster that trainings and back-reads run on, of which this machine is a node;
        empty for this machine alone. ray_trainings: how many trainings at a time; ray_cpus, ray_gpus: what each of its
        processes reserves.
    serving: models answer in a process of their own ("process") or in the server's ("inside"); "auto" is the first
        where there is memory for it; "cluster" asks the replicas on the site's Ray cluster.
    serve_url: http(s)://host:port of these replicas. serve_replicas_least, serve_replicas_most: how many there are,
        by how much is asked. serve_cpus, serve_gpus: what each reserves on its node; half a GPU is shared by two.
    worklist_triage: whether readers may order the worklist by what models say of studies that nobody has read.
    worklist_identity: what of a study's origin stands in its row of the worklist; only of studies from an archive.
    models_at_start: the live models are loaded at the start, in the background; else when a reader first asks.
    openvino: after that, each goes on with OpenVINO where it is installed, equal and faster here.
    compute_ahead: the models read while the reader forms the first impression; what they say stays sealed until then.
    data_root: the folder below which an administrator may name folders of pictures to train on; empty for none.
    public_url: the address that people type, https://host, which the identity provider sends them back to.
    allowed_hosts: names beside localhost, this machine's own and that of `public_url` under which the server answers.
    trusted_proxies: addresses or networks whose word is taken for where a request came from (X-Forwarded-For).
    metrics_token: whoever sends it as a bearer token may read `/metrics`; empty leaves it to this machine alone.
    sso_discovery_url: the provider's …/.well-known/openid-configuration; empty for no single sign-on.
    sso_client_id, sso_client_secret: as the provider registered SecondRead. sso_name: what the button calls it.
    sso_role_claim: the claim of the identity token that holds roles; dots lead into nested claims.
    sso_roles: which of its values mean which of our roles, "value=role+role, value=role".
    ae_title: what SecondRead is called by archives (DICOM application entity title).
    archive_credentials: what signs in to archives, a line each, "name = user:password" or "name = Bearer token".
    archive_credentials_file: a file with such lines, read each time they are needed.
    dicom_tls_certificate, dicom_tls_key: files (PEM) of the certificate that SecondRead shows in DICOM messages over
        TLS; with them the listener takes TLS alone.
    dicom_tls_authority: a file (PEM) of authorities whose certificates the other side may show; empty takes those that
        this machine trusts, and the listener then asks no certificate.
    language_model: one may be asked for descriptors of ultrasound lesions; off, nothing of it is loaded. Who it is and
        that pictures may go there is said on the page Settings. language_model_key: what opens it;
        language_model_key_file: a file with that, read each time it is needed. language_model_http: pictures may go
        to another machine without TLS (never with a key). language_model_in_report: its words stand in reports.
    demo: three demonstration users and synthetic studies, everything labelled synthetic.
    log_level: from which on what happens is written into the log.
    """

    state_dir: Folder = Path.home() / ".secondread"
    database_url: str = ""
    weights_dir: Folder = REPOSITORY / "weights"
    store_url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?)?$")] = ""
    store_endpoint: str = ""
    store_cache_mib: PositiveInt = 4096
    site_name: str = ""
    reading_mode: ReadingMode = "read_first"
    thresholds: ThresholdPolicy = "card"
    threshold_sensitivity: Annotated[int, Field(ge=1, le=100)] = 90
    keep_pixels_days: NonNegativeInt = 0
    backup_dir: str = ""
    backup_days: NonNegativeInt = 0
    backups_most: PositiveInt = 7
    upload_mib: PositiveInt = 512
    study_mib: PositiveInt = 2048
    study_files: PositiveInt = 200
    image_megapixels: PositiveInt = 80
    decode_memory_mib: PositiveInt = 3072
    decode_seconds: PositiveInt = 30
    pictures_mib: PositiveInt = 512
    session_idle_minutes: PositiveInt = 15
    session_hours: PositiveInt = 12
    sensitivity_margin_percent: PositiveInt = 5
    second_factor: SecondFactor = "optional"
    cookie_secure: Switch = False
    worker: Switch = True
    worker_at_stop: WorkerAtStop = "finish"
    ray_address: Annotated[str, Field(pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$")] = ""
    ray_trainings: PositiveInt = 1
    ray_cpus: PositiveInt = 1
    ray_gpus: NonNegativeInt = 0
    serving: Serving = "auto"
    serve_url: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.-]+:[0-9]{1,5})?$")] = ""
    serve_replicas_least: NonNegativeInt = 1
    serve_replicas_most: PositiveInt = 1
    serve_cpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1
    serve_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    models_at_start: Switch = True
    openvino: Switch = False
    compute_ahead: Switch = True
    worklist_triage: Triage = "off"
    worklist_identity: WorklistIdentity = "nothing"
    data_root: str = ""
    public_url: str = ""
    allowed_hosts: str = ""
    trusted_proxies: str = ""
    metrics_token: str = field(default="", repr=False)
    sso_discovery_url: str = ""
    sso_client_id: str = ""
    sso_client_secret: str = field(default="", repr=False)
    sso_name: str = "single sign-on"
    sso_role_claim: str = "roles"
    sso_roles: str = ""
    ae_title: Annotated[str, Field(pattern=r"^[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?$")] = "SECONDREAD"
    archive_credentials: str = field(default="", repr=False)
    archive_credentials_file: str = ""
    dicom_tls_certificate: str = ""
    dicom_tls_key: str = ""
    dicom_tls_authority: str = ""
    language_model: Switch = False
    language_model_key: str = field(default="", repr=False)
    language_model_key_file: str = ""
    language_model_http: Switch = False
    language_model_in_report: Switch = False
    demo: Switch = False
    log_level: LogLevel = "INFO"

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_a_sentence(cls, values: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            settings = read(values)
        except ValidationError as error:
            raise InvalidSettings(_sentence(error.errors(include_url=False)[0])) from error
        _networks(settings.trusted_proxies)
        _hosts(settings.allowed_hosts)
        for name in ("public_url", "sso_discovery_url", "store_endpoint"):
            _split(name, getattr(settings, name))
        _check_single_sign_on(settings)
        _check_replicas(settings)
        return settings

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Settings from `SECONDREAD_*` variables; a variable that no field has is refused by name."""
        environment = os.environ if environment is None else environment
        known = {_variable(knob.name): knob.name for knob in fields(cls)}
        elsewhere = {"SECONDREAD_TEST_DATA", "SECONDREAD_TEST_POSTGRES_URL"}
        given = {name: text for name, text in environment.items() if name.startswith("SECONDREAD_")}
        for variable in given.keys() - known.keys() - elsewhere:
            raise InvalidSettings(f"{variable} is not a setting. Known settings: {', '.join(sorted(known))}.")
        return cls(**{known[variable]: text for variable, text in given.items() if variable in known})  # type: ignore[arg-type]

    @property
    def has_sso(self) -> bool:
        """Whether people can sign in with the site's identity provider."""
        return bool(self.sso_discovery_url)

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """`trusted_proxies`, each address as a network of its own."""
        return _networks(self.trusted_proxies)

    @property
    def host_names(self) -> frozenset[str]:
        """The names of `allowed_hosts` and the host of `public_url`, in lower case and without ports."""
        host = urlsplit(self.public_url).hostname if self.public_url else None
        return _hosts(self.allowed_hosts) | ({host} if host else set())

    @staticmethod
    def mlflow_tracking_uri() -> str:
        """MLflow's own variable, "" where it is not set."""
        return os.environ.get("MLFLOW_TRACKING_URI", "")

    @staticmethod
    def ray_auth_mode() -> str:
        """Ray's own variable: "token" where a cluster lets in only who has its token."""
        return os.environ.get("RAY_AUTH_MODE", "")

    @staticmethod
    def tf_config() -> str:
        """TensorFlow's own variable: the processes that fit one network together, as JSON."""
        return os.environ.get("TF_CONFIG", "")

    @property
    def resolved_database_url(self) -> str:
        """The URL SQLAlchemy is given, driver included (SQLite in the state folder by default)."""
        if not self.database_url:
            return f"sqlite:///{self.state_dir / 'secondread.sqlite3'}"
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return "postgresql+pg8000://" + self.database_url.removeprefix(prefix)
        return self.database_url


def is_on_this_machine(url: str) -> bool:
    """Whether nobody on a network can read along."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses and networks between commas or blanks. Raises InvalidSettings."""
    try:
        return tuple(ip_network(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InvalidSettings(
            f"SECONDREAD_TRUSTED_PROXIES is {text!r}; it lists addresses or networks, as in 127.0.0.1, 10.1.0.0/24."
        ) from None


def _hosts(text: str) -> frozenset[str]:
    """Host names or addresses between commas or blanks. Raises InvalidSettings."""
    names = frozenset(part.lower() for part in text.replace(",", " ").split())
    for name in names:
        if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", name):
            raise InvalidSettings(
                f"SECONDREAD_ALLOWED_HOSTS is {text!r}; it lists names without http:// and port, as in reads.example."
            )
    return names


def _split(name: str, url: str) -> SplitResult:
    """The parts of an address. Raises InvalidSettings where it has none, as "https://[" has not."""
    try:
        return urlsplit(url)
    except ValueError:
        raise InvalidSettings(f"{_variable(name)} is {url!r}, which is no address.") from None


def _check_single_sign_on(settings: Settings) -> None:
    """All that single sign-on needs, or nothing of it; over TLS, but on this machine."""
    needed = ("sso_discovery_url", "sso_client_id", "sso_client_secret", "sso_roles", "public_url")
    if not any(getattr(settings, name) for name in needed[:4]):
        return
    for name in needed:
        if not getattr(settings, name):
            raise InvalidSettings(f"Single sign-on also needs SECONDREAD_{name.upper()}.")
    for name in ("sso_discovery_url", "public_url"):
        parts = _split(name, getattr(settings, name))
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or parts.scheme not in (("http", "https") if is_here else ("https",)):
            raise InvalidSettings(f"SECONDREAD_{name.upper()} must be an https:// address.")


def _check_replicas(settings: Settings) -> None:
    """Where they are, if they shall answer, and numbers that Ray can keep. Raises InvalidSettings."""
    if settings.serving == "cluster" and not settings.serve_url:
        raise InvalidSettings("SECONDREAD_SERVING=cluster also needs SECONDREAD_SERVE_URL.")
    if settings.serve_replicas_least > settings.serve_replicas_most:
        raise InvalidSettings("SECONDREAD_SERVE_REPLICAS_LEAST is more than SECONDREAD_SERVE_REPLICAS_MOST.")
    if settings.serve_gpus > 1 and settings.serve_gpus % 1:
        raise InvalidSettings("SECONDREAD_SERVE_GPUS is a part of one GPU, as in 0.5, or a whole number of them.")


def _variable(field_name: str) -> str:
    return f"SECONDREAD_{field_name.upper()}"


def _sentence(error: ErrorDetails) -> str:
    """What pydantic found, as one sentence for who set the variable."""
    text, kind = error["input"], error["type"]
    if kind == "literal_error":
        options = error["ctx"]["expected"].replace("', '", "' or '").replace("'", "")
        what = f"{text!r}; it can be {options}"
    elif kind.startswith("bool"):
        what = f"{text!r}; use 1 or 0"
    elif kind == "string_pattern_mismatch" and error["loc"][0] == "store_url":
        what = f"{text!r}; it is s3://bucket/prefix, or empty for the state folder"
    elif kind == "string_pattern_mismatch" and error["loc"][0] == "ray_address":
        what = f"{text!r}; it is host:port of the cluster's head, as in 10.1.0.5:6379"
    elif kind == "string_pattern_mismatch" and error["loc"][0] == "serve_url":
        what = f"{text!r}; it is http://host:port of the replicas, as in http://10.1.0.5:8000"
    elif kind == "string_pattern_mismatch":
        what = f"{text!r}; it has 1 to 16 printable ASCII characters without backslash"
    elif kind == "less_than_equal":
        what = f"{text}; it is a per cent"
    elif kind.startswith("greater_than"):
        what = f"{text}; it must be {error['ctx'].get('ge', 1):g} or more"
    elif kind in ("float_parsing", "finite_number"):
        what = f"{text!r}; it must be a number, as in 0.5"
    else:
        what = f"{text!r}; it must be a whole number"
    return f"{_variable(str(error['loc'][0]))} is {what}."
