"""What the measured descriptors of outlined lesions are worth: association, agreement, a model on them alone.

The words' limits are not fitted to these labels (`core.findings.ultrasound_descriptors`), so their association is
measured on every case. A model on the numbers is fitted in the folds of the image model that it is compared with, or on
one collection and measured on another. Loads no TensorFlow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster
from scipy import ndimage
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from core.errors import InvalidInput
from core.evaluation.statistics.agreement import weighted_kappa
from core.evaluation.statistics.calibration import calibration_line
from core.evaluation.statistics.comparison import PairedTest, compare_areas
from core.evaluation.statistics.intervals import Bootstrap, delong, share
from core.evaluation.tables.cohort import FINDING_SCORERS
from core.evaluation.tables.scores import KEYS
from core.findings.ultrasound_descriptors import WORDS, measure_lesion
from core.imaging.decoded import Limits
from core.imaging.masks import lesion_grey
from core.imaging.picture import read_picture
from core.models.calibration import log_odds
from core.models.cards import Card, read_test_scores
from core.settings import Settings
from core.types import Estimate, Modality
from train.datasets.cases import patient_keys
from train.datasets.manifest import Manifest
from train.publishing.results import as_text, table

log = logging.getLogger(__name__)

POSITIVE = "malignant"
CATEGORIES = ("2", "3", "4", "5")
"""BI-RADS assessment categories that BUS-BRA's readers gave."""
_OF_READERS = (
    "Within outlines drawn by readers. Who draws an outline may know what the lesion is and draw a malignant one more "
    "jagged: an area of .97 and more on such a collection tells of the drawing too."
)
_DESCRIBED = tuple(name for name in WORDS if name != "size")
_RIDGE = 0.1
"""Inverse strength of the logistic models' ridge, set beforehand: twenty related numbers of some hundred patients."""


def measure_cases(manifest: Manifest, outlines: Mapping[str, np.ndarray] | None = None) -> pd.DataFrame:
    """One row a benign or malignant case with an outline: case, patient, label, source, birads, words and numbers.

    outlines: case -> bool (H, W), in place of what the readers drew; a case that is not in it has no row.
    Columns: "<descriptor>" is its word ("" where refused), "<descriptor>.<number>" a number (NaN where refused).
    """
    cases = manifest.cases
    if "mask" not in cases:
        raise InvalidInput("The manifest has no column mask. Descriptors are measured within outlines.")
    cases = lesions_of(cases)
    if outlines is not None:
        cases = cases[cases["file"].isin(outlines.keys())]
    limits = Limits.of(Settings())
    rows = []
    for number, row in enumerate(cases.to_dict("records")):
        image = read_picture((manifest.root / row["file"]).read_bytes(), Modality.ULTRASOUND, limits=limits)
        if outlines is None:
            mask = outline_of(manifest.root, row["mask"], image.pixels.shape[:2])
        else:
            mask = outlines[row["file"]]
        found = {"case": row["file"], "patient": row["patient_key"], "label": row["label"],
                 "source": row.get("source", ""), "birads": row.get("birads", "")}  # fmt: skip
        for one in measure_lesion(image.pixels, mask, aspect=image.aspect, colour_share=image.colour_share):
            found[one.name] = one.word
            found |= {f"{one.name}.{name}": value for name, value in one.values.items()}
        rows.append(found)
        if number % 200 == 199:
            log.info("%d of %d lesions measured", number + 1, len(cases))
    return pd.DataFrame(rows)


def lesions_of(cases: pd.DataFrame) -> pd.DataFrame:
    """The benign and malignant cases in which a reader outlined a lesion, with their `patient_key`."""
    cases = cases.assign(patient_key=patient_keys(cases))
    return cases[(cases["mask"] != "") & cases["label"].isin((POSITIVE, "benign"))]


