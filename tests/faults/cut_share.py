"""A machine is cut off from PostgreSQL and the share in the middle of a training, and comes back (docs/cluster.md).

    python tests/faults/cut_share.py        # as root; apt-get install glusterfs-server glusterfs-client

The share is GlusterFS over the network of the test: each machine mounts it at the same path by itself. The training is
a script that takes the working folder as a real one does and writes an epoch line and who it is, again and again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "train" / "queue"), str(HERE.parent), str(HERE.parent.parent)]

from namespaces import Network, network, started  # noqa: E402
from record_site import Somebody, add_person, find_postgres  # noqa: E402
from test_partition import LEASE_SECONDS, TRAINS, WORKS, environment_of, writers  # noqa: E402
from test_worker import BEGIN, until  # noqa: E402

from core.files import has_locks  # noqa: E402
from core.records import data_sets  # noqa: E402
from core.records.database.db import Database, open_database  # noqa: E402
from core.records.queue import DONE  # noqa: E402
from core.settings import REPOSITORY, Settings  # noqa: E402
from core.types import Modality  # noqa: E402
from train.queue import trainings  # noqa: E402
from train.recipe.request import FitRequest  # noqa: E402

PORT = 24010
SILENCE_SECONDS = 10
"""After which server and client of the share believe that the other one is gone."""
SERVER = """
volume posix
 type storage/posix
 option directory {brick}
end-volume
volume locks
 type features/locks
 subvolumes posix
end-volume
volume server
 type protocol/server
 option transport-type tcp
 option transport.address-family inet
 option transport.socket.listen-port {port}
 option transport.tcp-user-timeout {seconds}
 option auth.addr.locks.allow *
 subvolumes locks
end-volume
"""
CLIENT = """
volume remote
 type protocol/client
 option transport-type tcp
 option transport.address-family inet
 option remote-host {host}
 option remote-port {port}
 option remote-subvolume locks
 option ping-timeout {seconds}
end-volume
"""


class Share:
    """GlusterFS without its management daemon: a server here, and a client on each machine that asks for it."""

    def __init__(self, cables: Network, folder: Path) -> None:
        self.cables, self.path = cables, folder / "share"
        self._folder, self._volume, brick = folder, folder / "client.vol", folder / "brick"
        self.path.mkdir()
        brick.mkdir()
        (folder / "server.vol").write_text(SERVER.format(brick=brick, port=PORT, seconds=SILENCE_SECONDS))
        self._volume.write_text(CLIENT.format(host=cables.here, port=PORT, seconds=SILENCE_SECONDS))
        self._server = subprocess.Popen(
            ["glusterfsd", "-N", "-f", str(folder / "server.vol"), "-l", str(folder / "server.log")]
        )
        time.sleep(2)
        subprocess.run(self._mount("here"), check=True)
        until(lambda: os.path.ismount(self.path) and has_locks(self.path), 30)

    def _mount(self, machine: str) -> list[str]:
        return ["glusterfs", "-f", str(self._volume), f"--log-file={self._folder}/{machine}.log", str(self.path)]

    def program(self, machine: str, settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
        """A Python program on this machine, which mounts the share first: `ip netns exec` gives it own mounts."""
        mount = " ".join(self._mount(machine))
        command = ["sh", "-c", f'{mount} && sleep 2 && exec "$@"', "sh"] if machine != self.cables.here else []
        with (self._folder / f"words-{machine}.txt").open("ab") as words:
            return started(
                self.cables, machine, [*command, sys.executable, *arguments], cwd=REPOSITORY,
                env=environment_of(settings), stdin=subprocess.DEVNULL, stdout=words, stderr=words,
            )  # fmt: skip

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=False)
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self._volume).encode() in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
        self._server.kill()
        self._server.wait(30)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def enqueued(db: Database, admin: Somebody) -> int:
    name = data_sets.store_file(db.settings, b"picture", "png")
    version = data_sets.create_data_set(
        db, admin, name="Set", modality=Modality.ULTRASOUND, manifest=f"file,label\n{name},benign\n".encode(),
        split={"kind": "60/20/20", "seed": 0}, counts={"train": {"benign": 4, "malignant": 4}},
        found={"leaking": False},
    )  # fmt: skip
    return trainings.enqueue(db, admin, FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=3), version)


def rounds(cables: Network, share: Share, db: Database, admin: Somebody) -> bool:
    """Whether it was as it should be."""
    job = enqueued(db, admin)
    script = share.path / "training.py"
    script.write_text(BEGIN + textwrap.dedent(TRAINS))
    arguments = ["-c", WORKS, str(REPOSITORY), str(script), str(LEASE_SECONDS)]
    far, processes = cables.add(), []

    def epochs() -> list[int]:
        return [epoch.epoch for epoch in trainings.epochs_of(db, admin, job)]

    try:
        processes.append(share.program(far, db.settings, *arguments, "far"))
        until(lambda: epochs() == [1])
        (first,) = writers(script)
        cables.cut(far)
        cut_at = time.monotonic()
        processes.append(share.program(cables.here, db.settings, *arguments, "near"))
        until(lambda: len(writers(script)) == 2)
        say(f"the next attempt wrote {time.monotonic() - cut_at:.0f} s after the cut")
        script.with_name("go").touch()
        until(lambda: not trainings.load_job(db, admin, job).is_open)
        row = trainings.load_job(db, admin, job)
        say(f"{row.state} in attempt {row.attempts} while the first machine was away, epochs {epochs()}")
        cables.heal(far)
        processes[1].kill()
        second = trainings.enqueue(db, admin, row.request, row.version_id)
        until(lambda: not trainings.load_job(db, admin, second).is_open)
        again = trainings.load_job(db, admin, second)
        say(f"the first machine is back and has done the next one: {again.state} on {again.machine}")
        n_late = writers(script)[1:].count(first)
        say(f"writes of the first attempt after the second had begun: {n_late}")
        return row.state == again.state == DONE and row.attempts == 2 and epochs() == [1, 2, 3] and not n_late
    finally:
        cables.heal(far)
        for process in processes:
            process.kill()
            process.wait(30)


def main() -> int:
    with ExitStack() as stack:
        cables = stack.enter_context(network())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = find_postgres(cables.here)
        if isinstance(server, str):
            say(server)
            return 1
        stack.callback(server.stop)
        share = Share(cables, folder)
        stack.callback(share.close)
        db = open_database(Settings(state_dir=share.path / "state", database_url=server.empty_database()))
        stack.callback(db.close)
        return int(not rounds(cables, share, db, add_person(db, "Ada", "administrator")))


if __name__ == "__main__":
    sys.exit(main())
