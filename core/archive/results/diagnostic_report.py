"""A final read as one FHIR R4 DiagnosticReport (https://hl7.org/fhir/R4/diagnosticreport.html), for download.

Observations are contained in it: the assessment of each breast, the composition, and each model's probability, with the
codes of the structured report. Patient and study are named by what their archive calls them, an uploaded study by its
UIDs alone and without a subject; so to make one is to see what the study is called, and is recorded as that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from core.archive.results.content import ResultContent, gather
from core.archive.results.dicom_object import BREAST, RESEARCH_ONLY, Coded
from core.archive.results.structured_report import (
    ASSESSMENT,
    ASSESSMENTS,
    COMPOSITION,
    COMPOSITIONS,
    PROBABILITY,
    PROCEDURES,
    SIDES,
)
from core.errors import NotFound
from core.records.archives.identity import person_name, show_identity
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.records.reads.reads import reads_of, record_export
from core.types import SIDE_NOT_STATED

_SYSTEMS = {"SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM"}
"""Of the coding schemes (FHIR R4 4.3.0); other codes stand without one."""


def export_diagnostic_report(db: Database, actor: Actor, study_id: str) -> bytes:
    """JSON of the newest final read that the person may see. Raises NotAllowed; NotFound without one, or where nothing
    is known of whose study it is.
    """
    require_permission_now(db, actor, "export_report")
    final = [read.id for read in reads_of(db, actor, study_id) if read.kind == "final"]
    if not final:
        raise NotFound("There is no final read of this study that you may see. Save yours, then export it.")
    show_identity(db, actor, study_id)
    found = diagnostic_report(gather(db, max(final)))
    record_export(db, actor, study_id, what="fhir")
    return json.dumps(found, ensure_ascii=False, indent=2).encode()


def diagnostic_report(content: ResultContent) -> dict[str, Any]:
    """The resource, ready for JSON."""
    study = content.study
    observations = list(_of_reader(content)) + list(_of_models(content))
    for number, one in enumerate(observations, 1):
        one |= {"resourceType": "Observation", "id": f"o{number}", "status": "final"}
    kinds = dict.fromkeys(image.modality for image in content.images if image.modality)
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "status": "corrected" if content.supersedes else "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": {"coding": [_coding(PROCEDURES[kind]) for kind in kinds], "text": "Final read of a breast study"},
        "issued": content.read_at.astimezone().isoformat(timespec="seconds"),
        "resultsInterpreter": [{"display": content.reader}],
        "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study['StudyInstanceUID']}"}}],
        "contained": observations,
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusionCode": [{"coding": [_coding(ASSESSMENTS[category])]} for category in content.birads.values()],
    }
    if study["PatientID"] or study["PatientName"]:
        name = person_name(study["PatientName"])
        report["subject"] = {"identifier": {"value": study["PatientID"]}, "display": name}
    if day := _day(study["StudyDate"]):
        report["effectiveDateTime"] = day
    if study["AccessionNumber"]:
        kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
        report["identifier"] = [{"type": kind, "value": study["AccessionNumber"]}]
    report["conclusion"] = " ".join(part for part in (content.sentence, f"{RESEARCH_ONLY}.") if part)
    return report


def _of_reader(content: ResultContent) -> Iterator[dict[str, Any]]:
    for breast, category in content.birads.items():
        yield _observation(ASSESSMENT, breast) | {"valueCodeableConcept": {"coding": [_coding(ASSESSMENTS[category])]}}
    if content.density is not None:
        value = {"coding": [_coding(COMPOSITIONS[content.density])]}
        yield _observation(COMPOSITION, SIDE_NOT_STATED) | {"valueCodeableConcept": value}


def _of_models(content: ResultContent) -> Iterator[dict[str, Any]]:
    for score in content.breasts:
        value = {
            "value": round(100 * score.malignant, 2),
            "unit": "%",
            "system": "http://unitsofmeasure.org",
            "code": "%",
        }
        said = [*content.remarks_on(score), f"Threshold {100 * score.threshold:.2f} %. {RESEARCH_ONLY}."]
        device = {"display": f"{score.model_id}, weights sha256 {score.weights_sha256}"}
        yield _observation(PROBABILITY, score.breast) | {
            "valueQuantity": value, "device": device, "note": [{"text": one} for one in said],
        }  # fmt: skip


def _observation(name: Coded, breast: str) -> dict[str, Any]:
    side = SIDES.get(breast)
    site = [_coding(BREAST), *([_coding(side)] if side else [])]
    return {"code": {"coding": [_coding(name)]}, "bodySite": {"coding": site}}


def _coding(coded: Coded) -> dict[str, str]:
    value, scheme, meaning = coded
    system = {"system": _SYSTEMS[scheme]} if scheme in _SYSTEMS else {}
    return system | {"code": value, "display": meaning}


def _day(text: str) -> str:
    """A DICOM date as FHIR writes it; "" for what is none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""
