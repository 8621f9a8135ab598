"""What the product is for, what it must not be used for, where its limits are, and whose work is in it."""

from __future__ import annotations

import streamlit as st

from core.settings import REPOSITORY
from core.version import software

INTENDED = """
SecondRead shows a radiologist what trained models say of a breast image **after** the radiologist has looked at it
and saved a first impression. It is made for research and teaching: to compare models with readers and with each
other, and to study how a second opinion from a model changes a reading.

It reads three kinds of pictures: mammograms, breast ultrasound, and histology tiles.
"""

MUST_NOT = """
- It is **not a medical device** and was not cleared by any authority. Do not use it to diagnose, to screen, to rule
  cancer out, or to decide about the care of a person.
- Your screen is **not a diagnostic display** for this program: the browser gets all 16 bits of a grey picture and shows
  8 of them, through window and level.
- Its models do not compare with earlier studies, which hang beside a study for the reader alone, and they do not know
  age, history, symptoms or other examinations.
"""

LIMITS = """
- **A probability is only as good as the collection behind it.** Each model learnt from a public collection with its
  own scanners, its own patients and its own share of cancers. The Models page says which, how many, and what was
  measured, with intervals.
- **The interval is the calibration's.** It does not cover a picture unlike those the model learnt from.
- **The heat map shows where a model looked**, not where a lesion is or ends. It can be convincing and wrong.
- **A model that is wrong makes readers worse.** That is why nothing of it is shown before the first impression
  is saved, unless your site chose concurrent reading; every report says which.
- **Pictures that are no breast images** are refused where tags or a look at the pixels tell; a look at the pixels
  misses some. Text, callipers and colour Doppler in an ultrasound picture may mislead a model.
- **Names may be burnt into ultrasound and secondary captures.** SecondRead cannot wipe what is part of the
  picture.
- **Of uploaded files nothing is kept that names the patient.** Of studies from an archive name, number, birth date and
  sex are, encrypted and apart from everything else: results that go back repeat them, and they are shown to those who
  may see them, each look recorded; in the worklist only where your site chose so.
"""


def draw_licences() -> None:
    """The licences of the parts, as the repository lists them."""
    listed = REPOSITORY / "docs" / "licences.md"
    st.markdown("SecondRead itself is under the Apache License 2.0; see `LICENSE` in the repository.")
    if listed.is_file():
        with st.expander("Dependencies, data and weights", icon=":material/license:"):
            st.markdown(listed.read_text(encoding="utf-8"))


st.title("About SecondRead")
st.caption(software())
text, _ = st.columns([2, 1])
with text:
    st.subheader("What it is for")
    st.markdown(INTENDED)
    st.subheader("What it must not be used for")
    st.markdown(MUST_NOT)
    st.subheader("Limits")
    st.markdown(LIMITS)
    st.subheader("Licences")
    draw_licences()
