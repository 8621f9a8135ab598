"""A site as plain JSON: its rows, its files, and what people see of it through the public functions.

`make_site.py` writes it down with the version that made a site; `test_upgrade.py` compares what the code at hand sees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, MetaData, select

from core.errors import AppError
from core.models.cards import live_cards, read_test_scores
from core.models.live import read_live
from core.records import data_sets, site_settings
from core.records.audit import trail
from core.records.audit.trail import KINDS
from core.records.database import tables
from core.records.database.db import Database
from core.records.monitoring import drift
from core.records.people import accounts, sessions
from core.records.people.permissions import LocalTerminal, SessionActor
from core.records.reads import predictions, reads, studies, truths
from core.records.releases import decisions, shadows
from train.datasets import near_duplicates
from train.queue import imports, trainings

SECRET_COLUMNS = ("password_hash", "token_sha256")
"""Written down as the SHA-256 of what they hold."""
DATABASE = "secondread.sqlite3"


def rows_of(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but Alembic's own, by primary key; the tables are asked, not the product's code."""
    described = MetaData()
    described.reflect(engine)
    found = {}
    with engine.connect() as connection:
        for table in described.sorted_tables:
            if table.name == "alembic_version":
                continue
            rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            found[table.name] = [{name: _plain(name, value) for name, value in row.items()} for row in rows]
    return found


def files_of(state: Path) -> dict[str, str]:
    """Path below the state folder -> SHA-256, without an SQLite database."""
    paths = sorted(path for path in state.rglob("*") if path.is_file() and not path.name.startswith(DATABASE))
    return {path.relative_to(state).as_posix(): _sha256(path.read_bytes()) for path in paths}


def seen_in(db: Database, admin: LocalTerminal) -> dict[str, Any]:
    """What the public functions tell this administrator, and each person of the studies."""
    seen: dict[str, Any] = _jsonable(
        {
            "people": [_fields(row, "id name roles is_disabled is_sso created_at") for row in _people(db, admin)],
            "studies": {
                row.display_name: {
                    **_images(studies.load_study(db, admin, row.id)),
                    "seen_by": {
                        one.name: _seen_by(db, row.id, one.id) for one in _people(db, admin) if not one.is_disabled
                    },
                }
                for row in studies.list_studies(db, admin)
            },
            "data_sets": [_version(db, admin, row) for row in data_sets.list_versions(db, admin)],
            "jobs": [_job(db, admin, row) for row in reversed(trainings.list_jobs(db, admin))],
            "imports": _imports(db, admin),
            "releases": _releases(db, admin),
            "settings": {
                row.choice.key: _fields(row, "value default by_name at") for row in site_settings.chosen(db, admin)
            },
            "thresholds": {
                sha256: _fields(row, "value by_name at")
                for sha256, row in site_settings.own_thresholds(db, admin).items()
            },
            "audit": {
                kind: [[row.id, row.person_name, row.action] for row in trail.entries(db, admin, kind=kind, limit=None)]
                for kind in KINDS
            },
            "drift": _drift(db, admin),
        }
    )
    return seen


def command_words(request: Any) -> list[str]:
    """What follows `python -m train` for a training's request, with words in place of the two paths."""
    return list(replace(request, data=Path("cases.csv"), root=Path("pictures")).to_arguments())


def _people(db: Database, admin: LocalTerminal) -> list[Any]:
    return sorted(accounts.list_people(db, admin), key=lambda row: row.id)


def _seen_by(db: Database, study_id: str, person_id: int) -> dict[str, Any]:
    """What one person sees of what others made of a study, or by what it is refused to them."""
    with _session(db, person_id) as person:
        return _seen(db, study_id, person)


@contextmanager
def _session(db: Database, person_id: int) -> Iterator[SessionActor]:
    """A session of this person that leaves no row."""
    with db.begin() as connection:
        actor = sessions.actor_of(sessions.open_session(connection, person_id))
    try:
        yield actor
    finally:
        with db.begin() as connection:
            connection.execute(tables.session.delete().where(tables.session.c.token_sha256 == actor.token_sha256))


def _seen(db: Database, study_id: str, person: SessionActor) -> dict[str, Any]:
    truth = "breast pathology happened_on source person_name created_at"
    return {
        "reads": _tried(lambda: [_read(one) for one in reads.reads_of(db, person, study_id)]),
        "predictions": _tried(lambda: [_prediction(*one) for one in predictions.predictions_of(db, person, study_id)]),
        "truths": _tried(lambda: [_fields(one, truth) for one in truths.truths_of(db, person, study_id)]),
    }


def _images(study: Any) -> dict[str, Any]:
    names = "sha256 modality modality_source laterality view spacing_mm frame n_frames notes warnings tags patient_hash"
    return {
        "breasts": study.breasts,
        "n_earlier": study.n_earlier,
        "is_synthetic": study.row.is_synthetic,
        "images": [
            {
                "id": one.id,
                "pixels_removed_at": one.pixels_removed_at,
                "pixels": _sha256(np.rint(one.image.pixels * 65535).astype("<u2").tobytes()),
                "shape": one.image.pixels.shape,
                **_fields(one.image, names),
            }
            for one in study.images
        ],
    }


def _read(read: Any) -> dict[str, Any]:
    impressions = {breast: [one.birads, one.suspicion] for breast, one in read.impressions.items()}
    names = "id person_name kind comment reading_mode created_at is_amendment predictions_seen"
    return {"impressions": impressions, **_fields(read, names)}


