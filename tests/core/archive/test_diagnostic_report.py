"""The final read as a FHIR DiagnosticReport: an example, resource by resource, and who may have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from record_site import CALM, Somebody, add_person, picture
from sqlalchemy import Connection
from test_structured_report import CONTENT, WEIGHTS

from core.archive.archives import ArchiveAddress, name_archive
from core.archive.results.diagnostic_report import diagnostic_report, export_diagnostic_report
from core.errors import NotFound
from core.imaging.dicom.source import OF_STUDY
from core.records.archives.identity import SourceIdentity, record_identity
from core.records.audit import trail
from core.records.database.db import Database, open_database
from core.records.reads import reads, studies
from core.settings import Settings

SNOMED, DCM = "http://snomed.info/sct", "http://dicom.nema.org/resources/ontology/DCM"
EXAMPLE = {
    "resourceType": "DiagnosticReport",
    "status": "final",
    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
    "code": {
        "coding": [{"system": SNOMED, "code": "71651007", "display": "Mammography"}],
        "text": "Final read of a breast study",
    },
    "subject": {"identifier": {"value": "P1"}, "display": "Müster, Änne"},
    "resultsInterpreter": [{"display": "Ada Muster"}],
    "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}],
    "result": [{"reference": f"#o{number}"} for number in (1, 2, 3, 4)],
    "effectiveDateTime": "2026-01-01",
    "conclusion": "Routine. Research use only, not a medical device.",
}
BREAST = {"system": SNOMED, "code": "76752008", "display": "Breast"}
RIGHT = {"system": SNOMED, "code": "24028007", "display": "Right"}


def test_an_example() -> None:
    found = json.loads(json.dumps(diagnostic_report(replace(CONTENT, sentence="Routine."))))
    assert {key: value for key, value in found.items() if key in EXAMPLE} == EXAMPLE
    assert set(found) - set(EXAMPLE) == {"issued", "contained", "identifier", "conclusionCode"}
    assert found["issued"].startswith("2026-01-0") and found["identifier"][0]["value"] == "A1"
    assert [one["coding"][0]["code"] for one in found["conclusionCode"]] == ["MA.II.A.5.4B", "397140005"]
    assert [one["id"] for one in found["contained"]] == ["o1", "o2", "o3", "o4"]
    assessment, _, composition, probability = found["contained"]
    assert assessment["code"]["coding"][0] == {"system": DCM, "code": "111005", "display": "Assessment Category"}
    assert assessment["bodySite"]["coding"] == [BREAST, RIGHT]
    assert assessment["valueCodeableConcept"]["coding"] == [
        {"code": "MA.II.A.5.4B", "display": "4B - Intermediate suspicion"}
    ]
    assert composition["bodySite"]["coding"] == [BREAST]
    assert composition["valueCodeableConcept"]["coding"][0]["code"] == "129719003"
    assert probability == {
        "code": {"coding": [{"system": DCM, "code": "111047", "display": "Probability of cancer"}]},
        "bodySite": {"coding": [BREAST, RIGHT]},
        "valueQuantity": {"value": 42.17, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        "device": {"display": f"ensemble, weights sha256 {WEIGHTS}"},
        "note": [{"text": "Threshold 30.00 %. Research use only, not a medical device."}],
        "resourceType": "Observation", "id": "o4", "status": "final",
    }  # fmt: skip


def test_a_correction_says_so_and_what_is_not_known_is_left_out() -> None:
    unknown = dict.fromkeys(OF_STUDY, "") | {"StudyInstanceUID": "1.2.3"}
    found = diagnostic_report(replace(CONTENT, supersedes=(3,), study=unknown))
    assert found["status"] == "corrected" and not {"effectiveDateTime", "identifier"} & set(found)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Settings(state_dir=tmp_path / "state"))
    yield opened
    opened.close()


def test_only_a_read_that_the_person_may_see_leaves_the_house_and_it_is_recorded(db: Database) -> None:
    ada, ben = add_person(db, "Ada"), add_person(db, "Ben", "radiologist")
    study_id = of_archive(db, ada)
    with pytest.raises(NotFound, match="no final read"):
        export_diagnostic_report(db, ada, study_id)
    reads.record_first_read(db, ada, study_id, {"R": CALM})
    reads.record_final_read(db, ada, study_id, {"R": CALM})
    with pytest.raises(NotFound, match="no final read"):
        export_diagnostic_report(db, ben, study_id)
    assert json.loads(export_diagnostic_report(db, ada, study_id))["subject"]["identifier"] == {"value": "P1"}
    assert [entry.detail for entry in trail.entries(db, ada, action="export report")] == [{"what": "fhir"}]
    assert trail.entries(db, ada, action="show identity")


def of_archive(db: Database, person: Somebody) -> str:
    archive_id = name_archive(db, person, ArchiveAddress("pacs", "http://127.0.0.1:9/web"))
    who = dict.fromkeys(OF_STUDY, "") | {"PatientID": "P1", "StudyInstanceUID": "1.2.3"}

    def add(connection: Connection, study_id: str) -> None:
        record_identity(
            connection, db.site_key, study_id,
            archive_id=archive_id, exam_hash="e" * 64, identity=SourceIdentity(who, {}),
        )  # fmt: skip

    return studies.create_study(db, person, display_name="x", images=[picture()], also=add)
