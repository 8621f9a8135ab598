"""`python -m core read`: a second read of one study without a browser, as JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.errors import Conflict, InvalidInput, ModelUnavailable, NotFound
from core.files import write_whole
from core.findings.sentence import findings_sentence
from core.findings.ultrasound_descriptors import MEASURED_ONLY, Descriptor
from core.imaging.intake import Intake, read_study
from core.imaging.overlay import write_outline
from core.models.aggregate import counts_for_breast
from core.models.cards import (
    Card,
    leaks_of,
    live_card,
    live_cards,
    remarks_of,
    weak_texts,
    withheld_cards,
    withheld_text,
)
from core.models.lead import lead_of
from core.models.outline_card import live_outline_card
from core.models.training_distance import UNLIKE_TEXT
from core.reading.outlines import is_outlined, outlined_lesions
from core.reading.second_read import cards_for, no_opinions, read_image
from core.serving.client import answering
from core.serving.desk import Urgency
from core.serving.loops import FOLDER, last_sentence, once
from core.settings import MIB, Settings
from core.types import Explanation, Image, Modality, Prediction

log = logging.getLogger(__name__)
ASKED_AT_ONCE = 64
"""Of pairs of an image and a model: every live model of a modality a forward pass's worth. They wait, mostly."""
Answered = tuple[Card, Prediction, Explanation]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM, PNG, JPEG, TIFF, a zip or a folder")
    parser.add_argument(
        "--model", action="append", default=[], metavar="ID", help="default: every live model that fits"
    )
    parser.add_argument("--modality", type=Modality, choices=list(Modality), help="where the files do not say it")
    parser.add_argument("--frame", type=int, default=0, help="of a multi-frame file, from 0")
    parser.add_argument("--cluster", action="store_true", help="on a node of SECONDREAD_RAY_ADDRESS")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write heat maps there")


