"""What a failure in the middle takes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Calls `undo` when the block ends by any exception, also one that stops the program, and passes it on."""
    with ExitStack() as stack:
        stack.callback(undo)
        yield
        stack.pop_all()
