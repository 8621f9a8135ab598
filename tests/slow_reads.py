"""A process of a back-read whose model answers once a file `go` lies beside READ: READ NUMBER [LEASE_SECONDS WHO].

Each question to the model is a line of READ: who asked (the process, unless it is said) and the image's sha256.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

from record_site import answer, explanation  # noqa: E402

from core.models.cards import Card  # noqa: E402
from core.reading import back_read  # noqa: E402
from core.records.database.db import open_database  # noqa: E402
from core.records.queue import LEASE_SECONDS  # noqa: E402
from core.settings import Settings  # noqa: E402
from core.types import Image  # noqa: E402


def main(read: Path, number: int, lease_seconds: float = LEASE_SECONDS, who: str = str(os.getpid())) -> None:
    def slow(card: Card, image: Image, **_: Any) -> Any:
        with read.open("a") as file:
            file.write(f"{who} {image.sha256}\n")
        while not read.with_name("go").exists():
            time.sleep(0.1)
        return answer(image, model_id=card.model_id, weights=card.weights_sha256), explanation()

    back_read.read_image = slow
    back_read.WAIT_SECONDS = 0.1
    back_read.read_next = partial(back_read.read_next, lease_seconds=lease_seconds)
    back_read.work_until_done(open_database(Settings.from_environment()), number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:4]), *sys.argv[4:5])
