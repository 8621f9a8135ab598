"""Model cards: what a fitted model is, what it was made from and what was measured.

A model is a folder `<model_id>/` with `card.json`, the weights' shards and `<sha8>.test_scores.csv`: shipped in
`weights/`, or released by an administrator (`core.models.live`). Every number shown of a model's quality is computed
from that table (`core.evaluation.tables.of_cards`) and nowhere typed in.

The JSON of a card is described by `docs/card.schema.json`, which is made from `CardFile`. Cards of earlier versions
stay readable, so a key is only ever added, and one that this version does not know is kept. Whether a model's numbers
come from a split that leaks: the card says so for ever, and whatever shows them asks here. A model that was measured to
be no better than chance or breaks its threshold's promise is not live (`withheld_text`) unless an administrator lets
it. Loads no TensorFlow.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import from_json

from core.errors import ModelUnavailable
from core.models.calibration import Calibration
from core.models.live import OUTLINE_NETWORK, read_live, release_dir
from core.settings import Settings
from core.types import Modality

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_CARDS_MOST = 256
"""As many cards are held as they were read, and tables of scores: a page asks for all of them several times. A card is
some 20 kB, a table some 60."""


class _Part(BaseModel):
    """A part of a card: never changed, and with the keys that a later version may have added."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class WeightsOnCard(_Part):
    """sha256: of all shards together, the identity of the weights. files: in the model's folder; empty where they are
    not shipped. bytes: of all files. storage: format, in words."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    files: tuple[str, ...] = ()
    bytes: int | None = None
    storage: str = ""


class MemberOnCard(_Part):
    """A model that an ensemble combines, by the weights it had then."""

    model_id: str
    weights_sha256: str


class EnsembleOnCard(_Part):
    """How an ensemble combines its members; see `core.models.ensemble.Ensemble`."""

    method: str
    members: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    weights: tuple[FiniteFloat, ...] = ()
    coefficients: tuple[tuple[FiniteFloat, ...], ...] = ()
    intercepts: tuple[FiniteFloat, ...] = ()
    validation_n: int = 0


class InputOnCard(_Part):
    """What the graph reads: rows (side) and columns in pixels, 0 for a square; channels (1 grey, 2 grey and the view
    (`core.imaging.preprocess.with_view`), 3 RGB).

    chest_wall: where every breast's chest wall is turned to, "left" or "" (as it lies). preprocessing: in words.
    """

    side: int = Field(ge=1)
    columns: int = Field(default=0, ge=0)
    chest_wall: Literal["", "left"] = ""
    channels: int = Field(ge=1, le=3)
    preprocessing: str = ""


class LeakOnCard(_Part):
    """What the check of the split found. check: which one; n: values or pairs found; sentence: for a reader."""

    check: str = ""
    n: int = 0
    sentence: str = ""


class DataOnCard(_Part):
    """What a model was made from and measured on.

    sha256: of the manifest. n: images. split_by: the columns whose equal values were kept in one split. folds: how
    many, None for one split. leaks: None where the split was not checked. splits: split -> label -> cases. left_out:
    reason -> cases.
    """

    name: str = ""
    sha256: str = ""
    split_sha256: str = ""
    n: int | None = None
    splits: Mapping[str, Mapping[str, int]] = {}
    folds: int | None = None
    patients: int | None = None
    split_by: str = ""
    leaks: tuple[LeakOnCard, ...] | None = None
    left_out: Mapping[str, int] = {}
    licence: str = ""

    def cases_in(self, split: str) -> Mapping[str, int]:
        """label -> cases of one split; {} where the card does not say."""
        return self.splits.get(split, {})


class TrainingOnCard(_Part):
    """How the weights came about; beside these keys every setting of `train.recipe.recipes.FitConfig`.

    minutes: wall time. history: a row an epoch. best_epoch: the one whose weights were kept, from 1.
    """

    command: str = ""
    minutes: FiniteFloat | None = None
    why: str = ""
    architecture: str = ""
    init: str = ""
    side: int | None = None
    best_epoch: int | None = None
    history: tuple[Mapping[str, float | None], ...] = ()
    budget_minutes: FiniteFloat | None = None
    ended_by_budget: bool = False


class FoldsOnCard(_Part):
    """Of a model measured in folds. thresholds: each fold's own, by number from 0. areas: under the ROC curve, of each
    fold's network on its own test cases; None where they are all positive or all not, and absent from old cards."""

    n: int
    thresholds: tuple[FiniteFloat, ...]
    areas: tuple[FiniteFloat | None, ...] = ()
    best_epochs: tuple[int, ...] = ()


