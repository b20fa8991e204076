"""Checks before a stage starts: its source, its backbone, and earlier runs in its folder."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from face_lightning.commands.arguments import LINKED
from face_lightning.commands.config_files import BACKBONE, contradiction, run_backbone
from face_lightning.data.interactions import SPLITS
from face_lightning.data.profiles import Dataset
from face_lightning.errors import CheckpointError, ConfigurationError
from face_lightning.runs.checkpoint_reading import locate_checkpoint
from face_lightning.runs.folder import finished, holds_run
from face_lightning.runs.inference import write_data

# Options that do not change the result of a run.
_NOT_IDENTIFYING = ("config", "run_dir", "if_exists", "init_from", "ckpt_path", "weights_only", "every_n_minutes")


def check_backbone(config: Mapping[str, Any], init_from: Path) -> None:
    """Check that the configured backbone agrees with that of the run that the stage starts from.

    Raises:
        ConfigurationError: If the backbones differ.
    """
    backbone = run_backbone(init_from)
    differs = None if backbone is None else contradiction(config["model"]["init_args"]["backbone"], backbone)
    if differs is not None:
        raise ConfigurationError(f"{differs}; {init_from} decides the backbone, so leave {BACKBONE} out")


def check_one_source(config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Check that not both `init_from` and `ckpt_path` are given.

    `init_from` in a configuration file is allowed with `--ckpt_path`, as it only applies to the first start.

    Args:
        config: Configuration of the run.
        arguments: Arguments of the command line.

    Raises:
        ConfigurationError: If both are given.
    """
    given = {name for name in ("init_from", "ckpt_path") if any(text.startswith(f"--{name}") for text in arguments)}
    if config["init_from"] is not None and config["ckpt_path"] is not None and given != {"ckpt_path"}:
        raise ConfigurationError(
            "init_from and ckpt_path: expected one of them, got both; --init_from starts a stage from an earlier "
            "one, --ckpt_path resumes or evaluates the same stage"
        )


def already_finished(run_dir: Path, if_exists: str, fingerprint: Callable[[], str]) -> bool:
    """Whether the run is already finished in its folder, and is to be skipped.

    Args:
        run_dir: Folder of the run.
        if_exists: What to do if the folder holds a run: fail, skip, resume or overwrite.
        fingerprint: Computes the fingerprint of the run.

    Raises:
        ConfigurationError: If the folder holds a run and `if_exists` is fail.
    """
    if run_dir.is_file():
        raise ConfigurationError(f"run_dir: expected a folder, but {run_dir} is a file; give another one")
    if not holds_run(run_dir):
        return False
    if if_exists in ("skip", "resume") and finished(run_dir, fingerprint()):
        return True
    if if_exists == "fail":
        raise ConfigurationError(
            f"run_dir: expected a new folder, but {run_dir} holds a run; resume it with --ckpt_path last, "
            "replace it with --if_exists overwrite, or give another --run_dir"
        )
    return False


def run_fingerprint(config: Mapping[str, Any], init_from: str | None, reads_kept_codebook: bool) -> str:
    """sha256 of everything that determines a run's result: its configuration, and the checkpoint that it starts from.

    Args:
        config: Configuration as it is written to config.yaml.
        init_from: Run or checkpoint that the stage starts from.
        reads_kept_codebook: Whether the vocabulary is read from that run, so that the checkpoint identifies it.
    """
    identity: dict[str, Any] = deepcopy({key: value for key, value in config.items() if key not in _NOT_IDENTIFYING})
    for section, key in LINKED.items():
        identity[section].pop(key, None)
    if reads_kept_codebook:
        identity["model"]["init_args"]["words"]["init_args"]["codebook"] = None
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
    if init_from is not None:
        try:
            digest.update(locate_checkpoint(Path(init_from)).read_bytes())
        except CheckpointError:  # a resumed run no longer needs it
            digest.update(b"gone")
    return digest.hexdigest()


def write_dataset(dataset: Dataset, run_dir: Path) -> None:
    """Write ids, labels and interactions to the run folder, so that inference does not need the data set."""
    interactions, profiles = dataset.interactions, dataset.profiles
    labels = None if profiles is None else (profiles.user_labels, profiles.item_labels)
    splits = [interactions.matrix(name) for name in SPLITS]
    write_data(run_dir, splits, (interactions.user_ids, interactions.item_ids), labels, interactions.fingerprint)
