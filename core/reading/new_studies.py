"""From uploaded files to studies: whose picture belongs into whose study, what has to be asked first, and the saving.

Tags come first: pictures of one exam (StudyInstanceUID) and one patient (PatientID) are one study. Files without them
are grouped by folder, by dates in folders and names, and by what their names have in common. That is only a proposal:
what tags do not prove is asked, what they contradict is refused, and no study is stored before both are settled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from core.errors import InvalidInput
from core.imaging.intake import Intake
from core.imaging.picture import on_one_scale
from core.records.archives.identity import record_uploaded
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.records.reads.studies import create_study, tidy_name
from core.types import LATERALITIES, SIDE_NOT_STATED, Image, Modality

_PLACE = re.compile(r"(?<![A-Za-z])(left|right|l|r)?[ _.\-]?(cc|mlo)?(?![A-Za-z])", re.IGNORECASE)
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_. ]?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])(?!\d)")
_WORD = re.compile(r"[^\W_]+")
_PLACE_WORD = re.compile(r"(l|r|left|right|links|rechts)?(cc|mlo|ml|lm|xccl|xccm)?")
_OF_NOBODY = re.compile(
    r"mg|us|mammo|mammograms?|mammography|ultrasound|histology|breast|images?|img|im|pictures?|pic|views?|dicom|dcm|png|"
    r"jpe?g|tiff?|webp|scans?|files?|slice|frame|series|raw"
)
"""Words of folders and file names that tell no patient from another."""


@dataclass(frozen=True, slots=True)
class NewPicture:
    """One picture that was read, with what the reader adds. laterality: "R", "L", `SIDE_NOT_STATED` where the reader
    says that it cannot be told, or None as long as nobody said; the file's own words win. is_kind_stated: the reader
    chose the kind of picture.
    """

    found: Intake
    laterality: str | None = None
    view: str | None = None
    is_kind_stated: bool = False

    @property
    def image(self) -> Image:
        """The picture with what the reader added. Raises InvalidInput for a refused file."""
        image = self.found.image
        if image is None:
            raise InvalidInput("A refused file has no picture.")
        side = self.laterality if self.laterality in LATERALITIES else None
        source = "reader" if self.is_kind_stated and image.modality_source == "argument" else image.modality_source
        return replace(image, modality_source=source, laterality=image.laterality or side, view=image.view or self.view)

    @property
    def missing(self) -> str:
        """What keeps the picture from being stored, as a sentence; "" when nothing does."""
        image = self.image
        if image.modality is None:
            return f"Choose the kind of picture of {self.found.name}: no model reads it otherwise."
        is_sided = image.modality in (Modality.MAMMOGRAPHY, Modality.ULTRASOUND)
        if is_sided and image.laterality is None and self.laterality != SIDE_NOT_STATED:
            return (
                f"Choose the side of {self.found.name}, or that it cannot be told: breasts are assessed by their side."
            )
        return ""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What stands between pictures and one study. refusal: why they can never be one; "" when they can.

    questions: what no tag proves, to be confirmed by a person before anything is stored.
    """

    refusal: str = ""
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewStudy:
    """Pictures that are to become one study. is_confirmed: a person confirmed what `doubts` asked of these pictures."""

    display_name: str
    pictures: tuple[NewPicture, ...]
    is_confirmed: bool = False


