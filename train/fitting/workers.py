"""One fit on several processes: each takes a part of every batch, gradients are summed over all before each step.

The processes are those of `TF_CONFIG` (https://www.tensorflow.org/api_docs/python/tf/distribute/cluster_resolver/TFConfigClusterResolver):
{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}. Worker 0 leads: it alone writes. All
read the same cases and draw the same batches from the same seeds, so nothing but sums goes over the network. Keras's
own `fit` fails under a strategy of several workers (keras-team/keras#20585), and its optimiser sums what is summed
already when it is called within one; so no variable is made under the strategy, which only connects the processes.
Loads no TensorFlow before `together`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import Conflict, InvalidInput
from core.settings import Settings

log = logging.getLogger(__name__)

_GROUP = 1
"""What collective operations of one group of processes have in common; there is one."""
_WRONG = 'TF_CONFIG cannot be read: {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}.'
LOST = "Another worker of this training does not answer any more. Begun again, it goes on after the last epoch."


@dataclass(eq=False)
class Workers:
    """The processes of one fit. rank: of this one, from 0. n: of all."""

    rank: int = 0
    n: int = 1
    _strategy: Any = None
    _n_operations: int = 0

    @classmethod
    def of_environment(cls) -> Workers:
        """What TF_CONFIG says; one process where it says nothing. Raises InvalidInput."""
        given = Settings.tf_config()
        if not given:
            return cls()
        try:
            said = json.loads(given)
            found = cls(int(said["task"]["index"]), len(said["cluster"]["worker"]))
            is_right = said["task"]["type"] == "worker" and 0 <= found.rank < found.n
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(_WRONG) from None
        if not is_right:
            raise InvalidInput(_WRONG)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """In the block they compute together, once all of them are there. To be entered before TensorFlow computes.

        Raises Conflict where another one ends or cannot be reached; TensorFlow may also end the process (SIGABRT).
        """
        if self.n == 1:
            yield
            return
        import tensorflow as tf

        errors = tf.errors
        try:
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
            yield
        except (
            errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError,
            errors.InternalError, errors.UnknownError,
        ) as error:  # fmt: skip
            log.warning("%s", str(error).splitlines()[0])
            raise Conflict(LOST) from error

    def share(self, n_cases: int) -> np.ndarray:
        """Which cases of a batch are this process's: every n-th, so that no part differs by more than one."""
        return np.arange(self.rank, n_cases, self.n)

    def summed(self, tensors: Sequence[Any]) -> list[Any]:
        """Each float32 tensor summed over all processes. All call this in the same order, with the same shapes."""
        import tensorflow as tf

        if self.n == 1:
            return list(tensors)
        assert self._strategy is not None, "not connected"
        self._n_operations += 1
        flat = tf.concat([tf.reshape(tf.convert_to_tensor(one), [-1]) for one in tensors], 0)
        with tf.device(f"/job:worker/replica:0/task:{self.rank}/device:CPU:0"):
            total = tf.raw_ops.CollectiveReduceV2(
                input=flat, group_size=self.n, group_key=_GROUP, instance_key=self._n_operations, ordering_token=[],
                merge_op="Add", final_op="Id", communication_hint="ring",
            )  # fmt: skip
        sizes = [int(np.prod(one.shape)) for one in tensors]
        return [tf.reshape(part, one.shape) for part, one in zip(tf.split(total, sizes), tensors, strict=True)]

    def of_first(self, values: Sequence[Any]) -> list[Any]:
        """These float32 arrays as worker 0 has them: what decides is decided by one."""
        import tensorflow as tf

        if self.n == 1:
            return list(values)
        tensors = [tf.cast(tf.convert_to_tensor(value), tf.float32) for value in values]
        return self.summed(tensors if self.rank == 0 else [tf.zeros_like(tensor) for tensor in tensors])


ALONE = Workers()