def outline_of(root: Path, masks: str, shape: tuple[int, int]) -> np.ndarray:
    """bool (H, W): the largest lesion that the files (relative to root, "|" between them) outline."""
    whole = np.zeros(shape, bool)
    for name in masks.split("|"):
        with Raster.open(root / name) as raster:
            whole |= np.asarray(lesion_grey(raster).resize((shape[1], shape[0]), Raster.Resampling.NEAREST)) > 127
    labels, count = ndimage.label(whole)
    if count < 2:
        return whole
    return np.asarray(labels == 1 + int(np.argmax(ndimage.sum_labels(whole, labels, np.arange(1, count + 1)))))


def numbers_of(measured: pd.DataFrame) -> tuple[str, ...]:
    """The columns of numbers that a model reads: all but sizes in mm, which ultrasound collections do not state."""
    return tuple(name for name in measured.columns if "." in name and not name.startswith("size."))


def findings_page(measured: pd.DataFrame, image_model: Card) -> list[str]:
    """The measured part of docs/findings.md, lines of Markdown. measured: of `measure_cases`, all collections."""
    lines = ["### Words and malignancy", "",
             "Share of malignant lesions among those with a word, with its 95 % interval over patients.",
             "", *association(measured), "", "### Numbers and malignancy", "",
             "Area under the ROC curve of each number alone (above .5: larger in malignant lesions).", "",
             *_areas(measured), "", "### Models on the numbers", "",
             *models(measured, image_model, (_OF_READERS, ""))]  # fmt: skip
    if measured["birads"].isin(CATEGORIES).any():
        lines += ["", "### Agreement with readers' BI-RADS categories", "", *_birads(measured, image_model)]
    return lines


def association(measured: pd.DataFrame) -> list[str]:
    sources = sorted(measured["source"].unique())
    rows = []
    for name in _DESCRIBED:
        for word in (*WORDS[name], ""):
            of_word = [_share_text(measured[(measured["source"] == one) & (measured[name] == word)]) for one in sources]
            if any(text != "none" for text in of_word):
                rows.append([name, word or "refused", *of_word])
    return table(["descriptor", "word", *sources], rows)


def _share_text(cases: pd.DataFrame) -> str:
    if cases.empty:
        return "none"
    found = share((cases["label"] == POSITIVE).to_numpy(), cases["patient"].to_numpy())
    return f"{as_text(found)} of {len(cases)}"


def _areas(measured: pd.DataFrame) -> list[str]:
    sources = sorted(measured["source"].unique())
    rows = []
    for name in numbers_of(measured):
        texts = []
        for source in sources:
            cases = measured[(measured["source"] == source) & measured[name].notna()]
            texts.append(as_text(_auc(cases, cases[name].to_numpy())) if cases["label"].nunique() > 1 else "none")
        rows.append([name, *texts])
    return table(["number", *sources], rows)


def _auc(cases: pd.DataFrame, scores: np.ndarray) -> Estimate:
    found = delong((cases["label"] == POSITIVE).to_numpy(), scores, cases["patient"].to_numpy())
    return Estimate(found.auc, found.low, found.high, len(cases))


def logistic() -> Pipeline:
    """A model on numbers, not fitted yet."""
    return make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=_RIDGE, max_iter=2000)
    )