def _prediction(image_id: str, prediction: Any, explanation: Any) -> dict[str, Any]:
    names = "model_id weights_sha256 image_sha256 classes probabilities malignant interval threshold threshold_rule"
    return {
        "image": image_id,
        **_fields(prediction, f"{names} is_above_threshold seconds device"),
        "positive_index": explanation.positive_index,
        "fit": _fields(explanation.fit, "image_shape box side top left height width"),
        "maps": {
            branch: [values.shape, _sha256(values.astype("<f4").tobytes())]
            for branch, values in explanation.maps.items()
        },
    }


def _version(db: Database, admin: LocalTerminal, row: Any) -> dict[str, Any]:
    names = "id name modality number manifest_sha256 split counts audit created_at n_jobs n_cases folds is_leaking"
    pairs = near_duplicates.near_duplicates(db, admin, row.id, progress=lambda *_: None)
    return {
        **_fields(row, names),
        "cases": len(
            data_sets.checked_manifest(db.settings, row.manifest_sha256).read_text(encoding="utf-8").splitlines()
        ),
        "near_duplicates": [_fields(pair, "first second correlation labels parts is_together") for pair in pairs],
    }


def _job(db: Database, admin: LocalTerminal, row: Any) -> dict[str, Any]:
    names = "id state version_id data_set version message attempts machine device memory_mib trials is_stopping result"
    return {
        **_fields(row, f"{names} created_by_name created_at started_at ended_at"),
        "command": command_words(row.request),
        "n_epochs": row.request.n_epochs,
        "runs": row.request.runs,
        "model_id": row.request.model_id,
        "epochs": [_fields(one, "part epoch attempt measures") for one in trainings.epochs_of(db, admin, row.id)],
        "events": [_fields(one, "at attempt sentence") for one in trainings.events_of(db, admin, row.id)],
        "log": _sha256(trainings.log_tail(db, admin, row.id).encode()),
    }


def _imports(db: Database, admin: LocalTerminal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        try:
            row = imports.load_import(db, admin, len(found) + 1)
        except AppError:
            return found
        folder = imports.folder_of(db.settings, row.id)
        request = _fields(row.request, "way name modality seed folder labelling is_confirmed")
        columns = row.request.columns
        found.append(
            {
                **_fields(row, "id state message done is_stopping version_id notes created_by_name created_at"),
                "request": {**request, "columns": columns and _columns(columns)},
                "left_out": imports.left_out(db, LocalTerminal(row.created_by), row),
                "files": sorted(path.name for path in folder.glob("*")),
            }
        )


def _columns(columns: Any) -> dict[str, Any]:
    key = "name date time patient"
    return {
        "combined": _fields(columns.combined, key),
        "validation": _fields(columns.validation, key),
        "path": columns.path,
        "sheets": _fields(columns.sheets, "cancer non_cancer validation"),
    }


def _releases(db: Database, admin: LocalTerminal) -> dict[str, Any]:
    names = "id decision model_id weights_sha256 previous_sha256 job_id reason passed evidence person_name created_at"
    decided = decisions.decisions(db, admin)
    live = read_live(db.settings)
    return {
        "decisions": [_fields(row, names) for row in decided],
        "live": {"chosen": live.chosen, "shadows": live.shadows},
        "cards": [_card(card) for card in live_cards(db.settings)],
        "to_roll_back_to": {
            model_id: sorted(card.weights_sha256 for card in decisions.releases_of(db, admin, model_id))
            for model_id in sorted({row.model_id for row in decided})
        },
        "shadow_answers": {
            # Version 0.1.0 gave the study as the patient.
            model_id: shadows.shadow_answers(db, admin, model_id, sha256)
            .drop(columns="patient")
            .rename(columns={"study": "patient"})
            .to_dict("records")
            for model_id, sha256 in live.shadows.items()
        },
    }


def _card(card: Any) -> dict[str, Any]:
    names = "model_id title architecture modality classes positive side channels weights_sha256 has_weights"
    scores = read_test_scores(card)
    n_cases = None if scores is None else len(scores)
    return {**_fields(card, names), "threshold": card.threshold.value, "test_cases": n_cases}


def _drift(db: Database, admin: LocalTerminal) -> dict[str, Any]:
    found = drift.seen(db, admin, since=timedelta(days=36500))
    return {
        "images": sorted(json.dumps(_jsonable(_fields(one, "at modality vendor megapixels"))) for one in found.images),
        "brightness": sorted(one.brightness for one in found.images if one.brightness is not None),
        "answers": [_fields(one, "at weights_sha256 score") for one in found.answers],
        "calls": sorted(json.dumps(_jsonable(_fields(one, "at weights_sha256 agrees"))) for one in found.calls),
        "refused": found.refused,
    }


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except AppError as refused:
        return f"refused: {type(refused).__name__}"


def _fields(row: Any, names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split()}


def _plain(name: str, value: Any) -> Any:
    if name in SECRET_COLUMNS:
        return _sha256(str(value).encode())
    return _jsonable(value)


def _jsonable(value: Any) -> Any:
    """As it comes back from JSON. Times in UTC, with their zone, whichever database they come from."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float) and value != value:
        return None
    return str(value) if isinstance(value, str) else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