def propose(intakes: Sequence[Intake]) -> list[tuple[int, ...]]:
    """Which pictures are one study: positions in `intakes`, each picture in one study, refused files in none."""
    patients: dict[str, set[str]] = {}
    for intake in intakes:
        if intake.image and intake.image.exam_hash and intake.image.patient_hash:
            patients.setdefault(intake.image.exam_hash, set()).add(intake.image.patient_hash)
    groups: dict[Hashable, list[int]] = {}
    untold: dict[Hashable, list[int]] = {}
    for position, intake in enumerate(intakes):
        image = intake.image
        if image is None:
            continue
        if image.exam_hash:
            is_shared = len(patients.get(image.exam_hash, ())) > 1
            key: Hashable = ("exam", image.exam_hash, image.patient_hash if is_shared else None)
            groups.setdefault(key, []).append(position)
        elif image.patient_hash:
            groups.setdefault(("patient", image.patient_hash, image.taken_on), []).append(position)
        else:
            folder, day = folder_of(intake.name)
            untold.setdefault((folder, day or image.taken_on), []).append(position)
    by_name = (part for members in untold.values() for part in _by_names(intakes, members))
    return sorted([*(tuple(members) for members in groups.values()), *by_name])


def doubts(intakes: Sequence[Intake]) -> Doubts:
    """Whether these pictures can be one study of one patient, and what has to be asked before they are."""
    found = [(intake.name, intake.image) for intake in intakes if intake.image is not None]
    images = [image for _, image in found]
    n_patients = len({image.patient_hash for image in images if image.patient_hash})
    n_exams = len({image.exam_hash for image in images if image.exam_hash})
    days = sorted({image.taken_on for image in images if image.taken_on})
    if n_patients > 1:
        return Doubts(f"These pictures belong to {n_patients} patients by their tags. Make one study for each patient.")
    if len(days) > 1 and n_exams != 1:
        return Doubts(
            f"These pictures were taken on {len(days)} days. Make one study of each day; the earlier is then offered "
            "beside the later one."
        )
    questions = []
    n_untold = sum(not image.patient_hash and not image.exam_hash for image in images)
    places = {folder_of(name) for name, _ in found}
    if len(images) > 1 and n_untold == len(images):
        questions.append("Nothing in these files says whose pictures they are.")
    elif n_untold and len(images) > 1:
        questions.append(f"{n_untold} of the {len(images)} files do not say whose pictures they are.")
    elif _n_unconnected(images) > 1:
        questions.append("These files are of several exams, and nothing in them says that they show one patient.")
    elif n_exams > 1:
        questions.append(f"These files are of {n_exams} exams of one patient.")
    if len(days) > 1:
        questions.append("These files name one exam, but several days.")
    if len(places) > 1 and len(images) > 1 and not n_patients:
        questions.append("They lie in different folders, or are named with different dates.")
    return Doubts(questions=tuple(questions))


def save(db: Database, actor: Actor, new: Sequence[NewStudy]) -> Iterator[str]:
    """Store study after study; the id of each once it is stored. Everything is checked before the first one is.

    Raises NotAllowed; InvalidInput for a study without a name, pictures that cannot be one study, a question that
    nobody has answered, or a picture whose kind or side is missing. What was stored before an error stays stored.
    """
    for study in new:
        require_settled(study)
    _require_apart(new)
    for study in new:
        intakes = [picture.found for picture in study.pictures]
        yield create_study(
            db, actor,
            display_name=study.display_name,
            images=on_one_scale([picture.image for picture in study.pictures]),
            confirmed=doubts(intakes).questions,
            also=partial(record_uploaded, db.site_key, {one.sha256: one.source for one in intakes if one.source}),
        )  # fmt: skip


def require_settled(study: NewStudy) -> None:
    """Raises InvalidInput with what still keeps these pictures from being stored as one study."""
    tidy_name(study.display_name)
    if not study.pictures:
        raise InvalidInput("A study needs at least one image.")
    found = doubts([picture.found for picture in study.pictures])
    if found.refusal:
        raise InvalidInput(found.refusal)
    if found.questions and not study.is_confirmed:
        raise InvalidInput(f"{' '.join(found.questions)} Confirm that they show one patient in one exam.")
    for picture in study.pictures:
        if picture.missing:
            raise InvalidInput(picture.missing)
    _require_said_once(study)


