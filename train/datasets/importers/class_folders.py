"""One folder a class, as most data sets are handed on; BUSI with its `_mask` files, several masks an image."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from core.errors import InvalidInput
from train.datasets.importers.imported import Imported, in_counting_order, pictures_under

SPLIT_WORDS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
SPLIT_WORDS |= {"validation": "validation", "test": "test", "testing": "test"}
_MASK = re.compile(r"^(?P<picture>.+)_mask(_\d+)?$", re.IGNORECASE)


def read(source: Path, out: Path) -> Imported:
    """Label = folder name in small letters; a level of train/validation/test folders becomes the split.

    Masks (`name_mask.png`, `name_mask_1.png`) of a picture go into its `mask`, "|" between several.
    """
    return cases_of(pictures_under(source), source)


def cases_of(files: Iterable[str], source: Path) -> Imported:
    """The same for these files, relative to `source`."""
    masks: dict[str, list[str]] = {}
    pictures = []
    for file in files:
        found = _MASK.match(Path(file).stem)
        if found:
            masks.setdefault(f"{Path(file).parent.as_posix()}/{found['picture']}".casefold(), []).append(file)
        else:
            pictures.append(file)
    top = _depth_of_classes(pictures)
    rows = []
    for file in pictures:
        folders = Path(file).parent.parts[top:]
        split = SPLIT_WORDS.get(folders[0].casefold(), "") if folders else ""
        label = folders[1:2] if split else folders[:1]
        key = f"{Path(file).parent.as_posix()}/{Path(file).stem}".casefold()
        mask = "|".join(sorted(masks.pop(key, []), key=in_counting_order))
        rows.append({"file": file, "label": label[0].strip().lower() if label else "", "split": split, "mask": mask})
    cases = pd.DataFrame(rows, columns=["file", "label", "split", "mask"])
    if not (cases["label"] != "").any() and len(cases):
        raise InvalidInput("The pictures lie in no class folders. Put them into one folder a class, named like it.")
    notes = []
    if unlabelled := int((cases["label"] == "").sum()):
        notes.append(f"{unlabelled} pictures lie outside the class folders and have no label.")
    if masks:
        notes.append(f"{sum(map(len, masks.values()))} masks belong to no picture and were left out.")
    return Imported(cases, source, tuple(notes))


def _depth_of_classes(pictures: list[str]) -> int:
    """How many outer folders hold everything (an archive's own folder) and so are no classes."""
    folders = [Path(file).parent.parts for file in pictures]
    depth = 0
    while (
        folders and all(len(parts) > depth + 1 for parts in folders) and len({parts[depth] for parts in folders}) == 1
    ):
        depth += 1
    return depth
