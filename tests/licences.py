"""Licences of the package's dependencies, direct and indirect: `python -m tests.licences` prints a report.

The exit code is 1 where a licence is unknown or would bind what is built on this package.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

from packaging.requirements import Requirement

PERMITTED = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla Public|Unlicense|HPND|CNRI|Zlib|0BSD|"
    r"LGPL|Lesser General Public|CC0|Public Domain|3-Clause|2-Clause)\b",
    re.IGNORECASE,
)
READ = {  # packages without a machine-readable licence, by their licence files
    "locate": "MIT License",
}


class Row(NamedTuple):
    """A package and its licence."""

    name: str
    version: str
    licence: str

    @property
    def permitted(self) -> bool:
        return PERMITTED.search(self.licence) is not None


def licence_of(metadata: Mapping[str, Sequence[str]]) -> str:
    """The licence in a package's metadata."""
    if metadata.get("License-Expression"):
        return metadata["License-Expression"][0]
    named = [line.rpartition(" :: ")[2] for line in metadata.get("Classifier", []) if line.startswith("License ::")]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return " OR ".join(named)
    text = next(iter(metadata.get("License", [])), "").strip()
    return text.splitlines()[0][:60] if text else "unknown"


def report(root: str = "face-lightning", extras: Sequence[str] = ("cpu", "demo", "app", "plot", "serve")) -> list[Row]:
    """All packages that are installed with these extras."""
    rows: dict[str, Row] = {}
    todo = [(root, tuple(extras))]
    seen = set(todo)
    while todo:
        name, wanted = todo.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform, or of an extra that is not installed
        fields = {key: package.metadata.get_all(key) or [] for key in ("License-Expression", "Classifier", "License")}
        key = package.metadata["Name"]
        rows[key] = Row(key, package.version, READ.get(key, licence_of(fields)))
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                entry = (needed.name, tuple(sorted(needed.extras)))
                if entry not in seen:
                    seen.add(entry)
                    todo.append(entry)
    return sorted(rows.values(), key=lambda row: row.name.lower())


if __name__ == "__main__":
    rows = report()
    for row in rows:
        print(f"{'' if row.permitted else 'NOT PERMITTED  '}{row.name} {row.version}: {row.licence}")
    sys.exit(not all(row.permitted for row in rows))