def _require_said_once(study: NewStudy) -> None:
    """Raises InvalidInput where a file was chosen twice and called two things: it is kept once, so as one of them."""
    first: dict[tuple[str, int], NewPicture] = {}
    for picture in study.pictures:
        known = first.setdefault((picture.image.sha256, picture.image.frame), picture)
        differs = {
            "side": (known.image.laterality, picture.image.laterality),
            "view": (known.image.view, picture.image.view),
            "kind": (known.image.modality, picture.image.modality),
        }
        for what, (before, now) in differs.items():
            if before != now:
                raise InvalidInput(
                    f"{picture.found.name} is the same picture as {known.found.name}, given another {what}. It is kept "
                    f"once: give both the same {what}, or remove one of the files where you chose them."
                )


def _require_apart(new: Sequence[NewStudy]) -> None:
    """Raises InvalidInput where one picture would be in two studies: then it is not known whose it is."""
    owner: dict[tuple[str, int], tuple[int, str]] = {}
    for number, study in enumerate(new):
        for picture in study.pictures:
            image = picture.image
            first, name = owner.setdefault((image.sha256, image.frame), (number, picture.found.name))
            if first != number:
                raise InvalidInput(
                    f"{name} and {picture.found.name} are the same picture, in two studies. Whose it is must be known: "
                    "move both into one study, or remove the files where you chose them."
                )


def folder_of(name: str) -> tuple[str, str]:
    """(folder, day) of a name like "exams.zip/P01/2021-05-03/left/cc.png": the folder without what only names a side,
    a view or a kind of file, in lower case; the day as eight digits, from the file's name or the deepest folder, else
    ""."""
    *folders, last = re.split(r"[/\\]", name)
    day = next((f"{y}{m}{d}" for part in (last, *reversed(folders)) for y, m, d in _DAY.findall(part)), "")
    while folders and not _identifying(folders[-1]):
        folders.pop()
    return "/".join(folders).casefold(), day


def hinted(name: str) -> tuple[str | None, str | None]:
    """(laterality, view) from the last part of a name like "exam/L_CC.png", "RMLO.dcm" or "left-mlo 2.png".

    Only ever a suggestion; none where a name says two different sides or views.
    """
    stem = re.split(r"[/\\]", name)[-1].rsplit(".", 1)[0]
    sides, views = set(), set()
    for side, view in _PLACE.findall(stem):
        if side:
            sides.add(side[0].upper())
        if view:
            views.add(view.upper())
    return (sides.pop() if len(sides) == 1 else None), (views.pop() if len(views) == 1 else None)


def _by_names(intakes: Sequence[Intake], members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Files of one folder, apart where their names speak of several patients: each name has several files, or the same
    view of the same side is there for more than one of them."""
    stems: dict[str, list[int]] = {}
    for position in members:
        stems.setdefault(_identifying(re.split(r"[/\\]", intakes[position].name)[-1].rsplit(".", 1)[0]), []).append(
            position
        )
    views = [{hinted(intakes[position].name) for position in of_one} for of_one in stems.values()]
    repeated = Counter(place for places in views for place in places if None not in place)
    is_several = all(len(of_one) > 1 for of_one in stems.values()) or max(repeated.values(), default=0) > 1
    if len(stems) > 1 and is_several:
        yield from (tuple(of_one) for of_one in stems.values())
    else:
        yield tuple(members)


def _identifying(part: str) -> str:
    """What of a folder's or file's name may tell one patient from another, in lower case."""
    words = (word.casefold() for word in _WORD.findall(_DAY.sub(" ", part)))
    return " ".join(word for word in words if not _OF_NOBODY.fullmatch(word) and not _PLACE_WORD.fullmatch(word))


def _n_unconnected(images: Iterable[Image]) -> int:
    """How many sets of pictures there are that share neither patient nor exam with one another."""
    sets: list[set[str]] = []
    for image in images:
        own = {mark for mark in (image.patient_hash, image.exam_hash) if mark}
        touched = [others for others in sets if others & own]
        sets = [others for others in sets if not others & own]
        sets.append(own.union(*touched))
    return len(sets)
