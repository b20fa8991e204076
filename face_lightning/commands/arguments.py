"""Arguments of a run: their definition, and checks that Lightning does not make."""

import os
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.cli import LightningArgumentParser

from face_lightning.errors import ConfigurationError, check_range
from face_lightning.redaction import secret_paths
from face_lightning.runs.checkpoints import RunCheckpoint, RunEarlyStopping

LINKED = {"trainer": "default_root_dir", "checkpoint": "dirpath"}  # options that are linked to run_dir
_FOLDERS = (
    "save_dir",
    "dirpath",
    "log_dir",
    "root_dir",
    "offload_folder",
    "nvme_path",
)  # output folders
_UNSUITABLE = {  # callbacks of Lightning that do not work here, and the reason
    "StochasticWeightAveraging": "which averages after the last validation, so that best.ckpt lacks the average; use "
    "EMAWeightAveraging, whose average is validated and saved",
    "LearningRateFinder": "which needs one learning rate for all parameters; use face tune",
    "BatchSizeFinder": "which would change data.batch_size, and with it the result; set data.batch_size",
    "BackboneFinetuning": "which freezes all that trains here; use model.init_args.backbone_lr_factor",
}
_CACHES = ("codebooks", "summaries", "vectors")  # subfolders of a cache
_FIXED = {  # other commands rely on these to find the checkpoints of a run
    "filename": ("best",),
    "save_top_k": (1,),
    "save_last": (None, False),
    "save_weights_only": (False,),
}


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Add the arguments of a run besides trainer, model and data, and link arguments that depend on each other."""
    parser.add_argument("--run_dir", type=Path, default=Path("runs/unnamed"), help="Folder of the run.")
    parser.add_argument(
        "--init_from", type=Path | None, default=None, help="Earlier stage to start from: run folder or checkpoint."
    )
    parser.add_argument(
        "--if_exists",
        type=Literal["fail", "skip", "resume", "overwrite"],
        default="fail",
        help="What to do if the run folder holds a run. skip: keep it if it is finished with the same configuration, "
        "otherwise replace it; resume: like skip, but continue an interrupted run with the same configuration.",
    )
    parser.add_argument(
        "--every_n_minutes",
        type=float | None,
        default=30.0,
        help="Minutes between saves of last.ckpt in the middle of an epoch; null to save at its end only.",
    )
    parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
    parser.add_lightning_class_args(RunEarlyStopping, "early_stopping")
    parser.set_defaults(
        {
            "checkpoint.filename": "best",
            "checkpoint.monitor": "val/recall@20",
            "checkpoint.mode": "max",
            "checkpoint.save_on_train_epoch_end": True,
            "checkpoint.enable_version_counter": False,
            "checkpoint.auto_insert_metric_name": False,
            "early_stopping.monitor": "val/recall@20",
            "early_stopping.mode": "max",
            "early_stopping.patience": 10,
        }
    )
    parser.link_arguments("run_dir", "trainer.default_root_dir", compute_fn=str)
    parser.link_arguments("run_dir", "checkpoint.dirpath", compute_fn=lambda path: str(Path(path) / "checkpoints"))
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    for source, target in (("num_users",) * 2, ("num_items",) * 2, ("catalogue_words", "extra_words")):
        parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")


def replace_enumerations(config: Any) -> None:  # noqa: ANN401
    """Replace enumerations, which are defaults in Lightning's classes, by their values, as YAML has no enumerations.

    Args:
        config: Configuration of a command, which is modified.
    """
    if isinstance(config, list):
        for item in config:
            replace_enumerations(item)
    for key, item in config.items() if hasattr(config, "items") else ():
        if isinstance(item, Enum):
            config[key] = item.value
        else:
            replace_enumerations(item)


def check_arguments(config: Mapping[str, Any]) -> None:
    """Check values that Lightning would accept although they make no sense.

    Args:
        config: Configuration of a command.

    Raises:
        ConfigurationError: If a value is invalid.
    """
    for key, allowed in _FIXED.items():
        value = config["checkpoint"][key]
        if value not in allowed:
            raise ConfigurationError(
                f"checkpoint.{key}: expected {allowed[0]!r}, got {value!r}; other commands find a run's checkpoints by "
                "it, so leave it out; for further checkpoints add a ModelCheckpoint to trainer.callbacks"
            )
    trainer, minutes = config["trainer"], config["every_n_minutes"]
    if minutes is not None:
        check_range("every_n_minutes", minutes, least=0, usual="30")
    for key in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if trainer[key] is not None:
            check_range(f"trainer.{key}", trainer[key], least=1, usual="1")
    _check_processes(trainer["devices"], trainer["num_nodes"])
    _check_callbacks(trainer.get("callbacks"))
    if trainer["gradient_clip_val"] is not None:
        check_range("trainer.gradient_clip_val", trainer["gradient_clip_val"], least=0, usual="1")
    for path in secret_paths(config):
        raise ConfigurationError(
            f"{path}: expected no secret in a configuration, which is copied into the run's folder; leave it out and "
            "set the environment variable that the service reads"
        )


def _check_processes(devices: Any, num_nodes: int) -> None:  # noqa: ANN401
    """Check the numbers of processes and machines; Lightning checks the number of GPUs."""
    most = max(64, 4 * (os.cpu_count() or 1))
    if str(devices).isdigit() and int(devices) > most:
        raise ConfigurationError(
            f"trainer.devices: expected at most {most} processes on {os.cpu_count()} processors, got {devices}; each "
            "takes a processor and holds the graph and all tables, so give as many as there are GPUs, or fewer"
        )
    clusters = (SLURMEnvironment, TorchElasticEnvironment, LSFEnvironment, MPIEnvironment)
    if num_nodes > 1 and "MASTER_ADDR" not in os.environ and not any(cluster.detect() for cluster in clusters):
        raise ConfigurationError(
            f"trainer.num_nodes: expected 1 outside of a cluster, got {num_nodes}, and this process would wait for the "
            "others; start it on each machine by srun or torchrun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK"
        )


def _check_callbacks(callbacks: Any) -> None:  # noqa: ANN401
    """Check that there are no callbacks of Lightning that do not work here."""
    for spec in as_list(callbacks):
        name = str(spec if isinstance(spec, str) else spec.get("class_path")).rpartition(".")[2]
        if name in _UNSUITABLE:
            raise ConfigurationError(f"trainer.callbacks: expected no {name}, {_UNSUITABLE[name]}")


def check_folders(config: Mapping[str, Any]) -> None:
    """Check that loggers, profilers, callbacks and plugins only write to the run folder.

    Args:
        config: Configuration of a command.

    Raises:
        ConfigurationError: If one of them writes elsewhere.
    """
    for cache in _cache_folders(config.get("model")):
        _check_cache(cache)
    run_dir = Path(config["run_dir"]).resolve()
    for section in ("logger", "profiler", "callbacks", "plugins", "strategy"):
        for spec in as_list(config["trainer"].get(section)):
            for name, value in _texts(spec):
                target = Path(value) if name in _FOLDERS else run_dir / value  # a name may become part of a path
                if not target.resolve().is_relative_to(run_dir):
                    raise ConfigurationError(
                        f"trainer.{section}.{name}: expected {'a folder' if name in _FOLDERS else 'a name'} within "
                        f"run_dir ({run_dir}), got {value}; leave it out, or add --allow-code if you trust this "
                        "configuration"
                    )


def _texts(spec: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Find all strings and paths in the arguments of a class, with their names, at any depth."""
    if isinstance(spec, str | Path):
        yield name, str(spec)
    elif isinstance(spec, list | tuple):
        for item in spec:
            yield from _texts(item, name)
    else:
        for key, item in spec.items() if hasattr(spec, "items") else ():
            yield from _texts(item, str(key).rpartition(".")[2])


def _cache_folders(value: Any) -> Iterator[Path]:  # noqa: ANN401
    """Find all values of `cache_dir` in a configuration, at any depth."""
    for key, item in value.items() if hasattr(value, "items") else ():
        if str(key).rpartition(".")[2] == "cache_dir" and isinstance(item, str | Path):
            yield Path(item).expanduser()
        else:
            yield from _cache_folders(item)


def _check_cache(folder: Path) -> None:
    """Check that a cache folder is new or contains a cache only, as a configuration could name any folder."""
    others = {path.name for path in folder.iterdir()} - {*_CACHES} if folder.is_dir() else set()
    if others and folder.resolve() != Path("~/.cache/face_lightning").expanduser().resolve():
        raise ConfigurationError(
            f"cache_dir: expected a new folder, or one that holds {', '.join(_CACHES)} alone, got {folder} with "
            f"{min(others)}; name another one, or add --allow-code if you trust this configuration"
        )


def as_list(value: Any) -> list[Any]:  # noqa: ANN401
    """Convert `value` to a list: None becomes an empty list, and a single value a list of one."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
