"""A trial of `face tune`: a run that writes no files and never reads the test split."""

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

OVERRIDES = {"if_exists": "overwrite", "trainer.devices": "1"}  # a trial ignores earlier runs, and is one process


class Score(NamedTuple):
    """Result of a trial.

    Attributes:
        value: Best value on validation.
        epochs: Number of trained epochs.
        best_epoch: Epoch with the best value, from 1.
        seconds: Seconds of the whole trial.
        is_pruned: Whether the trial was pruned as unpromising.
        is_cut: Whether the trial was stopped at the deadline.
    """

    value: float
    epochs: int
    best_epoch: int
    seconds: float
    is_pruned: bool
    is_cut: bool


class _TrialCallback(L.Callback):
    """Reports validation values to the study, and stops a training that is pruned or past the deadline.

    Args:
        keys: Names of logged values, whose mean is reported.
        trial: Trial of the study.
        deadline: Time to stop at, in terms of `time.monotonic`.
    """

    def __init__(self, keys: Sequence[str], trial: "optuna.Trial", deadline: float) -> None:
        self.keys, self.trial, self.deadline = keys, trial, deadline
        self.values: dict[int, float] = {}
        self.is_pruned = self.is_cut = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the value of this epoch if it was validated, and decide whether to stop."""
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
    """Resolves the configuration of a stage, without building or running anything.

    Args:
        arguments: Options of `face fit`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(["fit", *arguments])

    def before_instantiate_classes(self) -> None:
        """Resolve the configuration, and compute the fingerprint of the run."""
        config = self.config[self.subcommand]
        codebook = None if config["init_from"] is None else find_codebook(Path(config["init_from"]))
        self._reads_kept_codebook = use_codebook(config["model"], codebook, override=False)
        self.identity = self.fingerprint()

    def instantiate_classes(self) -> None:
        """Do not build anything."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Do not run anything."""

    @property
    def options(self) -> dict[str, Any]:
        """All options as nested mappings."""
        return all_options(self)


class Trial(FaceCLI):
    """Trains and validates a stage.

    Args:
        arguments: Options of `face fit`.
        trial: Trial of the study, which gets the value of every epoch and decides about pruning.
        deadline: Time to stop at, in terms of `time.monotonic`.

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
        self._callback = _TrialCallback(self.monitored, self._trial, self._deadline)
        config = dict(self._get(self.config_init, "trainer"))
        callbacks = config["callbacks"] or []
        config["callbacks"] = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        config |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return self._instantiate_trainer(config, [self._get(self.config_init, "early_stopping"), self._callback])

    def before_fit(self) -> None:
        """Initialise the model from an earlier stage, if there is one."""
        self.prepare_model()
        if isinstance(self.model, DescribingStage):
            self.model.validates_retrieval = any(key.startswith("words/") for key in self.monitored)

    def after_fit(self) -> None:
        """Do not test or write anything."""

    @property
    def options(self) -> dict[str, Any]:
        """All options as nested mappings."""
        return all_options(self)

    @property
    def score(self) -> Score:
        """Result of the trial.

        Raises:
            ConfigurationError: If the trial ended before its first validation.
        """
        values, callback = self._callback.values, self._callback
        if not values:
            raise ConfigurationError(
                "trainer: expected a validation within the epochs of a trial, got none; lower "
                "trainer.check_val_every_n_epoch, or raise trainer.max_epochs"
            )
        best = max(values, key=lambda epoch: values[epoch])
        seconds = time.monotonic() - self._started
        epochs = self.trainer.current_epoch
        return Score(values[best], epochs, best + 1, round(seconds, 1), callback.is_pruned, callback.is_cut)


def all_options(command: FaceCLI) -> dict[str, Any]:
    """Copy of the resolved configuration of a command."""
    command._dump_config()
    options: dict[str, Any] = deepcopy(command.config_dump)
    return options


def monitored(config: Mapping[str, Any], stage: Stage) -> tuple[str, ...]:
    """Names of the values that a search maximises: the stage's `tuned_by`, the checkpoint's monitor, or Recall."""
    if stage.tuned_by:
        return stage.tuned_by
    checkpoint = config["checkpoint"]
    is_usable = str(checkpoint["monitor"]).startswith("val/") and checkpoint["mode"] == "max"
    return (checkpoint["monitor"],) if is_usable else (f"val/recall@{stage.top_k[-1]}",)


def space_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Search space by dotted options: that of the stage, and of all classes among its options."""
    return _space_of(options["model"], "model")


def _space_of(value: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        return {}
    collected: dict[str, Any] = {}
    arguments = value.get("init_args") or {}
    if "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        space: SearchSpace = getattr(getattr(importlib.import_module(module), name), "search_space", {})
        collected = {f"{path}.init_args.{key}": choice for key, choice in space.items() if _has(arguments, key)}
        path = f"{path}.init_args"
    for key, inner in (arguments if "class_path" in value else value).items():
        collected |= _space_of(inner, f"{path}.{key}")
    return collected


def _has(arguments: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted option exists: a stage may have no optimizer, for example, and so no learning rate."""
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
