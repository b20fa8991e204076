"""Configuration files that build on others, and what a stage takes over from the run that it starts from.

A file is a mapping of options. Besides what Lightning's command line reads, it may say:

- `base`: one or several files underneath, merged in order, this file last;
- `a.b.c: value`, as on the command line;
- `${a.b.c}`: the value of another option, of the command line first;
- a path of a YAML file as a value: its content.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from face_lightning.errors import ConfigurationError
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_loss import continued_settings, ranking_objective

BACKBONE = "model.init_args.backbone"
_GROWTH = "model.init_args.regularization_growth"
_LEAST_SQUARES = "LeastSquaresStage"
_NAMES_BACKBONE = re.compile(r"--model(\.init_args)?\.backbone(=|$)")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class _Dumper(yaml.SafeDumper):
    """Writes strings in quotes, so that none of them reads as a number."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def shipped(path: Path) -> Path:
    """`path`, or the file of that name among the configurations in the package where there is none here."""
    packaged = Path(str(resources("face_lightning"))) / path
    return packaged if path.parts[:1] == ("configs",) and not path.exists() and packaged.exists() else path


def compose(args: Sequence[str]) -> list[str]:
    """The command line with all its configuration files as one, in front of what is typed, which beats them.

    The backbone, ranking loss and L2 weight of the run that the stage starts from stand underneath. Files that hold no
    options are left to the parser, which reports them.

    Raises:
        ConfigurationError: If a file builds on one that cannot be used, or no file and no run names the backbone.
    """
    files, rest = _split(args)
    paths = [shipped(Path(file)) for file in files]
    if not paths or not all(_holds_options(path) for path in paths):
        return [*rest[:1], *(word for path in paths for word in ("--config", str(path))), *rest[1:]]
    config: dict[str, Any] = {}
    for path in paths:
        config = _merge(config, read_options(path))
    if "-h" not in rest and "--help" not in rest:
        config = _with_earlier(config, rest)
    config = _resolve(config, lambda option: _referred(config, rest, option))
    return [*rest[:1], "--config", yaml.dump(config, Dumper=_Dumper, sort_keys=False), *rest[1:]]


