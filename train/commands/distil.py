"""`python -m train distil`: a ResNet50V2 backbone for `fit --init offline --backbone`, without the internet."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.types import Modality
from train.datasets.manifest import add_rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--data", required=True, type=Path, action="append", metavar="MANIFEST", help="images, labels unused"
    )
    add_rows(parser)
    parser.add_argument("--modality", required=True, type=Modality, choices=list(Modality))
    parser.add_argument("--seed", type=int, default=0, help="of the split: its validation and test cases are left out")
    parser.add_argument("--split-like", metavar="MODEL_ID", help="leave out this model's validation and test cases")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--out", required=True, type=Path)


def run(args: argparse.Namespace) -> int:
    """Gather the training images of the manifests as grey squares and distil."""
    from train.publishing.pipeline import distil

    distil(
        args.data, args.out, modality=args.modality, root=args.root, where=args.where, split_like=args.split_like,
        seed=args.seed, side=args.side, steps=args.steps,
    )  # fmt: skip
    return 0
