"""What the report of a study is made from, and the sentences and numbers that reports and pages share."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np

from core.findings.finding import NO_ANNOTATIONS, Annotations
from core.imaging.decoded import VIEW_UNKNOWN
from core.imaging.intake import SIDE_UNKNOWN
from core.models.aggregate import BreastScore
from core.reading.opinions import Opinion
from core.reports.fonts import LEFT_TO_RIGHT_MARK
from core.types import NEEDS_SIDE, SIDE_NOT_STATED, VIEWS, Estimate, Image, Modality, Prediction, is_called

AI_GENERATED = "AI-generated"
ATTENTION_CAPTION = "Model attention, not a lesion outline"
EMPTY_MAP = "Empty map: it cannot show which place, if any, spoke for this class"
"""What stands at a heat map that is zero everywhere, which else would look like one that is switched off."""
INTERVAL_NOTE = (
    "The interval says how uncertain the calibration is; it does not cover pictures unlike those the model learnt from."
)

LANGUAGE_NOTE = (
    "A language model chose these words of the BI-RADS lexicon. Nobody verified them and they can be made up; they are "
    "part of no number, finding or assessment."
)

NO_BREAST_NUMBER = "None of these pictures is a full view that counts for a breast's number; each has its own score."

BREAST_NAMES: Mapping[str, str] = {"R": "Right breast", "L": "Left breast", SIDE_NOT_STATED: "Side not stated"}

BIRADS_MEANING: Mapping[str, str] = {
    "0": "incomplete",
    "1": "negative",
    "2": "benign",
    "3": "probably benign",
    "4A": "low suspicion",
    "4B": "moderate suspicion",
    "4C": "high suspicion",
    "5": "highly suggestive of malignancy",
    "6": "known malignancy",
}

BIRADS_RECOMMENDATION: Mapping[str, str] = {
    "0": "Recall for more imaging, or comparison with earlier examinations",
    "1": "Routine screening",
    "2": "Routine screening",
    "3": "Short-interval follow-up (6 months) or continued surveillance",
    **dict.fromkeys(("4A", "4B", "4C", "5"), "Tissue diagnosis"),
    "6": "Surgical excision when clinically appropriate",
}
"""What a category recommends (ACR BI-RADS Atlas, 5th edition, concordance of assessment and management)."""

DENSITY_MEANING: Mapping[str, str] = {
    "A": "almost entirely fatty",
    "B": "scattered areas of fibroglandular density",
    "C": "heterogeneously dense, which may obscure small masses",
    "D": "extremely dense, which lowers the sensitivity of mammography",
}

PRESET_SUSPICION: Mapping[str, int] = {
    "0": 10, "1": 0, "2": 1, "3": 2, "4A": 6, "4B": 30, "4C": 70, "5": 97, "6": 100,
}  # fmt: skip
"""What a form sets the suspicion to when a category is chosen: inside the range of likelihood that ACR BI-RADS (5th
edition) gives it; 0 has none and stays low."""

CLASS_MEANING: Mapping[str, str] = {
    "malignant": "a cancer, as the collection's pathology says",
    "benign": "a lesion that is no cancer",
    "normal": "no lesion in the picture",
    "not_malignant": "no cancer: a benign lesion or none",
    "idc": "invasive ductal carcinoma in the picture",
    "non_idc": "no invasive ductal carcinoma in the picture",
}
"""What the labels mean in the collections that the shipped models learnt from."""

READING_MODE_WORDS: Mapping[str, str] = {
    "read_first": "Read first: the AI's answer was hidden until the first impression was saved.",
    "concurrent": "Concurrent: the AI's answer could be seen from the start.",
}


@dataclass(frozen=True, slots=True)
class Attention:
    """One heat map chosen for print. heat: float32 (H, W) in [0, 1], the image's own geometry. words: whose it is."""

    heat: np.ndarray
    words: str