class CalibrationOnCard(_Part, Calibration):
    """The fitted calibration, by which method and on which cases, in words."""

    method: str = ""
    fitted_on: str = ""


class ThresholdOnCard(_Part):
    """value: on the calibrated probability of the positive class; a case at it counts as positive. rule: how it was
    chosen, in words. corrected: what was wrong with an earlier value and which it was; "" where nothing was.

    low, high: where 95 % of the thresholds lie that find the rule's share of the positive cases on resampled patients;
    None on old cards.
    """

    value: FiniteFloat
    rule: str = ""
    corrected: str = ""
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class LocalisationOnCard(_Part):
    """The pointing game (Zhang et al. 2016, "Top-down neural attention by excitation backprop"): share of n lesions
    whose outline holds the highest point of a branch's heat map, and the share that holds the image's centre."""

    n: int = 0
    pointing_game: Mapping[str, FiniteFloat] = {}
    image_centre: FiniteFloat = 0.0


class BranchOnCard(_Part):
    """What one branch of several adds on the n test cases.

    auc_without: area under the ROC curve where that branch says of every case what it says on average. adds: by how
    much the area of the whole network is larger, low and high its 95 % interval (over patients).
    """

    auc_without: FiniteFloat = Field(ge=0, le=1)
    adds: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n: int


class MeasuredOnCard(_Part):
    """The area under the ROC curve on the test cases, with its 95 % interval (over patients) and their number.

    Computed from the test scores when they are published, because it decides whether the model answers
    (`chance_text`) and takes too long to be computed at every read.
    """

    auc: FiniteFloat = Field(ge=0, le=1)
    low: FiniteFloat = Field(ge=0, le=1)
    high: FiniteFloat = Field(ge=0, le=1)
    n: int


class PromiseOnCard(_Part):
    """The sensitivity that the threshold was chosen for, and the one it has on the test cases.

    difference: tested - promised, low and high its 95 % interval (over patients); n: positive test cases.
    """

    promised: FiniteFloat = Field(ge=0, le=1)
    tested: FiniteFloat = Field(ge=0, le=1)
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n: int

    @property
    def is_fulfilled(self) -> bool:
        """Whether the test cases leave it possible that nothing but chance lies between the two, or more were found
        than promised."""
        return self.high >= 0


class CasesOnCard(_Part):
    """The table of cases beside the weights (`core.models.card_cases`) and its hash."""

    file: str = ""
    sha256: str


class UnlikeOnCard(_Part):
    """How well the distance tells one kind of other picture from the model's own. auroc: from 0.5 for not at all to 1.
    beyond: share of the n pictures beyond the level."""

    auroc: FiniteFloat = Field(ge=0, le=1)
    beyond: FiniteFloat = Field(ge=0, le=1)
    n: int


class TrainingDistanceOnCard(_Part):
    """What is kept of the training images to tell how far another lies (`core.models.training_distance`).

    file, sha256: beside the weights. n_fitted, n_level: images that it was fitted on and that gave the level.
    own_beyond: share of the test images beyond the level. measured: kind of other picture -> how it is told apart.
    """

    file: str
    sha256: str
    n_fitted: int
    n_level: int
    own_beyond: FiniteFloat | None = None
    measured: Mapping[str, UnlikeOnCard] = {}


