"""Imports point down only, heavy packages are imported where they are used, and the package itself is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "face_lightning"
BOTTOM = {
    *("__version__", "allocator", "bounded_yaml", "distributed", "errors", "files", "hardware", "hyperparameters"),
    *("imports", "memory", "mistakes", "plain_text", "progress", "redaction", "search_space"),
    *("seeds", "structures", "trust"),
}
LIGHTNING = {"cli", "parallel", "commands", "progress", "runs", "stages"}
BELOW = {  # packages that each part may import, besides itself and the lowest modules
    "graph": set(),
    "losses": {"graph"},
    "epoch_means": set(),
    "row_solver": set(),
    "score_fusion": set(),
    "schedules": set(),
    "significance": set(),
    "metrics": set(),
    "single_query": set(),
    "inner_product": {"single_query"},
    "ranking": {"inner_product"},
    "fold_in": {"row_solver"},
    "backbones": {"graph", "losses"},
    "baselines": {"inner_product", "metrics", "ranking"},
    "mapping": {"inner_product", "losses"},
    "text": set(),
    "data": {"text", "graph"},
    "words": {"kernel_ridge", "mapping", "text"},
    "parallel": {"backbones", "inner_product", "ranking"},
    "stages": {
        *("backbones", "parallel", "epoch_means", "graph", "losses", "mapping", "metrics", "ranking"),
        *("fold_in", "row_solver", "schedules", "score_fusion", "text", "words"),
    },
    "runs": {"fold_in", "kernel_ridge", "losses", "mapping", "stages", "text", "words"},
    "kernel_ridge": set(),
    "recommending": {"fold_in", "inner_product", "kernel_ridge", "mapping", "runs", "text"},
    "serving": {"recommending", "runs"},
    "exports": {"mapping", "recommending", "runs", "text"},
    "app": {"recommending", "runs"},
    "reports": {"recommending", "runs", "significance", "text"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def walk(node: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    """All nodes, or only those that are executed on import, which excludes the bodies of functions."""
    yield node
    if not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from walk(child, top_level_only)


def imports(code: str, top_level_only: bool = False) -> set[str]:
    found: set[str] = set()
    for node in walk(ast.parse(code), top_level_only):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_are_found_at_any_depth() -> None:
    code = "import a.b\nfrom c import d\nif x:\n    import e\nclass K:\n    import f\ndef g():\n    import h\n"
    assert imports(code) == {"a.b", "c", "c.d", "e", "f", "h"}
    assert imports(code, top_level_only=True) == {"a.b", "c", "c.d", "e", "f"}
    with pytest.raises(AssertionError, match="line 1: imports are absolute"):
        imports("from . import a")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part in ("cli", "commands", "__init__"):
        return
    own = {name.split(".")[1] for name in imports(path.read_text()) if name.startswith("face_lightning.")}
    allowed = (
        {part} | (BOTTOM if part not in BOTTOM else {"errors", "redaction", "bounded_yaml"}) | BELOW.get(part, set())
    )
    assert own <= allowed, f"{part} imports {own - allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lightning_is_only_imported_in_listed_modules(path: Path) -> None:
    if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path.read_text())):
        assert part_of(path) in LIGHTNING or path.name == "datamodule.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_late(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path.read_text(), top_level_only=True)}
    assert not roots & {"transformers", "sentence_transformers", "faiss", "wordfreq", "lemminflect", "textblob"}


def test_importing_the_package_imports_no_torch() -> None:
    code = "import face_lightning, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_two_modules_share_a_name_and_none_is_called_like_one_of_the_standard_library() -> None:
    stems = [path.stem for path in FILES if path.stem != "__init__"]
    assert not {stem for stem in stems if stems.count(stem) > 1}
    assert not set(stems) & sys.stdlib_module_names
