"""Imports point down only, heavy packages are imported where they are used, and the package itself is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "face_lightning"
BOTTOM = {"errors", "types", "seeds", "imports"}
BELOW = {  # what each part may import besides itself and the bottom
    "graph": set(),
    "losses": set(),
    "metrics": set(),
    "ranking": set(),
    "checkpoint": set(),
    "backbones": {"graph", "losses"},
    "mapping": {"ranking"},
    "text": set(),
    "data": {"text", "graph"},
    "stages": {"backbones", "mapping", "text", "metrics", "ranking", "losses", "graph", "checkpoint"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part in ("cli", "commands", "__init__"):
        return
    own = {name.split(".")[1] for name in imports(path) if name.startswith("face_lightning.")}
    allowed = {part} | (BOTTOM if part not in BOTTOM else {"errors"}) | BELOW.get(part, set())
    assert own <= allowed, f"{part} imports {own - allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lightning_is_imported_in_its_places_only(path: Path) -> None:
    if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path)):
        assert part_of(path) in ("cli", "commands", "stages") or path.name == "datamodule.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_late(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path, top_level_only=True)}
    assert not roots & {"transformers", "sentence_transformers", "faiss", "wordfreq", "lemminflect", "textblob"}


def test_importing_the_package_imports_no_torch() -> None:
    code = "import face_lightning, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
