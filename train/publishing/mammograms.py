"""What density and asymmetry, measured in mammograms, are worth: agreement with readers' classes, association with
cancer. Everything is of women, not of pictures: a class is a woman's, and so is a difference between her breasts.

Limits between classes, the level of dense tissue and the model on the numbers are chosen on other women than they are
measured on. Loads no TensorFlow.

What grey values of a mammogram say of dense tissue, and how unlike the two breasts of a woman are.

Measured, not shown: docs/findings.md has what it is worth. Every number is of a small picture with the chest wall on
the left and holds for any brightness and contrast: grey values are counted from air, in units of the fat's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import rankdata
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from core.evaluation.statistics.agreement import correlation, weighted_kappa
from core.evaluation.statistics.intervals import Bootstrap, delong, percentile, share
from core.imaging.decoded import Limits
from core.imaging.picture import read_picture
from core.imaging.preprocess import bright_region, is_chest_wall_right, resize
from core.settings import Settings
from core.types import LATERAL_VIEWS, Estimate, Image, Modality
from train.datasets.cases import patient_keys
from train.datasets.manifest import Manifest
from train.datasets.split import fold_cases
from train.publishing.results import as_text, table

SIDE = 256
"""Longest side of the picture that is measured: fine detail is not what density is."""
LEVELS = (1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Grey values of dense tissue in units of fat's, of which one is chosen on other women."""
_RIM = 0.06
_LEAST = 200
_ALIGNED = (128, 64)
_LIKE_MUSCLE = 0.9
_BLUR = 5.0


@dataclass(frozen=True, slots=True)
class Breast:
    """One breast, chest wall on the left. grey: float (H, W), 0 at air, 1 at fat. whole, tissue: bool (H, W), the
    breast, and what of it is measured: without pectoral muscle and without the rim, where it gets thinner. muscle: grey
    value of the pectoral muscle, NaN where the view shows none."""

    grey: np.ndarray
    whole: np.ndarray
    tissue: np.ndarray
    muscle: float


def breast_in(image: Image, view: str) -> Breast | None:
    """The breast of a mammogram; None where none is found, or too little of it to be measured."""
    scale = SIDE / max(image.height * image.aspect, image.width)
    shape = max(1, round(image.height * image.aspect * scale)), max(1, round(image.width * scale))
    small = resize(image.pixels, shape)
    region = bright_region(small, 1.0)
    if region is None:
        return None
    air = float(np.median(small[~region])) if not region.all() else float(small.min())
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    grey, whole = small[box] - air, region[box]
    if is_chest_wall_right(grey):
        grey, whole = grey[:, ::-1], whole[:, ::-1]
    muscle = pectoral(grey, whole) if view in LATERAL_VIEWS else np.zeros_like(whole)
    reach = round(_RIM * SIDE)
    # The chest wall is no rim: beyond it the breast goes on.
    padded = np.pad(whole, ((0, 0), (2 * reach, 0)), mode="edge")
    depth = ndimage.distance_transform_edt(padded)[:, 2 * reach :]
    tissue = whole & ~muscle & (depth > reach)
    if tissue.sum() < _LEAST:
        return None
    fat = max(float(np.percentile(grey[tissue], 5)), 1e-3)
    of_muscle = float(np.median(grey[muscle & whole])) / fat if (muscle & whole).any() else float("nan")
    return Breast(grey / fat, whole, tissue, of_muscle)


