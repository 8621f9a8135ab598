"""How far an image lies from the images that a network learnt from: what it cannot know, it should not claim.

Mahalanobis distance of the network's own pooled features (Lee et al. 2018, "A simple unified framework for detecting
out-of-distribution samples") in the directions in which the training images vary, and beside it what lies outside
these directions, by its own spread (Wang et al. 2022, "ViM", found that each part tells what the other misses). The
level is the distance that 95 % of images of the same collection, not used to fit it, keep below. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from core.errors import ModelUnavailable
from core.models.cards import Card

DIRECTIONS_MOST = 64
SHARE_EXPLAINED = 0.95
"""Of the training images' variance by the directions, where so few of them do: the rest must be more than rounding."""
SHARE_WITHIN = 0.95
"""Of images like the training images, how many lie within the level."""

UNLIKE = "Unlike what it learnt from: a guess"
"""What stands first beside a number of such a picture, where the whole sentence is one click away."""
UNLIKE_TEXT = (
    "Unlike what it learnt from: the picture lies further from its training images than 95 % of such pictures do. Its "
    "number is a guess, and it counts neither for nor against another model."
)
"""The same, whole."""


@dataclass(frozen=True, slots=True)
class TrainingDistance:
    """What is kept of the training images' features.

    centre, scale: (d,) mean and standard deviation of each feature. axes: (k, d) orthonormal directions of the scaled
    features. spread: (k,) standard deviation along each. rest: root mean square length of what no axis explains.
    level: the distance that `SHARE_WITHIN` of the held-out images keep below, > 0.
    """

    centre: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    spread: np.ndarray
    rest: float
    level: float

    def raw(self, features: np.ndarray) -> np.ndarray:
        """(n,) distances >= 0 of features (n, d), 1 on average along each direction for the training images."""
        centred = (np.asarray(features, np.float64) - self.centre) / self.scale
        along = centred @ self.axes.T
        outside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        parts = ((along / self.spread) ** 2).sum(axis=1) / len(self.spread) + outside / self.rest**2
        return np.asarray(np.sqrt(parts / 2))

    def relative(self, features: np.ndarray) -> np.ndarray:
        """(n,) distances in units of the level: above 1 is unlike what the network learnt from."""
        return self.raw(features) / self.level


def fit_training_distance(training: np.ndarray, held_out: np.ndarray) -> TrainingDistance:
    """From features (n, d) of training images, and of images of the same collection that none of them is.

    At least two training images and one held out are needed.
    """
    training = np.asarray(training, np.float64)
    centre, scale = training.mean(axis=0), training.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.maximum(scale.max(), 1.0))  # a feature that never speaks tells nothing
    centred = (training - centre) / scale
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    explained = np.cumsum(lengths**2) / max(float((lengths**2).sum()), 1e-12)
    n_axes = max(1, min(DIRECTIONS_MOST, len(training) // 10, int(np.searchsorted(explained, SHARE_EXPLAINED)) + 1))
    spread = np.maximum(lengths[:n_axes] / np.sqrt(len(training)), 1e-6)
    left = np.sqrt(np.maximum((lengths[n_axes:] ** 2).sum() / len(training), 1e-6))
    fitted = TrainingDistance(centre, scale, axes[:n_axes], spread, float(left), 1.0)
    level = float(np.quantile(fitted.raw(held_out), SHARE_WITHIN))
    return TrainingDistance(centre, scale, axes[:n_axes], spread, float(left), max(level, 1e-6))


def distance_name(weights_sha256: str) -> str:
    """The file beside the weights."""
    return f"{weights_sha256[:8]}.training_distance.safetensors"


def to_bytes(distance: TrainingDistance) -> bytes:
    """float32 arrays as safetensors: no code is ever read from a file."""
    arrays = {name: getattr(distance, name) for name in ("centre", "scale", "axes", "spread")}
    arrays |= {"rest": np.array([distance.rest]), "level": np.array([distance.level])}
    return save({name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()})


def read_training_distance(card: Card) -> TrainingDistance | None:
    """What the card names; None where it names none. Raises ModelUnavailable for another or a damaged file."""
    named = card.training_distance
    if named is None:
        return None
    try:
        raw = (card.folder / Path(named.file).name).read_bytes()
        if hashlib.sha256(raw).hexdigest() != named.sha256:
            raise ValueError("another file")
        arrays = load(raw)
        return TrainingDistance(
            arrays["centre"], arrays["scale"], arrays["axes"], arrays["spread"],
            float(arrays["rest"][0]), float(arrays["level"][0]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(
            f"What {card.model_id} knows of its training images is missing or damaged. Restore the files."
        ) from error
