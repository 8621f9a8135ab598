"""The descriptors that a reader accepted, as one sentence to edit. Loads no TensorFlow.

It says what was measured and nothing else: no category, no recommendation and no probability; those are the reader's
and the models'.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.findings.ultrasound_descriptors import MEASURED_ONLY, Descriptor

_POSTERIOR = {
    "no posterior features": "without posterior features",
    "enhancement": "with posterior enhancement",
    "shadowing": "with posterior shadowing",
    "combined pattern": "with a combined posterior pattern",
}


def findings_sentence(accepted: Iterable[Descriptor]) -> str:
    """Such as "Oval, parallel, circumscribed, hypoechoic mass, 12 x 8 mm, with posterior enhancement."; "" of nothing.

    What was refused, not accepted or is measured only is left out, not called normal.
    """
    words = {one.name: one for one in accepted if one.word and one.name not in MEASURED_ONLY}
    before = [words[name].word for name in ("shape", "orientation", "margin", "echo pattern") if name in words]
    parts = []
    if "size" in words:
        values = words["size"].values
        parts.append(f"{values['longest_mm']:.0f} x {values['across_mm']:.0f} mm")
    if "posterior features" in words:
        parts.append(_POSTERIOR[words["posterior features"].word])
    if not before and not parts:
        return ""
    sentence = ", ".join([" ".join([", ".join(before), "mass"]).strip(), *parts])
    return f"{sentence[0].upper()}{sentence[1:]}."
