"""A trial of `face tune`: a run that leaves no files and never reads the test split."""

import importlib
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from face_lightning.commands.stage import FaceCLI
from face_lightning.errors import ConfigurationError
from face_lightning.progress import validates
from face_lightning.runs.kept_codebook import find_codebook, use_codebook
from face_lightning.search_space import SearchSpace
from face_lightning.stages import Stage
from face_lightning.stages.describing import DescribingStage

if TYPE_CHECKING:
    import optuna

OVERRIDES = {"if_exists": "overwrite", "trainer.devices": "1"}  # a trial meets no earlier run and is one process


class Score(NamedTuple):
    """What a trial reached.

    Attributes:
        value: Best value on validation.
        epochs: Epochs that were trained.
        best_epoch: The one that gave the value, from 1 on.
        seconds: Seconds of the whole trial.
        is_pruned: Whether it was stopped as unpromising.
        is_cut: Whether it was stopped because time was up.
    """

    value: float
    epochs: int
    best_epoch: int
    seconds: float
    is_pruned: bool
    is_cut: bool


class _Watch(L.Callback):
    """Reports validation, and stops a training that is unpromising or late.

    Args:
        keys: Logged values whose mean counts.
        trial: Trial of the study.
        deadline: When time is up, by `time.monotonic`.
    """

    def __init__(self, keys: Sequence[str], trial: "optuna.Trial", deadline: float) -> None:
        self.keys, self.trial, self.deadline = keys, trial, deadline
        self.values: dict[int, float] = {}
        self.is_pruned = self.is_cut = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take in the validation of this epoch, where there was one."""
        del pl_module
        epoch = trainer.current_epoch
        if validates(trainer):
            missing = [key for key in self.keys if key not in trainer.callback_metrics]
            if missing:
                raise ConfigurationError(f"checkpoint.monitor: expected a value that is logged, got {missing[0]}")
            self.values[epoch] = mean(float(trainer.callback_metrics[key]) for key in self.keys)
            self.trial.report(self.values[epoch], epoch)
            self.is_pruned = self.trial.should_prune()
        self.is_cut = time.monotonic() > self.deadline and bool(self.values)
        trainer.should_stop = trainer.should_stop or self.is_pruned or self.is_cut


class Configuration(FaceCLI):
    """The resolved configuration of a stage; nothing is built or run.

    Args:
        arguments: Options of `face fit`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(["fit", *arguments])

    def before_instantiate_classes(self) -> None:
        """Resolve it, with everything that decides a run's result."""
        config = self.config[self.subcommand]
        codebook = None if config["init_from"] is None else find_codebook(Path(config["init_from"]))
        self._reads_kept_codebook = use_codebook(config["model"], codebook, override=False)
        self.identity = self.fingerprint()

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""

    @property
    def options(self) -> dict[str, Any]:
        """All options as nested mappings."""
        return all_options(self)


class Trial(FaceCLI):
    """Trains and validates a stage.

    Args:
        arguments: Options of `face fit`.
        trial: Trial of the study, which takes every epoch's value and says whether to go on.
        deadline: When time is up, by `time.monotonic`.

    Raises:
        TrainingError: If the training diverges.
    """

    def __init__(self, arguments: Sequence[str], trial: "optuna.Trial", deadline: float) -> None:
        self._trial, self._deadline, self._started = trial, deadline, time.monotonic()
        super().__init__(["fit", *arguments, *(f"--{key}={value}" for key, value in OVERRIDES.items())])

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401
        """Build a trainer that writes nothing."""
        del kwargs
        self.monitored = monitored(self.config[self.subcommand], self.model)
        self._watch = _Watch(self.monitored, self._trial, self._deadline)
        config = dict(self._get(self.config_init, "trainer"))
        given = config["callbacks"] or []
        config["callbacks"] = [callback for callback in given if not isinstance(callback, Checkpoint)]
        config |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return self._instantiate_trainer(config, [self._get(self.config_init, "early_stopping"), self._watch])

    def before_fit(self) -> None:
        """Start from an earlier stage, where there is one."""
        self.prepare_model()
        if isinstance(self.model, DescribingStage):
            self.model.validates_retrieval = any(key.startswith("words/") for key in self.monitored)

    def after_fit(self) -> None:
        """Nothing is tested or written."""

    @property
    def options(self) -> dict[str, Any]:
        """All options as nested mappings."""
        return all_options(self)

    @property
    def score(self) -> Score:
        """What the trial reached.

        Raises:
            ConfigurationError: If it ended before its first validation.
        """
        values, watch = self._watch.values, self._watch
        if not values:
            raise ConfigurationError(
                "trainer: expected a validation within the epochs of a trial, got none; lower "
                "trainer.check_val_every_n_epoch, or raise trainer.max_epochs"
            )
        best = max(values, key=lambda epoch: values[epoch])
        seconds = time.monotonic() - self._started
        epochs = self.trainer.current_epoch
        return Score(values[best], epochs, best + 1, round(seconds, 1), watch.is_pruned, watch.is_cut)


def all_options(command: FaceCLI) -> dict[str, Any]:
    """The resolved configuration of a command, as a copy."""
    command._dump_config()
    options: dict[str, Any] = deepcopy(command.config_dump)
    return options


def monitored(config: Mapping[str, Any], stage: Stage) -> tuple[str, ...]:
    """Values that a search maximises: what the stage says, else what checkpoints are chosen by, else Recall."""
    if stage.tuned_by:
        return stage.tuned_by
    checkpoint = config["checkpoint"]
    of_validation = str(checkpoint["monitor"]).startswith("val/") and checkpoint["mode"] == "max"
    return (checkpoint["monitor"],) if of_validation else (f"val/recall@{stage.top_k[-1]}",)


def space_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted options to search, with their ranges: those of the stage and of all classes among its options."""
    return _space_of(options["model"], "model")


def _space_of(value: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, Any] = {}
    arguments = value.get("init_args") or {}
    if "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        space: SearchSpace = getattr(getattr(importlib.import_module(module), name), "search_space", {})
        found = {f"{path}.init_args.{key}": choice for key, choice in space.items() if _has(arguments, key)}
        path = f"{path}.init_args"
    for key, inner in (arguments if "class_path" in value else value).items():
        found |= _space_of(inner, f"{path}.{key}")
    return found


def _has(arguments: Mapping[str, Any], key: str) -> bool:
    """Whether the option is there: a stage may have no optimizer class to set a learning rate of."""
    for part in key.split("."):
        if not isinstance(arguments, Mapping) or part not in arguments:
            return False
        arguments = arguments[part]
    return True


def value_of(options: Mapping[str, Any], option: str) -> Any:  # noqa: ANN401
    """Value of a dotted option."""
    value: Any = options
    for key in option.split("."):
        value = value[key]
    return value
