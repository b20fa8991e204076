"""Configuration files that extend others, and options that a stage inherits from the run that it starts from.

A file is a mapping of options. In addition to the syntax of Lightning's command line, it may contain:

- `base`: one or several files to extend, merged in order, with this file last;
- `a.b.c: value`: an option by its dotted name, as on the command line;
- `${a.b.c}`: a reference to the value of another option, where the command line takes precedence;
- the path of a YAML file as a value, which is replaced by its content.
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
    """Writes strings in quotes, so that none is parsed as a number."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def shipped(path: Path) -> Path:
    """Return `path`, or if it does not exist, the configuration of that name in the package."""
    packaged = Path(str(resources("face_lightning"))) / path
    return packaged if path.parts[:1] == ("configs",) and not path.exists() and packaged.exists() else path


def compose(args: Sequence[str]) -> list[str]:
    """Merge all configuration files of a command line into one, which precedes the other options and yields to them.

    Options that a stage inherits from the run that it starts from, such as the backbone, have the lowest precedence.
    Files without options are passed on to the parser, which reports them.

    Raises:
        ConfigurationError: If a file extends one that cannot be read, or neither a file nor a run names the backbone.
    """
    files, rest = _split(args)
    paths = [shipped(Path(file)) for file in files]
    if not paths or not all(_holds_options(path) for path in paths):
        return [*rest[:1], *(word for path in paths for word in ("--config", str(path))), *rest[1:]]
    config: dict[str, Any] = {}
    for path in paths:
        config = _merge(config, read_options(path))
    if "-h" not in rest and "--help" not in rest:
        config = _with_inherited(config, rest)
    config = _resolve(config, lambda option: _referenced_value(config, rest, option))
    return [*rest[:1], "--config", yaml.dump(config, Dumper=_Dumper, sort_keys=False), *rest[1:]]


def read_options(path: Path, above: Sequence[Path] = (), paths_are_files: bool = True) -> dict[str, Any]:
    """Read the options of a file and of all files that it extends.

    Args:
        path: YAML file.
        above: Files that extend this one, to detect cycles.
        paths_are_files: Whether the path of a YAML file as a value is replaced by its content.

    Raises:
        ConfigurationError: If a file is missing, contains no options, or extends itself.
    """
    if path.resolve() in above:
        raise ConfigurationError(f"base: expected files without a cycle, but {path} builds on itself; remove that base")
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
    """Backbone in the configuration of a run, given its folder or one of its checkpoints; None if there is none."""
    path = (current_run(source) if source.is_dir() else source.parent.parent) / "config.yaml"
    backbone = _find(_load(path), BACKBONE) if path.is_file() else None
    return backbone if isinstance(backbone, dict) and "class_path" in backbone else None


def run_loss(source: Path) -> dict[str, Any]:
    """Ranking loss and L2 weight of a run, as options for another stage; empty if the run has no configuration."""
    config, checkpoint = _config_and_checkpoint(source)
    return ranking_objective(config, checkpoint)


def run_settings(source: Path, follows_path: bool) -> dict[str, Any]:
    """Settings to continue least squares from a run with, as options; empty for a run of another stage."""
    config, checkpoint = _config_and_checkpoint(source)
    return continued_settings(config, checkpoint, follows_path)


def _config_and_checkpoint(source: Path) -> tuple[dict[str, Any], Path]:
    """Configuration of a run, empty if there is none, and its best checkpoint, or the one given as `source`."""
    folder, checkpoint = source.parent.parent, source
    if source.is_dir():
        folder = current_run(source)
        checkpoint = folder / "checkpoints" / "best.ckpt"
    path = folder / "config.yaml"
    return _load(path) if path.is_file() else {}, checkpoint