def pectoral(grey: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """bool (H, W): what lies above the straight line from the top to the chest wall across which the grey falls most.

    A straight line as in Karssemeijer 1998 (Phys Med Biol 43:365); the fall counts more along a longer line. Nothing
    where no line within the breast has a fall.
    """
    smooth = ndimage.gaussian_filter(grey, 2)
    height, width = grey.shape
    ends = np.array(
        [(row, column) for row in np.linspace(0.25, 1, 16) * height for column in np.linspace(0.15, 0.9, 16) * width]
    )
    length = np.hypot(ends[:, :1], ends[:, 1:])
    along = np.linspace(0.05, 0.95, 40)
    rows, columns = ends[:, :1] * along, ends[:, 1:] * (1 - along)
    down, right = 4 * ends[:, 1:] / length, 4 * ends[:, :1] / length
    inner, outer = (rows - down, columns - right), (rows + down, columns + right)
    valid = (inner[0] >= 0) & (inner[1] >= 0) & (outer[0] < height) & (outer[1] < width)

    def at(plane: np.ndarray, place: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, columns = (np.clip(one.astype(int), 0, size - 1) for one, size in zip(place, plane.shape, strict=True))
        return np.asarray(plane[rows, columns])

    n = np.maximum(valid.sum(1), 1)
    fall = ((at(smooth, inner) - at(smooth, outer)) * valid).sum(1) / n * np.sqrt(length[:, 0])
    in_breast = (at(whole, outer) & valid).sum(1) / n
    fall[(valid.sum(1) < 25) | (in_breast < 0.9)] = 0
    best = int(np.argmax(fall))
    if fall[best] <= 0:
        return np.zeros_like(whole)
    all_rows, all_columns = np.ogrid[:height, :width]
    return np.asarray(all_rows / ends[best, 0] + all_columns / ends[best, 1] < 1)


def density_numbers(breast: Breast) -> dict[str, float]:
    """Percent dense by several rules, and other numbers of the grey values, by name.

    "above K": share of the tissue brighter than K times fat. "otsu": share above the threshold of Otsu 1979 (IEEE Trans
    SMC 9:62). "muscle": share nearly as bright as the pectoral muscle. "apart": how much of the variance Otsu's
    threshold explains. "gap": between the means of its two sides. "spread", "texture", "quarter", "median": the
    standard deviation, that of structures some pixels wide, and percentiles by the 99th.
    """
    values = breast.grey[breast.tissue]
    threshold, apart = _otsu(values)
    quarter, median, top = np.percentile(values, (25, 50, 99))
    bands = ndimage.gaussian_filter(breast.grey, 2) - ndimage.gaussian_filter(breast.grey, 8)
    dense = values > threshold
    return {
        **{f"above {level:g}": float((values > level).mean()) for level in LEVELS},
        "otsu": float(dense.mean()),
        "muscle": float((values > _LIKE_MUSCLE * breast.muscle).mean()) if np.isfinite(breast.muscle) else float("nan"),
        "apart": apart,
        "gap": float(values[dense].mean() - values[~dense].mean()) if dense.any() and not dense.all() else 0.0,
        "spread": float(values.std() / values.mean()),
        "texture": float(bands[breast.tissue].std() / median),
        "quarter": float(quarter / top),
        "median": float(median / top),
    }


def _otsu(values: np.ndarray) -> tuple[float, float]:
    """The threshold, and the share of the variance between its two sides."""
    counts, edges = np.histogram(values, 128)
    middles, shares = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts) / len(values)
    means = np.cumsum(counts * middles) / len(values)
    inside = (shares > 0) & (shares < 1)
    between = np.zeros(len(counts))
    between[inside] = (means[-1] * shares - means)[inside] ** 2 / (shares * (1 - shares))[inside]
    best = int(np.argmax(between))
    return float(edges[best + 1]), float(between[best] / max(float(values.var()), 1e-12))


def unlike_numbers(right: Breast, left: Breast) -> dict[str, float]:
    """How unlike two breasts in one view are, right less left where there is a sign, by name.

    "density": of the shares brighter than twice fat. "size": of the logarithms of the areas. "place": the greatest
    difference of the smoothed grey values at one place, both breasts laid over each other by their boxes and each
    scaled to its own mean and spread. "everywhere": the mean of those differences without their signs.
    """
    dense = [float((one.grey[one.tissue] > 2).mean()) for one in (right, left)]
    planes, masks = [], []
    for one in (right, left):
        values = one.grey[one.tissue]
        scaled = np.where(one.tissue, (one.grey - values.mean()) / max(float(values.std()), 1e-6), 0)
        planes.append(ndimage.gaussian_filter(resize(scaled.astype(np.float32), _ALIGNED), _BLUR))
        masks.append(resize(one.tissue.astype(np.float32), _ALIGNED) > 0.5)
    both = masks[0] & masks[1]
    differences = (planes[0] - planes[1])[both] if both.any() else np.zeros(1)
    return {
        "density": dense[0] - dense[1],
        "size": float(np.log(right.whole.sum() / left.whole.sum())),
        "place": float(differences[np.argmax(np.abs(differences))]),
        "everywhere": float(np.abs(differences).mean()),
    }


log = logging.getLogger(__name__)

POSITIVE = "malignant"
CLASSES: Mapping[str, Sequence[str]] = {"density_mias": ("F", "G", "D"), "density": ("A", "B", "C", "D")}
"""Column of a manifest -> its classes, from fatty to dense: MIAS's, and the BI-RADS lexicon's (5th edition)."""
FOLDS = 5
LEAST_WOMEN = 20
_PERCENT = tuple(f"above {level:g}" for level in LEVELS)
_NUMBERS = (*_PERCENT, "otsu", "apart", "gap", "spread", "texture", "quarter", "median")


@dataclass(frozen=True, slots=True)
class Measured:
    """density: a row a woman with a class (source, patient, machine, given from 0, classes, and the numbers' means over
    her pictures). sides: a row a woman with both breasts in one view (source, patient, malignant: the sides with a
    cancer as "R", "L", "RL" or "", and for each number of `unlike_numbers` right less left, of the view in which it is
    greatest). n_unmeasured: pictures in which no breast was found. n_implants: pictures left out for one."""

    density: pd.DataFrame
    sides: pd.DataFrame
    n_unmeasured: int
    n_implants: int


def measure_women(manifest: Manifest) -> Measured:
    """Every mammogram of the manifest, all but those with 1 in a column `implant`: an implant is no dense tissue."""
    cases = manifest.cases.assign(patient=patient_keys(manifest.cases)).fillna("")
    has_implant = cases["implant"].isin(("1", "True")) if "implant" in cases else pd.Series(False, index=cases.index)
    limits, pictures, unmeasured = Limits.of(Settings()), [], 0
    breasts: dict[tuple[str, str, str], dict[str, Breast]] = {}
    for number, row in enumerate(cases[~has_implant].to_dict("records")):
        image = read_picture((manifest.root / row["file"]).read_bytes(), Modality.MAMMOGRAPHY, limits=limits)
        breast = breast_in(image, row.get("view", ""))
        if breast is None:
            unmeasured += 1
            continue
        own = {name: row.get(name, "") for name in ("source", "patient", "machine", "laterality", "view", "label")}
        column = next((name for name in CLASSES if row.get(name) in CLASSES[name]), "")
        given = CLASSES[column].index(row[column]) if column else -1
        pictures.append({**own, "given": given, "classes": column, **density_numbers(breast)})
        breasts.setdefault((own["source"], own["patient"], own["view"]), {})[own["laterality"]] = breast
        if number % 200 == 199:
            log.info("%d pictures measured", number + 1)
    table_of_pictures = pd.DataFrame(pictures)
    return Measured(
        _by_woman(table_of_pictures), _sides(table_of_pictures, breasts), unmeasured, int(has_implant.sum())
    )


def _by_woman(pictures: pd.DataFrame) -> pd.DataFrame:
    known = pictures[pictures["given"] >= 0]
    keys = ["source", "patient", "classes"]
    numbers = known.groupby(keys)[[*_NUMBERS, "muscle"]].mean()
    given = known.groupby(keys).agg(given=("given", "median"), machine=("machine", "first"))
    return numbers.join(given.assign(given=given["given"].round().astype(int))).reset_index()


def _sides(pictures: pd.DataFrame, breasts: Mapping[tuple[str, str, str], Mapping[str, Breast]]) -> pd.DataFrame:
    """Women without both sides in one view are not there: in some collections the number of sides tells the label."""
    ill = pictures[pictures["label"] == POSITIVE].groupby(["source", "patient"])["laterality"].agg(set).to_dict()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (source, patient, _), both in breasts.items():
        if {"R", "L"} <= set(both):
            own = found.setdefault((source, patient), {})
            for name, value in unlike_numbers(both["R"], both["L"]).items():
                own[name] = max(own.get(name, 0.0), value, key=abs)
    return pd.DataFrame(
        {
            "source": source,
            "patient": patient,
            "malignant": "".join(sorted(ill.get((source, patient), set()))),
            **numbers,
        }
        for (source, patient), numbers in found.items()
    )


def density_scores(women: pd.DataFrame, folds: np.ndarray) -> dict[str, np.ndarray]:
    """Way of measuring -> a number of each woman, (n,), that grows with density; of the model and of the level, by what
    was chosen in the other folds."""
    given, levels, fitted = women["given"].to_numpy(), np.zeros(len(women)), np.zeros(len(women))
    for fold in np.unique(folds):
        own = folds == fold
        best = max(_PERCENT, key=lambda name: rank_correlation(women[name].to_numpy()[~own], given[~own]))
        levels[own] = women[best].to_numpy()[own]
        fitted[own] = _model().fit(women.loc[~own, _NUMBERS], given[~own]).predict(women.loc[own, _NUMBERS])
    found = {"percent dense, level over fat": levels, "percent dense, Otsu": women["otsu"].to_numpy()}
    if women["muscle"].notna().all():
        found["percent dense, as bright as muscle"] = women["muscle"].to_numpy()
    return {**found, "all numbers together": fitted}


def _model() -> Pipeline:
    return make_pipeline(SimpleImputer(), StandardScaler(), RidgeCV(np.logspace(0, 3, 7)))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; NaN of a constant."""
    return correlation(rankdata(one), rankdata(other))


def in_classes(scores: np.ndarray, given: np.ndarray, folds: np.ndarray, n_classes: int) -> np.ndarray:
    """(n,) a class from 0 for each score, by limits between the scores of the other folds' women: each class as often
    as it was given to those."""
    found = np.zeros(len(scores), int)
    for fold in np.unique(folds):
        own = folds == fold
        shares = np.cumsum([np.mean(given[~own] == one) for one in range(n_classes)])[:-1]
        found[own] = np.searchsorted(np.quantile(scores[~own], shares), scores[own], side="right")
    return found


def mammograms_page(measured: Measured) -> list[str]:
    """The measured part of docs/findings.md, lines of Markdown."""
    density = [
        row for source in sorted(set(measured.density["source"])) for row in _density_rows(measured.density, source)
    ]
    sides = [row for source in sorted(set(measured.sides["source"])) for row in _side_rows(measured.sides, source)]
    return [
        "### Density", "",
        f"Per woman, mean over her pictures. Left out: {measured.n_implants} pictures with an implant, "
        f"{measured.n_unmeasured} without a breast that could be measured. Levels, limits between classes and the "
        f"model are chosen on the women of the other folds, of {FOLDS}. Kappa with quadratic weights.", "",
        *table(["measured by", "against", "women", "Spearman's rho (95 %)", "kappa (95 %)"], density), "",
        *_across(measured.density), "",
        "### Asymmetry", "",
        "Women with both breasts in one view. Area under the ROC curve for a cancer on either side, by the size of the "
        "difference, and of the women with a cancer on one side the share whose greater value is there.", "",
        *table(["difference of", "collection", "women", "with cancer", "AUC (95 %)", "side of the cancer"], sides),
    ]  # fmt: skip


def _density_rows(density: pd.DataFrame, source: str) -> list[list[str]]:
    women = density[density["source"] == source].reset_index(drop=True)
    if len(women) < LEAST_WOMEN:
        return []
    classes = CLASSES[women["classes"].iloc[0]]
    folds = fold_cases(women.assign(label=women["given"].astype(str), file=women["patient"]), FOLDS).to_numpy()
    given, bootstrap = women["given"].to_numpy(), Bootstrap(women["patient"].to_numpy(), len(women))
    rows = []
    for name, scores in density_scores(women, folds).items():
        classed = in_classes(scores, given, folds, len(classes))
        kappa = weighted_kappa(given, classed, len(classes), bootstrap)
        against = f"{source}, {classes[0]} to {classes[-1]}"
        rows.append([name, against, str(len(women)), signed(_rho(scores, given, bootstrap)), signed(kappa)])
    return rows


def _rho(scores: np.ndarray, given: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    drawn = []
    for block in bootstrap.blocks():
        for weights in block.T.astype(int):
            chosen = np.repeat(np.arange(len(given)), weights)
            drawn.append(rank_correlation(scores[chosen], given[chosen]))
    return percentile(rank_correlation(scores, given), np.array(drawn), len(given))


def _across(density: pd.DataFrame) -> list[str]:
    """How far the model on the numbers carries: fitted on one collection, or on its most frequent machine, measured on
    the women of the others."""
    parts = [(f"{source}", density["source"] == source, density["source"] != source)
             for source in sorted(set(density["source"]))]  # fmt: skip
    for source, women in density[density["machine"] != ""].groupby("source"):
        machine = women["machine"].mode()[0]
        own = density["source"] == source
        parts.append(
            (
                f"{source}, machine {machine}",
                own & (density["machine"] == machine),
                own & (density["machine"] != machine),
            )
        )
    rows = []
    for name, fitted_on, others in parts:
        if min(fitted_on.sum(), others.sum()) < LEAST_WOMEN:
            continue
        model = _model().fit(density.loc[fitted_on, _NUMBERS], density.loc[fitted_on, "given"])
        rest = density[others]
        found = _rho(
            model.predict(rest[list(_NUMBERS)]),
            rest["given"].to_numpy(),
            Bootstrap(rest["patient"].to_numpy(), len(rest)),
        )
        rows.append([name, ", ".join(sorted(set(rest["source"]))), str(len(rest)), signed(found)])
    if not rows:
        return []
    return ["The same numbers, fitted on some women and measured on those of other machines:", "",
            *table(["fitted on", "measured on others of", "women", "Spearman's rho (95 %)"], rows)]  # fmt: skip


def _side_rows(sides: pd.DataFrame, source: str) -> list[list[str]]:
    women = sides[sides["source"] == source]
    ill = (women["malignant"] != "").to_numpy()
    if min(ill.sum(), (~ill).sum()) < 10:
        return []
    rows = []
    for name in ("density", "size", "place", "everywhere"):
        values = women[name].to_numpy()
        area = delong(ill, np.abs(values))
        one_side = women["malignant"].isin(("R", "L")).to_numpy()
        on_right = (women["malignant"] == "R").to_numpy()[one_side]
        sided = "" if name == "everywhere" else as_text(share((values[one_side] > 0) == on_right))
        auc = as_text(Estimate(area.auc, area.low, area.high, len(women)))
        rows.append([name, source, str(len(women)), str(int(ill.sum())), auc, sided])
    return rows


def signed(estimate: Estimate) -> str:
    """ "-.12 (-.30 to .07)": of numbers that may lie below 0."""
    if not np.isfinite(estimate.value):
        return "-"
    value, low, high = (f"{one:.2f}".replace("0.", ".") for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
