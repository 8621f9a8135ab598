"""A final read as a page to look at: an Encapsulated PDF (PS3.3 A.45.1), for workplaces that show no structured report.

It says what the structured report says of assessments, composition and probabilities, in words, with the patient on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.archive.results.content import ResultContent
from core.archive.results.dicom_object import (
    MANUFACTURER,
    RESEARCH_ONLY,
    UNVERIFIED,
    as_file,
    dataset_of,
    predecessor_documents,
    read_kind_text,
    reference,
)
from core.findings.finding import description_of
from core.records.archives.identity import person_name
from core.reports import content as words
from core.reports.document import RESEARCH_USE, Banner, Block, Document, Facts, Heading, Table, Text
from core.reports.pdf import build_pdf
from core.version import version

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def encapsulated_report(content: ResultContent, *, series_uid: str, uid: str) -> Dataset:
    """The object (Encapsulated PDF Storage, explicit VR little endian), with its file meta information."""
    pdf = build_pdf(Document(read_kind_text(content), list(_blocks(content))))
    at = content.read_at.astimezone()
    day, moment = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    values: dict[str, Any] = {
        "SOPClassUID": ENCAPSULATED_PDF, "SOPInstanceUID": uid, "SeriesInstanceUID": series_uid, "SeriesNumber": 9002,
        "InstanceNumber": 1, "Modality": "DOC", "SeriesDescription": f"{MANUFACTURER} {read_kind_text(content)}",
        "SeriesDate": day,
        "SeriesTime": moment, "ContentDate": day, "ContentTime": moment, "InstanceCreationDate": day,
        "InstanceCreationTime": moment, "AcquisitionDateTime": "", "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MANUFACTURER, "SoftwareVersions": version(), "ConversionType": "WSD",
        "BurnedInAnnotation": "YES",
        "DocumentTitle": f"{MANUFACTURER} {read_kind_text(content)}. {RESEARCH_ONLY}"[:1024],
        "ConceptNameCodeSequence": [], "VerificationFlag": "VERIFIED" if content.is_verified else "UNVERIFIED",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "SourceInstanceSequence": _sources(content),
        "EncapsulatedDocumentLength": len(pdf), "EncapsulatedDocument": pdf + b"\0" * (len(pdf) % 2),
    }  # fmt: skip
    study = {keyword: value for keyword, value in content.study.items() if value or keyword != "IssuerOfPatientID"}
    found = dataset_of(SpecificCharacterSet="ISO_IR 192", **{**study, **values})
    if content.predecessors:
        found.PredecessorDocumentsSequence = predecessor_documents(content, ENCAPSULATED_PDF)
    return as_file(found, ENCAPSULATED_PDF, uid)


def _sources(content: ResultContent) -> list[Dataset]:
    classes = {image.tags["SOPInstanceUID"]: image.tags["SOPClassUID"] for image in content.images}
    return [reference(sop_class, uid) for uid, sop_class in classes.items()]


def _blocks(content: ResultContent) -> Iterator[Block]:
    study = content.study
    yield Heading("Final read" if content.is_verified else "Preliminary read", level=1)
    yield Banner(RESEARCH_USE)
    if not content.is_verified:
        yield Text(f"{UNVERIFIED}: a first impression. The final read replaces it.", "alarm")
    yield Facts(
        [
            ("Patient", person_name(study["PatientName"]) or "not stated"),
            ("Patient ID", study["PatientID"] or "not stated"),
            ("Born", study["PatientBirthDate"] or "not stated"),
            ("Accession number", study["AccessionNumber"] or "not stated"),
            ("Study of", study["StudyDate"] or "not stated"),
            ("Verified by" if content.is_verified else "Read by", f"{content.reader}, {words.when(content.read_at)}"),
        ]
    )
    if content.supersedes:
        yield Text("This read replaces an earlier final read of the study.", "alarm")
    yield Heading("Assessment")
    rows = [
        (words.breast_name(breast), f"BI-RADS {category}", words.BIRADS_RECOMMENDATION[category])
        for breast, category in content.birads.items()
    ]
    yield Table([("Breast", "Assessment", "Recommendation"), *rows], [0.2, 0.3, 0.5])
    if content.density:
        yield Text(f"Breast composition: {content.density}, {words.DENSITY_MEANING[content.density]}.")
    if content.sentence:
        yield Text(content.sentence, "comment")
    if content.findings:
        yield Heading("Findings")
        found = [(words.breast_name(one.breast), description_of(one)) for one in content.findings]
        yield Table([("Breast", "Finding"), *found], [0.2, 0.8])
    if content.breasts:
        yield Heading("Second read", mark=words.AI_GENERATED)
        names = words.names_of_breasts(content.breasts)
        scores = [
            (names[one.breast, one.modality], one.model_id, words.percent(one.malignant),
             words.percent(one.threshold), one.weights_sha256[:8])
            for one in content.breasts
        ]  # fmt: skip
        head = ("Breast", "Model", "Probability of malignancy", "Threshold", "Weights")
        yield Table([head, *scores], [0.15, 0.35, 0.2, 0.15, 0.15])
        said = (f"{one.model_id}: {remark}" for one in content.breasts for remark in content.remarks_on(one))
        yield from (Text(remark, "alarm") for remark in dict.fromkeys(said))
