"""Which SecondRead this is: one number, from `pyproject.toml`, with the libraries that its numbers depend on.

TensorFlow and Keras are asked by their metadata: importing them takes seconds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from core.settings import REPOSITORY

LIBRARIES = {"tensorflow": "TensorFlow", "keras": "Keras"}


@lru_cache(maxsize=1)
def version() -> str:
    """The product's version, as `pyproject.toml` has it."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Product and libraries by name, as cards and the audit trail hold them; "none" for a library that is missing."""
    found = {"secondread": version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def software() -> str:
    """One line for people: "SecondRead 1.2.3 with TensorFlow 2.21.0 and Keras 3.15.1"."""
    libraries = " and ".join(f"{title} {versions()[name]}" for name, title in LIBRARIES.items())
    return f"SecondRead {version()} with {libraries}"
