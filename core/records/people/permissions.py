"""Which role may do what: one table that pages, action functions and `docs/security.md` read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.errors import NotAllowed

ROLES = ("radiologist", "researcher", "administrator")

_RADIOLOGIST = ("radiologist",)
_READERS = ("radiologist", "administrator")
_RESEARCH = ("researcher", "administrator")
_ADMINISTRATOR = ("administrator",)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in. roles: a subset of `ROLES`; any iterable is accepted and kept as a frozenset."""

    id: int
    name: str
    roles: frozenset[str]

    def __init__(self, id: int, name: str, roles: Iterable[str]) -> None:
        held = frozenset(roles)
        if held - set(ROLES):
            raise ValueError(f"roles can be {ROLES}, not {sorted(held - set(ROLES))}")
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "roles", held)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing somebody may want to do. sentence: what it means, as it is printed in `docs/security.md`."""

    name: str
    roles: tuple[str, ...]
    sentence: str


ACTION_TABLE = (
    Action("see_worklist", _READERS, "See the list of studies and open one of them, without anything of the AI."),
    Action("create_study", _RADIOLOGIST, "Upload images and make a study of them."),
    Action("correct_image", _RADIOLOGIST, "Correct side, view or kind of an image until the first read is saved."),
    Action("record_first_read", _RADIOLOGIST, "Save the first impression of a study, before the AI is shown."),
    Action("reveal_ai", _RADIOLOGIST, "Have the AI's answer shown, once the own first impression is saved."),
    Action("see_ai", _RADIOLOGIST, "See predictions and heat maps of a study once they are revealed."),
    Action("record_final_read", _RADIOLOGIST, "Save the final assessment of a study, or an amendment to it."),
    Action("see_reads", _READERS, "See what was read, never another's read before the own first impression."),
    Action("record_truth", _READERS, "Enter what became of a study: pathology, date and source."),
    Action("see_truth", _READERS, "See what became of a study, once its final read is saved."),
    Action("export_report", _RADIOLOGIST, "Download the report of a study as HTML or PDF."),
    Action("delete_study", _READERS, "Delete a wrong upload that has no final read."),
    Action("see_models", ROLES, "Read the model cards."),
    Action("compare_models", _RESEARCH, "Compare models on held-back test cases."),
    Action("see_cases", _RESEARCH, "Look at the single test cases behind a comparison."),
    Action("check_leaks", _RESEARCH, "See what the audit finds in a data set, beside the numbers measured on it."),
    Action("see_reader_scores", _RESEARCH, "Compare readers' first impressions, numbered, once their truth is known."),
    Action("manage_data", _ADMINISTRATOR, "Add, split and remove data sets for training."),
    Action("manage_training", _ADMINISTRATOR, "Start, watch and cancel training jobs."),
    Action("manage_releases", _ADMINISTRATOR, "Decide which weights of a model are live."),
    Action("manage_people", _ADMINISTRATOR, "Add people, change their roles, disable them, reset their passwords."),
    Action("manage_settings", _ADMINISTRATOR, "Change what a site may choose."),
    Action("see_drift", _ADMINISTRATOR, "See whether pictures and answers drift from what they were."),
    Action("see_audit", _ADMINISTRATOR, "Read the audit trail and verify its chain."),
)

ACTIONS: Mapping[str, frozenset[str]] = {action.name: frozenset(action.roles) for action in ACTION_TABLE}
_SENTENCES: Mapping[str, str] = {action.name: action.sentence for action in ACTION_TABLE}


def allowed(person: Person, action: str) -> bool:
    """Whether one of the person's roles may do this. An action that is not in the table is a bug: KeyError."""
    return bool(ACTIONS[action] & person.roles)


def require_permission(person: Person, action: str) -> None:
    """Raises NotAllowed, with a sentence that names the roles, unless the person may do this."""
    if allowed(person, action):
        return
    roles = [role for role in ROLES if role in ACTIONS[action]]
    what = _SENTENCES[action].rstrip(".")
    what = what[0].lower() + what[1:]
    raise NotAllowed(
        f"Your account may not do this ({what}). It needs the role {' or '.join(roles)}; ask an administrator."
    )
