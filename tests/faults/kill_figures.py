"""What a run of kills found, kept between runs and printed at its end."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from core import files

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass
class Figures:
    """kills: by what was killed and with what. acknowledged: saves that came back to who asked. conditions: acts that
    were tried under each (a full disk, a clock that is wrong), and how many of them were refused with a sentence.
    lost, half, left_over: what was found wrong, one a sentence.
    """

    n_rounds: int = 0
    kills: dict[str, dict[str, int]] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, list[int]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.half or self.left_over)

    @property
    def n_kills(self) -> int:
        return sum(sum(by_signal.values()) for by_signal in self.kills.values())

    def killed(self, what: str, number: signal.Signals) -> None:
        by_signal = self.kills.setdefault(what, {})
        by_signal[number.name] = by_signal.get(number.name, 0) + 1

    def told(self, kind: str, n: int = 1) -> None:
        self.acknowledged[kind] = self.acknowledged.get(kind, 0) + n

    def tried(self, condition: str, n: int, n_refused: int) -> None:
        before = self.conditions.get(condition, [0, 0])
        self.conditions[condition] = [before[0] + n, before[1] + n_refused]

    def text(self) -> str:
        wrong = [*self.lost, *self.half, *self.left_over]
        kills = [
            f"  {what:<15}{sum(found.values()):>6} ({', '.join(f'{n} {name}' for name, n in sorted(found.items()))})"
            for what, found in sorted(self.kills.items())
        ]
        told = [f"  {kind:<15}{n:>6}" for kind, n in sorted(self.acknowledged.items())]
        conditions = [f"  {name:<21}{n:>6} acts, {r} refused" for name, (n, r) in sorted(self.conditions.items())]
        return "\n".join(
            [
                *wrong,
                f"kills            {self.n_kills:>6}",
                *kills,
                f"acknowledged     {sum(self.acknowledged.values()):>6}",
                *told,
                "conditions",
                *conditions,
                f"lost             {len(self.lost):>6}",
                f"half             {len(self.half):>6}",
                f"left over        {len(self.left_over):>6}",
            ]
        )

    def store(self, path: Path) -> None:
        files.write_whole(path, json.dumps(asdict(self)))

    @classmethod
    def stored(cls, path: Path) -> Figures:
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()


class Rounds(Protocol):
    """One kind of rounds, over a site of its own."""

    def one(self, seed: str, figures: Figures) -> None:
        """Begin work, kill somebody at a moment that `seed` draws, open the site again and judge it."""

    def close(self) -> None:
        """End what runs between rounds."""


def drawn_signal(draw: random.Random) -> signal.Signals:
    return draw.choice(SIGNALS)


def until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Whether it became so in that time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def to_log(log: Path) -> None:
    """What this process says goes to the end of that file."""
    terminal = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)


def left_in(state_dir: Path) -> list[str]:
    """Temporary files and folders below a state folder, relative to it, that no living process holds.

    There are none once the site was opened.
    """
    return [
        str(path.relative_to(state_dir))
        for path in state_dir.rglob("*")
        if (files.is_temporary(path.name) or path.parent.name == files.TEMPORARY) and not _is_held(path)
    ]


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its process has just removed it
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
