"""The card of an outline network: what it was made from and how well it outlines. Loads no TensorFlow.

Beside the models' cards (`core.models.cards`) and made of the same parts, in a file of another name: a network that
outlines gives no probability, so nothing that compares, releases or combines scores takes it for one that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic_core import from_json

from core.errors import ModelUnavailable
from core.models.cards import DataOnCard, InputOnCard, TrainingOnCard, WeightsOnCard
from core.types import Modality

FILE = "outline.json"
FOLDER = "ultrasound-outline"
"""Of the weights folder: the network that is asked."""


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