def squeezed(cases: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The numbers as a model reads them, float64 (n, len(names))."""
    values = cases[list(names)].to_numpy(np.float64)
    # Counts and ratios have long tails: a bright point more counts less the more there are.
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def in_folds(cases: pd.DataFrame, names: Sequence[str], *, with_image: bool = False) -> np.ndarray:
    """(n,) probability of each case by a model of the other folds. cases: with `fold`, and `image` (log odds)."""
    inputs = squeezed(cases, names)
    if with_image:
        inputs = np.column_stack([inputs, cases["image"].to_numpy()])
    labels, folds = (cases["label"] == POSITIVE).to_numpy(), cases["fold"].to_numpy()
    scores = np.full(len(cases), np.nan)
    for fold in np.unique(folds):
        others = folds != fold
        scores[~others] = logistic().fit(inputs[others], labels[others]).predict_proba(inputs[~others])[:, 1]
    return scores


def across(cases: pd.DataFrame, names: Sequence[str], fitted_on: str) -> tuple[np.ndarray, np.ndarray]:
    """Which cases are of other collections (n,) bool, and their probabilities by a model of `fitted_on` alone."""
    own = (cases["source"] == fitted_on).to_numpy()
    model = logistic().fit(squeezed(cases[own], names), (cases[own]["label"] == POSITIVE).to_numpy())
    return ~own, model.predict_proba(squeezed(cases[~own], names))[:, 1]


def with_image_scores(measured: pd.DataFrame, card: Card) -> pd.DataFrame:
    """The cases that the image model scored out of fold, with its log odds (`image`) and its `fold`."""
    scores = read_test_scores(card)
    if scores is None or "fold" not in scores:
        raise InvalidInput(f"{card.model_id} was not measured in folds, so nothing can be fitted beside it.")
    odds = log_odds(scores[[card.positive]].to_numpy().clip(1e-6, 1 - 1e-6))[:, 0]
    known = pd.DataFrame({"case": scores["case"], "fold": scores["fold"], "image": odds})
    return measured.merge(known, on="case", how="inner")


def with_known_scores(path: Path, found: pd.DataFrame) -> pd.DataFrame:
    """`found` and the columns of the file that it does not have, by case: other scorers are not written over.

    The file's rows come first and in their order, and so do its columns.
    """
    if not path.is_file():
        return found
    known = pd.read_csv(path, dtype={"case": str, "patient": str, "label": str})
    others = [name for name in known.columns if name not in found.columns]
    both = known[[*KEYS, *others]].merge(found, on=list(KEYS), how="outer").set_index("case")
    in_order = both.reindex([*known["case"], *both.index.difference(known["case"])]).reset_index()
    return in_order[[*KEYS, *others, *(name for name in found.columns if name not in KEYS)]]


def finding_scores(measured: pd.DataFrame, card: Card, scorers: Sequence[str] = FINDING_SCORERS) -> pd.DataFrame:
    """Probabilities of malignancy out of fold, a column a scorer (on the numbers, on both), for the page Compare.

    Rows: case, patient and label as the image model's test scores have them, of the cases with an outline.
    """
    cases, names = with_image_scores(measured, card), numbers_of(measured)
    scores = read_test_scores(card)
    assert scores is not None  # `with_image_scores` refuses a card without
    alone, both = (in_folds(cases, names, with_image=with_image).round(6) for with_image in (False, True))
    found = pd.DataFrame({"case": cases["case"], **dict(zip(scorers, (alone, both), strict=True))})
    return scores[list(KEYS)].merge(found, on="case", how="inner")


def models(measured: pd.DataFrame, card: Card, remark: Sequence[str] = ()) -> list[str]:
    """A table of the image model, a model on the numbers and one on both, and whether the numbers add to it.

    remark: lines between the two.
    """
    cases, names = with_image_scores(measured, card), numbers_of(measured)
    scores = {"image model": cases["image"].to_numpy(), "descriptors": in_folds(cases, names),
              "both": in_folds(cases, names, with_image=True)}  # fmt: skip
    rows = quality_rows(cases, scores, card)
    for source in sorted(cases["source"].unique()) if cases["source"].nunique() > 1 else []:
        others, values = across(cases, names, source)
        rows.append([f"descriptors fitted on {source} alone", "the others", *_quality(cases[others], values, "")])
    lines = ["A logistic model with a ridge on the numbers, in the same folds of patients as the image model. Slope: "
             "of the calibration line, 1 is ideal.", "",
             *table(QUALITY_HEAD, rows), ""]  # fmt: skip
    return [*lines, *remark, *added(cases, scores)]


def added(cases: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> list[str]:
    """A line a collection: whether what is said of "both" is better than what is said of "image model"."""
    lines = []
    for source, part, chosen in parts(cases):
        labels = (part["label"] == POSITIVE).to_numpy()
        tests = compare_areas(labels, {name: scores[name][chosen] for name in ("both", "image model")},
                              Bootstrap(part["patient"].to_numpy(), len(part)))  # fmt: skip
        lines.append(f"- {source}: {does_it_add(tests[0])}")
    return lines


def does_it_add(test: PairedTest) -> str:
    """Whether descriptors add to the image model: the difference of the areas and what it allows to say."""
    verdict = (
        "descriptors add to the image model" if test.low > 0
        else "descriptors take away from the image model" if test.high < 0
        else "it cannot be said that descriptors add to the image model"
    )  # fmt: skip
    return (
        f"{verdict} (difference of the areas {test.difference:+.3f}, 95 % {test.low:+.3f} to {test.high:+.3f}, "
        f"p = {test.p:.2g}, n = {test.n})."
    )


QUALITY_HEAD = ["model", "measured on", "n", "AUC (95 %)", "calibration slope"]


def quality_rows(cases: pd.DataFrame, scores: Mapping[str, np.ndarray], card: Card) -> list[list[str]]:
    """A row a collection and scorer ("image model": log odds of the card's model), below `QUALITY_HEAD`."""
    return [
        [f"`{card.model_id}`" if name == "image model" else name, source, *_quality(part, values[chosen], name)]
        for source, part, chosen in parts(cases)
        for name, values in scores.items()
    ]


def parts(cases: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    for source in sorted(cases["source"].unique()):
        chosen = (cases["source"] == source).to_numpy()
        yield source, cases[chosen], chosen


def _quality(cases: pd.DataFrame, values: np.ndarray, name: str) -> tuple[str, str, str]:
    probabilities = 1 / (1 + np.exp(-values)) if name == "image model" else values
    line = calibration_line((cases["label"] == POSITIVE).to_numpy(), probabilities, cases["patient"].to_numpy())
    return str(len(cases)), as_text(_auc(cases, values)), as_text(line.slope)


def as_categories(scores: np.ndarray, given: np.ndarray, categories: Sequence[str] = CATEGORIES) -> np.ndarray:
    """(n,) a category from 0 for each score, cut so that each is given as often as the readers gave it."""
    shares = np.cumsum([np.mean(given == one) for one in categories])[:-1]
    return np.searchsorted(np.quantile(scores, shares), scores, side="right")


def _birads(measured: pd.DataFrame, card: Card) -> list[str]:
    cases = with_image_scores(measured, card)
    scores = {"descriptors": in_folds(cases, numbers_of(measured)), "image model": cases["image"].to_numpy()}
    rated = cases["birads"].isin(CATEGORIES).to_numpy()
    given = cases["birads"].to_numpy()[rated]
    readers = np.array([CATEGORIES.index(one) for one in given])
    bootstrap = Bootstrap(cases["patient"].to_numpy()[rated], int(rated.sum()))
    rows = []
    for name, values in scores.items():
        ours = as_categories(values[rated], given)
        four = weighted_kappa(readers, ours, len(CATEGORIES), bootstrap)
        two = weighted_kappa((readers >= 2).astype(int), (ours >= 2).astype(int), 2, bootstrap)
        rows.append([name, str(int(rated.sum())), as_text(four), as_text(two)])
    return ["Scores cut into as many 2, 3, 4 and 5 as the readers gave. Kappa with quadratic weights, and of 4 or 5 "
            "against 2 or 3.", "", *table(["", "n", "four categories (95 %)", "4 or 5 (95 %)"], rows)]  # fmt: skip


def replaced(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with what lies between "<!-- name -->" and "<!-- end of name -->" replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InvalidInput(f"The page has no place for {name}: it needs the lines {begin} and {end}.")
    return "\n".join([before + begin, *lines, end + after])
