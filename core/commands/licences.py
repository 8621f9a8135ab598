"""Which licences the product stands on: read from the installed packages' own metadata, for docs/licences.md.

`python -m core licences`: the table of dependencies in docs/licences.md, made anew from what is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from core.files import write_whole
from core.settings import REPOSITORY

BEGIN, END = "<!-- dependencies: begin -->", "<!-- dependencies: end -->"
_FORBIDDEN = re.compile(r"(?<!L)(?<!Lesser )(?:\bA?GPL|GNU (?:Affero )?General Public)", re.IGNORECASE)
_CLASSIFIER = "License :: "
_TITLES = re.compile(
    r"GNU (?:Affero |Lesser )?General Public License|Apache License|MIT License|BSD \d-Clause|Mozilla Public License",
    re.IGNORECASE,
)
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Dependency:
    """One installed package: its name, version, and its licence as its own metadata says it."""

    name: str
    version: str
    licence: str
    is_direct: bool

    @property
    def is_copyleft(self) -> bool:
        """Whether the metadata names the GPL or the AGPL (the LGPL may be linked to)."""
        return bool(_FORBIDDEN.search(self.licence))


def dependencies(requirements: Path) -> list[Dependency]:
    """Every package that `requirements` brings, direct or not, by name. Reads what is installed here."""
    direct = list(_direct(requirements))
    seen: dict[str, Dependency] = {}
    waiting = [(name, frozenset[str]()) for name in direct]
    while waiting:
        name, extras = waiting.pop()
        key = _key(name)
        if key in seen:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # belongs to another platform or an extra nobody asked for
        seen[key] = Dependency(
            found.metadata["Name"], found.version, _licence(found), key in {_key(item) for item in direct}
        )
        for text in found.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return [seen[key] for key in sorted(seen)]


def table(entries: list[Dependency]) -> str:
    """The dependencies as a Markdown table: direct ones first."""
    lines = ["| package | licence | |", "|---|---|---|"]
    for entry in sorted(entries, key=lambda item: (not item.is_direct, _key(item.name))):
        lines.append(f"| {entry.name} | {entry.licence} | {'direct' if entry.is_direct else 'brought by another'} |")
    return "\n".join(lines)


def page_with(page: str, content: str) -> str:
    """The page with what lies between its two markers replaced by `content`."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def _direct(requirements: Path) -> Iterator[str]:
    for line in requirements.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            yield Requirement(text).name


def _licence(found: Distribution) -> str:
    """What the metadata says, the most exact field first; else the title of the licence's own text; else UNKNOWN."""
    get = found.metadata.get_all
    expression = (get("License-Expression") or [""])[0]
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in get("Classifier") or ()
        if text.startswith(_CLASSIFIER) and text != "License :: OSI Approved"
    ]
    stated = (get("License") or [""])[0].strip().splitlines()
    first = stated[0].strip() if stated else ""
    short = first if 0 < len(first) <= 60 else ""
    return (expression or ", ".join(classifiers) or short or _title(found)).replace("|", "/")


def _title(found: Distribution) -> str:
    for file in found.files or ():
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")) and ".dist-info" in file.parts[0]:
            title = _TITLES.search(file.read_text(encoding="utf-8")[:2000])
            if title:
                return title[0]
    return UNKNOWN


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PAGE = REPOSITORY / "docs" / "licences.md"


def run(args: argparse.Namespace) -> int:
    """Rewrite the page between its markers."""
    entries = dependencies(REPOSITORY / "requirements.txt")
    write_whole(PAGE, page_with(PAGE.read_text(encoding="utf-8"), table(entries)))
    sys.stdout.write(f"{len(entries)} packages, {sum(entry.is_copyleft for entry in entries)} under the GPL or AGPL\n")
    return 0
