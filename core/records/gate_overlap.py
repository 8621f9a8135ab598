"""Which of the compared test cases each model has seen, as far as its list of cases and this site's data sets tell.

A list (`core.models.card_cases`) tells the same picture and nearly the same one; patients are known only for what was
trained here, because lists name none.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd
from sqlalchemy import Connection, select

from core.errors import ModelUnavailable
from core.evaluation.overlap import Overlap, overlap
from core.models.card_cases import ALIKE_BITS, read_cases
from core.models.cards import Card
from core.records import data_sets, tables
from core.records.data_sets import VersionRow
from core.records.db import Database

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two models. name: "candidate" or "live". scores: of the compared cases. version: of the data set it
    was trained on here, else None."""

    name: str
    card: Card
    scores: pd.DataFrame
    version: VersionRow | None


def seen_by(
    db: Database, used: Sequence[str], candidate: Party, live: Party | None
) -> tuple[dict[str, Overlap | None], list[str]]:
    """For each model what it has seen of the cases `used`, None where that cannot be told; and what is not known."""
    notes: list[str] = []
    lists = {party.name: _listed(party, notes) for party in (candidate, live) if party is not None}
    tested = _tested(db, used, candidate, lists[candidate.name])
    if (tested["sha256"] == "").any():
        notes.append(
            f"{int((tested['sha256'] == '').sum())} of the {len(tested)} test cases do not lie in this site's store of "
            "data sets, so it cannot be told who has seen them."
        )
    found: dict[str, Overlap | None] = {}
    for party in (candidate, live):
        if party is not None:
            known = _known(db, party, lists[party.name], notes)
            is_told = known is not None and bool((tested["sha256"] != "").any())
            found[party.name] = _compared(tested, known, party) if is_told and known is not None else None
    return found, notes


def cases_of(db: Database, version: VersionRow | None) -> pd.DataFrame:
    """The manifest of a version with its files as `case`; empty where it is gone."""
    path = data_sets.manifest_path(db.settings, version.manifest_sha256) if version is not None else None
    if path is None or not path.is_file():
        return pd.DataFrame()
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    return pd.DataFrame(rows).rename(columns={"file": "case"}).fillna("")


def version_of_job(connection: Connection, job_id: int) -> VersionRow:
    """What a training was on, also where its data set was removed since."""
    version_id = connection.execute(select(tables.job.c.version_id).where(tables.job.c.id == job_id)).scalar_one()
    return data_sets.find_version(connection, version_id)


def version_of_weights(db: Database, weights_sha256: str) -> VersionRow | None:
    """What these weights were trained on, None where that was not here."""
    with db.read() as connection:
        done = connection.execute(select(tables.job.c.id, tables.job.c.result).where(tables.job.c.state == "done"))
        made = [row.id for row in done if row.result and row.result.get("weights_sha256") == weights_sha256]
        return version_of_job(connection, made[0]) if made else None


def _listed(party: Party, notes: list[str]) -> pd.DataFrame | None:
    try:
        return read_cases(party.card)
    except ModelUnavailable as damaged:
        notes.append(str(damaged))
        return None


def _tested(db: Database, used: Sequence[str], candidate: Party, listed: pd.DataFrame | None) -> pd.DataFrame:
    """A row a compared case, by `case`: its hashes, "" where unknown, and its patient."""
    table = pd.DataFrame({"case": list(used), "sha256": [_sha256(case) for case in used]})
    if listed is not None:
        table = table.merge(
            listed.drop_duplicates("sha256")[["sha256", "pixels_sha256", "perceptual_hash"]], on="sha256", how="left"
        )
    manifest = cases_of(db, candidate.version)
    if "patient" in manifest:
        table = table.merge(manifest[["case", "patient"]], on="case", how="left")
    return table.fillna("")


def _known(db: Database, party: Party, listed: pd.DataFrame | None, notes: list[str]) -> pd.DataFrame | None:
    """Every case the model was made from, with its `split`; None where there is neither a list nor a data set."""
    manifest = cases_of(db, party.version)
    if listed is None and manifest.empty:
        notes.append(
            f"It cannot be told whether the {party.name} model has seen these test cases: its folder does not list "
            "what it was trained on, and it was not trained here. The command python -m train cases makes the list "
            "from its data."
        )
        return None
    if listed is None:
        notes.append(
            f"The {party.name} model was made before models listed their cases: what it has seen is told by file and "
            "by patient, not by near-duplicates."
        )
        split = "fold " + manifest["fold"] if "fold" in manifest else manifest.get("split", "")
        return manifest.assign(sha256=manifest["case"].map(_sha256), split=split)
    if manifest.empty:
        notes.append(
            f"The {party.name} model's list of cases names no patients, so it cannot be told whether it has seen other "
            "pictures of the same ones."
        )
        return listed
    patients = manifest["patient"] if "patient" in manifest else [""] * len(manifest)
    by_file = dict(zip(manifest["case"].map(_sha256), patients, strict=True))
    return listed.assign(patient=listed["sha256"].map(by_file).fillna(""))


def _compared(tested: pd.DataFrame, known: pd.DataFrame, party: Party) -> Overlap:
    if "fold" in party.scores:  # each case was scored by the network of its fold, which had not seen that part
        fold = dict(zip(party.scores["case"], party.scores["fold"], strict=True))
        part = tested["case"].map(fold).map(lambda number: f"fold {number}")
        return overlap(tested.assign(part=part), known.assign(part=known["split"]), alike_bits=ALIKE_BITS)
    return overlap(tested, known[known["split"] != "test"], alike_bits=ALIKE_BITS)


def _sha256(case: str) -> str:
    """Files in the store are called by the hash of their bytes; "" for another name."""
    stem = PurePosixPath(case).stem
    return stem if _SHA256.fullmatch(stem) else ""
