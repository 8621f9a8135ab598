"""Several runs of the same model with different seeds: what is the network's, and what is luck?"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SEED = re.compile(r"^(?P<model>.+?)[-_ @:]*seed[-_ =]?(?P<seed>\d+)(?P<rest>.*)$", re.IGNORECASE)


def families(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Model -> its runs, for models with two runs or more. A run is named as trainings name them: `MODEL-seed3`."""
    found: dict[str, list[str]] = {}
    for name in names:
        match = _SEED.match(name)
        if match:
            found.setdefault(match["model"], []).append(name)
    return {model: tuple(runs) for model, runs in found.items() if len(runs) > 1}
