"""The heat map's controls: off until asked, whose map, which branch, which class, how opaque; and its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from core.imaging.overlay import HUE
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION
from core.types import Explanation, Prediction

FUSED = "fused"
BRANCH_WORDS: Mapping[str, str] = {
    FUSED: "All branches",
    "vgg16": "VGG16",
    "resnet50v2": "ResNet50V2",
    **{f"stage_{number}": f"Stage {number}" for number in range(3, 8)},  # of EfficientNet-Lite2, fine to coarse
}


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """One heat map to lay over every image its model read. class_index: whose evidence it shows. opacity: in [0, 1].

    title: the model's, as everywhere else on the page.
    beside: the map of another model, on a second copy of the image; None for none.
    """

    weights_sha256: str
    title: str
    branch: str
    class_name: str
    class_index: int
    opacity: float = 0.5
    beside: AttentionChoice | None = None

    @property
    def text(self) -> str:
        """Whose map this is, for a caption."""
        branch = BRANCH_WORDS.get(self.branch, self.branch)
        return f"{self.title}, {branch[0].lower() + branch[1:]}, class {self.class_name}"


def default_choice(prediction: Prediction, explanation: Explanation, titles: Mapping[str, str]) -> AttentionChoice:
    """All branches, the positive class. titles: by model id."""
    index = explanation.positive_index
    title = titles.get(prediction.model_id, prediction.model_id)
    return AttentionChoice(prediction.weights_sha256, title, FUSED, explanation.classes[index], index)


def attention_controls(
    answers: Sequence[tuple[str, Prediction, Explanation]], titles: Mapping[str, str], *, key: str
) -> AttentionChoice | None:
    """Widgets; None while the heat map is off, as it is until the reader asks for it."""
    if not answers or not st.toggle("Show where a model looked", key=f"{key}_on"):
        return None
    by_model = {prediction.model_id: (prediction, explanation) for _, prediction, explanation in answers}
    model_id = next(iter(by_model))
    left, right = st.columns(2, gap="small")  # one under the other they would push the form out of the window
    if len(by_model) > 1:
        chosen = left.selectbox(
            "Model", list(by_model), format_func=lambda name: titles.get(name, name), key=f"{key}_model"
        )
        model_id = chosen or model_id
    prediction, explanation = by_model[model_id]
    start = default_choice(prediction, explanation, titles)
    branches = [FUSED, *(name for name in explanation.maps if name != FUSED)]
    branch = start.branch
    if len(branches) > 2:
        picked = st.segmented_control(
            "Branch", branches, default=FUSED, required=True, key=f"{key}_{model_id}_branch",
            format_func=lambda name: BRANCH_WORDS.get(name, name),
        )  # fmt: skip
        branch = picked or branch
    class_name = (right if len(by_model) > 1 else left).segmented_control(
        "Evidence for",
        explanation.classes,
        default=start.class_name,
        required=True,
        key=f"{key}_{model_id}_class",
        format_func=lambda name: name.replace("_", " "),
    )
    class_name = class_name or start.class_name
    beside, scale = None, right
    own = {image_id for image_id, prediction, _ in answers if prediction.model_id == model_id}
    others = {prediction.model_id: None for image_id, prediction, _ in answers if image_id in own}
    del others[model_id]
    if others:
        place, scale = st.columns(2, gap="small")
        with place:
            beside = _other_model({name: by_model[name] for name in others}, titles, f"{key}_{model_id}")
    opacity = scale.slider("Opacity, percent", 0, 100, 50, 5, key=f"{key}_opacity")
    _legend()
    index = explanation.classes.index(class_name)
    return AttentionChoice(start.weights_sha256, start.title, branch, class_name, index, opacity / 100, beside)


def _other_model(
    others: Mapping[str, tuple[Prediction, Explanation]], titles: Mapping[str, str], key: str
) -> AttentionChoice | None:
    """Another model's map for its positive class, on the same image beside; None until one is chosen."""
    chosen = st.selectbox(
        "Another model beside it", list(others), index=None, placeholder="none",
        format_func=lambda name: titles.get(name, name), key=f"{key}_beside",
    )  # fmt: skip
    return default_choice(*others[chosen], titles) if chosen else None


def _legend() -> None:
    colour = "rgb({}, {}, {})".format(*HUE)
    st.html(
        '<div style="display:flex;align-items:center;gap:.6rem;font-size:.85rem"><span>least</span>'
        '<div style="flex:1;height:.6rem;border:1px solid #34393e;'
        f'background:linear-gradient(90deg,transparent,{colour})"></div>'
        "<span>most attention</span></div>"
    )
    st.caption(f"{ATTENTION_CAPTION} ({AI_GENERATED}). Each image has its own scale. Key o shows the bare picture.")
