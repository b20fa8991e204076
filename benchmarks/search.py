"""Searches hyper-parameters of stage 1 on validation: python -m benchmarks.search amazon-book LightGCN --trials 10.

`--try lr=0.002 l2=0.01` runs chosen values first; whatever is not named is drawn by Optuna's TPE. The test split is
never read. All trials are kept in benchmarks/results/search.log (Optuna's journal) with their curve over epochs and
their seconds; asked for again, the search goes on from there.
"""

import argparse
import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

import face_lightning.backbones
from benchmarks.records import RESULTS, processor, shared_data
from face_lightning.allocator import keep_freed_memory
from face_lightning.backbones import Backbone
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.stages import PretrainingStage

SPACE = {"lr": (5e-4, 1e-2), "l2": (1e-7, 5e-2)}  # searched on a logarithmic scale
CONTRAST = {"contrast_weight": (0.01, 0.5), "temperature": (0.1, 0.5)}
BATCH_SIZES = [1024, 2048, 4096]


class Watch(L.Callback):
    """Reports validation to the trial, and stops when it no longer rises or time is up."""

    def __init__(self, trial: optuna.Trial, patience: int, minutes: float) -> None:
        self.trial, self.patience, self.minutes = trial, patience, minutes
        self.best, self.best_epoch, self.started = 0.0, 0, time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take in a validation."""
        del pl_module
        score, epoch = float(trainer.callback_metrics["val/recall@20"]), trainer.current_epoch
        self.trial.report(score, epoch)
        if score > self.best:
            self.best, self.best_epoch = score, epoch
            self.trial.set_user_attr("best_epoch", epoch)
            self.trial.set_user_attr("best_seconds", round(time.monotonic() - self.started, 1))
        late = epoch - self.best_epoch >= self.patience or time.monotonic() - self.started > 60 * self.minutes
        trainer.should_stop = trainer.should_stop or late


def fit(trial: optuna.Trial, arguments: argparse.Namespace) -> float:
    """Best validation Recall@20 of a run."""
    kind: type[Backbone] = getattr(face_lightning.backbones, arguments.backbone)
    space = SPACE | (CONTRAST if arguments.backbone.endswith("GCL") else {})
    drawn = {key: trial.suggest_float(key, low, high, log=True) for key, (low, high) in space.items()}
    batch_size = trial.suggest_categorical("batch_size", BATCH_SIZES)
    options: dict[str, Any] = {key: value for key, value in drawn.items() if key in CONTRAST}
    options |= dict(pair.split("=") for pair in arguments.set)
    options = {key: float(value) if _is_number(value) else value for key, value in options.items()}
    options |= {
        key: int(options[key]) for key in ("num_layers", "rank", "contrast_layer", "max_contrasted") if key in options
    }
    trial.set_user_attr("options", {**options, "seed": arguments.seed, "anneal": arguments.anneal and arguments.epochs})
    trial.set_user_attr("machine", f"{processor()}, {torch.get_num_threads()} threads")
    L.seed_everything(arguments.seed)
    data = InteractionDataModule(
        RLMRecFolder(arguments.data / arguments.dataset), batch_size, entities_per_step=0, seed=arguments.seed
    )
    stage = PretrainingStage(
        partial(kind, embedding_dim=arguments.dim, **options),
        data.num_users,
        data.num_items,
        optimizer=lambda parameters: Adam(parameters, lr=drawn["lr"], fused=True),
        scheduler=(lambda optimizer: CosineAnnealingLR(optimizer, arguments.epochs)) if arguments.anneal else None,
        l2_weight=drawn["l2"],
    )
    patience = arguments.epochs if arguments.anneal else arguments.patience
    watch = Watch(trial, patience, arguments.minutes)
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        precision=arguments.precision,
        check_val_every_n_epoch=arguments.every,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(stage, data)
    return watch.best


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def main() -> None:
    """Run trials and print the best."""
    keep_freed_memory()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("backbone", help="class, such as LightGCN")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--try", nargs="*", default=[], dest="chosen", help="values of the first trial, as lr=0.002")
    parser.add_argument("--set", nargs="*", default=[], help="fixed options of the backbone, as num_layers=2")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--anneal", action="store_true", help="let lr fall to 0 by a cosine; nothing stops early")
    parser.add_argument("--every", type=int, default=2, help="epochs between validations")
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better validation")
    parser.add_argument("--minutes", type=float, default=10, help="longest time of a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads of a trial")
    parser.add_argument("--data", type=Path, default=shared_data())
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    RESULTS.mkdir(exist_ok=True)
    study = optuna.create_study(
        study_name=f"{arguments.dataset}/{arguments.backbone}/{arguments.dim}",
        storage=JournalStorage(JournalFileBackend(str(RESULTS / "search.log"))),
        sampler=optuna.samplers.TPESampler(n_startup_trials=5),
        direction="maximize",
        load_if_exists=True,
    )
    if arguments.chosen:
        pairs = dict(pair.split("=") for pair in arguments.chosen)
        chosen = {key: int(value) if key == "batch_size" else float(value) for key, value in pairs.items()}
        study.enqueue_trial({"batch_size": 2048, **chosen})
    study.optimize(lambda trial: fit(trial, arguments), n_trials=arguments.trials)
    print(f"{study.study_name}: best of {len(study.trials)}: {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
