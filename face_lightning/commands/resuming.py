"""Check of the settings of a resumed run: only those that take effect may be changed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from face_lightning.errors import CheckpointError

# Settings that determine the result, and that a checkpoint would silently restore or mix with the old ones.
_FIXED = (
    *("model", "data", "seed_everything", "checkpoint.monitor", "checkpoint.mode"),
    *("early_stopping.monitor", "early_stopping.mode"),
)
# Paths and settings that only affect speed; the content of the data is compared by its fingerprint.
_FREE = (
    *("cache_dir", "codebook", "device", "search", "reader", "summaries", "word_list", "blocklist", "model"),
    *("default_root_dir", "dirpath", "enable_progress_bar"),
)
# Exceptions from `_FIXED`, which take effect in a resumed run.
_CHANGEABLE = ("data.eval_batch_size", "data.mask_seen", "model.init_args.top_k")


def check_same_run(checkpoint: Path, config: Mapping[str, Any]) -> list[str]:
    """Check that a resumed run changes no setting that would not take effect.

    Args:
        checkpoint: Checkpoint in the folder `checkpoints` of a run.
        config: Configuration of the resumed run, as it is written to config.yaml.

    Returns:
        Changed settings, as `name: old -> new`.

    Raises:
        CheckpointError: If a setting that is fixed at the start of a run differs, or its config.yaml is missing.
    """
    path = checkpoint.absolute().parent.parent / "config.yaml"
    try:
        recorded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        recorded = None
    if not isinstance(recorded, dict):
        raise CheckpointError(
            f"ckpt_path: expected {path} with the settings of the run, but it is missing or damaged; resume in the "
            "run's own folder, or start a new run with --init_from"
        )
    changed = []
    for name, old, new in _differences(recorded, config):
        if _is_free(name):
            continue
        if name not in _CHANGEABLE and _within(name, _FIXED):
            raise CheckpointError(
                f"{name}: expected {_shown(old)} as in the run that is resumed, got {_shown(new)}; leave it out, or "
                "start another run with --init_from and another --run_dir"
            )
        if _within(name, ("trainer", "early_stopping", "data", "model")):
            changed.append(f"{name}: {_shown(old)} -> {_shown(new)}")
    return changed


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401
    """Names and values of settings that differ between two configurations; those in only one are ignored."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if old.get("class_path") != new.get("class_path"):
            yield name, old.get("class_path"), new.get("class_path")
            return
        for key in old.keys() & new.keys():
            yield from _differences(old[key], new[key], f"{name}.{key}".lstrip("."))
    elif old != new:
        yield name, old, new


def _is_free(name: str) -> bool:
    words = name.split(".")
    return not {*words[1:]}.isdisjoint(_FREE) or words[0] in ("run_dir", "init_from", "ckpt_path", "if_exists")


def _within(name: str, sections: tuple[str, ...]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _shown(value: Any) -> str:  # noqa: ANN401
    return f"{value.get('class_path', value) if isinstance(value, Mapping) else value}"[:80]
