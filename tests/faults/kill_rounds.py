"""Processes of the product killed at random moments, and machines that fail it; after each the site is judged.

`make faults` runs it: `python tests/faults/kill_rounds.py --kills 500 --folder DIR`. Whoever runs it again with the
same folder goes on where it stopped. Figures stand last. What is killed: a process that acts (`act_rounds`), the web
server (`server_rounds`), the training worker and its child (`worker_rounds`), the child that decodes a file
(`decode_rounds`), the listener and whoever sends results to an archive (`archive_rounds`); between them the machine
fails in other ways (`bad_conditions`).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from act_rounds import ActRounds  # noqa: E402
from archive_rounds import ListenerRounds, SendingRounds  # noqa: E402
from bad_conditions import ConditionRounds  # noqa: E402
from decode_rounds import DecodeRounds  # noqa: E402
from kill_figures import Figures, Rounds  # noqa: E402
from server_rounds import ServerRounds  # noqa: E402
from worker_rounds import WorkerRounds  # noqa: E402

KINDS: Mapping[str, tuple[Callable[[Path], Rounds], int]] = {
    "acts": (ActRounds, 8),
    "server": (ServerRounds, 4),
    "worker": (WorkerRounds, 4),
    "decode": (DecodeRounds, 3),
    "listener": (ListenerRounds, 2),
    "sending": (SendingRounds, 2),
    "conditions": (ConditionRounds, 2),
}
"""The kinds of rounds and how often each is drawn. A round of conditions kills nobody."""
FIGURES = "figures.json"


def run(folder: Path, *, kills: int, seed: str, kinds: Mapping[str, int] | None = None) -> Figures:
    """Rounds until so many kills are done, those of an earlier run in this folder included.

    kinds: how often each kind is drawn, in place of the usual; a kind that is left out is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FIGURES
    figures = Figures.stored(path)
    shares = kinds or {name: share for name, (_, share) in KINDS.items()}
    open_rounds: dict[str, Rounds] = {}
    try:
        while figures.n_kills < kills and figures.is_clean:
            number = figures.n_rounds
            kind = random.Random(f"{seed}-{number}").choices(list(shares), list(shares.values()))[0]
            if kind not in open_rounds:
                open_rounds[kind] = KINDS[kind][0](folder / kind)
            open_rounds[kind].one(f"{seed}-{number}-{kind}", figures)
            figures.n_rounds += 1
            figures.store(path)
    finally:
        for rounds in open_rounds.values():
            rounds.close()
    return figures


def main() -> int:
    """Status 0 where nothing was lost, half or left over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--folder", type=Path, required=True, help="the sites of the run; the same one goes on")
    parser.add_argument("--only", choices=list(KINDS), action="append", help="kinds of rounds, in place of all")
    args = parser.parse_args()
    began = time.monotonic()
    kinds = {name: KINDS[name][1] for name in args.only} if args.only else None
    figures = run(args.folder.resolve(), kills=args.kills, seed=args.seed, kinds=kinds)
    sys.stdout.write(f"{figures.text()}\nseconds          {time.monotonic() - began:>6.0f}\n")
    return 0 if figures.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