def read_options(path: Path, above: Sequence[Path] = (), paths_are_files: bool = True) -> dict[str, Any]:
    """Options of a file and of all files that it builds on.

    Args:
        path: YAML file.
        above: Files that build on it.
        paths_are_files: Whether a path of a YAML file stands for its content.

    Raises:
        ConfigurationError: If a file is missing, holds no options, or builds on itself.
    """
    if path.resolve() in above:
        raise ConfigurationError(f"base: expected files that end somewhere, but {path} builds on itself; remove one")
    options = _load(path)
    bases = options.pop("base", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged = _merge(merged, read_options(_base(base, path), (*above, path.resolve()), paths_are_files))
    for name, value in options.items():
        nested = _inline(value, path, above) if paths_are_files else value
        for key in reversed(str(name).split(".")):
            nested = {key: nested}
        merged = _merge(merged, nested)
    return merged


def run_backbone(source: Path) -> dict[str, Any] | None:
    """Backbone in the configuration of a run, given its folder or one of its checkpoints; None where there is none."""
    path = (current_run(source) if source.is_dir() else source.parent.parent) / "config.yaml"
    backbone = _find(_load(path), BACKBONE) if path.is_file() else None
    return backbone if isinstance(backbone, dict) and "class_path" in backbone else None


def run_loss(source: Path) -> dict[str, Any]:
    """Ranking loss and L2 weight of a run, as options of another stage; none where it has no configuration."""
    config, checkpoint = _config_and_checkpoint(source)
    return ranking_objective(config, checkpoint)


def run_settings(source: Path, follows_path: bool) -> dict[str, Any]:
    """Settings with which least squares goes on from a run, as options; none where it is not one of least squares."""
    config, checkpoint = _config_and_checkpoint(source)
    return continued_settings(config, checkpoint, follows_path)


def _config_and_checkpoint(source: Path) -> tuple[dict[str, Any], Path]:
    """Configuration of a run, empty where there is none, and its best checkpoint, or the one that is given."""
    folder, checkpoint = source.parent.parent, source
    if source.is_dir():
        folder = current_run(source)
        checkpoint = folder / "checkpoints" / "best.ckpt"
    path = folder / "config.yaml"
    return _load(path) if path.is_file() else {}, checkpoint


def contradiction(given: Mapping[str, Any], run: Mapping[str, Any]) -> str | None:
    """Say where two backbones differ in their class or in a setting that both name; None where they agree."""
    ours, theirs = given.get("init_args") or {}, run.get("init_args") or {}
    if given["class_path"] != run["class_path"]:
        differing = [("", given["class_path"].rpartition(".")[2], run["class_path"].rpartition(".")[2])]
    else:
        differing = [(f".{key}", ours[key], theirs[key]) for key in ours if key in theirs and ours[key] != theirs[key]]
    return next((f"{BACKBONE}{key}: expected {theirs}, got {ours}" for key, ours, theirs in differing), None)


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Configuration files of a command line, and what else it says."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word in ("-c", "--config"):
            file = next(words, None)
            (rest if file is None else files).append(word if file is None else file)
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            rest.append(word)
    return files, rest


def _load(path: Path) -> dict[str, Any]:
    """Content of a file; nothing of it is quoted in an error, as it may be anything on this machine."""
    try:
        content = get_loader("yaml")(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"config: {path} cannot be read ({error.strerror}); correct the path") from error
    except (ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise ConfigurationError(f"config: expected options by name in YAML, but {path} holds none; correct the file")
    return content


def _holds_options(path: Path) -> bool:
    try:
        return bool(_load(path))
    except ConfigurationError:
        return False


def _base(base: object, file: Path) -> Path:
    """The file that `base` names, seen from the one that names it."""
    if not isinstance(base, str) or "://" in base:
        raise ConfigurationError(f"base: expected paths of files on this machine in {file}, got {base}; correct it")
    path = file.parent / base
    if not path.is_file():
        raise ConfigurationError(f"base: {file} builds on {base}, but there is no file {path}; correct the path")
    return path


def _inline(value: Any, file: Path, above: Sequence[Path]) -> Any:  # noqa: ANN401
    """`value` with the content of YAML files in place of their paths."""
    if isinstance(value, dict):
        return {key: _inline(item, file, above) for key, item in value.items()}
    if isinstance(value, str) and value.endswith((".yaml", ".yml")) and (file.parent / value).is_file():
        return read_options(file.parent / value, (*above, file.resolve()))
    return value


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, where `over` wins; settings of one class say nothing about another."""
    if "class_path" in under and over.get("class_path", under["class_path"]) != under["class_path"]:
        return dict(over)
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _resolve(value: Any, lookup: Callable[[str], Any]) -> Any:  # noqa: ANN401
    """`value` with the values of other options in place of references to them."""
    if isinstance(value, dict):
        return {key: _resolve(item, lookup) for key, item in value.items()}
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return value if reference is None else lookup(reference[1])


def _referred(config: Mapping[str, Any], args: Sequence[str], option: str) -> Any:  # noqa: ANN401
    """Value of an option that another one refers to.

    Raises:
        ConfigurationError: If there is none.
    """
    found = _typed(args, option, _find(config, option))
    if found is None:
        raise ConfigurationError(f"config: ${{{option}}} refers to an option that is not given; correct its name")
    return found


def _find(config: Mapping[str, Any], option: str) -> Any:  # noqa: ANN401
    """Value of a dotted option; None where there is none."""
    value: Any = config
    for key in option.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _typed(args: Sequence[str], option: str, default: Any = None) -> Any:  # noqa: ANN401
    """Value of an option on the command line, the last one if there are several."""
    found = default
    for position, word in enumerate(args):
        if word == f"--{option}" and position + 1 < len(args):
            found = get_loader("yaml")(args[position + 1])
        elif word.startswith(f"--{option}="):
            found = get_loader("yaml")(word.partition("=")[2])
    return found


def _with_earlier(config: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """`config` on top of what it takes over from the run that it starts from, or resumes or evaluates."""
    stage = _find(config, "model.class_path")
    if stage is None:
        return config
    init_from, checkpoint, run_dir = (
        _typed(args, key, config.get(key)) for key in ("init_from", "ckpt_path", "run_dir")
    )
    named = _find(config, BACKBONE) is not None or any(_NAMES_BACKBONE.match(word) for word in args)
    trains = args[:1] == ["fit"]
    starts = trains and checkpoint is None
    sources = [init_from] if starts else [None if checkpoint in ("last", "best") else checkpoint, run_dir]
    paths = [Path(str(source)) for source in sources if source is not None]
    found: dict[str, Any] = {}
    if trains and not str(stage).endswith(_LEAST_SQUARES):  # which has no ranking loss
        found = next(filter(None, map(run_loss, paths)), {})
    elif starts and paths:
        growth = _typed(args, _GROWTH, _find(config, _GROWTH))
        found = run_settings(paths[0], follows_path=growth != 1)
    backbone = next(filter(None, map(run_backbone, paths)), None) if starts or not named else None
    if backbone is not None:
        found["backbone"] = backbone
    if found:
        config = _merge({"model": {"init_args": found}}, config)
    if backbone is not None or named or (starts and init_from is None):  # where stage 1 lacks one, the parser says so
        return config
    if starts and not Path(str(init_from)).exists():
        raise ConfigurationError(
            f"init_from: expected a run folder or a checkpoint, but {init_from} does not exist; run the stage before "
            f"first, or name another run; its backbone is taken over unless --{BACKBONE} names one"
        )
    raise ConfigurationError(
        f"{BACKBONE}: expected that of the run in {init_from if starts else run_dir}, whose config.yaml is not there; "
        f"name it with --{BACKBONE}"
    )
