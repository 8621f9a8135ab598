"""A made-up site to attack, who attacks it, and the table of who may what, taken from the product's own."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from record_site import CALM, Somebody, add_person, picture

from core.records.database.db import Database, open_database
from core.records.people import accounts, invitations, sessions
from core.records.people.permissions import ACTIONS, LocalTerminal
from core.records.reads import reads, studies
from core.settings import REPOSITORY, Settings

PASSWORD = "a long enough password for the attack"
CHIEF = "Chief Kestrel"
SECRETS: Mapping[str, str] = {
    "Case Bittern": "see_worklist",
    "Case Dunnock": "see_worklist",
    "Chief Kestrel": "manage_people",
    "Gone Wryneck": "manage_people",
}
"""A word that the site holds -> the action without which no answer may hold it. One's own name is shown to oneself."""
ROLES: Mapping[str, tuple[str, ...]] = {
    "nobody": (),
    "reader": ("radiologist",),
    "other reader": ("radiologist",),
    "researcher": ("researcher",),
    "administrator": ("administrator",),
    "demoted": ("researcher",),
    "disabled": (),
    "session ended": (),
}
"""Who attacks, and the roles that count for them at this moment."""


@dataclass
class Figures:
    """requests: by door and role. wrong: answers that the table does not allow, one a sentence. defences: what each
    did, in numbers."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    defences: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def asked(self, door: str, role: str, n: int = 1) -> None:
        self.requests[door, role] += n

    def held(self, defence: str, is_held: bool, else_: str = "") -> None:
        """One try at a defence: counted where it held, wrong where it did not."""
        if is_held:
            self.defences[defence] += 1
        else:
            self.wrong.append(f"{defence}: {else_}"[:1200])

    def text(self) -> str:
        doors = sorted({door for door, _ in self.requests})
        roles = [role for role in ROLES if any(asking == role for _, asking in self.requests)]
        lines = [*self.wrong, "requests".ljust(26) + "".join(f"{role[:13]:>14}" for role in roles) + f"{'all':>8}"]
        for door in doors:
            n = [self.requests[door, role] for role in roles]
            lines.append(f"  {door:<24}" + "".join(f"{one:>14}" for one in n) + f"{sum(n):>8}")
        lines.append("what the defences did")
        lines += [f"  {name:<58}{n:>6}" for name, n in sorted(self.defences.items())]
        lines += [f"requests in all  {sum(self.requests.values()):>7}", f"wrong answers    {len(self.wrong):>7}"]
        return "\n".join(lines)


class Site:
    """A site in `folder`, in the database of `url` ("" for SQLite), with one person for each of `ROLES`.

    tokens: of their sessions as they were when each was still somebody; "" for nobody.
    """

    def __init__(self, folder: Path, *, database_url: str = "") -> None:
        (folder / "weights").mkdir(parents=True)
        self.folder, self.weights = folder, folder / "weights"
        self.settings = Settings(state_dir=folder / "state", weights_dir=self.weights, database_url=database_url)
        self.db: Database = open_database(self.settings)
        code = accounts.setup_code(self.db) or ""
        chief = accounts.create_first_administrator(self.db, code=code, name=CHIEF, password=PASSWORD)
        self.people: dict[str, Somebody] = {}
        self.tokens = {"nobody": ""}
        for role in list(ROLES)[1:]:
            name = {"disabled": "Gone Wryneck"}.get(role, f"Some {role}")
            roles = ROLES[role] or ("radiologist", "administrator")
            roles = ("administrator", "radiologist") if role == "demoted" else roles
            self.people[role] = add_person(self.db, name, *roles)
            self.tokens[role] = self.new_token(role)
        self.terminal = LocalTerminal(chief.id)
        self.studies = [self._study("reader", "Case Bittern", 1), self._study("other reader", "Case Dunnock", 2)]
        reads.record_first_read(self.db, self.people["other reader"], self.studies[1], {"R": CALM})
        _, self.link = invitations.invite_person(self.db, self.terminal, name="Ben Linnet", roles=["radiologist"])
        accounts.set_roles(self.db, self.terminal, self.people["demoted"].id, list(ROLES["demoted"]))
        accounts.disable_person(self.db, self.terminal, self.people["disabled"].id)
        accounts.sign_out_everywhere(self.db, self.terminal, self.people["session ended"].id)

    def new_token(self, role: str) -> str:
        return sessions.start_session(self.db, self.people[role])  # type: ignore[arg-type]

    def may(self, role: str, action: str) -> bool:
        """Whether somebody of this role may do this now, by the product's own table."""
        return bool(ACTIONS[action] & set(ROLES[role]))

    def is_living(self, role: str) -> bool:
        return bool(ROLES[role])

    def state(self) -> tuple[object, ...]:
        """What no attack may change: people, studies, reads, links, data sets, jobs, releases and settings."""
        tables = ("person", "study", "read", "invitation", "data_set", "job", "release", "truth", "second_factor")
        with self.db.read() as connection:
            rows = [connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").all() for table in tables]
        return tuple(map(tuple, rows))

    def leaked(self, text: str, role: str) -> list[str]:
        """Secrets in an answer that this role may not see, key and hashes of the site among them."""
        found = [word for word, action in SECRETS.items() if word in text and not self.may(role, action)]
        key = (self.settings.state_dir / "site.key").read_bytes().hex()
        marks = (
            key,
            "$argon2id$",
            self.link,
            hashlib.sha256(self.link.encode()).hexdigest(),
            "Traceback (most",
            "root:x",
        )
        return found + [mark[:16] for mark in marks if mark in text]

    def _study(self, role: str, name: str, number: int) -> str:
        return studies.create_study(self.db, self.people[role], display_name=name, images=[picture(number)])


def rooms() -> list[tuple[str, str]]:
    """(page's name in addresses, action) of every page of the menu, read from `app.py` without running it."""
    tree = ast.parse((REPOSITORY / "app.py").read_text(encoding="utf-8"))
    table = next(
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ROOMS"
    )
    assert isinstance(table, ast.Tuple)
    account = "pages/reader/account.py"
    found = []
    for row in table.elts:
        assert isinstance(row, ast.Tuple)
        path, _, _, action = (account if isinstance(part, ast.Name) else ast.literal_eval(part) for part in row.elts)
        found.append((Path(path).stem, str(action)))
    return found
