"""`python -m core models`: the models and what was measured of them, as the README shows it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection

from core.evaluation.statistics.ranked import N_BINS
from core.evaluation.tables.of_cards import headline
from core.files import write_whole
from core.models.cards import LEAKING, Card, CardFile, all_cards, leaks_of, live_cards, shipped_cards, withheld_text
from core.settings import REPOSITORY, Settings
from core.types import Estimate

README = REPOSITORY / "README.md"
CARD_SCHEMA = REPOSITORY / "docs" / "card.schema.json"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--readme", action="store_true", help="write the table into README.md instead")
    parser.add_argument("--card-schema", action="store_true", help="write docs/card.schema.json instead")


def run(args: argparse.Namespace) -> int:
    """Print the table, or put it between the README's markers; or write the schema of cards."""
    if args.card_schema:
        write_whole(CARD_SCHEMA, card_schema())
        return 0
    settings = Settings.from_environment()
    if args.readme:
        text = readme_table(settings)
        page = README.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        write_whole(README, f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        answering = {card.model_id for card in live_cards(settings)}
        sys.stdout.write(models_table(all_cards(settings), answering) + "\n")
    return 0


def card_schema() -> str:
    """`docs/card.schema.json`: what a card may hold (JSON Schema, draft 2020-12)."""
    schema = CardFile.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def readme_table(settings: Settings) -> str:
    """The shipped models that have weights, and which of them answer when the product is new, whatever this site has
    released or let answer."""
    cards = tuple(card for card in shipped_cards(settings.weights_dir) if card.has_weights)
    return models_table(cards, {card.model_id for card in cards if not withheld_text(card)})


def models_table(cards: tuple[Card, ...], answering: Collection[str]) -> str:
    """The cards as a Markdown table; every number comes from the models' test scores. answering: ids of those that give
    a second opinion."""
    lines = [
        "| model | answers | test cases (positive) | AUC, positive against rest | macro-AUC "
        f"| ECE, {N_BINS} bins of equally many cases | started from |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in cards:
        numbers = headline(card)
        counts = card.data.cases_in("test")
        cells = (
            f"`{card.model_id}`" + (f" **{LEAKING}**" if leaks_of(card) else ""),
            _answers(card, answering),
            f"{sum(counts.values())} ({counts.get(card.positive, 0)})",
            *(_estimate_text(numbers.get(key)) for key in ("auc", "macro_auc", "ece")),
            card.initialisation,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _answers(card: Card, answering: Collection[str]) -> str:
    if card.model_id in answering:
        return "yes"
    return "measured only" if card.has_weights and withheld_text(card) else "no weights here"


def _estimate_text(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    widened = f", {estimate.widened_text}" if estimate.widened_text else ""
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f}{widened})"
