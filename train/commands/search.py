"""`python -m train search`: short fits with other settings, the best of them fitted again with several seeds."""

from __future__ import annotations

import argparse
import logging

from core.errors import InvalidInput
from train.commands.fit import add_options as add_options_of_a_fit
from train.commands.fit import joined_folder, working_folder
from train.datasets.manifest import require_there
from train.fitting.workers import Workers
from train.recipe.request import FitRequest

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_options_of_a_fit(parser)
    parser.add_argument("--trials", type=int, default=12, metavar="N", help="settings to try (default: 12)")
    parser.add_argument("--refits", type=int, default=3, metavar="K", help="seeds for the best ones (default: 3)")


def run(args: argparse.Namespace) -> int:
    """Search, refit, measure, publish. TensorFlow is loaded here, after the arguments were read."""
    for path in (args.data, *(args.also or ())):
        require_there(path)
    request = FitRequest.from_arguments(vars(args))
    if not request.trials:
        raise InvalidInput("--trials can be 1 to 200.")
    if Workers.of_environment().n > 1:
        raise InvalidInput("A search is not for the workers of TF_CONFIG: other processes share it with --join.")
    from train.publishing.search import join_search, search_model

    if args.join:
        join_search(request, joined_folder(request))
        return 0
    with working_folder(request.work) as folder:
        card = search_model(request, folder)
    log.info("written: %s", card)
    return 0
