"""What tests of hostile input share: code that leaves a trace, and what a folder holds."""

import os
from pathlib import Path
from typing import Any

TOUCHED = Path("/tmp/face-lightning-hostile-code-ran")


class Touch:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {TOUCHED}",)


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*")) if folder.exists() else set()
