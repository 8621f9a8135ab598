"""The audit of the split that a finished model was measured in, where the files of its data set are on this machine.

What looking at the files has shown (hashes, look-alikes) is kept in `state_dir/audits` under a hash of what the files
are, because reading a data set takes a while; judging a model's split with it takes none. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pandas as pd

from core.errors import AppError, InvalidInput
from core.models.cards import Card
from core.records.data_sets import files_dir
from core.settings import Settings
from train.audit import Audit, audit
from train.data import Manifest, read_manifest
from train.look_alikes import Looks, Pair

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


def audit_of(manifest: Manifest, card: Card, looks: Looks) -> Audit:
    """What the audit says of this model's split. looks: of the manifest's files. Raises InvalidInput."""
    return audit(split_of(manifest, card), looks=looks)


def looks_at(settings: Settings, manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> Looks:
    """What looking at the files shows; from what was kept before if no file has changed since."""
    files = [str(file) for file in manifest.cases["file"]]
    path = settings.state_dir / "audits" / f"{_fingerprint(files, manifest.root)}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple(Pair(int(one), int(other), float(alike)) for one, other, alike in kept["pairs"])
        return Looks(tuple(kept["sha256"]), tuple(kept["unreadable"]), pairs)
    looks = Looks.at(files, manifest.root, progress=progress)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    half = path.with_name(f"{uuid4().hex}.half")
    pairs_kept = [(pair.first, pair.second, pair.correlation) for pair in looks.pairs]
    content = {"sha256": looks.sha256, "unreadable": [int(place) for place in looks.unreadable], "pairs": pairs_kept}
    half.write_text(json.dumps(content), encoding="utf-8")
    half.replace(path)
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
