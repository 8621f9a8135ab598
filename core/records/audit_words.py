"""The words of the audit trail: every action that can be recorded, by the kind of act that a page can ask for.

`core.records.audit.record` refuses any other word, so that nothing is kept that the page Audit cannot name and filter.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, tuple[str, ...]] = {
    "Sign-ins": ("sign in", "sign out"),
    "Failed attempts": ("sign-in refused", "lock person", "link refused", "set-up refused"),
    "Uploads and studies": ("create study", "open study", "correct image", "delete study", "remove pixels"),
    "First reads": ("first read",),
    "Reveals": ("reveal",),
    "Final reads": ("final read",),
    "Truth": ("enter truth",),
    "Exports": ("export report", "export comparison", "export audit"),
    "Data sets": (
        "start import", "cancel import", "import done", "import failed", "import cancelled", "import dead",
        "add data set", "add data set version", "remove data set",
    ),
    "Training": (
        "start training", "cancel training", "training done", "training failed", "training cancelled", "training dead",
    ),
    "Releases": ("promote model", "roll back model", "retire model", "shadow model", "end shadow model"),
    "People": (
        "set up", "create person", "invite person", "create by single sign-on", "set password by link", "set roles",
        "roles by single sign-on", "change password", "reset password", "reset by link", "sign out person",
        "disable person", "enable person",
    ),
    "Settings": ("change setting", "change threshold"),
    "Backups": ("backup", "restore"),
}  # fmt: skip
"""Kind of act -> its actions, as they stand in the rows."""

WORDS = frozenset(word for words in KINDS.values() for word in words)
"""Every action; each belongs to one kind."""