@dataclass(frozen=True, slots=True)
class ReportImage:
    """One image of the study with what the models said of it. label: as hung, "R CC" or "L MLO · FLIPPED".

    removed: the sentence that stands in place of a picture whose pixels are not kept any more; else empty.
    """

    label: str
    image: Image
    is_mirrored: bool = False
    predictions: tuple[Prediction, ...] = ()
    attention: Attention | None = None
    removed: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """What marks name the picture by: SHA-256 of its file, and frame from 0."""
        return self.image.sha256, self.image.frame


@dataclass(frozen=True, slots=True)
class ReportRead:
    """One saved read. impressions: breast key -> (BI-RADS, suspicion 0-100). is_amendment: it corrects a final one.
    is_decision: its reader decides with it between the other readers.

    answers_seen: how its reader had seen the AI's answer about the same picture before, a key of `SEEN_ANSWER` each.
    sentence: the reader's text for the report. density: "A" to "D", or None. annotations: what was marked and measured.
    """

    kind: str
    reader: str
    at: datetime
    impressions: Mapping[str, tuple[str, int]]
    reading_mode: str
    comment: str = ""
    is_amendment: bool = False
    answers_seen: tuple[str, ...] = ()
    sentence: str = ""
    density: str | None = None
    annotations: Annotations = NO_ANNOTATIONS
    is_decision: bool = False


@dataclass(frozen=True, slots=True)
class ReportModel:
    """A model as its card describes it.

    headline: name of the measure -> estimate, on the model's own test cases. leaks: why those are too good. remarks:
    what stands beside every number of the model; they come before `limits`, which do not repeat them.
    threshold_rule: how it was chosen, as a sentence.
    """

    model_id: str
    title: str
    weights_sha256: str
    threshold_text: str
    headline: Mapping[str, Estimate]
    data: str = ""
    limits: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    threshold_rule: str = ""
    is_weak: bool = False


