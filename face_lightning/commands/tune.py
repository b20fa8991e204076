"""`face tune`: search the hyper-parameters of a stage on validation, and write the best configuration."""

import argparse
import gc
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.trial import OVERRIDES, Configuration, Trial, space_of, value_of
from face_lightning.errors import ConfigurationError, TrainingError, check_range
from face_lightning.files import write_atomically
from face_lightning.imports import import_optional
from face_lightning.runs.folder import RunFolder
from face_lightning.search_space import Between, OneOf

if TYPE_CHECKING:
    import optuna

_SHOWN = 10  # trials in the table


class Search:
    """A study of optuna in a folder, which can be continued.

    Args:
        arguments: Options of `face fit`.
        folder: Folder of the study and the best configuration; next to the run folder if None.
        console: Console to print progress to.

    Raises:
        ConfigurationError: If there is nothing to search, or the folder contains a search of another configuration.
    """

    def __init__(self, arguments: Sequence[str], folder: Path | None, console: Console) -> None:
        self._optuna = import_optional("optuna", extra="tune", purpose="face tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._arguments, self._console = arguments, console
        configuration = Configuration(arguments)
        self._options = configuration.options
        self.space: dict[str, Between | OneOf] = space_of(self._options)
        if not self.space:
            raise ConfigurationError(
                f"--config: expected a stage with options to search, got {self._options['model']['class_path']}; give "
                "its class a search_space"
            )
        run_dir = Path(self._options["run_dir"])
        self.folder = folder or run_dir.with_name(f"{run_dir.name}-tune")
        identity = f"{configuration.identity} {sorted(self.space.items())}"
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._lock = RunFolder(self.folder)

    def __enter__(self) -> Self:
        """Lock the folder, and open or create its study."""
        self._lock.lock()
        storages = self._optuna.storages
        backend = storages.journal.JournalFileBackend(str(self.folder / "study.log"))
        self._study = self._optuna.create_study(
            study_name="face tune",
            storage=storages.JournalStorage(backend),
            direction="maximize",
            load_if_exists=True,
        )
        if self._study.user_attrs.get("configuration", self._identity) != self._identity:
            raise ConfigurationError(
                f"--out: expected a folder for this search, but {self.folder} holds that of another configuration; "
                "give another --out, or delete it"
            )
        self._study.set_user_attr("configuration", self._identity)
        seed = int(self._options["seed_everything"]) + len(self.trials)
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        self._study.pruner = self._optuna.pruners.MedianPruner(
            n_startup_trials=3, n_warmup_steps=(self._options["trainer"]["max_epochs"] or 0) // 4
        )
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):  # left by a killed process
            self._study.tell(trial.number, state=states.FAIL)
            self._study.enqueue_trial(trial.params)
        return self

    def __exit__(self, *error: object) -> None:
        """Release the folder."""
        self._lock.unlock()

    @property
    def trials(self) -> list["optuna.trial.FrozenTrial"]:
        """Finished trials."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @property
    def best(self) -> "optuna.trial.FrozenTrial | None":
        """Best trial that was not pruned."""
        complete = [trial for trial in self.trials if trial.state == self._optuna.trial.TrialState.COMPLETE]
        return max(complete, key=_value, default=None)

    @property
    def given(self) -> "optuna.trial.FrozenTrial | None":
        """Trial of the given configuration."""
        return next((trial for trial in self.trials if trial.user_attrs.get("given")), None)

    def run(self, num_trials: int, minutes: float) -> None:
        """Run trials until there are `num_trials` in total, or the time is up."""
        deadline = time.monotonic() + 60 * minutes
        while len(self.trials) < num_trials and time.monotonic() < deadline:
            trial, options = self._next()
            try:
                run = Trial(
                    [*self._arguments, *(f"--{key}={value}" for key, value in options.items())], trial, deadline
                )
            except TrainingError as error:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
                self._console.print(f"trial {trial.number}: {error}", highlight=False, soft_wrap=True)
                continue
            self._tell(trial, run)
            del run
            gc.collect()  # tables and word spaces are in reference cycles with their trainer

    def _next(self) -> tuple["optuna.Trial", dict[str, Any]]:
        """Start a trial and choose its options.

        The first trial is the given configuration. The sampler learns its options only if all are in the search space.
        """
        configured = {option: value_of(self._options, option) for option in self.space}
        is_first = self.given is None
        is_in_space = all(_contains(choice, configured[option]) for option, choice in self.space.items())
        if is_first and is_in_space:
            self._study.enqueue_trial(configured)
        self._enqueue_suggestion()
        trial = self._study.ask()
        trial.set_user_attr("given", is_first)
        if is_first and not is_in_space:
            return trial, {}
        return trial, {option: _suggest(trial, option, choice) for option, choice in self.space.items()}

    def _enqueue_suggestion(self) -> None:
        """Enqueue the next suggestion that was not tried yet, unless a trial is already waiting."""
        waiting = (self._optuna.trial.TrialState.WAITING,)
        while (suggestions := self._study.user_attrs.get("suggestions")) and not self._study.get_trials(False, waiting):
            self._study.set_user_attr("suggestions", suggestions[1:])
            self._study.enqueue_trial(suggestions[0], skip_if_exists=True)

    def _refine(self, run: Trial) -> None:
        """Store the refinements that the stage suggests after the best trial so far, before earlier suggestions."""
        suggestions = [
            {f"model.init_args.{key}": value for key, value in options.items()} for options in run.model.refinements()
        ]
        suggestions = [
            options
            for options in suggestions
            if all(_contains(self.space[key], value) for key, value in options.items())
        ]
        self._study.set_user_attr("suggestions", suggestions + self._study.user_attrs.get("suggestions", []))

    def _tell(self, trial: "optuna.Trial", run: Trial) -> None:
        """Report the result of a trial to the study, and write the configuration if it is the best."""
        score = run.score
        states = self._optuna.trial.TrialState
        for name in ("epochs", "best_epoch", "seconds", "is_cut"):
            trial.set_user_attr(name, getattr(score, name))
        previous_best = self.best
        self._study.tell(
            trial, None if score.is_pruned else score.value, states.PRUNED if score.is_pruned else states.COMPLETE
        )
        best = self.best
        assert best is not None, "the first trials are not pruned"
        if previous_best is None or best.number != previous_best.number:
            self._write(run, best)
            self._refine(run)
        ended = ", pruned" if score.is_pruned else ", cut: time is up" if score.is_cut else ""
        self._console.print(
            f"trial {trial.number}: {score.value:.4f} (best {best.value:.4f}) in {score.seconds:.0f} s, "
            f"{score.epochs} epochs{ended}: {_described(trial.params) or 'the configuration as it is'}",
            highlight=False,
            soft_wrap=True,
        )

    def _write(self, run: Trial, best: "optuna.trial.FrozenTrial") -> None:
        """Write best.yaml: the configuration of the trial, without the overrides of trials."""
        options = run.options
        for option in OVERRIDES:
            section, _, key = option.rpartition(".")
            (value_of(options, section) if section else options)[key] = value_of(self._options, option)
        params = "\n".join(f"#   {option}: {value}" for option, value in best.params.items())
        monitored = " and ".join(run.monitored)
        head = f"# face tune, trial {best.number}: {monitored} {best.value:.4f} on validation\n{params}\n"
        write_atomically(self.folder / "best.yaml", head + yaml.safe_dump(options, sort_keys=False))

    def table(self) -> Table:
        """Table of the best trials, best first."""
        names = _short_names(list(self.space))
        table = Table(
            "trial", "validation", *names.values(), "best epoch", "seconds", title=f"best of {len(self.trials)}"
        )
        shown = sorted((trial for trial in self.trials if trial.value is not None), key=_value, reverse=True)
        for trial in shown[:_SHOWN]:
            values = {option: trial.params.get(option, value_of(self._options, option)) for option in names}
            attributes = trial.user_attrs
            table.add_row(
                f"{trial.number}{' (given)' if attributes.get('given') else ''}",
                f"{trial.value:.4f}{' (pruned)' if trial.state == self._optuna.trial.TrialState.PRUNED else ''}",
                *map(_shown, values.values()),
                f"{attributes['best_epoch']} of {attributes['epochs']}",
                f"{attributes['seconds']:.0f}",
            )
        return table


def _value(trial: "optuna.trial.FrozenTrial") -> float:
    return -math.inf if trial.value is None else trial.value


def _contains(choice: Between | OneOf, value: object) -> bool:
    """Whether a range contains a value."""
    if isinstance(choice, OneOf):
        return value in choice.values
    return isinstance(value, int | float) and choice.low <= value <= choice.high


def _suggest(trial: "optuna.Trial", option: str, choice: Between | OneOf) -> Any:  # noqa: ANN401
    if isinstance(choice, OneOf):
        return trial.suggest_categorical(option, choice.values)
    return trial.suggest_float(option, choice.low, choice.high, log=choice.log)


def _short_names(options: Sequence[str]) -> dict[str, str]:
    """Last part of each option, preceded by the part before it where that is needed to distinguish two options."""
    parts = {option: [part for part in option.split(".") if part not in ("model", "init_args")] for option in options}
    last = [names[-1] for names in parts.values()]
    return {
        option: names[-1] if last.count(names[-1]) == 1 else ".".join(names[-2:]) for option, names in parts.items()
    }


def _described(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(params[option])}" for option, name in _short_names(list(params)).items())


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the search, print the best trials, and write the best configuration.

    Args:
        argv: Arguments after `face tune`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If no trial ends with a value, or the arguments are wrong.
    """
    parser = CommandParser(
        prog="face tune",
        description="Search the hyper-parameters of a stage on validation; the test split is never read. The best "
        "configuration is written to OUT/best.yaml, for face-fit --config. Called again, it continues the search.",
        epilog="--config FILE and all other options are those of face fit. The first trial is the given configuration. "
        "The search space is that of the configured classes (search_space).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--trials", type=int, default=20, help="total number of trials, earlier ones included (default: 20)"
    )
    parser.add_argument("--minutes", type=float, default=10, help="maximum minutes of this call (default: 10)")
    parser.add_argument("--out", type=Path, help="folder of the search (default: RUN_DIR-tune)")
    options, rest = parser.parse_known_args(argv)
    check_range("--trials", options.trials, least=1, usual="20")
    check_range("--minutes", options.minutes, above=0, usual="10")
    console = Console(width=max(Console().width, 120))
    with Search(rest, options.out, console) as search:
        if search.trials:
            console.print(f"{search.folder}: continued after {len(search.trials)} trials", highlight=False)
        search.run(options.trials, options.minutes)
        best, given = search.best, search.given
        if best is None:
            raise ConfigurationError(
                "face tune: expected a trial that ends with a value, got none; allow more --minutes, or see "
                "the messages of the trials above"
            )
        console.print(search.table())
    gain = (
        "" if given is None or not given.value else f", {_value(best) / _value(given) - 1:+.1%} over the configuration"
    )
    console.print(f"best on validation: {best.value:.4f}{gain}", highlight=False)
    console.print(f"face-fit --config {search.folder / 'best.yaml'}", highlight=False, soft_wrap=True)
    return 0
