"""What would make the numbers of a data set unbelievable, looked for before training.

The audit of the split that a finished model was measured in, where the files of its data set are on this machine.

What looking at the files has shown (hashes, look-alikes) is kept in `state_dir/audits` under a hash of what the files
are, because reading a data set takes a while; judging a model's split with it takes none. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import AppError, InvalidInput
from core.evaluation.tables.cells import normal_id, similar_ids
from core.files import write_whole
from core.models.cards import Card
from core.records.data_sets import files_dir
from core.settings import Settings
from core.wording import how_many
from train.datasets.duplicates import Looks, Pair
from train.datasets.manifest import Manifest, joined, read_manifest
from train.datasets.split import SPLITS, TOGETHER, split_cases

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
class LeakageReport:
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
        return f"No leak found; {how_many(warnings, 'warning')}." if warnings else "No leak found, nothing to warn of."

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


def check_leakage(manifest: Manifest, *, looks: Looks | None = None) -> LeakageReport:
    """Judge the manifest's split, or the one that training would make; reads every file once, unless `looks` did."""
    cases, has_split = with_split(manifest.cases)
    looks = looks or Looks.at(list(cases["file"]), manifest.root)
    pairs = looks.pairs
    cases = cases.assign(_bytes=list(looks.sha256))
    findings = [
        *leaks(cases, manifest.lines),
        *_similar_names(cases, manifest.lines),
        *_leaking_near_duplicates(cases, pairs, manifest.lines),
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
    return LeakageReport(tuple(findings), counts.loc[[*known, *rest]], len(cases), has_split)


def with_split(cases: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The cases with a `split` in the words of `SPLITS`, and whether the manifest had one itself."""
    if "split" in cases and (cases["split"] != "").any():
        return cases.assign(split=cases["split"].map(normal_id).str.lower().replace(_SPELLINGS)), True
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


def _similar_names(cases: pd.DataFrame, lines: Sequence[int]) -> Iterable[Finding]:
    """Patients and groups that may be one and are counted apart, so that no check sees them on both sides."""
    split = cases["split"].to_numpy()
    for column in ("patient", "group"):
        if column not in cases:
            continue
        names = cases[column].to_numpy(str)
        found = similar_ids(names, range(len(cases)))
        apart = [one for one in found if len({part for at in one for part in split[names == names[at]]} - {""}) > 1]
        if found:
            sentence = (
                f"{len(found)} times, names of {column}s differ only in capital letters, blanks, hyphens or leading "
                f"zeros and count as different {column}s; {len(apart)} times they are in more than one split, which "
                "leaks if they are one."
            )
            yield Finding(f"{column}s that may be one", WARNING, len(found), sentence, _lines(found, lines))


def _leaking_near_duplicates(cases: pd.DataFrame, pairs: Sequence[Pair], lines: Sequence[int]) -> Iterable[Finding]:
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


_DEPTH = 2
"""How many folders below the site's folder for data a manifest may lie."""
_METHOD = 1
"""Raised when looking at files changes, so that what was kept before does not count."""


def find_manifest(settings: Settings, data_sha256: str, sources: Sequence[str] = ()) -> Manifest | None:
    """The cases with this hash among the site's data sets and in `data_root`, their files at hand; else None.

    data_sha256: as a card names its data. sources: values of the column `source` that the model may have been
    trained on alone.
    """
    for path, roots in _manifests(settings):
        for where in ((), *((f"source={source}",) for source in sources)):
            try:
                manifest = read_manifest(path, where=where, allow_repeats=True)
            except AppError:
                continue
            if manifest.sha256 != data_sha256:
                continue
            for root in roots:
                if (root / str(manifest.cases["file"].iloc[0])).is_file():
                    return replace(manifest, root=root)
    return _joined_manifest(settings, data_sha256, sources) if sources else None


def _joined_manifest(settings: Settings, data_sha256: str, sources: Sequence[str]) -> Manifest | None:
    """Two manifests that a model was trained on together, in the order that gives this hash."""
    parts = []
    for path, roots in _manifests(settings):
        try:
            part = read_manifest(path, root=roots[-1], where=(f"source={'|'.join(sources)}",), allow_repeats=True)
        except AppError:
            continue
        if len(part.cases) and (part.root / str(part.cases["file"].iloc[0])).is_file():
            parts.append(part)
    for pair in permutations(parts, 2):
        try:
            manifest = joined(pair)
        except InvalidInput:
            continue
        if manifest.sha256 == data_sha256:
            return manifest
    return None


def _manifests(settings: Settings) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Every manifest there is, with the folders that its files may be relative to."""
    own = files_dir(settings)
    for path in sorted((own.parent / "manifests").glob("*.csv")):
        yield path, (own,)
    if settings.data_root:
        root = Path(settings.data_root)
        for depth in range(_DEPTH + 1):
            for path in sorted(root.glob("/".join(["*"] * depth + ["manifest.csv"]))):
                yield path, (path.parent, root)


def split_of(manifest: Manifest, card: Card) -> Manifest:
    """The cases with the split that this model was trained and measured in, read from its own scores.

    Where it was measured in folds, each fold is a part. Raises InvalidInput where the model does not name its cases.
    """
    tested, validated = (_scores(card, name) for name in ("test", "validation"))
    files = manifest.cases["file"]
    if "fold" in tested:
        fold = dict(zip(tested["case"], tested["fold"], strict=True))
        split = files.map(lambda file: f"fold {fold[file]}" if file in fold else "")
    else:
        split = pd.Series("train", index=files.index)
        split[files.isin(set(validated["case"]))] = "validation"
        split[files.isin(set(tested["case"]))] = "test"
    if not files.isin(set(tested["case"])).any():
        raise InvalidInput(f"{card.model_id} was not tested on these files.")
    return replace(manifest, cases=manifest.cases.assign(split=split))


def leakage_of_model(manifest: Manifest, card: Card, looks: Looks) -> LeakageReport:
    """What the audit says of this model's split. looks: of the manifest's files. Raises InvalidInput."""
    return check_leakage(split_of(manifest, card), looks=looks)


def looks_at(settings: Settings, manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> Looks:
    """What looking at the files shows; from what was kept before if no file has changed since."""
    files = [str(file) for file in manifest.cases["file"]]
    path = settings.state_dir / "audits" / f"{_fingerprint(files, manifest.root)}.json"
    if path.is_file():
        retained = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple(Pair(int(one), int(other), float(alike)) for one, other, alike in retained["pairs"])
        return Looks(tuple(retained["sha256"]), tuple(retained["unreadable"]), pairs)
    looks = Looks.at(files, manifest.root, progress=progress)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    pairs_kept = [(pair.first, pair.second, pair.correlation) for pair in looks.pairs]
    content = {"sha256": looks.sha256, "unreadable": [int(place) for place in looks.unreadable], "pairs": pairs_kept}
    write_whole(path, json.dumps(content))
    return looks


def _fingerprint(files: Sequence[str], root: Path) -> str:
    """Of names, sizes and times of change: another picture under the same name is looked at again."""
    digest = hashlib.sha256(f"{_METHOD}".encode())
    for file in files:
        path = root / file
        state = path.stat() if path.is_file() else None
        digest.update(f"\n{file}\t{(state.st_size, state.st_mtime_ns) if state else None}".encode())
    return digest.hexdigest()


def _scores(card: Card, name: str) -> pd.DataFrame:
    path = card.folder / f"{card.weights_sha256[:8]}.{name}_scores.csv"
    if not path.is_file():
        raise InvalidInput(f"{card.model_id} names no {name} cases, so its split is not known here.")
    return pd.read_csv(path, dtype=str, keep_default_na=False)
