"""Whether a model has seen the cases it is tested on: the same picture, the same patient, nearly the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_COLUMNS = ("sha256", "pixels_sha256", "perceptual_hash", "patient")


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many tested cases a model was trained or chosen on; each counts once, under the first that is true of it.

    same: the same picture. patients: another picture of the same patient. alike: nearly the same picture, by its
    perceptual hash. of: how many were tested.
    """

    same: int
    patients: int
    alike: int
    of: int

    @property
    def n(self) -> int:
        return self.same + self.patients + self.alike

    @property
    def kinds(self) -> str:
        """ "4 the same picture, 3 the same patient"; "" where there is none."""
        kinds = {
            "the same picture": self.same,
            "the same patient": self.patients,
            "nearly the same picture": self.alike,
        }
        return ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)

    @property
    def words(self) -> str:
        """ "7 of 117: 4 the same picture, 3 the same patient", or "none of 117"."""
        return f"{self.n} of {self.of}: {self.kinds}" if self.n else f"none of {self.of}"


def overlap(tested: pd.DataFrame, known: pd.DataFrame, *, alike_bits: int) -> Overlap:
    """Compare tested cases with those that a model knows.

    Both have any of the columns sha256, pixels_sha256, perceptual_hash (hex) and patient, "" where something is not
    known, and `part`: a case is not compared with its own part (the fold that tested it), "" is no part. alike_bits:
    in how many bits perceptual hashes of nearly the same picture may differ.
    """
    tested, known = (table.reindex(columns=[*_COLUMNS, "part"], fill_value="") for table in (tested, known))
    same, patients, alike = (np.zeros(len(tested), bool) for _ in range(3))
    for part, chosen in tested.groupby("part").indices.items():
        others = known[known["part"] != part] if part else known
        rows = tested.iloc[chosen]
        same[chosen] = _shared(rows, others, "sha256") | _shared(rows, others, "pixels_sha256")
        patients[chosen] = _shared(rows, others, "patient")
        alike[chosen] = _near(rows["perceptual_hash"], others["perceptual_hash"], alike_bits)
    patients &= ~same
    alike &= ~same & ~patients
    return Overlap(int(same.sum()), int(patients.sum()), int(alike.sum()), len(tested))


def _shared(rows: pd.DataFrame, others: pd.DataFrame, column: str) -> np.ndarray:
    return rows[column].isin(set(others[column]) - {""}).to_numpy()


def _near(rows: pd.Series, others: pd.Series, bits: int) -> np.ndarray:
    """For each hash whether one of the others differs in so few bits."""
    found = np.zeros(len(rows), bool)
    known = _words(others[others != ""])
    places = np.flatnonzero((rows != "").to_numpy())
    for place, one in zip(places, _words(rows.iloc[places]), strict=True):
        found[place] = bool(len(known)) and int(np.bitwise_count(known ^ one).sum(axis=1).min()) <= bits
    return found


def _words(hashes: pd.Series) -> np.ndarray:
    """(n, words) uint64 of hex hashes of one length."""
    raw = [bytes.fromhex(one) for one in hashes]
    return np.frombuffer(b"".join(raw), np.uint64).reshape(len(raw), -1) if raw else np.zeros((0, 1), np.uint64)