def contradiction(given: Mapping[str, Any], run: Mapping[str, Any]) -> str | None:
    """Describe the first difference between two backbones, in class or in a common argument; None if they agree."""
    given_args, run_args = given.get("init_args") or {}, run.get("init_args") or {}
    if given["class_path"] != run["class_path"]:
        differences = [("", given["class_path"].rpartition(".")[2], run["class_path"].rpartition(".")[2])]
    else:
        common = [key for key in given_args if key in run_args]
        differences = [
            (f".{key}", given_args[key], run_args[key]) for key in common if given_args[key] != run_args[key]
        ]
    return next((f"{BACKBONE}{key}: expected {expected}, got {got}" for key, got, expected in differences), None)


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into configuration files and all other arguments."""
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
    """Read the options of a file; errors do not quote its content, as it may be any file on this machine."""
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
    """Path of a file that `base` names, relative to the file that extends it."""
    if not isinstance(base, str) or "://" in base:
        raise ConfigurationError(f"base: expected paths of files on this machine in {file}, got {base}; correct it")
    path = file.parent / base
    if not path.is_file():
        raise ConfigurationError(f"base: {file} builds on {base}, but there is no file {path}; correct the path")
    return path


def _inline(value: Any, file: Path, above: Sequence[Path]) -> Any:  # noqa: ANN401
    """Replace the paths of YAML files in `value` by their content."""
    if isinstance(value, dict):
        return {key: _inline(item, file, above) for key, item in value.items()}
    if isinstance(value, str) and value.endswith((".yaml", ".yml")) and (file.parent / value).is_file():
        return read_options(file.parent / value, (*above, file.resolve()))
    return value


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings, where `over` takes precedence; arguments of a class are dropped if `over` names another."""
    if "class_path" in under and over.get("class_path", under["class_path"]) != under["class_path"]:
        return dict(over)
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _resolve(value: Any, lookup: Callable[[str], Any]) -> Any:  # noqa: ANN401
    """Replace references to other options in `value` by their values."""
    if isinstance(value, dict):
        return {key: _resolve(item, lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, lookup) for item in value]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return value if reference is None else lookup(reference[1])


def _referenced_value(config: Mapping[str, Any], args: Sequence[str], option: str) -> Any:  # noqa: ANN401
    """Value of an option that another one refers to.

    Raises:
        ConfigurationError: If the option has no value.
    """
    value = _typed(args, option, _find(config, option))
    if value is None:
        raise ConfigurationError(f"config: ${{{option}}} refers to an option that is not given; correct its name")
    return value


def _find(config: Mapping[str, Any], option: str) -> Any:  # noqa: ANN401
    """Value of a dotted option; None if it is not set."""
    value: Any = config
    for key in option.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _typed(args: Sequence[str], option: str, default: Any = None) -> Any:  # noqa: ANN401
    """Value of an option on the command line, the last one if it is repeated."""
    value = default
    for position, word in enumerate(args):
        if word == f"--{option}" and position + 1 < len(args):
            value = get_loader("yaml")(args[position + 1])
        elif word.startswith(f"--{option}="):
            value = get_loader("yaml")(word.partition("=")[2])
    return value


def _with_inherited(config: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """Merge `config` over the options inherited from the run that a stage starts from, resumes or evaluates."""
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
    inherited: dict[str, Any] = {}
    if trains and not str(stage).endswith(_LEAST_SQUARES):  # least squares has no ranking loss
        inherited = next(filter(None, map(run_loss, paths)), {})
    elif starts and paths:
        growth = _typed(args, _GROWTH, _find(config, _GROWTH))
        inherited = run_settings(paths[0], follows_path=growth != 1)
    backbone = next(filter(None, map(run_backbone, paths)), None) if starts or not named else None
    if backbone is not None:
        inherited["backbone"] = backbone
    if inherited:
        config = _merge({"model": {"init_args": inherited}}, config)
    if backbone is not None or named or (starts and init_from is None):  # the parser reports stage 1 without a backbone
        return config
    if starts and not Path(str(init_from)).exists():
        raise ConfigurationError(
            f"init_from: expected a run folder or a checkpoint, but {init_from} does not exist; run the earlier "
            f"stage first, or name another run; its backbone is used unless --{BACKBONE} names one"
        )
    raise ConfigurationError(
        f"{BACKBONE}: expected that of the run in {init_from if starts else run_dir}, whose config.yaml is missing; "
        f"name it with --{BACKBONE}"
    )
