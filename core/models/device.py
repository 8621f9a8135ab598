"""On which of several devices a thread computes. Loads no TensorFlow."""

from __future__ import annotations

from contextvars import ContextVar

DEVICE: ContextVar[int] = ContextVar("device", default=0)
"""The place of this thread's device among `core.models.inference.computing_devices`."""
