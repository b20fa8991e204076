"""Requirements with version and sha256 of every package: python docker/lock.py REPORT-OF-PIP > FILE."""

import json
import sys
from pathlib import Path


def lock(report: str) -> str:
    """Lines for `pip install --require-hashes`.

    Args:
        report: What `pip install --dry-run --ignore-installed --report` wrote.
    """
    lines = ["# Made by `make locks` for Python 3.11 on linux/amd64; do not edit."]
    for package in sorted(json.loads(report)["install"], key=lambda package: package["metadata"]["name"].lower()):
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        if name != "face-lightning":
            digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(lock(Path(sys.argv[1]).read_text()))