def run(args: argparse.Namespace) -> int:
    """Print `{"images": [...], "withheld": [...], "computed_by": …}`; 0 if any image was read, 2 if all were refused.

    withheld: the models that do not answer because they may be no better than chance; an image whose kind has no other
    says so under `no_opinion`. lead: the model whose number is to be read first (lead_note: why it is not the one that
    the site named); weak: whether a prediction is not to be leaned on, for which `remarks` give the reason. outlines:
    of an ultrasound image, what the outline network proposes and what was measured within; outlines_note: why there
    are none.
    """
    settings = Settings.from_environment()
    absent = [path for path in args.paths if not path.exists()]
    if absent:
        raise NotFound(
            f"{len(absent)} of the given paths do not exist; the first is path {args.paths.index(absent[0]) + 1}."
        )
    if args.frame < 0:
        raise InvalidInput("--frame counts from 0.")
    if args.cluster:
        return _on_cluster(args, settings)
    named = [live_card(settings, model_id) for model_id in args.model]
    with answering(settings) as by, _Asking(named or live_cards(settings)) as asking:
        intakes = read_study(
            args.paths, settings=settings, modality=args.modality, frame=args.frame, decoded=asking.decoded
        )
        without = {} if named else no_opinions(settings, [intake.image for intake in intakes if intake.image])
        answers = [asking.answers(number, intake.image) for number, intake in enumerate(intakes)]
        entries = [
            {
                **_entry(intake, answers[number], settings, args.out),
                **_findings(intake.image, settings, args.out),
                "no_opinion": without.get(intake.image.modality) if intake.image and intake.image.modality else None,
            }
            for number, intake in enumerate(intakes)
        ]
    withheld = [{"model_id": card.model_id, "why": withheld_text(card)} for card in withheld_cards(settings)]
    json.dump({"images": entries, "withheld": withheld, "computed_by": by}, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0 if any(entry["refused"] is None for entry in entries) else 2


def _on_cluster(args: argparse.Namespace, settings: Settings) -> int:
    """The same command on a node, to which the files are sent; what it prints and writes comes back."""
    files: dict[str, bytes] = {}
    arguments = ["-m", "core", "read", "--frame", str(args.frame)]
    for number, path in enumerate(args.paths):
        name = f"{number}/{path.resolve().name}"
        inner = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        files |= {f"{name}/{one.relative_to(path)}" if one != path else name: one.read_bytes() for one in inner}
        arguments.append(f"{FOLDER}/in/{name}")
    for model_id in args.model:
        arguments += ["--model", model_id]
    arguments += ["--modality", args.modality.value] if args.modality else []
    arguments += ["--out", f"{FOLDER}/out"] if args.out is not None else []
    limit = settings.study_mib * MIB
    if sum(map(len, files.values())) > limit:
        raise InvalidInput(f"These files have more than {settings.study_mib} MiB together. Read them in parts.")
    ran = once(settings, arguments, files)
    if ran.status not in (0, 2):
        raise Conflict(f"Node {ran.node} says: {last_sentence(ran.errors)}")
    said = json.loads(ran.output)
    said["computed_by"] = f"node {ran.node} of the cluster"
    text = json.dumps(said, indent=1)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, content in ran.files.items():
            write_whole(args.out / name, content)
        text = text.replace(f"{ran.folder}/out", str(args.out))
    sys.stdout.write(text + "\n")
    return ran.status


class _Asking:
    """Asks the models about each image as soon as it is decoded: decoding and computing overlap.

    Images for one model go together as they wait (`core.serving.desk`). A context manager: at its end nobody waits.
    """

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = cards
        self._pool = ThreadPoolExecutor(ASKED_AT_ONCE)
        self._asked: dict[int, list[tuple[Card, Future[tuple[Prediction, Explanation]]]]] = {}

    def __enter__(self) -> _Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def decoded(self, number: int, intake: Intake) -> None:
        """As `read_study` calls it. What may still change its scale is asked about once the whole study is there."""
        if intake.image is not None and intake.image.guessed_bits is None:
            self._ask(number, intake.image)

    def answers(self, number: int, image: Image | None) -> list[Answered]:
        """What each model that reads such an image said, in the order of the cards. Raises as `read_image`."""
        if image is None:
            return []
        return [(card, *answer.result()) for card, answer in self._ask(number, image)]

    def _ask(self, number: int, image: Image) -> list[tuple[Card, Future[tuple[Prediction, Explanation]]]]:
        if number not in self._asked:
            self._asked[number] = [
                (card, self._pool.submit(read_image, card, image, urgency=Urgency.BACKGROUND))
                for card in cards_for(image, self._cards)
            ]
        return self._asked[number]


def _entry(intake: Intake, answers: Sequence[Answered], settings: Settings, out: Path | None) -> dict[str, Any]:
    image = intake.image
    entry: dict[str, Any] = {
        "file": intake.name,
        "sha256": intake.sha256,
        "modality": image.modality.value if image and image.modality else None,
        "modality_source": image.modality_source if image else None,
        "laterality": image.laterality if image else None,
        "view": image.view if image else None,
        "view_modifiers": list(image.view_modifiers) if image else [],
        "not_scored": (image.unread or None) if image else None,
        "counts_for_breast": counts_for_breast(image) if image else False,
        "refused": intake.refused,
        "warnings": list(image.warnings) if image else [],
        "lead": None,
        "lead_note": None,
        "predictions": [],
    }
    if image is not None and image.modality is not None:
        lead = lead_of(settings, image.modality, {card.model_id for card, _, _ in answers})
        entry |= {"lead": lead.model_id, "lead_note": lead.note or None} if lead else {}
    if out is not None:
        entry["heatmaps"] = []
    for card, said, explanation in answers:
        assert image is not None
        prediction, files = _fields(image, card, said, explanation, out)
        unlike = [UNLIKE_TEXT] if prediction["unlike_training"] else []
        remarks = [*unlike, *remarks_of(settings, card)]
        weak = bool(weak_texts(settings, card))
        entry["predictions"].append({**prediction, "remarks": remarks, "weak": weak})
        entry.get("heatmaps", []).extend(files)
    return entry


def _findings(image: Image | None, settings: Settings, out: Path | None) -> dict[str, Any]:
    """Keys of an ultrasound image alone: its outlines, the surest first, each with its descriptors."""
    if image is None or not is_outlined(image):
        return {}
    try:
        card = live_outline_card(settings)
        if card is None:
            return {"outlines": [], "outlines_note": "This site has no outline network."}
        found = outlined_lesions(card, image)
    except ModelUnavailable as refused:
        return {"outlines": [], "outlines_note": str(refused)}
    outlines = [
        {
            "model_id": card.model_id,
            "weights_sha256": card.weights.sha256,
            "box": list(lesion.outline.box),
            "share_of_picture": round(float(lesion.outline.mask.mean()), 6),
            "peak": round(lesion.outline.peak, 4),
            "file": str(write_outline(image, number, lesion.outline.mask, out)) if out is not None else None,
            "descriptors": [_descriptor(one) for one in lesion.descriptors],
            "sentence": findings_sentence(lesion.descriptors),
        }
        for number, lesion in enumerate(found, start=1)
    ]
    return {"outlines": outlines, "outlines_note": None if outlines else "No lesion is outlined."}


def _descriptor(one: Descriptor) -> dict[str, Any]:
    return {
        "name": one.name,
        "word": one.word or None,
        "values": {name: round(value, 4) for name, value in one.values.items()},
        "certainty": one.certainty,
        "refused": one.refused or None,
        "measured_only": one.name in MEASURED_ONLY,
    }


def _fields(
    image: Image, card: Card, prediction: Prediction, explanation: Explanation, out: Path | None
) -> tuple[dict[str, Any], list[str]]:
    fields = {
        "model_id": prediction.model_id,
        "weights_sha256": prediction.weights_sha256,
        "classes": list(prediction.classes),
        "probabilities": list(prediction.probabilities),
        "malignant": prediction.malignant,
        "interval": list(prediction.interval),
        "threshold": prediction.threshold,
        "training_distance": prediction.training_distance,
        "unlike_training": prediction.is_unlike_training,
        "leaks": list(leaks_of(card)),
        "seconds": round(prediction.seconds, 4),
    }
    if out is None:
        return fields, []
    from core.imaging.overlay import write_heat_maps

    return fields, [str(path) for path in write_heat_maps(image, prediction.model_id, explanation, out)]
