"""`python -m core peak-levels`: down to which height peaks of a model's heat map are proposed, measured on outlines.

The level is chosen on the validation cases of the model's card and measured on its test cases; both only where the
model calls the image and the manifest names an outline of a lesion. The weights of a model that was measured in folds
were fitted to every one of its cases: its level is chosen on those, and measured on the manifests' other collections,
of which it learned nothing. It has a level only where half of the peaks lay inside there, too.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Raster

from core.errors import NotFound
from core.findings.proposals import LEVELS_FILE, SHARE_WANTED, hits, level_for
from core.imaging.decoded import Limits
from core.imaging.masks import lesion_grey
from core.imaging.picture import read_picture
from core.imaging.preprocess import heat_map
from core.models.cards import Card, live_cards
from core.reading.second_read import read_image
from core.settings import Settings

Pairs = list[tuple[np.ndarray, np.ndarray]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("manifest", type=Path, help="a manifest with a column mask")
    parser.add_argument("models", nargs="+", help="ids of live models")
    parser.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="MANIFEST",
        help="a further one; its files are relative to the same folder",
    )
    parser.add_argument("--most", type=int, default=200, help="validation and test cases each, at most")


def run(args: argparse.Namespace) -> int:
    """Write the levels into the file that the product reads; one sentence a model."""
    cards = {card.model_id: card for card in live_cards(Settings.from_environment())}
    unknown = sorted(set(args.models) - set(cards))
    if unknown:
        raise NotFound(f"Not a live model: {', '.join(unknown)}. Live are {', '.join(sorted(cards))}.")
    masks, root = _outlines((args.manifest, *args.also))
    stored = json.loads(LEVELS_FILE.read_text(encoding="utf-8"))
    for card in (cards[model_id] for model_id in dict.fromkeys(args.models)):
        validation = pairs(card, cases_of(card, "validation"), masks, root, args.most)
        test = pairs(card, unseen_cases(card, masks), masks, root, args.most)
        level = level_for(validation)
        n_peaks, n_inside = hits(test, level) if level is not None else (0, 0)
        if is_in_folds(card) and n_inside < max(1, SHARE_WANTED * n_peaks):
            level = None
        stored[card.weights_sha256] = {
            "model_id": card.model_id, "level": level, "n_validation": len(validation),
            "n_images": len(test), "n_peaks": n_peaks, "n_inside": n_inside, "is_external": is_in_folds(card),
        }  # fmt: skip
        sys.stdout.write(
            f"{card.model_id}: level {level}, {n_inside} of {n_peaks} peaks inside on {len(test)} images\n"
        )
    LEVELS_FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


def _outlines(manifests: Sequence[Path]) -> tuple[dict[str, str], Path]:
    """The outline of each picture that has one, and the folder above the first manifest that both are relative to.

    Raises:
        NotFound: a manifest is not there, names no outline, or none of its pictures lies where it says.
    """
    masks: dict[str, str] = {}
    for manifest in manifests:
        if not manifest.is_file():
            raise NotFound(f"There is no file {manifest}. Each manifest is given as a path from here.")
        with manifest.open(encoding="utf-8", newline="") as stream:
            masks |= {row["file"]: row["mask"] for row in csv.DictReader(stream) if row.get("mask")}
    for folder in manifests[0].resolve().parents if masks else ():
        if (folder / next(iter(masks))).is_file():
            return masks, folder
    raise NotFound(
        "The manifests name no picture with an outline that is here: "
        "they need the columns file and mask, relative to a folder above the first of them."
    )


def cases_of(card: Card, split: str) -> list[str]:
    """The cases of a split that the card's numbers are of."""
    table = card.folder / f"{card.weights_sha256[:8]}.{split}_scores.csv"
    with table.open(encoding="utf-8", newline="") as stream:
        return [row["case"] for row in csv.DictReader(stream)]


def is_in_folds(card: Card) -> bool:
    """Whether the scores of the card's test cases are of other networks than the one that answers."""
    return bool(set(cases_of(card, "validation")) & set(cases_of(card, "test")))


def unseen_cases(card: Card, masks: Mapping[str, str]) -> list[str]:
    """Its test cases; of a model in folds the manifest's cases that lie in no folder of a case of the card."""
    if not is_in_folds(card):
        return cases_of(card, "test")
    own = {collection_of(case) for split in ("validation", "test") for case in cases_of(card, split)}
    return [case for case in masks if collection_of(case) not in own]


def collection_of(case: str) -> tuple[str, ...]:
    """The two outermost folders of a case: `ultrasound/busi` of `ultrasound/busi/benign/benign_1.png`."""
    return Path(case).parts[:2]


def pairs(card: Card, cases: Sequence[str], masks: Mapping[str, str], root: Path, most: int) -> Pairs:
    """(heat map of the positive class, outline) of the cases that have an outline and that the model calls.

    Of more than `most` cases with an outline, as many at even distances: a manifest lists one class after the other.
    """
    found: Pairs = []
    outlined = [case for case in cases if case in masks]
    for case in outlined[:: max(1, -(-len(outlined) // most))]:
        image = read_picture((root / case).read_bytes(), card.modality, limits=Limits.of(Settings()))
        prediction, explanation = read_image(card, image)
        if prediction.is_above_threshold:
            outline = np.zeros((image.height, image.width), bool)
            for name in masks[case].split("|"):
                with Raster.open(root / name) as raster:
                    outline |= np.asarray(lesion_grey(raster).resize((image.width, image.height))) > 127
            if outline.any():
                found.append((heat_map(explanation, "fused", explanation.positive_index), outline))
    return found
