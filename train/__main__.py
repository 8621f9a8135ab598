"""`python -m train COMMAND`: training. Every refusal is one sentence on standard error."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from core.commands import parsed
from core.errors import AppError
from core.files import end_cleanly_on_sigterm, own_temporary_folder
from core.settings import Settings

COMMANDS = {
    "import": "make a manifest from a published data set",
    "link": "link a hospital's two Excel workbooks with its folders of pictures",
    "look": "measure, fit and judge the check of uploads by their pixels",
    "split": "write a manifest with a split by patient or group",
    "audit": "look for leaks, conflicts and unreadable files (exit 3 on leaks)",
    "fit": "train a model on a manifest and write it to the weights folder",
    "search": "try settings on the validation cases and fit the best ones again",
    "ensemble": "combine published models, fitted on their validation scores",
    "evaluate": "score the cases of a manifest and print every measure",
    "all": "train every model of the programme, going on where it stopped",
    "results": "write docs/results.md from the cards and their scores",
    "cases": "list the cases of models from before and what groups them",
    "descriptors": "measure the descriptors of outlined ultrasound lesions and write docs/findings.md",
    "outlines": "write how well the outline network outlines into docs/findings.md, with --alone after a fit",
    "candidates": "measure where mammography models look against drawn lesions and write docs/findings.md",
    "mammograms": "measure density and asymmetry in mammograms and write docs/findings.md",
    "distance": "fit and measure how published models tell what they did not learn from",
    "amend": "add to the cards of earlier versions what they must own up to",
    "distil": "teach a ResNet50V2 the ImageNet features of EfficientNet-Lite0",
    "worker": "run training jobs that were started in the browser",
    "bench": "compare an epoch on kept features with running the backbone again",
}
WITHOUT_TENSORFLOW = frozenset({"import", "link", "look", "split", "audit", "results", "cases", "mammograms", "worker"})
"""The commands that need no temporary folder: the others make one in the state folder before they load TensorFlow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 refused, 2 a usage error, 3 from `audit` a leak."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    argv = sys.argv[1:] if argv is None else argv
    args = parsed(parser, "train.commands", COMMANDS, argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    end_cleanly_on_sigterm()
    try:
        with ExitStack() as stack:
            if argv[0] not in WITHOUT_TENSORFLOW:
                stack.enter_context(own_temporary_folder(Settings.from_environment().state_dir))
            return int(args.run(args))
    except AppError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
