"""Which weights of each model are live: one small file beside the database, and where released weights lie.

`live.json` in the state folder is made from the table `release` and the leads that the site named
(`core.records.releases.decisions`) and replaced in one step, so that whoever reads cards needs no database and never
sees half a decision. A model that is not in it is as it is shipped. Loads no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import ModelUnavailable
from core.files import write_whole
from core.settings import Settings

NAME = "live.json"
OUTLINE_NETWORK = "ultrasound-outline"
"""The model id of the outline network, which is released like a model and has a card of its own kind."""


class Live(BaseModel):
    """chosen: model id -> sha256 of the weights that answer, None for a retired model. shadows: model id -> sha256 of
    the weights that also read new images and are shown to nobody who reads. allowed: sha256 of weights that answer
    although they may be no better than chance -> by whose decision and why, as a sentence to be read on. leads:
    modality -> model id that the site named to speak first.
    """

    model_config = ConfigDict(frozen=True)

    chosen: Mapping[str, str | None]
    shadows: Mapping[str, str]
    allowed: Mapping[str, str] = {}
    leads: Mapping[str, str] = {}


def read_live(settings: Settings) -> Live:
    """What was decided last; nothing decided where the file is missing. Raises ModelUnavailable for a damaged file."""
    try:
        return Live.model_validate_json((settings.state_dir / NAME).read_bytes())
    except FileNotFoundError:
        return Live(chosen={}, shadows={})
    except (OSError, ValidationError) as error:
        raise ModelUnavailable(
            "The list of live models cannot be read. Restart SecondRead: it makes the list anew from its database."
        ) from error


def write_live(settings: Settings, live: Live) -> None:
    """Replace the file in one step. The caller holds the lock of `core.records.releases.decisions`."""
    path = settings.state_dir / NAME
    write_whole(path, json.dumps(live.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def candidate_dir(settings: Settings, job_id: int) -> Path:
    """Where a finished training's model lies, as a folder `<model_id>` with its card, weights and scores."""
    return settings.state_dir / "candidates" / str(int(job_id))


def outline_candidates_dir(settings: Settings) -> Path:
    """Where trained outline networks lie that may be released, each as `<any name>/<OUTLINE_NETWORK>`."""
    return settings.state_dir / "candidates" / "outlines"


def outline_candidate_dir(settings: Settings, job_id: int) -> Path:
    """Where a finished training's outline network lies, as a folder `<OUTLINE_NETWORK>`."""
    return outline_candidates_dir(settings) / f"training-{int(job_id)}"


def release_dir(settings: Settings, model_id: str, weights_sha256: str) -> Path:
    """Where weights that were decided about are kept for good: card, weights and scores, never changed again."""
    return settings.state_dir / "releases" / weights_sha256[:8] / Path(model_id).name
