"""What would make the numbers of a data set unbelievable, looked for before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from train.data import Manifest
from train.look_alikes import Looks, Pair
from train.split import SPLITS, TOGETHER, split_cases

LEAK, WARNING, NOTE = "leak", "warning", "note"
SMALL_TEST = 200
SMALL_CLASS = 30
IMBALANCE = 4.0
_SPELLINGS = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    severity: "leak" (test cases are known from training), "warning" (look at it) or "note". n: how many; of what, the
    sentence says. lines: of the manifest, a tuple for each thing found (the first `LINES_SHOWN` of them).
    """

    check: str
    severity: str
    n: int
    sentence: str
    lines: tuple[tuple[int, ...], ...] = ()


LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found. counts: cases by split (rows) and label (columns).

    has_split: False when the manifest has none, and the seeded one that training makes was judged.
    """

    findings: tuple[Finding, ...]
    counts: pd.DataFrame
    n_cases: int
    has_split: bool

    @property
    def is_leaking(self) -> bool:
        return any(finding.severity == LEAK for finding in self.findings)

    @property
    def verdict(self) -> str:
        leaks = [finding.check for finding in self.findings if finding.severity == LEAK]
        warnings = sum(finding.severity == WARNING for finding in self.findings)
        if leaks:
            return (
                f"LEAKING: {', '.join(leaks)}. Numbers measured on this split are too good. Split by patient or group."
            )
        return f"No leak found; {warnings} warnings." if warnings else "No leak found, nothing to warn of."

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints; line numbers, never file names or ids."""
        return {
            "verdict": self.verdict,
            "leaking": self.is_leaking,
            "cases": self.n_cases,
            "split": "manifest" if self.has_split else "made by training (seed 0)",
            "counts": {str(split): {str(k): int(n) for k, n in row.items()} for split, row in self.counts.iterrows()},
            "findings": [
                {"check": f.check, "severity": f.severity, "n": f.n, "sentence": f.sentence, "lines": f.lines}
                for f in self.findings
            ],
        }


def audit(
    manifest: Manifest, *, progress: Callable[[int, int], None] | None = None, looks: Looks | None = None
) -> Audit:
    """Judge the manifest's split, or the one that training would make; reads every file once, unless `looks` did."""
    cases, has_split = with_split(manifest.cases)
    looks = looks or Looks.at(list(cases["file"]), manifest.root, progress=progress)
    pairs = looks.pairs
    cases = cases.assign(_bytes=list(looks.sha256))
    findings = [
        *leaks(cases, manifest.lines),
        *_leaking_look_alikes(cases, pairs, manifest.lines),
        *_conflicting_labels(cases, pairs, manifest),
        *_unusable_files(looks, manifest.lines),
        *_split_problems(cases, has_split),
        *_class_balance(cases),
        *_left_out(manifest.left_out),
    ]
    order = {LEAK: 0, WARNING: 1, NOTE: 2}
    findings.sort(key=lambda finding: order[finding.severity])
    known = [name for name in SPLITS if name in set(cases["split"])]
    counts = pd.crosstab(cases["split"], cases["label"])
    rest = [name for name in counts.index if name not in known]
    return Audit(tuple(findings), counts.loc[[*known, *rest]], len(cases), has_split)