class CardFile(_Part):
    """`card.json`: one fitted model.

    classes: in the order of the probabilities. positive: the class that counts as positive, reported as malignant.
    localisation: which cases -> result. branches: of a network of several, by name. limits: what a reader must know,
    sentences. branches, cases, measured, promise, training_distance: absent from old cards.
    """

    model_id: str
    title: str
    architecture: str
    description: str = ""
    modality: Modality
    created: str = ""
    classes: tuple[str, ...] = Field(min_length=2)
    positive: str
    reported_as: str = "malignant"
    weights: WeightsOnCard
    members: tuple[MemberOnCard, ...] = ()
    ensemble: EnsembleOnCard | None = None
    input: InputOnCard
    data: DataOnCard = DataOnCard()
    initialisation: str = ""
    training: TrainingOnCard = TrainingOnCard()
    folds: FoldsOnCard | None = None
    seeds: tuple[int, ...] = ()
    calibration: CalibrationOnCard
    threshold: ThresholdOnCard
    localisation: Mapping[str, LocalisationOnCard] = {}
    branches: Mapping[str, BranchOnCard] = {}
    limits: tuple[str, ...] = ()
    data_licence: str = ""
    cases: CasesOnCard | None = None
    measured: MeasuredOnCard | None = None
    promise: PromiseOnCard | None = None
    training_distance: TrainingDistanceOnCard | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        n = len(self.classes)
        if self.positive not in self.classes:
            raise ValueError("its positive class is none of its classes")
        if len(self.calibration.biases) != n or any(len(one) != 1 + n for one in self.calibration.samples):
            raise ValueError("its calibration is of another number of classes")
        return self

    def content(self) -> dict[str, Any]:
        """What `card.json` holds: the keys that were set, unknown ones too, as JSON knows them."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"folder"})


class Card(CardFile):
    """A card and the folder where its weights and scores lie."""

    folder: Path

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    @property
    def side(self) -> int:
        return self.input.side

    @property
    def columns(self) -> int:
        return self.input.columns or self.input.side

    @property
    def channels(self) -> int:
        return self.input.channels

    @property
    def weights_sha256(self) -> str:
        return self.weights.sha256

    @property
    def weights_files(self) -> tuple[str, ...]:
        return self.weights.files

    @property
    def has_weights(self) -> bool:
        """Whether the weights' files are here; a card may be shipped without them. An ensemble has its members'."""
        if self.members:
            try:
                return all(member.has_weights for member in members_of(self))
            except ModelUnavailable:
                return False
        return bool(self.weights_files) and all((self.folder / name).is_file() for name in self.weights_files)


def read_card(folder: Path) -> Card:
    """The card in a model's folder; `ModelUnavailable` says in one sentence what is wrong with it."""
    try:
        card = _card_of(folder, (folder / "card.json").read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise ModelUnavailable(f"The card of the model in {folder.name} cannot be read ({what}).") from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelUnavailable(
            f"The card of the model in {folder.name} cannot be read ({type(error).__name__})."
        ) from error
    if card.model_id != folder.name:
        raise ModelUnavailable(f"The card in {folder.name} describes another model.")
    return card


@lru_cache(maxsize=_CARDS_MOST)
def _card_of(folder: Path, content: bytes) -> Card:
    """The card of that file; by its bytes, so that a file that was changed is read anew whatever its date says."""
    # Not the standard library's parser: this one ends deep nesting with an error and not with the stack.
    return Card.model_validate({**from_json(content), "folder": folder})


def members_of(card: Card) -> tuple[Card, ...]:
    """The models that an ensemble combines; `ModelUnavailable` where one is gone or has other weights by now."""
    found = []
    for named in card.members:
        member = read_card(card.folder.parent / Path(named.model_id).name)
        if member.weights_sha256 != named.weights_sha256 or member.members:
            raise ModelUnavailable(
                f"{member.model_id} has other weights than {card.model_id} was made from. Make it anew."
            )
        found.append(member)
    return tuple(found)


def shipped_cards(weights_dir: Path) -> tuple[Card, ...]:
    """Every readable card of a weights folder, by modality and then by id; an unreadable one is logged, left out."""
    return _in_order(_readable(weights_dir.glob("*/card.json")))


def all_cards(settings: Settings) -> tuple[Card, ...]:
    """The models as an administrator left them: the shipped ones with released ones in their place, no retired ones.

    The title of what was released here says site and weights, and no two of a kind of image have the same. Raises
    ModelUnavailable where it cannot be told what is live.
    """
    cards = {card.model_id: card for card in shipped_cards(settings.weights_dir)}
    for model_id, weights_sha256 in read_live(settings).chosen.items():
        if model_id == OUTLINE_NETWORK:
            continue
        if weights_sha256 is None:
            cards.pop(model_id, None)
        elif model_id not in cards or cards[model_id].weights_sha256 != weights_sha256:
            cards.pop(model_id, None)  # never other weights than those that were chosen
            cards |= {card.model_id: card for card in _released(settings, model_id, weights_sha256)}
    return _titled_apart(settings, _in_order(cards.values()))


def _titled_apart(settings: Settings, cards: Sequence[Card]) -> tuple[Card, ...]:
    """A model that was trained here has the title of its architecture, as the shipped one has."""
    site = settings.site_name or "this site"
    titles = [
        f"{card.title}, {site}, weights {card.weights_sha256[:8]}"
        if card.folder.is_relative_to(settings.state_dir)
        else card.title
        for card in cards
    ]
    n_so_called = Counter((card.modality, title) for card, title in zip(cards, titles, strict=True))
    found = []
    for card, title in zip(cards, titles, strict=True):
        if n_so_called[card.modality, title] > 1:
            title = f"{title}, {card.model_id}, weights {card.weights_sha256[:8]}"
        found.append(card if title == card.title else card.model_copy(update={"title": title}))
    return tuple(found)


def candidate_cards(settings: Settings) -> tuple[Card, ...]:
    """What trainings of this site made and nobody has released; each named after its training, to be compared."""
    released = {card.weights_sha256 for card in all_cards(settings)}
    found = _readable((settings.state_dir / "candidates").glob("*/*/card.json"))
    return tuple(
        card.model_copy(update={"model_id": f"{card.model_id} (training {card.folder.parent.name})"})
        for card in _in_order(found)
        if card.weights_sha256 not in released
    )


def known_cards(settings: Settings) -> tuple[Card, ...]:
    """Every card that may have answered: the live ones, then earlier and retired ones. For what was read before."""
    live = all_cards(settings)
    earlier = (
        *shipped_cards(settings.weights_dir),
        *_readable((settings.state_dir / "releases").glob("*/*/card.json")),
    )
    seen = {card.weights_sha256 for card in live}
    return (
        *live,
        *_in_order({card.weights_sha256: card for card in earlier if card.weights_sha256 not in seen}.values()),
    )


def live_cards(settings: Settings) -> tuple[Card, ...]:
    """The models that answer now: those of `runnable_cards` that nothing withholds or that were let answer."""
    allowed = read_live(settings).allowed
    return tuple(card for card in runnable_cards(settings) if not withheld_text(card) or card.weights_sha256 in allowed)


def withheld_cards(settings: Settings) -> tuple[Card, ...]:
    """The models that could answer and do not (`withheld_text`).

    As members of an ensemble they still take part in its answer: the rule is about the model that speaks.
    """
    live = {card.model_id for card in live_cards(settings)}
    return tuple(card for card in runnable_cards(settings) if card.model_id not in live)


def runnable_cards(settings: Settings) -> tuple[Card, ...]:
    """Those of `all_cards` whose weights are here; an ensemble only with the members it was made from."""
    cards = all_cards(settings)
    here = {(card.model_id, card.weights_sha256) for card in cards if card.has_weights}
    return tuple(
        card
        for card in cards
        if card.has_weights and all((named.model_id, named.weights_sha256) in here for named in card.members)
    )


def shadow_cards(settings: Settings) -> tuple[Card, ...]:
    """The models that read new images beside the live ones and are shown to nobody who reads."""
    shadows = read_live(settings).shadows
    found = [card for model_id, sha256 in shadows.items() for card in _released(settings, model_id, sha256)]
    return tuple(card for card in found if card.has_weights)


def live_card(settings: Settings, model_id: str) -> Card:
    """The live model of that id, or a refusal that names the live ones."""
    cards = live_cards(settings)
    for card in cards:
        if card.model_id == model_id:
            return card
    for card in withheld_cards(settings):
        if card.model_id == model_id:
            raise ModelUnavailable(f"{model_id} does not answer. {withheld_text(card)}")
    known = ", ".join(card.model_id for card in cards) or "none"
    raise ModelUnavailable(f"There is no live model {model_id!r}. Live models: {known}.")


def read_test_scores(card: Card) -> pd.DataFrame | None:
    """One row a test case: case, patient, label, then a calibrated probability a class; None if the file is absent.

    With folds there is a column `fold` (from 0), and every case has the score of the network that did not train on it.
    Raises ModelUnavailable for a file that is not such a table.
    """
    return _scores_of(card, "test")


def read_validation_scores(card: Card) -> pd.DataFrame | None:
    """The validation cases in the form of `read_test_scores`; None if the file is absent."""
    return _scores_of(card, "validation")


def scores_file(card: Card, which: str) -> Path:
    """Where the scores of its "test" or "validation" cases lie, where it comes with them."""
    return card.folder / f"{card.weights_sha256[:8]}.{which}_scores.csv"


def _scores_of(card: Card, which: str) -> pd.DataFrame | None:
    path = scores_file(card, which)
    if not path.is_file():
        return None
    n_folds = None if card.folds is None else len(card.folds.thresholds)
    try:
        scores = _scores_in(path.read_bytes(), card.classes, n_folds)
    except (ValueError, OSError, OverflowError) as error:  # what pandas raises on a table is a ValueError
        what = str(error) if isinstance(error, _WrongScores) else type(error).__name__
        raise _damaged_scores(card, which, what) from error
    return scores.copy(deep=False)  # what a caller changes in it stays its own (pandas writes into a copy)


class _WrongScores(ValueError):
    """A table that can be read and is none of scores; str: what of it, in words."""


@lru_cache(_CARDS_MOST)
def _scores_in(content: bytes, classes: tuple[str, ...], n_folds: int | None) -> pd.DataFrame:
    """A table of scores, taken apart once as long as its file stays as it is: a page of all cards asks for each several
    times, which took a third of the page. Not to be changed."""
    import pandas as pd

    scores = pd.read_csv(BytesIO(content), dtype={"case": str, "patient": str, "label": str})
    absent = [name for name in ("case", "patient", "label", *classes) if name not in scores]
    if absent:
        raise _WrongScores(f"no column {absent[0]}")
    if not all(pd.api.types.is_numeric_dtype(scores[name]) for name in classes):
        raise _WrongScores("a probability is no number")
    if scores["case"].isna().any() or scores["case"].duplicated().any():
        raise _WrongScores("a case is missing or named twice")
    if n_folds is not None and "fold" in scores and not scores["fold"].isin(range(n_folds)).all():
        raise _WrongScores("a fold that the card does not know")
    return scores


def _damaged_scores(card: Card, which: str, what: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The {which} scores of {card.model_id} cannot be read ({what}). Restore the model's folder, or train it again."
    )


def case_thresholds(card: Card, scores: pd.DataFrame) -> float | np.ndarray:
    """The threshold each case of `scores` is judged at: the card's, or (n,) its own fold's.

    Where a card was measured in folds, a fold's threshold was fixed on that fold's validation cases.
    """
    return thresholds_of(card.folds.thresholds if card.folds else None, card.threshold.value, scores)


def thresholds_of(folds: Sequence[float] | None, shipped: float, scores: pd.DataFrame) -> float | np.ndarray:
    """`case_thresholds` from each fold's threshold (None without folds) and the shipped one."""
    if not folds or "fold" not in scores:
        return shipped
    own: np.ndarray = np.asarray(folds, np.float64)[scores["fold"].to_numpy(int)]
    return own


def retrain_text(card: Card) -> str:
    """What to tell of a model whose weights are not shipped."""
    if not card.training.command:
        return "Trained and measured; its weights are not here, so it answers nothing."
    minutes = max(1, round(card.training.minutes or 0))
    duration = "about a minute" if minutes == 1 else f"about {minutes} minutes"
    return f"Trained and measured; weights not shipped: retrain in {duration} with `{card.training.command}`."


def _released(settings: Settings, model_id: str, weights_sha256: str) -> list[Card]:
    path = release_dir(settings, model_id, weights_sha256) / "card.json"
    return [card for card in _readable([path]) if card.weights_sha256 == weights_sha256]


def _readable(paths: Iterable[Path]) -> list[Card]:
    cards = []
    for path in sorted(paths):
        try:
            cards.append(read_card(path.parent))
        except ModelUnavailable as error:
            log.error("%s", error)
    return cards


def _in_order(cards: Iterable[Card]) -> tuple[Card, ...]:
    return tuple(sorted(cards, key=lambda card: (card.modality, _rank(card), card.model_id)))


def _rank(card: Card) -> int:
    # The fusion model is the product's own; the others are there to be compared with it.
    return 0 if card.architecture == "fusion" else 1


CHANCE_AUC = 0.60
"""A model whose AUC on its test cases may be this low (its 95 % interval reaches it) gives no second opinion."""
CHANCE, PROMISE = "chance", "promise"
"""Keys of the checks that a candidate may be no better than chance, and that its test cases break the sensitivity its
threshold promises (`withheld_text`); passed with a reason, it answers all the same."""
WEAK_AUC = 0.70
"""A model whose AUC on its test cases may be this low is weak: nobody should lean on it, and it is not counted."""
WEAK = "Weak:"
"""How the limit of a model begins that nobody should lean on."""


def chance_text(card: Card) -> str:
    """Why a model is measured only: its test cases do not tell it from chance. "" for all others.

    A card of an earlier version that does not say its AUC says nothing here; `python -m train amend` adds it.
    """
    if card.measured is None or card.measured.low > CHANCE_AUC:
        return ""
    auc, low, high = (f"{value:.3f}" for value in (card.measured.auc, card.measured.low, card.measured.high))
    return (
        f"Measured only: its AUC on {card.measured.n} test cases is {auc} (95 % interval {low} to {high}). A model "
        f"whose interval reaches {CHANCE_AUC:.2f} or lower may be no better than chance and gives no second opinion."
    )


def withheld_text(card: Card) -> str:
    """Why a model gives no second opinion unless an administrator lets it; "" for those that answer."""
    promise = promise_text(card)
    return chance_text(card) or (f"Measured only: {promise[0].lower()}{promise[1:]}" if promise else "")


def promise_text(card: Card) -> str:
    """That a threshold does not find the share of cancers it was chosen for; "" where chance may explain what it misses
    or a card of an earlier version does not say."""
    promise = card.promise
    if promise is None or promise.is_fulfilled:
        return ""
    promised, tested, low, high = (
        f"{100 * value:.1f}"
        for value in (promise.promised, promise.tested, promise.promised + promise.low, promise.promised + promise.high)
    )
    return (
        f"Its threshold was chosen to find {promised} % of the {card.positive} cases and found {tested} % of "
        f"{promise.n} in its test (95 % interval {low} to {high}): do not rely on its verdict."
    )


def spread_text(card: Card) -> str:
    """How much the area under the ROC curve depends on whom the model learnt from; "" where it was fitted once."""
    areas = [area for area in (card.folds.areas if card.folds else ()) if area is not None]
    if len(areas) < 2:
        return ""
    return (
        f"Fitted {len(areas)} times, each time without a part of the patients, it has an AUC of {min(areas):.3f} to "
        f"{max(areas):.3f} on that part"
    )


def override_text(settings: Settings, card: Card) -> str:
    """By whose decision, and why, a model answers that would be withheld; "" elsewhere."""
    allowed = read_live(settings).allowed.get(card.weights_sha256, "")
    if not allowed or (card.measured is not None and not withheld_text(card)):
        return ""
    if card.measured is not None and not chance_text(card):
        return f"{promise_text(card)} It answers by decision of {allowed}"
    area = ""
    if card.measured is not None:
        area = f" (AUC {card.measured.auc:.3f}, 95 % interval {card.measured.low:.3f} to {card.measured.high:.3f})"
    return f"May be no better than chance{area}. It answers by decision of {allowed}"


def remarks_of(settings: Settings, card: Card) -> tuple[str, ...]:
    """What stands beside every number of a model that is weak or whose threshold misses what it is for, and by whose
    decision it answers."""
    weak, promise = weak_texts(settings, card), promise_text(card)
    return weak if not promise or any(promise in one for one in weak) else (*weak, promise)


def weak_texts(settings: Settings, card: Card) -> tuple[str, ...]:
    """Why nobody should lean on this model: by whose decision it answers, or how weak it is; () for all others.

    A card of an earlier version that does not say its AUC is weak where it says so itself.
    """
    own = tuple(limit for limit in card.limits if limit.startswith(WEAK)) if card.measured is None else ()
    override = override_text(settings, card)
    if override or own or card.measured is None or card.measured.low > WEAK_AUC:
        return tuple(filter(None, (override, *own)))
    low, high = card.measured.low, card.measured.high
    return (
        f"{WEAK} AUC {card.measured.auc:.3f} (95 % interval {low:.3f} to {high:.3f}) on {card.measured.n} test cases. "
        "Do not lean on it.",
    )


def no_opinion_text(modality: Modality, withheld: Iterable[Card]) -> str:
    """Why no model answers for a kind of image. withheld: the models that could and do not."""
    here = [card for card in withheld if card.modality is modality and card.measured is not None]
    if not here:
        return f"No model released for this modality yet: {modality}."
    areas = sorted(f"{card.measured.auc:.2f}" for card in here if card.measured is not None)
    area = areas[0] if areas[0] == areas[-1] else f"{areas[0]} to {areas[-1]}"
    models = f"{len(here)} {'model' if len(here) == 1 else 'models'} here"
    if all(chance_text(card) for card in here):
        why = f"the {models} may be no better than chance"
        ends = f", the 95 % interval reaches {CHANCE_AUC:.2f} or lower"
    else:
        why, ends = f"the {models} may be no better than chance or find fewer cancers than their thresholds promise", ""
    return (
        f"No second opinion is offered for {modality}: on the test cases, {why} "
        f"(AUC {area}{ends}). The page Models shows what was measured."
    )


LEAKING = "leaking split"
"""What stands, in red, beside every number of such a model."""


def leak_text(leak: str) -> str:
    """What a reader is told of one leak, wherever a probability of such a model stands."""
    return f"{LEAKING[0].upper()}{LEAKING[1:]}: {leak} It has not been tested on patients it never saw."


def leaks_of(card: Card) -> tuple[str, ...]:
    """Why this model's numbers are too good, one sentence each; () where no leak is known.

    What the audit found before the training is on the card. A card that says that single images were split, where a
    patient has several test cases, tells of a leak as well.
    """
    found = [leak.sentence for leak in card.data.leaks or ()]
    split_by = card.data.split_by.strip().lower().split(",")[0]
    if not found and split_by in ("image", "images", "case", "file"):
        scores = read_test_scores(card)
        if scores is not None and scores["patient"].duplicated().any():
            found.append("It was split by single images: pictures of one patient may lie on both sides.")
    return tuple(found)
