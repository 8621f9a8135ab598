"""The real server in a process that already holds its libraries: it starts in a second instead of five.

A process with every import done and no thread is forked for each start (`multiprocessing`'s fork server), and the fork
does what `streamlit run app.py` does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from core.settings import REPOSITORY

START_SECONDS = 120.0
PRELOADED = (
    "streamlit.web.cli", "streamlit.web.bootstrap", "streamlit.starlette", "streamlit.web.server.starlette",
    "uvicorn", "websockets", "numpy", "pandas", "PIL.Image", "pydicom", "sqlalchemy.dialects.sqlite", "alembic.command",
    "argon2", "plotly.graph_objects", "core.demo.site", "core.records.releases.decisions", "core.reading.new_studies",
    "core.reading.second_read", "core.reports.pdf", "core.reports.study", "core.evaluation.charts.runs",
    "core.evaluation.statistics.summary", "core.server.routes", "streamlit.auth_util", "train.queue.worker",
    "train.queue.imports", "train.datasets.own_reads", "train.publishing.results",
)  # fmt: skip
"""What a server, or a worker, would import first. Nothing of it starts a thread."""


def context() -> multiprocessing.context.ForkServerContext:
    """Where warm processes come from; one for the whole run."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class WarmServer:
    """A server over `state_dir` on `port`. settings: SECONDREAD_ variables by field. output: its terminal.

    target: what serves, in place of `serve`.
    """

    def __init__(
        self, state_dir: Path, port: int, output: Path, *, target: Callable[..., None] | None = None, **settings: object
    ) -> None:
        self.url, self.port, self.output = f"http://localhost:{port}", port, output
        variables = {"state_dir": state_dir, "worker": 0, "serving": "inside", "models_at_start": 0, **settings}
        environment = {f"SECONDREAD_{name.upper()}": str(value) for name, value in variables.items()}
        self.process: BaseProcess = context().Process(target=target or serve, args=(port, environment, output))
        self.process.start()

    def wait_until_ready(self) -> None:
        """Until it answers. Raises AssertionError with its terminal."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.is_alive():
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{self.output.read_text(errors='replace')[-4000:]}")

    def kill(self, number: signal.Signals, *, seconds: float = 60.0) -> bool:
        """Whether it ended by this signal within so many seconds; it is gone afterwards in any case."""
        os.kill(self.process.pid or 0, number)
        self.process.join(seconds)
        ended = not self.process.is_alive()
        if not ended:
            self.process.kill()
            self.process.join()
        return ended


def serve(port: int, environment: dict[str, str], output: Path) -> None:
    """`streamlit run app.py`, in this process."""
    for name in [name for name in os.environ if name.startswith("SECONDREAD_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    terminal = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    from streamlit.web import cli

    sys.argv = ["streamlit", "run", "app.py", "--server.port", str(port)]
    cli.main()


def serve_with_levels(port: int, environment: dict[str, str], output: Path, *, levels: Path) -> None:
    """As `serve`, with another table of the levels from which models propose peaks."""
    from core.findings import proposals

    proposals.LEVELS_FILE = levels
    serve(port, environment, output)
