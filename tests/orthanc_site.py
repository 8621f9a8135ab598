"""A real archive for tests: Debian's Orthanc with its DICOMweb plugin, on loopback, with a configuration of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "Orthanc with DICOMweb is not installed (Debian: apt-get install orthanc orthanc-dicomweb)"
USER, PASSWORD = "reader", "a password of tests"
AE_TITLE = "ORTHANC"


@dataclass(frozen=True)
class Orthanc:
    """A running archive. url: of its own interface; web: of DICOMweb. port: of DICOM messages. answers_at: the
    port of this machine where it says what it commits to."""

    url: str
    port: int
    answers_at: int = 0

    @property
    def web(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def credentials(self) -> str:
        return f"{USER}:{PASSWORD}"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None) -> Any:
        """Its own interface, which tests use to look and to prepare; None for what is not there."""
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        basic = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        basic.add_password(None, self.url, USER, PASSWORD)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(basic))
        with opener.open(request, timeout=20) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def put(self, content: bytes) -> None:
        """Store a DICOM file."""
        self.ask("/instances", content)

    def empty(self) -> None:
        """Remove everything."""
        for patient in self.ask("/patients"):
            self.ask(f"/patients/{patient}", method="DELETE")

    def objects(self, modality: str) -> list[Dataset]:
        """Every object of a modality, in the order in which they came."""
        files = [self.ask(f"/instances/{one}/file") for one in self.ask("/instances")]
        found = [dcmread(BytesIO(content)) for content in files]
        return sorted(
            (one for one in found if one.Modality == modality), key=lambda one: str(one.get("ContentTime", ""))
        )


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Skips with a sentence where it is not installed, and fails where CI=true."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    orthanc = Orthanc(f"http://127.0.0.1:{_free_port()}", _free_port(), _free_port())
    configuration = {
        "Name": "Tests", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": int(orthanc.url.rpartition(":")[2]), "DicomPort": orthanc.port, "DicomAet": AE_TITLE,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": True, "OverwriteInstances": False,
        "StableAge": 1, "SaveJobs": False,
        "DicomModalities": {"secondread": {"AET": "SECONDREAD", "Host": "127.0.0.1", "Port": orthanc.answers_at}},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(orthanc, process, folder / "orthanc.log")
            yield orthanc
        finally:
            process.kill()  # nobody needs what it holds, and it takes three seconds to end by itself
            process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(orthanc: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            orthanc.ask("/system")
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")
