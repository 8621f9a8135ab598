"""The card of an outline network: what it was made from and how well it outlines. Loads no TensorFlow.

Beside the models' cards (`core.models.cards`) and made of the same parts, in a file of another name: a network that
outlines gives no probability, so nothing that compares, releases or combines scores takes it for one that does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic_core import from_json

from core.errors import ModelUnavailable
from core.models.cards import DataOnCard, InputOnCard, TrainingOnCard, WeightsOnCard
from core.models.live import OUTLINE_NETWORK, outline_candidates_dir, read_live
from core.settings import Settings
from core.types import Modality

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FILE = "outline.json"
FOLDER = OUTLINE_NETWORK
"""Of the weights folder: the network that is shipped."""

OWN_TEST_CASES = "own test cases"
"""Of what a card has measured: the test cases of the network itself."""


class OutlineMeasure(BaseModel):
    """One measure with its 95 % interval (over patients) and the number of cases or lesions."""

    model_config = ConfigDict(frozen=True)
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n: int


class OutlineCardFile(BaseModel):
    """`outline.json`.

    level: of the network's answer, from which a cell belongs to a lesion. least_peak: what a proposal's highest cell
    must reach. cases: the table of what was measured, a row a picture. measured: on which cases -> measure -> value.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
    model_id: str
    title: str
    description: str = ""
    modality: Modality
    created: str = ""
    weights: WeightsOnCard
    input: InputOnCard
    level: FiniteFloat = Field(gt=0, lt=1)
    least_peak: FiniteFloat = Field(gt=0, lt=1)
    data: DataOnCard = DataOnCard()
    initialisation: str = ""
    training: TrainingOnCard = TrainingOnCard()
    cases: str = ""
    measured: Mapping[str, Mapping[str, OutlineMeasure]] = {}
    limits: tuple[str, ...] = ()


class OutlineCard(OutlineCardFile):
    """A card and the folder where its weights lie."""

    folder: Path

    @property
    def weights_sha256(self) -> str:
        """The identity of the weights, hex."""
        return self.weights.sha256

    @property
    def has_weights(self) -> bool:
        """Whether the files of the weights are here."""
        return all((self.folder / Path(name).name).is_file() for name in self.weights.files)


def read_outline_card(folder: Path) -> OutlineCard:
    """The card in the folder of an outline network. Raises ModelUnavailable with a sentence."""
    try:
        raw = from_json((folder / FILE).read_bytes())
        card = OutlineCard.model_validate({**raw, "folder": folder})
    except (ValidationError, OSError, ValueError, TypeError) as error:
        raise ModelUnavailable(
            f"There is no usable outline network in {folder.name} ({type(error).__name__}). Outlines are not proposed."
        ) from error
    if card.model_id != folder.name:
        raise ModelUnavailable(f"The card in {folder.name} describes another outline network.")
    return card


def read_outline_cases(card: OutlineCard) -> pd.DataFrame:
    """The network's test pictures, a row each: case, patient, label, source, fitted_on, dice, iou, hd95, lesions,
    found, false (`train.publishing.outline.outcome`). Without those of networks fitted on one collection alone.

    Raises ModelUnavailable.
    """
    import pandas as pd  # loads slowly, and only who compares needs it

    try:
        found = pd.read_csv(card.folder / Path(card.cases).name, dtype={"case": str, "patient": str, "label": str})
        own = found[found["fitted_on"] == "all"].fillna({"patient": "", "label": ""})
        numbers = {name: own[name].astype(float) for name in ("dice", "lesions", "found", "false")}
    except (OSError, KeyError, ValueError) as error:
        raise ModelUnavailable("The outline network comes without the table of its test pictures.") from error
    if own["case"].duplicated().any():
        raise ModelUnavailable("The table of the outline network's test pictures names one of them twice.")
    return own.assign(**numbers).reset_index(drop=True)


def live_outline_card(site: Settings) -> OutlineCard | None:
    """The outline network that outlines at this site: the shipped one, or what an administrator put in its place; None
    for none. Raises ModelUnavailable for a damaged one, and where it cannot be known what is live."""
    chosen = read_live(site).chosen
    if FOLDER not in chosen:
        folder = site.weights_dir / FOLDER
        return read_outline_card(folder) if (folder / FILE).is_file() else None
    weights_sha256 = chosen[FOLDER]
    if weights_sha256 is None:
        return None
    for card in (*shipped_outline_cards(site), *released_outline_cards(site)):
        if card.weights_sha256 == weights_sha256:
            return card  # never other weights than those that were chosen
    raise ModelUnavailable("The outline network that was chosen is not here. Outlines are not proposed.")


def shipped_outline_cards(site: Settings) -> list[OutlineCard]:
    """The one of the weights folder, where it is there and readable."""
    return _readable([site.weights_dir / FOLDER / FILE])


def released_outline_cards(site: Settings) -> list[OutlineCard]:
    """Those that were decided about and are stored for good."""
    return _readable(sorted((site.state_dir / "releases").glob(f"*/{FOLDER}/{FILE}")))


def candidate_outline_cards(site: Settings) -> list[OutlineCard]:
    """Those that may be released, the newest file first."""
    found = outline_candidates_dir(site).glob(f"*/{FOLDER}/{FILE}")
    return _readable(sorted(found, key=lambda path: -path.stat().st_mtime))


def _readable(paths: Iterable[Path]) -> list[OutlineCard]:
    cards = []
    for path in paths:
        if path.is_file():
            try:
                cards.append(read_outline_card(path.parent))
            except ModelUnavailable as error:
                log.error("%s", error)
    return cards