def with_split(cases: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The cases with a `split` in the words of `SPLITS`, and whether the manifest had one itself."""
    if "split" in cases and (cases["split"] != "").any():
        return cases.assign(split=cases["split"].str.lower().replace(_SPELLINGS)), True
    return cases.assign(split=split_cases(cases)), False


def leaks(cases: pd.DataFrame, lines: Sequence[int] = ()) -> list[Finding]:
    """Patients, groups and files that are in more than one split, from the manifest's columns alone.

    `cases` needs `split`; rows without one take no part. Cheap: no file is read.
    """
    found = []
    columns = {**{name: name for name in TOGETHER}, "_bytes": "file content"}
    for column, word in columns.items():
        if column not in cases:
            continue
        rows = cases[(cases[column] != "") & (cases["split"] != "")]
        splits = rows.groupby(column)["split"].nunique()
        shared = splits.index[splits > 1]
        if len(shared):
            places = rows.index[rows[column].isin(shared)]
            by_value = [tuple(group) for _, group in pd.Series(places).groupby(rows.loc[places, column].to_numpy())]
            found.append(
                Finding(
                    f"{word} in two splits",
                    LEAK,
                    len(shared),
                    f"{len(shared)} values of {word} ({len(places)} cases) are in more than one split.",
                    _lines(by_value, lines),
                )
            )
    return found


def _leaking_look_alikes(cases: pd.DataFrame, pairs: Sequence[Pair], lines: Sequence[int]) -> Iterable[Finding]:
    split, content = cases["split"].to_numpy(), cases["_bytes"].to_numpy()
    across = [
        (pair.first, pair.second)
        for pair in pairs
        if split[pair.first] != split[pair.second]
        and split[pair.first]
        and split[pair.second]
        and content[pair.first] != content[pair.second]
    ]
    if across:
        sentence = f"{len(across)} pairs of nearly the same picture are in different splits."
        yield Finding("near-duplicates across splits", LEAK, len(across), sentence, _lines(across, lines))
    within = len(pairs) - len(across)
    if within:
        yield Finding("near-duplicates", NOTE, within, f"{within} pairs of nearly the same picture share a split.")


def _conflicting_labels(cases: pd.DataFrame, pairs: Sequence[Pair], manifest: Manifest) -> Iterable[Finding]:
    label = cases["label"].to_numpy()
    places = {(pair.first, pair.second) for pair in pairs if label[pair.first] != label[pair.second]}
    for _, rows in cases[cases["_bytes"] != ""].groupby("_bytes"):
        first = rows.index[0]
        places |= {(int(first), int(other)) for other in rows.index[1:] if label[first] != label[other]}
    if places:
        sentence = f"{len(places)} pairs of the same or nearly the same picture have different labels."
        yield Finding("conflicting labels", WARNING, len(places), sentence, _lines(sorted(places), manifest.lines))


def _unusable_files(looks: Looks, lines: Sequence[int]) -> Iterable[Finding]:
    missing = [(place,) for place in looks.unreadable if not looks.sha256[place]]
    broken = [(place,) for place in looks.unreadable if looks.sha256[place]]
    if missing:
        sentence = f"{len(missing)} files are not there (or empty). Check --root."
        yield Finding("missing files", WARNING, len(missing), sentence, _lines(missing, lines))
    if broken:
        sentence = f"{len(broken)} files cannot be read as a picture."
        yield Finding("unreadable files", WARNING, len(broken), sentence, _lines(broken, lines))


def _split_problems(cases: pd.DataFrame, has_split: bool) -> Iterable[Finding]:
    if not has_split:
        yield Finding("no split", NOTE, 0, "The manifest has no split; judged is the one that training makes (seed 0).")
    in_folds = bool(len(cases)) and bool(cases["split"].str.fullmatch(r"fold \d+").all())
    unknown = int((~cases["split"].isin(SPLITS)).sum())
    if unknown and not in_folds:
        words = "train, validation or test"
        yield Finding("unknown split", WARNING, unknown, f"{unknown} cases are not in {words}; training splits anew.")
    if not any(column in cases and (cases[column] != "").any() for column in ("patient", "group")):
        yield Finding(
            "no patients", WARNING, len(cases), "No column patient or group: one patient may be on both sides unseen."
        )
    test = cases if in_folds else cases[cases["split"] == "test"]  # in folds every case is tested once
    if len(test) < SMALL_TEST:
        sentence = f"The test split has {len(test)} cases: show no number of it without its interval."
        yield Finding("tiny test split", WARNING, len(test), sentence)
    for label, n in test["label"].value_counts().reindex(sorted(cases["label"].unique()), fill_value=0).items():
        if n < SMALL_CLASS:
            yield Finding("few test cases", WARNING, int(n), f"Only {n} test cases have the label {label!r}.")


def _class_balance(cases: pd.DataFrame) -> Iterable[Finding]:
    counts = cases["label"].value_counts()
    if len(counts) < 2:
        yield Finding("one label", WARNING, len(cases), "All cases have one label; there is nothing to tell apart.")
    elif counts.max() > IMBALANCE * counts.min():
        share = counts.max() / counts.sum()
        sentence = f"{share:.0%} of the cases are {counts.idxmax()!r}: always answering that is this accurate."
        yield Finding("class balance", WARNING, int(counts.min()), sentence)


def _left_out(left_out: Mapping[str, int]) -> Iterable[Finding]:
    for reason, n in left_out.items():
        if n:
            yield Finding("left out", NOTE, n, f"{n} rows are left out: {reason}.")


def _lines(places: Sequence[Sequence[int]], lines: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(lines[int(place)] for place in group) for group in places[:LINES_SHOWN]) if lines else ()
