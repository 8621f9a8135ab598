"""An archive by DICOMweb (PS3.18): search, fetch and store, with limits on time and size and without words in the log.

Addresses hold identifiers (PS3.18 8.3), so the log of the library and of the connections below it is off, redirects
are refused, and errors are sentences of ours.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.archive.archives import Archive, Credentials
from core.errors import ArchiveAway, ArchiveRefused
from core.imaging.decoded import clean_text
from core.imaging.dicom.header import read_transfer_syntax
from core.imaging.dicom.source import is_uid
from core.settings import MIB, is_on_this_machine

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from requests import Response

for _name in ("dicomweb_client", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

FOUND_MOST = 200
"""How many studies one search shows."""
CHANGES_MOST = 1000
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
ANSWER_SECONDS = 120.0
"""For a whole answer, however slowly it drips."""
ANSWER_BYTES = 16 * MIB
"""Of an answer that is no picture."""
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_OF_SERIES = ("00080060", "0008103E", "00180015", "00081010")
_LATER = (404, 408, 425, 429)
"""Answers that an administrator of either side can cure, so that trying again helps."""


@dataclass(frozen=True, slots=True, repr=False)
class FoundStudy:
    """A study as an archive lists it; for the screen of who searched. Its `repr` shows nothing."""

    uid: str
    patient_name: str
    patient_id: str
    birth_date: str
    day: str
    time: str
    modalities: tuple[str, ...]
    description: str
    accession_number: str
    n_instances: int | None


@dataclass(frozen=True, slots=True, repr=False)
class FoundInstance:
    """One object of a study. modality, sop_class: "" where the archive does not say them."""

    series_uid: str
    uid: str
    sop_class: str
    modality: str


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """One series of a study, as far as rules look at it; "" for what the archive does not say."""

    modality: str
    description: str
    body_part: str
    station: str


@dataclass(frozen=True, slots=True, repr=False)
class Criteria:
    """What is searched for. since, until: days, both inclusive. modality: "MG", "US", "SM" or "" for all of them.

    patient_id, accession_number: as the archive has them. patient_name: the beginnings of its parts, family name first.
    study_uid: of one study alone.
    """

    since: date | None = None
    until: date | None = None
    modality: str = ""
    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""
    study_uid: str = ""

    @property
    def as_query(self) -> dict[str, str]:
        """Attribute -> value (PS3.18 8.3.4.1)."""
        # What parts a name has, between "^", is a wildcard too: old servers take no "^" in an address, in any spelling.
        name = re.sub(r"[\s,^*=]+", "*", f"{self.patient_name.strip()} ") if self.patient_name.strip() else ""
        found = {"PatientID": self.patient_id, "PatientName": name}
        found |= {"AccessionNumber": self.accession_number, "ModalitiesInStudy": self.modality}
        found["StudyInstanceUID"] = self.study_uid
        days = [day.strftime("%Y%m%d") if day else "" for day in (self.since, self.until)]
        found["StudyDate"] = days[0] if days[0] == days[1] else "-".join(days)
        return {name: value.strip() for name, value in found.items() if value.strip() not in ("", "-")}


class DicomWeb:
    """The DICOMweb services of one archive. Every method raises ArchiveAway or ArchiveRefused, with a sentence."""

    def __init__(self, archive: Archive, credentials: Credentials | None, *, read_seconds: float | None = None) -> None:
        from dicomweb_client import DICOMwebClient  # with requests, some tenths of a second

        self.name = archive.name
        self._session = _session(ANSWER_SECONDS)
        if credentials is not None:
            if not archive.dicomweb_url.startswith("https:") and not is_on_this_machine(archive.dicomweb_url):
                raise ArchiveRefused(
                    f"{self.name}: credentials are sent over TLS alone. Name its https:// address on the page Settings."
                )
            self._sign_in(credentials)
        timeout = (CONNECT_SECONDS, read_seconds or READ_SECONDS)
        self._client = DICOMwebClient(archive.dicomweb_url, session=self._session, timeout=timeout)
        self._client.set_http_retry_params(retry=False)  # who calls has a queue, and knows when it is due
        self._url, self._timeout = archive.dicomweb_url, timeout

    def _sign_in(self, credentials: Credentials) -> None:
        if credentials.token:
            self._session.headers["Authorization"] = f"Bearer {credentials.token}"
        else:
            self._session.auth = (credentials.user.encode(), credentials.password.encode())

    def search(self, criteria: Criteria, *, offset: int = 0) -> list[FoundStudy]:
        """Studies that fit, the newest first, `FOUND_MOST` at most (QIDO-RS, PS3.18 10.6). offset: how many to skip."""
        wanted = ["StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "PatientBirthDate"]
        with self._plain():
            rows = self._client.search_for_studies(
                search_filters=criteria.as_query, fields=wanted, limit=FOUND_MOST, offset=offset or None,
                fuzzymatching=None,
            )  # fmt: skip
            found = [_found_study(row) for row in rows]
        return sorted((one for one in found if one), key=lambda one: (one.day, one.time), reverse=True)

    def instances(self, study_uid: str) -> list[FoundInstance]:
        """The objects of a study."""
        with self._plain():
            rows = self._client.search_for_instances(study_instance_uid=study_uid)
            found = [
                FoundInstance(*(_text(row, tag) for tag in ("0020000E", "00080018", "00080016", "00080060")))
                for row in rows
            ]
            if not all(is_uid(one.series_uid) and is_uid(one.uid) for one in found):
                raise ValueError("no UIDs")
        return found

    def series(self, study_uid: str) -> list[FoundSeries]:
        """The series of a study, with what rules look at."""
        wanted = ["SeriesDescription", "BodyPartExamined", "StationName"]
        with self._plain():
            rows = self._client.search_for_series(study_instance_uid=study_uid, fields=wanted)
            return [FoundSeries(*(_text(row, tag) for tag in _OF_SERIES)) for row in rows]

    def is_orthanc(self) -> bool | None:
        """Whether Orthanc's own interface stands beside its DICOMweb, one step up; None while what stands there does
        not let SecondRead in."""
        try:
            return "DicomAet" in self._own("system")
        except _Closed:
            return None
        except ArchiveRefused:
            return False

    def stable_since(self, last: int | None) -> tuple[list[str], int]:
        """Orthanc alone: studies that got complete after change number `last`, and the number to ask from next.

        last: None for none yet; then nothing is listed, and the number is that of now.
        """
        if last is None:
            return [], int(self._own("changes?last")["Last"])
        answer = self._own(f"changes?since={last}&limit={CHANGES_MOST}")
        with self._plain():
            stable = [one["ID"] for one in answer["Changes"] if one["ChangeType"] == "StableStudy"]
            own_ids = [one for one in dict.fromkeys(stable) if re.fullmatch(r"[0-9a-f\-]{44}", one)]
            last = int(answer["Last"])
        return [uid for uid in map(self._uid_of_own, own_ids) if is_uid(uid)], last

    def _uid_of_own(self, own_id: str) -> str:
        try:
            found = self._own(f"studies/{own_id}")
        except _Closed:
            raise
        except ArchiveRefused:  # removed since
            return ""
        return str((found.get("MainDicomTags") or {}).get("StudyInstanceUID", ""))

    def _own(self, path: str) -> dict[str, Any]:
        """An answer of Orthanc's own interface. Raises ArchiveRefused where there is none, or it is closed to us."""
        import requests

        found = None
        # Where signing in is asked for, or a page comes or the way to one, it is closed.
        with self._plain(), suppress(requests.TooManyRedirects, json.JSONDecodeError, UnicodeDecodeError):
            response = self._session.get(f"{self._url.rpartition('/')[0]}/{path}", timeout=self._timeout)
            if response.status_code == 404:
                raise ArchiveRefused(f"{self.name} has no interface of Orthanc's own there.")
            if response.status_code not in (401, 403):
                response.raise_for_status()
                found = json.loads(response.content)
        if not isinstance(found, dict):
            raise _Closed(f"{self.name} has no interface of Orthanc's own there that lets SecondRead in.")
        return found

    def fetch(self, study_uid: str, instance: FoundInstance, target: Path, *, most: int) -> int:
        """One object into a file, as it is stored (WADO-RS, PS3.18 10.4); its size in bytes. Nothing of it is parsed.

        Raises ArchiveRefused also where it is larger than `most` bytes.
        """
        with self._plain(), target.open("wb") as file:
            return self._receive(self._instance_url(study_uid, instance.series_uid, instance.uid), file.write, most)

    def size_of(self, study_uid: str, instance: FoundInstance) -> int:
        """How many bytes an object has, by fetching it and storing nothing."""
        url = self._instance_url(study_uid, instance.series_uid, instance.uid)
        with self._plain():
            return self._receive(url, len, 2048 * MIB)

    def probe_store(self) -> str:
        """Whether something answers where objects are handed over: an empty hand-over, which every archive refuses."""
        with self._plain():
            kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="probe"'}
            response = self._session.post(
                f"{self._url}/studies", data=b"--probe--\r\n", headers=kind, timeout=self._timeout
            )
        status = int(response.status_code)
        if status in (401, 403):
            raise ArchiveAway(f"{self.name} does not let SecondRead store (HTTP {status}). Check the credentials.")
        if status in (404, 405, 501):
            raise ArchiveRefused(f"{self.name} has no place to store at its DICOMweb address (HTTP {status}).")
        return f"The place to store answers (HTTP {status} to an empty hand-over); nothing was stored."

    def stored(self, study_uid: str, series_uid: str, uid: str) -> Dataset | None:
        """An object of ours as the archive holds it; None where it does not."""
        from pydicom import dcmread

        whole = BytesIO()
        with self._plain(is_lookup=True):
            try:
                self._receive(self._instance_url(study_uid, series_uid, uid), whole.write, 4 * ANSWER_BYTES)
            except _NotThere:
                return None
            if read_transfer_syntax(whole) not in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"):
                raise ValueError("not a syntax that results are sent in")
            whole.seek(0)
            return dcmread(whole)

    def has(self, study_uid: str, series_uid: str, uid: str) -> bool:
        """Whether it shows an object under this number, whatever it is."""
        with self._plain(is_lookup=True):
            try:
                self._receive(self._instance_url(study_uid, series_uid, uid), len, 4 * ANSWER_BYTES)
            except _NotThere:
                return False
        return True

    def store(self, dataset: Dataset) -> None:
        """Hand over one object (STOW-RS, PS3.18 10.5). That it was taken is to be asked with `stored`."""
        with self._plain():
            answer = self._client.store_instances([dataset])
            failed = answer.get("FailedSOPSequence") or []
        if failed:
            reason = int(failed[0].get("FailureReason") or 0)
            raise ArchiveRefused(f"{self.name} refused the object, with failure reason {reason:04X} (PS3.18 I.2.2).")

    def _instance_url(self, study_uid: str, series_uid: str, uid: str) -> str:
        if not all(map(is_uid, (study_uid, series_uid, uid))):
            raise ArchiveRefused(f"{self.name} names an object in a way that DICOM does not permit.")
        return f"{self._url}/studies/{study_uid}/series/{series_uid}/instances/{uid}"

    def _receive(self, url: str, write: Any, most: int) -> int:
        """The first part of a multipart answer, as it comes."""
        from python_multipart.multipart import MultipartParser

        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        response = self._session.get(url, headers={"Accept": accept}, stream=True, timeout=self._timeout)
        with response:
            if response.status_code == 404:
                raise _NotThere
            response.raise_for_status()
            boundary = _BOUNDARY.search(response.headers.get("Content-Type", ""))
            if boundary is None:
                raise ValueError("no multipart")
            parts, size = [0], [0]

            def on_data(data: bytes, start: int, end: int) -> None:
                if parts[0] == 1:
                    size[0] += end - start
                    if size[0] > most:
                        raise ArchiveRefused(
                            f"{self.name} sent more than the {most // MIB} MiB that may be fetched here."
                        )
                    write(data[start:end])

            def on_begin() -> None:
                parts[0] += 1

            ended: list[bool] = []
            parser = MultipartParser(
                boundary.group(1).encode(),
                {"on_part_begin": on_begin, "on_part_data": on_data, "on_end": lambda: ended.append(True)},
            )
            for piece in _pieces(response, ANSWER_SECONDS):
                parser.write(piece)
            if not ended or not size[0]:
                raise ValueError("cut short")
        return size[0]

    @contextmanager
    def _plain(self, *, is_lookup: bool = False) -> Iterator[None]:
        """What goes wrong on the way, as sentences without an address."""
        import requests
        from python_multipart.exceptions import FormParserError

        try:
            yield
        except _NotThere:
            raise ArchiveAway(f"{self.name} does not have what it listed a moment ago. It is asked again.") from None
        except requests.HTTPError as error:
            raise self._refusal(error) from None
        except (requests.Timeout, TimeoutError):
            raise ArchiveAway(f"{self.name} answers too slowly. It is asked again later.") from None
        except requests.exceptions.SSLError:
            raise ArchiveAway(
                f"{self.name} has no certificate that this machine trusts. Tell an administrator."
            ) from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            raise ArchiveAway(f"{self.name} cannot be reached, or closed the connection.") from None
        except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError, FormParserError) as error:
            what = "a result back" if is_lookup else "something"
            raise ArchiveAway(
                f"{self.name} answered with {what} that is not DICOMweb ({type(error).__name__}). Check its address."
            ) from None

    def _refusal(self, error: Any) -> ArchiveAway | ArchiveRefused:
        status = int(error.response.status_code) if error.response is not None else 0
        if status in (401, 403):
            return ArchiveAway(f"{self.name} does not let SecondRead in (HTTP {status}). Check the credentials.")
        if status >= 500 or status in _LATER:
            return ArchiveAway(f"{self.name} cannot do this now (HTTP {status}).")
        return ArchiveRefused(f"{self.name} refused this (HTTP {status}).")