@dataclass(frozen=True, slots=True)
class LanguageWords:
    """What a language model said of one outlined lesion. label: of the image. words: descriptor -> word of the lexicon.

    outline: of the network in that image, from 0; None of one that a reader drew. model: as the site named it;
    served_model: as its server calls it, "" where it does not say.
    """

    label: str
    outline: int | None
    model: str
    served_model: str
    prompt_sha256: str
    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one report says. study_name: chosen by the reader. made_at: with a time zone. taken_on: the day of the
    exam where its files say it."""

    study_id: str
    study_name: str
    images: tuple[ReportImage, ...]
    reads: tuple[ReportRead, ...]
    made_at: datetime
    made_by: str
    reading_mode: str
    opinions: tuple[Opinion, ...] = ()
    models: tuple[ReportModel, ...] = ()
    site_name: str = ""
    is_synthetic: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)
    language: tuple[LanguageWords, ...] = ()
    taken_on: date | None = None

    @property
    def has_ai(self) -> bool:
        return any(image.predictions for image in self.images)

    @property
    def is_final(self) -> bool:
        return any(read.kind == "final" for read in self.reads)

    @property
    def counted_reads(self) -> tuple[ReportRead, ...]:
        """Those that the assessment is made of; one that decides between the others first."""
        return counted(self.reads)


def counted(reads: Sequence[ReportRead]) -> tuple[ReportRead, ...]:
    """Of each reader the last final read; while there is none, of each reader the first read. reads: oldest first. A
    decision between two readers comes first.
    """
    kind = "final" if any(read.kind == "final" for read in reads) else "first"
    newest = {read.reader: read for read in reads if read.kind == kind}.values()
    return tuple(sorted(newest, key=lambda read: not read.is_decision))


def agreements_by_breast(opinions: Sequence[Opinion]) -> list[str]:
    """One sentence a breast where two models or more read it that are not weak."""
    names = names_of_breasts(opinions)
    found = [(names[one.breast, one.modality], one.agreement) for one in opinions if one.agreement]
    return [f"{breast}: {words[0].lower()}{words[1:]}" for breast, words in found]


def named(name: str) -> str:
    """A name as it stands in a sentence: its letters from right to left turn no number or date beside them round."""
    is_rtl = any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in name)
    return f"{LEFT_TO_RIGHT_MARK}{name}{LEFT_TO_RIGHT_MARK}" if is_rtl else name


def p_text(value: float) -> str:
    """A p value to four decimals; "<0.0001", "n/a"."""
    if math.isnan(value):
        return "n/a"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def percent(probability: float) -> str:
    """A probability as people say it: one decimal below 10 % and above 90 %, none between; never a bare 0.

    The spaces in it do not break."""
    value = 100 * probability
    if value < 0.1:
        return "<\u00a00.1\u00a0%"
    if value < 10 or value > 90:
        return f"{min(99.9, value) if probability < 1 else value:.1f}\u00a0%"
    return f"{value:.0f}\u00a0%"


def percent_range(interval: tuple[float, float]) -> str:
    """A 95 % interval in percent: "8.1 % to 14 %"."""
    return f"{percent(interval[0])} to {percent(interval[1])}"


def measured(headline: Mapping[str, Estimate]) -> str:
    """Estimates with their intervals, one a line: "117 test cases", "AUC 0.782 (0.666 to 0.877)"."""
    if not headline:
        return ""
    lines = [f"{max(one.n for one in headline.values())} test cases"]
    for name, one in headline.items():
        widened = f", {one.widened_text}" if one.widened_text else ""
        lines.append(f"{name} {one.value:.3f} ({one.low:.3f} to {one.high:.3f}{widened})")
    return "\n".join(lines)


def when(at: datetime) -> str:
    """A time on the wall clock of Greenwich, so that two sites agree on it; a naive time is taken as UTC."""
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def breast_name(breast: str) -> str:
    return BREAST_NAMES[breast]


def names_of_breasts(said: Iterable[Opinion | BreastScore]) -> dict[tuple[str, Modality | None], str]:
    """(breast, modality) -> "Left breast", and "Left breast, ultrasound" where models of several kinds read it."""
    found = dict.fromkeys((one.breast, one.modality) for one in said)
    kinds = Counter(breast for breast, _ in found)
    return {
        (breast, modality): f"{breast_name(breast)}, {modality}"
        if modality and kinds[breast] > 1
        else breast_name(breast)
        for breast, modality in found
    }


@dataclass(frozen=True, slots=True)
class AgainstThreshold:
    """A probability beside its threshold, as it is shown anywhere. verdict: on which side it lies."""

    probability: str
    threshold: str
    verdict: str


def against_threshold(malignant: float, threshold: float) -> AgainstThreshold:
    """Both numbers with so many decimals that what is read agrees with the verdict; never "14 %, below 14 %"."""
    shown = percent(malignant), percent(threshold)
    decimals = 0
    while malignant != threshold and _number(shown[0]) == _number(shown[1]):
        decimals += 1
        shown = f"{100 * malignant:.{decimals}f}\u00a0%", f"{100 * threshold:.{decimals}f}\u00a0%"
    if malignant == threshold:
        verdict = f"At the threshold of {shown[1]}, which counts as above it"
    else:
        verdict = f"{'Above' if is_called(malignant, threshold) else 'Below'} the threshold of {shown[1]}"
    return AgainstThreshold(*shown, verdict)


def _number(shown: str) -> float:
    return float(shown.strip("<%\u00a0"))


def class_text(prediction: Prediction) -> str:
    """Every class with its probability: "benign 71 %, malignant 24 %, normal 5.0 %"."""
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return ", ".join(f"{name.replace('_', ' ')} {percent(probability)}" for name, probability in pairs)


def removed_text(at: datetime) -> str:
    """What is said in place of pictures that the site's policy has removed."""
    return (
        f"The pictures were removed on {at:%Y-%m-%d} by this site's policy for keeping pictures. "
        "Reads, numbers and sums stay as they were."
    )


