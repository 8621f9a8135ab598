"""What a study's leading models propose as findings, from answers that the reader may see."""

from __future__ import annotations

from collections.abc import Sequence

from core.findings.marks import Mark
from core.findings.proposals import Proposal, measured_levels, peaks_of
from core.imaging.preprocess import heat_map
from core.reading.second_read import Answer, leads_of
from core.records.reads.studies import StoredStudy
from core.settings import Settings


def proposals_of(site: Settings, study: StoredStudy, answers: Sequence[Answer]) -> tuple[Proposal, ...]:
    """The peaks of each lead's heat map on the images that it calls, in the order of the images.

    answers: as `second_read.answers_of` gives them, so only of what the reader may see; without them there are none,
    and none of a model whose level was not measured. Always the same for the same answers.
    """
    leads = leads_of(site, study, answers)
    found = []
    for stored in study.images:
        for image_id, prediction, explanation in answers:
            level = measured_levels().get(prediction.weights_sha256)
            is_lead = prediction.model_id == leads.get(stored.image.modality)
            if image_id != stored.id or not is_lead or level is None or not prediction.is_above_threshold:
                continue
            if stored.pixels_removed_at:
                continue
            heat = heat_map(explanation, "fused", explanation.positive_index)
            for peak in peaks_of(heat, level.level):
                mark = Mark(stored.image.sha256, stored.image.frame, "point", ((peak.column, peak.row),))
                found.append(Proposal(mark, prediction.model_id, prediction.weights_sha256, peak.strength, level.level))
    return tuple(found)
