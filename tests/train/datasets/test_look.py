"""The look at the pixels, fitted and judged: a table of made pictures goes the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import encoded, mammogram, tissue, ultrasound

from core.errors import InvalidInput
from core.imaging.suitability import network_shares
from train.datasets import look


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("data")
    makers = {"mammography/one": mammogram, "ultrasound/two": ultrasound, "histopathology/three": tissue}
    for where, make in makers.items():
        (folder / where).mkdir(parents=True)
        names = [f"{where}/{seed}.png" for seed in range(6)]
        for seed, name in enumerate(names):
            (folder / name).write_bytes(encoded(make(seed=seed)))
        rows = [f"{name},p{seed}" for seed, name in enumerate(names)]
        (folder / where / "manifest.csv").write_text("\n".join(["file,patient", *rows]) + "\n")
    others = folder.parent / "others" / "photographs"
    others.mkdir(parents=True, exist_ok=True)
    (others / "a.png").write_bytes(encoded(np.random.default_rng(0).random((760, 720, 3)) ** 2))
    (others / "note.txt").write_text("no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "_MADE", 4)
        return look.measured(folder, others.parent, most=5)


def test_every_collection_is_measured_with_its_women_and_the_most_of_each(table: pd.DataFrame) -> None:
    counts = table.groupby(["kind", "collection"]).size().to_dict()
    assert counts["histology", "three"] == 5 and 5 <= counts["mammography", "one"] <= 10
    assert counts["other", "photographs"] == 2 and counts["other", "photographs, crops"] == 3
    assert counts["other", "noise"] == 4
    assert set(table.loc[table["collection"] == "three", "group"]) <= {f"p{seed}" for seed in range(6)}
    assert np.isfinite(table[[name for name in table if name not in ("collection", "kind", "group")]]).all(axis=None)


def test_fitted_networks_tell_what_they_were_fitted_on_and_a_kind_must_not_be_missing(table: pd.DataFrame) -> None:
    networks = look.fit(table)
    shares = network_shares(networks, table[networks["measures"]].to_numpy())
    assert shares.sum(axis=1) == pytest.approx(1) and shares.shape == (len(table), 4)
    named = [look.CLASSES[best] for best in shares.argmax(axis=1)]
    assert np.mean(np.array(named) == table["kind"]) > 0.95
    with pytest.raises(InvalidInput, match="each at least once"):
        look.fit(table[table["kind"] != "histology"])


def test_the_table_has_a_row_a_collection_and_the_sums(table: pd.DataFrame, tmp_path: Path) -> None:
    lines = look.lines(table)
    assert lines[0].startswith("| Pictures | n |")
    assert len(lines) == 2 + table.groupby(["kind", "collection"]).ngroups + 2
    assert lines[-1].startswith(f"| **all others** | {int((table['kind'] == 'other').sum())} |")
