"""A sentence of what was accepted, and of nothing else."""

from __future__ import annotations

from core.findings.sentence import findings_sentence
from core.findings.ultrasound_descriptors import MEASURED_ONLY, WORDS, Descriptor


def one(name: str, word: str, refused: str = "", **values: float) -> Descriptor:
    return Descriptor(name, word, values, 1.0 if word else None, refused)


def test_a_whole_lesion_is_one_sentence() -> None:
    accepted = [
        one("shape", "oval"), one("orientation", "parallel"), one("margin", "circumscribed"),
        one("echo pattern", "hypoechoic"), one("posterior features", "enhancement"), one("echogenic rim", "absent"),
        one("calcifications", "none seen"), one("size", "measured", longest_mm=12.4, across_mm=7.6),
    ]  # fmt: skip
    assert findings_sentence(accepted) == (
        "Oval, parallel, circumscribed, hypoechoic mass, 12 x 8 mm, with posterior enhancement."
    )


def test_what_was_refused_or_not_accepted_is_not_said() -> None:
    assert findings_sentence([one("shape", "oval"), one("margin", "", "too small")]) == "Oval mass."
    assert findings_sentence([one("posterior features", "shadowing")]) == "Mass, with posterior shadowing."
    assert findings_sentence([]) == ""


def test_every_word_of_the_lexicon_can_be_said() -> None:
    for name, words in WORDS.items():
        for word in words:
            said = findings_sentence([one(name, word, longest_mm=1.0, across_mm=1.0)])
            expected = name not in MEASURED_ONLY
            assert (("mm" in said) if name == "size" else len(said) > len("Mass.")) is expected
