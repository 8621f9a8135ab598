"""The child that decodes a file killed while it does, and the process that waits for it.

Whoever asked gets the whole picture or a sentence, never a part of one; the next picture is read; nobody is left who
decodes for nobody.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from kill_figures import Figures, drawn_signal
from made_images import dicom, encoded, mammogram, ultrasound

from core.imaging.intake import Intake, read_upload
from core.settings import Settings

FILES = 6
"""Pictures read in a round; each child is killed once, at a moment of its own."""
SECONDS_MOST = 1.0
ORPHAN_SECONDS = 40.0
"""How long a child whose parent died may go on: it may finish its picture, and then nobody takes it."""


class DecodeRounds:
    """Rounds over two files in `folder`, a PNG and a DICOM file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(state_dir=folder / "state")
        self.files = [folder / "L.png", folder / "L.dcm"]
        self.files[0].write_bytes(encoded(ultrasound(seed=1)))
        self.files[1].write_bytes(dicom((mammogram(1600, 1200) * 4095).astype(np.uint16)))
        self.whole = {path: _digest(self._read(path)) for path in self.files}
        if None in self.whole.values():
            raise AssertionError("a file that is to be decoded was refused")

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        for number in range(FILES):
            self._kill_child(f"{seed}-{number}", draw, figures)
        self._kill_parent(seed, draw, figures)
        for path in self.files:
            if _digest(self._read(path)) != self.whole[path]:
                figures.half.append(f"{seed}: {path.name} is not read any more")

    def close(self) -> None:
        """Nothing runs between rounds."""

    def _read(self, path: Path) -> Intake:
        (found,) = read_upload(path, path.name, settings=self.settings)
        return found

    def _kill_child(self, seed: str, draw: random.Random, figures: Figures) -> None:
        path, number = draw.choice(self.files), drawn_signal(draw)
        found: list[Intake] = []
        reader = threading.Thread(target=lambda: found.append(self._read(path)))
        reader.start()
        child = _until(lambda: decoders(os.getpid()), reader.is_alive)
        time.sleep(draw.uniform(0, SECONDS_MOST))
        with suppress(ProcessLookupError):  # it was faster
            if child and child[0] in decoders(os.getpid()):
                os.kill(child[0], number)
                figures.killed("decoding child", number)
        reader.join(60)
        if reader.is_alive() or not found:
            figures.half.append(f"{seed}: nobody told what became of {path.name}")
        elif found[0].image is None:
            if not (found[0].refused or "").endswith("."):
                figures.half.append(f"{seed}: refused without a sentence")
        elif _digest(found[0]) != self.whole[path]:
            figures.half.append(f"{seed}: another picture came out of {path.name}")
        if decoders(os.getpid()):
            figures.left_over.append(f"{seed}: a child goes on decoding")

    def _kill_parent(self, seed: str, draw: random.Random, figures: Figures) -> None:
        process = multiprocessing.get_context("fork").Process(target=self._read, args=(draw.choice(self.files),))
        process.start()
        pid = process.pid or 0
        children = _until(lambda: decoders(pid), process.is_alive)
        time.sleep(draw.uniform(0, SECONDS_MOST / 2))
        if process.is_alive():
            os.kill(pid, signal.SIGKILL)
            figures.killed("decoding parent", signal.SIGKILL)
        process.join()
        gone = time.monotonic() + ORPHAN_SECONDS
        while any(Path(f"/proc/{child}").exists() for child in children):
            if time.monotonic() > gone:
                figures.left_over.append(f"{seed}: a child goes on decoding for nobody")
                return
            time.sleep(0.02)


def decoders(parent: int) -> list[int]:
    """Process ids of the living children of this process that decode."""
    return children_with(parent, b"core.imaging.decode_process")


def children_with(parent: int, word: bytes) -> list[int]:
    """Process ids of the living children of `parent` that have this word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            words = (folder / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue  # it has just ended
        if int(status[1]) == parent and status[0] != "Z" and word in words:
            found.append(int(folder.name))
    return found


def _until(look: Callable[[], list[int]], goes_on: Callable[[], bool]) -> list[int]:
    found = look()
    while not found and goes_on():
        time.sleep(0.005)
        found = look()
    return found


def _digest(found: Intake) -> str | None:
    return hashlib.sha256(found.image.pixels.tobytes()).hexdigest() if found.image is not None else None