def not_here_text(n: int) -> str:
    """That the archive has so many images of an exam beyond those of its study."""
    images, they = ("one more image", "it") if n == 1 else (f"{n} more images", "them")
    return (
        f"The archive has {images} of this exam or more that are not here: they came later, or could not be read. "
        f"Look at {they} in the archive before you rely on this study."
    )


def warnings_of(image: Image) -> tuple[str, ...]:
    """The image's warnings that still hold: a side or view that was stated since is not missing any more."""
    over = {SIDE_UNKNOWN, NEEDS_SIDE} if image.laterality else set()
    over |= {VIEW_UNKNOWN} if image.view else set()
    return tuple(sentence for sentence in image.warnings if sentence not in over)


def reads_by_breast(reads: Sequence[ReportRead]) -> list[tuple[str, list[str]]]:
    """A table of impressions: (breast, ["4A (low suspicion), 40", ...]) with one cell a read, in the reads' order."""
    breasts = [breast for breast in BREAST_NAMES if any(breast in read.impressions for read in reads)]
    return [(breast_name(breast), [_cell(read, breast) for read in reads]) for breast in breasts]


def _cell(read: ReportRead, breast: str) -> str:
    if breast not in read.impressions:
        return "not given"
    return category_text(*read.impressions[breast])


def category_text(birads: str, suspicion: int) -> str:
    """An assessment of one breast in words: "BI-RADS 4A (low suspicion), suspicion 40 of 100"."""
    return f"BI-RADS {birads} ({BIRADS_MEANING[birads]}), {suspicion_text(birads, suspicion)}"


def suspicion_text(birads: str, suspicion: int) -> str:
    """A suspicion in words; one that the form itself sets with the category is not taken for a second opinion."""
    preset = f" (preset of {birads})" if suspicion == PRESET_SUSPICION[birads] else ""
    return f"suspicion {suspicion} of 100{preset}"


SEEN_ANSWER: Mapping[str, str] = {
    "study": "Had seen an answer of the AI about a picture of this study before, in another study",
    "test case": "Had been given a model's scores of a picture of this study before, as one of the model's test cases",
}


def pictures_of_breasts(images: Sequence[Image]) -> dict[str, tuple[str, ...]]:
    """Breast -> what was looked at: its views in the order of `VIEWS`, then the modality of images without a view."""
    shown: dict[str, set[str]] = {}
    for image in images:
        what = image.view or (str(image.modality) if image.modality else "image")
        shown.setdefault(image.laterality or SIDE_NOT_STATED, set()).add(what)
    order = {view: place for place, view in enumerate(VIEWS)}
    return {breast: tuple(sorted(what, key=lambda one: (order.get(one, 99), one))) for breast, what in shown.items()}


def report_sentence(
    categories: Mapping[str, str],
    pictures: Mapping[str, Sequence[str]],
    density: str | None = None,
    findings: Sequence[tuple[str, str]] = (),
) -> str:
    """The assessment as a text that a reader can edit. categories: breast -> BI-RADS. pictures: breast -> views.

    findings: (breast, description) of each; they come before the category of their breast.
    """
    sentences = [f"Breast composition {density}: {DENSITY_MEANING[density]}."] if density else []
    for breast, category in categories.items():
        of = f" ({', '.join(pictures[breast])})" if pictures.get(breast) else ""
        found = "".join(f"{described}. " for where, described in findings if where == breast)
        sentences.append(
            f"{breast_name(breast)}{of}: {found}BI-RADS {category}, {BIRADS_MEANING[category]}. "
            f"Recommended: {BIRADS_RECOMMENDATION[category][0].lower()}{BIRADS_RECOMMENDATION[category][1:]}."
        )
    return " ".join(sentences)


def read_title(read: ReportRead) -> str:
    if read.is_amendment:
        return "Correction of the final assessment"
    if read.is_decision:
        return "Decision between the readers"
    return {"first": "First impression", "final": "Final assessment"}[read.kind]
