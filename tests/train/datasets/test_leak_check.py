"""The audit of a finished model's split: found files, the split it was measured in, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import changed
from PIL import Image as Picture

from core.errors import InvalidInput
from core.evaluation.statistics.metrics import spread
from core.evaluation.statistics.summary import families
from core.models.cards import Card, all_cards, candidate_cards
from core.settings import Settings
from core.types import Estimate
from train.datasets import leakage
from train.datasets.manifest import joined, read_manifest
from train.publishing.results import compare_with_published, measures_of, published_without_model
from train.recipe.programme import BY_GROUP, BY_IMAGE

N = 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for data with one collection; pictures 0 and 11 show the same."""
    folder = tmp_path / "data" / "scans"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (96, 96), np.uint8) for _ in range(N - 1)]
    pixels.append(np.clip(pixels[0].astype(int) + 3, 0, 255).astype(np.uint8))
    rows = []
    for number, one in enumerate(pixels):
        Picture.fromarray(one).save(folder / f"{number}.png")
        label = "malignant" if number in (0, 3, 5, 7, 11) else "benign"
        rows.append({"file": f"scans/{number}.png", "label": label, "patient": f"p{number}", "source": "A"})
    rows.append({"file": "scans/absent.png", "label": "benign", "patient": "p99", "source": "B"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return tmp_path / "data"


@pytest.fixture
def site(root: Path, tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    return Settings(state_dir=tmp_path / "state", data_root=str(root))


def measured(tmp_path: Path, *, test: list[int], validation: list[int]) -> Card:
    card = next(iter(all_cards(Settings())))
    folder = tmp_path / f"model{test[0]}"
    folder.mkdir()
    for name, numbers in (("test", test), ("validation", validation)):
        table = pd.DataFrame({"case": [f"scans/{n}.png" for n in numbers], "patient": "p", "label": "benign"})
        table.to_csv(folder / f"{card.weights_sha256[:8]}.{name}_scores.csv", index=False)
    return changed(card, model_id=folder.name, folder=folder)


def test_the_files_of_a_cards_data_are_found_by_the_hash_of_its_cases(site: Settings, root: Path) -> None:
    trained_on = read_manifest(root / "scans" / "manifest.csv", root=root, where=["source=A"])
    found = leakage.find_manifest(site, trained_on.sha256, ("A",))
    assert found is not None and found.root == root and len(found.cases) == N
    assert leakage.find_manifest(site, trained_on.sha256, ()) is None
    assert leakage.find_manifest(site, "0" * 64, ("A",)) is None
    assert leakage.find_manifest(replace(site, data_root=""), trained_on.sha256, ("A",)) is None


def test_the_split_a_model_was_measured_in_is_judged_and_not_another(
    site: Settings, root: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(root / "scans" / "manifest.csv", root=root, where=["source=A"])
    looks = leakage.looks_at(site, manifest)
    across = measured(tmp_path, test=[11, 3, 4], validation=[5, 6])
    together = measured(tmp_path, test=[0, 11, 4], validation=[5, 6])
    found = leakage.leakage_of_model(manifest, across, looks)
    assert found.is_leaking and found.counts.loc["test"].sum() == 3 and found.counts.loc["train"].sum() == 7
    assert not leakage.leakage_of_model(manifest, together, looks).is_leaking
    stranger = measured(tmp_path, test=[77], validation=[5])
    with pytest.raises(InvalidInput, match="not tested on these files"):
        leakage.leakage_of_model(manifest, stranger, looks)


def test_files_are_looked_at_once_until_one_changes(
    site: Settings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(root / "scans" / "manifest.csv", root=root, where=["source=A"])
    told: list[tuple[int, int]] = []
    first = leakage.looks_at(site, manifest, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (N, N) and [(pair.first, pair.second) for pair in first.pairs] == [(0, 11)]
    again = leakage.looks_at(site, manifest, progress=lambda *_: pytest.fail("read again"))
    assert again == first
    Picture.fromarray(np.zeros((64, 64), np.uint8) + np.arange(64, dtype=np.uint8)).save(root / "scans" / "11.png")
    assert leakage.looks_at(site, manifest).pairs == ()


def test_runs_with_seeds_are_one_family_and_their_spread_is_numpys() -> None:
    names = ("cnn-seed0", "cnn-seed12", "fusion", "vgg seed 1", "cnn-seed3 (training 7)")
    assert families(names) == {"cnn": ("cnn-seed0", "cnn-seed12", "cnn-seed3 (training 7)")}
    values = [0.8, 0.9, 0.7]
    found = spread([{"auc": Estimate(value, value - 0.1, value + 0.1, 50)} for value in values])["auc"]
    assert found.mean == pytest.approx(np.mean(values)) and found.deviation == pytest.approx(np.std(values, ddof=1))


def test_a_training_that_nobody_released_can_be_compared_under_its_number(tmp_path: Path) -> None:
    shipped = next(card for card in all_cards(Settings()) if card.model_id == "ultrasound-cnn")
    folder = tmp_path / "candidates" / "7" / shipped.model_id
    folder.mkdir(parents=True)
    raw = json.loads((shipped.folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(raw))
    site = Settings(state_dir=tmp_path)
    assert candidate_cards(site) == ()  # the very weights that are live
    raw["weights"]["sha256"] = "ab" * 32
    (folder / "card.json").write_text(json.dumps(raw))
    (card,) = candidate_cards(site)
    assert card.model_id == "ultrasound-cnn (training 7)" and card.folder == folder


def test_every_published_system_stands_in_the_table_with_ours_or_without() -> None:
    cards = all_cards(Settings())
    measures = {card.model_id: measures_of(card) for card in cards}
    rows = compare_with_published(cards, measures)
    lessons = {card.model_id for card in cards if card.model_id.endswith((BY_IMAGE, BY_GROUP))}
    assert {row.system for row in rows} == {card.model_id for card in cards} - lessons
    fusion = next(row for row in rows if row.system == "ultrasound-fusion")
    assert (
        fusion.theirs == ("macro-AUC .956", "AUC .916") and fusion.ours["auc"] == measures["ultrasound-fusion"]["auc"]
    )
    assert "2025" in fusion.source_text and "doi:" in fusion.source_text and "2,233" in fusion.on
    assert {row.source_text for row in rows if not row.source} == {"not recorded"}
    absent = published_without_model(cards)
    assert absent and all(row.card is None and not row.ours and row.why for row in absent)
    assert not {row.on for row in absent} & {fusion.on}


@pytest.mark.parametrize("names", [("A", "B"), ("A",)], ids=["two sources", "two parts of one"])
def test_two_collections_that_a_model_was_trained_on_together_are_found_in_the_order_of_training(
    site: Settings, root: Path, names: tuple[str, ...]
) -> None:
    others = root / "more"
    others.mkdir()
    rows = []
    for number in range(2):
        Picture.fromarray(np.full((8, 8), 100 + number, np.uint8)).save(others / f"{number}.png")
        label = ("benign", "malignant")[number]
        rows.append({"file": f"more/{number}.png", "label": label, "patient": f"m{number}", "source": names[-1]})
    pd.DataFrame(rows).to_csv(others / "manifest.csv", index=False)
    (root / "none").mkdir()
    absent = [row | {"file": f"none/{number}.png"} for number, row in enumerate(rows)]
    pd.DataFrame(absent).to_csv(root / "none" / "manifest.csv", index=False)
    where = [f"source={'|'.join(names)}"]
    first = read_manifest(root / "scans" / "manifest.csv", root=root, where=["source=A"], allow_repeats=True)
    pd.DataFrame(first.cases).to_csv(root / "scans" / "manifest.csv", index=False)
    parts = [read_manifest(root / name / "manifest.csv", root=root, where=where) for name in ("more", "scans")]
    both, turned = joined(parts), joined(parts[::-1])
    assert both.sha256 != turned.sha256
    for wanted in (both, turned):
        found = leakage.find_manifest(site, wanted.sha256, names)
        assert found is not None and found.cases["file"].tolist() == wanted.cases["file"].tolist()
    assert leakage.find_manifest(site, both.sha256, ("C",)) is None
    assert (leakage.find_manifest(site, both.sha256, ("A",)) is None) is ("B" in names)
    assert leakage.find_manifest(site, "f" * 64, names) is None
