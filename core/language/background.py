"""The thread that asks the site's language model; on a site that wants none it loads nothing and asks nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from core.periodic import repeated
from core.records.database.db import Database
from core.records.site_settings import current

LOOK_SECONDS = 5.0


@contextmanager
def answered(db: Database) -> Iterator[None]:
    """Asks what is due now and then, until the block ends."""
    ended: list[bool] = []
    machine = socket.gethostname()[:80]

    def look() -> None:
        if not current(db).language_model:
            return
        from core.language.asking import ask_what_is_due  # with the outline network and HTTP: only where it is wanted

        worker = f"{machine}:{os.getpid()}:language"
        ask_what_is_due(db, worker=worker, machine=machine, is_ending=lambda: bool(ended))

    with repeated("asking the language model", look, lambda: LOOK_SECONDS):
        try:
            yield
        finally:
            ended.append(True)
