"""What opens at the foot of the panel opens below its edge, where nobody sees it: it is scrolled to."""

from __future__ import annotations

import streamlit as st

_component = st.components.v2.component(
    "secondread_into_view",
    js="""export default ({ parentElement }) => {
  const details = parentElement.getRootNode().host.closest("details")
  const grown = new ResizeObserver(() => details.scrollIntoView({ block: "start" })) // it opens little by little
  const follow = () => {
    if (!details.open) return
    grown.observe(details)
    setTimeout(() => grown.disconnect(), 1000)
  }
  details.addEventListener("toggle", follow)
  return () => details.removeEventListener("toggle", follow)
}""",
)


def scrolled_to_when_opened(key: str) -> None:
    """The expander that this is called in."""
    _component(key=key)