class _NotThere(Exception):
    """HTTP 404 of an object."""


class _Closed(ArchiveRefused):
    """What stands one step above DICOMweb is not for us, as far as one can see."""


def _session(seconds: float) -> Any:
    """A session whose answers have limits and never lead elsewhere."""
    import requests

    class LimitedSession(requests.Session):
        def send(self, request: Any, **options: Any) -> Response:
            is_streamed = options.get("stream", False)
            request.url = request.url.replace("%2A", "*")  # needs no escape (RFC 3986 2.2); Orthanc 1.10 decodes none
            response = super().send(request, **{**options, "stream": True, "allow_redirects": False})
            if response.is_redirect:
                response.close()
                raise requests.TooManyRedirects("redirected")
            if not is_streamed:
                with response:
                    response._content = b"".join(_limited(response, seconds))
            return response

    return LimitedSession()


def _limited(response: Response, seconds: float) -> Iterator[bytes]:
    n_bytes = 0
    for piece in _pieces(response, seconds):
        n_bytes += len(piece)
        if n_bytes > ANSWER_BYTES:
            raise ValueError("too long")
        yield piece


def _pieces(response: Response, seconds: float) -> Iterator[bytes]:
    until = time.monotonic() + seconds
    for piece in response.iter_content(64 * 1024):
        if time.monotonic() > until:
            raise TimeoutError
        yield piece


def _found_study(row: Mapping[str, Any]) -> FoundStudy | None:
    uid = _text(row, "0020000D")
    if not is_uid(uid):
        return None
    count = _text(row, "00201208")
    return FoundStudy(
        uid=uid,
        patient_name=_text(row, "00100010"), patient_id=_text(row, "00100020"), birth_date=_text(row, "00100030"),
        day=_text(row, "00080020"), time=_text(row, "00080030"), modalities=tuple(_texts(row, "00080061")),
        description=_text(row, "00081030"), accession_number=_text(row, "00080050"),
        n_instances=int(count) if count.isascii() and count.isdecimal() else None,
    )  # fmt: skip


def _texts(row: Mapping[str, Any], tag: str) -> Sequence[str]:
    """The values of an attribute of the DICOM JSON model (PS3.18 F.2), as text."""
    values = row.get(tag, {}).get("Value") or []
    plain = (value.get("Alphabetic", "") if isinstance(value, dict) else value for value in values)
    return [clean_text(value) for value in plain if value is not None]


def _text(row: Mapping[str, Any], tag: str) -> str:
    return next(iter(_texts(row, tag)), "")
