"""`face fit|validate|test|predict`: run a stage, with a run folder and checks that its checkpoints match."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import face_lightning.backbones
import face_lightning.data.readers
import face_lightning.mapping.mapper  # noqa: F401 so that configurations can name classes by name alone
from face_lightning.commands.arguments import (
    add_run_arguments,
    as_list,
    check_arguments,
    check_folders,
    replace_enumerations,
)
from face_lightning.commands.config_files import compose
from face_lightning.commands.resuming import check_same_run
from face_lightning.commands.starting import (
    already_finished,
    check_backbone,
    check_one_source,
    run_fingerprint,
    write_dataset,
)
from face_lightning.commands.unmeasured import WITHOUT_TEST, WITHOUT_VALIDATION, require_pairs, watch_nothing_unmeasured
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.errors import ConfigurationError, FaceError, check_range
from face_lightning.files import strict_json, write_atomically
from face_lightning.mistakes import describe_mistake
from face_lightning.runs.checkpoint_checks import restoring_failed
from face_lightning.runs.checkpoint_reading import check_stage, init_from, locate_checkpoint
from face_lightning.runs.checkpoints import AtomicCheckpointIO
from face_lightning.runs.finishing import best_checkpoint, evaluate_best, write_outputs
from face_lightning.runs.folder import RunFolder, current_run, holds_run, trained_on, unfinished
from face_lightning.runs.interruption import LastCheckpoint
from face_lightning.runs.kept_codebook import find_codebook, keep_codebook, use_codebook
from face_lightning.runs.outputs import has_words, write_predictions
from face_lightning.runs.recorder import RunRecorder, environment
from face_lightning.runs.tensorboard_log import RunTensorBoardLogger
from face_lightning.stages import PretrainingStage, Stage
from face_lightning.stages.describing import DescribingStage
from face_lightning.trust import FLAG, policy_of

_ALLOW_OTHER_DATA = "--allow-other-data"


class FaceCLI(LightningCLI):
    """LightningCLI for stages, with run folders, `init_from`, and checks that checkpoints match the stage."""

    def __init__(self, args: Sequence[str], run: bool = True) -> None:
        with policy_of(args) as given:
            self._given = [argument for argument in given if argument != _ALLOW_OTHER_DATA]
            self._allow_code = FLAG in args
            self._allow_other_data = _ALLOW_OTHER_DATA in given
            super().__init__(
                Stage,
                InteractionDataModule,
                subclass_mode_model=True,
                save_config_callback=None,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                trainer_defaults={"num_sanity_val_steps": 0, "enable_model_summary": False, "log_every_n_steps": 1},
                parser_kwargs={"prog": "face", "exit_on_error": False, "description": "Run a stage of FACE."},
                args=compose(self._given),
                run=run,
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments of a run besides trainer, model and data."""
        add_run_arguments(parser)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
        """Build the parser of a subcommand; unused ones are left empty, as each takes a quarter of a second."""
        if subcommand in self._given:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self._subcommand_method_arguments[subcommand] = []
        return self.init_parser(**kwargs)

    def _parse_ckpt_path(self) -> None:
        """Do not change the configuration.

        LightningCLI would silently replace the configured model by the checkpoint's, and so evaluate or resume another
        stage than the configured one. `before_instantiate_classes` checks the checkpoint instead.
        """

    def _dump_config(self) -> None:
        """Convert the configuration to plain values.

        Raises:
            ConfigurationError: If a value cannot be represented in YAML.
        """
        try:
            super()._dump_config()
        except (ValueError, TypeError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"config: expected plain values, but one cannot be written as YAML ({error!s:.200}); remove it, or "
                "give a plain value"
            ) from error

    def option(self, key: str) -> Any:  # noqa: ANN401
        """Value of a top-level option of the command."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        return config.get(key)

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.option("run_dir"))

    def _set_seed(self) -> None:
        seed = self.option("seed_everything")
        if isinstance(seed, bool):
            raise ConfigurationError(
                f"seed_everything: expected a number, got {seed}; a run without one cannot be repeated"
            )
        check_range("seed_everything", seed, least=0, most=2**32 - 1, usual="0")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Check the configuration before anything is built or written."""
        self.skipped = False
        self.folder: RunFolder | None = None
        self._reads_kept_codebook = False
        self._trained_on: dict[str, Any] | None = None
        self._changes: list[str] = []  # settings that a resumed run changes
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        replace_enumerations(config["trainer"])
        check_arguments(config)
        if not self._allow_code:
            check_folders(config)
        if self.subcommand == "fit" and config["ckpt_path"] is None:
            if config["init_from"] is not None:
                locate_checkpoint(Path(config["init_from"]))
                self._dump_config()
                check_backbone(self.config_dump, Path(config["init_from"]))
            if self.option("if_exists") == "resume" and unfinished(self.run_dir, self.fingerprint()):
                config["ckpt_path"] = str(self.run_dir / "checkpoints" / "last.ckpt")
                print(f"{self.run_dir}: unfinished with the same configuration, resumed")
            else:
                self.skipped = already_finished(self.run_dir, self.option("if_exists"), self.fingerprint)
            if config["init_from"] is not None:
                codebook = find_codebook(Path(config["init_from"]))
                self._reads_kept_codebook = use_codebook(config["model"], codebook, override=False)
            return
        check_one_source(config, self._given)
        path = str(config["ckpt_path"] or "best")
        if path in ("last", "best"):
            path = str(current_run(self.run_dir) / "checkpoints" / f"{path}.ckpt")
        module, _, name = config["model"]["class_path"].rpartition(".")
        stage = getattr(importlib.import_module(module), name).name
        self._trained_on = check_stage(Path(path), stage, resumes=self.subcommand == "fit")
        config["ckpt_path"] = path
        codebook = find_codebook(self.run_dir) or find_codebook(Path(path))
        self._reads_kept_codebook = use_codebook(config["model"], codebook, override=True)
        if self.subcommand == "fit":
            self._dump_config()
            self._changes = check_same_run(Path(path), self.config_dump)

    def fingerprint(self) -> str:
        """See `run_fingerprint`."""
        self._dump_config()
        return run_fingerprint(self.config_dump, self.option("init_from"), self._reads_kept_codebook)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; a finished run is only skipped if its data are also the same."""
        super().instantiate_classes()
        self.skipped = self.skipped and self._has_same_data()
        self.datamodule.allow_other_data = self._allow_other_data
        self.datamodule.check_identity(self._trained_on)

    def _has_same_data(self) -> bool:
        """Whether the finished run in the folder was trained on these interactions and texts."""
        recorded, own = trained_on(self.run_dir), self._data_identity()
        return all(recorded[key] == own[key] for key in ("fingerprint", "texts") if key in recorded and key in own)

    def _data_identity(self) -> dict[str, Any]:
        """Identity of the data: counts, fingerprint, and the fingerprint of texts if the stage has words."""
        identity = dict(self.datamodule.interactions.summary())
        return identity | ({"texts": self.datamodule.text_fingerprint()} if has_words(self.model) else {})

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401
        """Build the trainer with a TensorBoard logger in the run folder, unless another logger is configured."""
        trainer_config = (
            self.config_init[self.subcommand]["trainer"] if self.subcommand else self.config_init["trainer"]
        )
        if self.subcommand == "fit" and not trainer_config.get("fast_dev_run"):
            self.recorder = RunRecorder(self.run_dir)
            kwargs["callbacks"] = [*as_list(trainer_config.get("callbacks")), self.recorder]
            kwargs["plugins"] = [*as_list(trainer_config.get("plugins")), AtomicCheckpointIO()]
            if trainer_config.get("logger") in (None, True):
                kwargs["logger"] = RunTensorBoardLogger(self.run_dir)
        elif trainer_config.get("logger") in (None, True):
            kwargs["logger"] = False
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"trainer: {error}; correct the value") from error

    def _run_subcommand(self, subcommand: str) -> None:
        if self.skipped:
            print(f"{self.run_dir}: finished with the same configuration, skipped")
            return
        try:
            super()._run_subcommand(subcommand)
        except Exception as error:
            # Set by Lightning while it restores a checkpoint; private, as there is no hook.
            restoring = self.trainer._checkpoint_connector._loaded_checkpoint
            if restoring and not isinstance(error, FaceError):
                raise restoring_failed(self.option("ckpt_path"), error) from error
            if self.folder is not None and describe_mistake(error) is not None and not holds_run(self.run_dir):
                self.folder.restore()  # a run that cannot start leaves the folder as it was
            raise
        finally:
            if self.folder is not None:
                self.folder.unlock()

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def prepare_model(self) -> None:
        """Check that validation and texts are available, and initialise the model from an earlier stage."""
        watched = [str(getattr(callback, "monitor", None)) for callback in self.trainer.checkpoint_callbacks]
        every, epochs = self.trainer.check_val_every_n_epoch or 1, self.trainer.max_epochs or 0
        if 0 < epochs < every and any(name.startswith("val/") for name in watched):
            raise ConfigurationError(
                f"trainer: expected a validation within {epochs} epochs, to choose the best by, got none; lower "
                f"trainer.check_val_every_n_epoch ({every}), or raise trainer.max_epochs"
            )
        if has_words(self.model) or (isinstance(self.model, PretrainingStage) and self.model.reads_texts):
            self.datamodule.profiles  # noqa: B018 without texts this fails before anything is written
        if has_words(self.model):
            check_range("data.entities_per_step", self.datamodule.entities_per_step, least=1, usual="256")
        if self.option("init_from") is not None and self.option("ckpt_path") is None:
            summary = init_from(self.model, Path(self.option("init_from")), self.datamodule.interactions)
            self.model.warm_start()
            if self.trainer.is_global_zero:
                print(summary)
        if self.trainer.is_global_zero:
            for change in self._changes:
                print(f"{self.run_dir}: resumed with {change}")

    def before_fit(self) -> None:
        """Initialise the model from an earlier stage, and prepare the run folder."""
        self._without_validation = watch_nothing_unmeasured(self.trainer, self.datamodule.interactions.valid.nnz)
        self.prepare_model()
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # Lightning's save_last would only update last.ckpt with the best checkpoint. This callback comes after
        # ModelCheckpoint, so that last.ckpt contains its state.
        folder = RunFolder(self.run_dir)
        last = LastCheckpoint(folder, self.option("every_n_minutes"))
        self.trainer.callbacks.append(last)  # type: ignore[attr-defined]
        if not self.trainer.is_global_zero:
            return
        folder.lock()
        self.folder = folder
        if self.option("ckpt_path") is None:
            # Checked again, as another process may have trained here before the folder was locked.
            already_finished(self.run_dir, self.option("if_exists"), self.fingerprint)
            folder.set_aside()
        self._dump_config()
        write_atomically(self.run_dir / "config.yaml", yaml.safe_dump(self.config_dump, sort_keys=False))
        record = {**environment(), "fingerprint": self.fingerprint(), "data": self._data_identity()}
        write_atomically(self.run_dir / "environment.json", strict_json(record, indent=2) + "\n")
        write_dataset(self.datamodule.dataset, self.run_dir)
        if isinstance(self.model, DescribingStage):
            keep_codebook(self.model, self.run_dir)

    def after_fit(self) -> None:
        """Test the best checkpoint once, and write its result, embeddings and descriptors."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        checkpoint = best_checkpoint(self.trainer)
        validated = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        epochs, seconds = self.trainer.current_epoch, self.recorder.seconds  # before testing loads the best epoch's
        tested = evaluate_best(self.trainer, self.model, self.datamodule, checkpoint.best_model_path)
        score = checkpoint.best_model_score
        facts = {
            "seed": self.option("seed_everything"),
            "fingerprint": self.fingerprint(),
            "epochs": epochs,
            "seconds": round(seconds, 1),
            "best": {"monitor": checkpoint.monitor, "score": None if score is None else float(score)},
            "metrics": {**tested, "last_epoch": validated},
        }
        notes = [WITHOUT_VALIDATION] * self._without_validation + [WITHOUT_TEST] * (not tested)
        new_items = self.datamodule.dataset.new_items
        write_outputs(self.model, self.datamodule.interactions, self.run_dir, facts, notes, new_items)
        if self.trainer.is_global_zero:
            recall = f"test/recall@{self.model.top_k[-1]}"
            measured = f"{recall} {tested[recall]:.4f}" if tested else "not tested"
            print("\n".join([f"{self.run_dir}: {epochs} epochs in {seconds:.0f} s, {measured}", *notes]))

    def before_validate(self) -> None:
        """Check that there are validation pairs."""
        require_pairs(self.datamodule.interactions, "valid")

    def before_test(self) -> None:
        """Check that there are test pairs."""
        require_pairs(self.datamodule.interactions, "test")

    def after_predict(self) -> None:
        """Write predictions.parquet, or one file per process if there are several, and remove those of earlier runs."""
        ranks = self.trainer.world_size
        names = [f"predictions-{rank}.parquet" for rank in range(ranks)] if ranks > 1 else ["predictions.parquet"]
        if self.trainer.is_global_zero:
            for old in [*self.run_dir.glob("predictions.parquet"), *self.run_dir.glob("predictions-[0-9]*.parquet")]:
                if old.name not in names:
                    old.unlink()
        path = self.run_dir / names[self.trainer.global_rank]
        interactions = self.datamodule.interactions
        count = write_predictions(self.trainer.predict_loop.predictions, interactions.train, interactions, path)
        print(f"{path}: items for {count:,} users (with scores, filters and other formats: face recommend)")


def main(argv: Sequence[str]) -> int:
    """Run a stage.

    Args:
        argv: fit, validate, test or predict, and its options.

    Returns:
        Exit code 0.
    """
    FaceCLI(argv)
    return 0
