"""Trust policy: the classes that configurations and checkpoints may name, and the models that may be downloaded.

Classes: the policy is set when `face_lightning.commands` or `face_lightning.stages` is imported, and applies to
everything that jsonargparse parses in the process, because Lightning's `load_from_checkpoint` instantiates the classes
that a checkpoint's hyper-parameters name.

Downloads: a model of the hub is downloaded only if its id is typed on the command line, or if downloads are allowed. An
id in a configuration, a checkpoint or a run folder is only looked up on this machine, without network access.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import _common, set_parsing_settings

from face_lightning.bounded_yaml import bound_yaml

FLAG = "--allow-code"
DOWNLOAD_FLAG = "--allow-download"
# Constructors of these neither run nor load code, do not access the network, and write only to checked folders.
TRUSTED = (
    *("face_lightning.backbones", "face_lightning.data.readers", "face_lightning.losses", "face_lightning.mapping"),
    *("face_lightning.stages", "face_lightning.parallel", "face_lightning.text", "face_lightning.words"),
    "torch.optim",
    *("lightning.pytorch.accelerators", "lightning.pytorch.callbacks", "lightning.pytorch.cli.ReduceLROnPlateau"),
    *("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.tensorboard.TensorBoardLogger"),
    *("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.csv_logs.CSVLogger"),
    *("lightning.pytorch.plugins", "lightning.pytorch.profilers", "lightning.pytorch.strategies"),
)


def trust_no_code() -> None:
    """Allow configurations and checkpoints to name only `TRUSTED` classes, and forbid configurations from a URL."""
    bound_yaml()
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=list(TRUSTED),
        instantiate_subclass_spec_in_any=False,
        config_read_mode_urls_enabled=False,
        config_read_mode_fsspec_enabled=False,
    )


def trust_packages(*names: str) -> None:
    """Allow configurations and checkpoints to also name classes of these packages or modules.

    Args:
        names: Import paths, such as `mylab` or `mylab.decorrelated.Decorrelated`.
    """
    set_parsing_settings(import_path_allowlist=list(names))


@contextmanager
def policy_of(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Apply the policy for classes that a command line asks for, and restore the previous one afterwards.

    Args:
        arguments: Arguments of the command line. `--allow-code` only works here: it is removed before parsing, so a
            configuration file cannot set it.

    Yields:
        The arguments without `--allow-code`.
    """
    settings = _common.parsing_settings  # private: jsonargparse has no public way to lift its denylist
    trust_no_code()
    previous = settings["import_path_verdicts"]
    if FLAG in arguments:
        settings["import_path_verdicts"] = {}
    try:
        yield [argument for argument in arguments if argument != FLAG]
    finally:
        settings["import_path_verdicts"] = previous


class _Downloads:
    """Models that may be downloaded: everything, or the ids that occur in `typed`."""

    everything = False
    typed: tuple[str, ...] = ()


def may_download(model: str) -> bool:
    """Whether a model may be downloaded from the hub.

    Args:
        model: Id of the model on the hub.
    """
    whole_id = re.compile(rf"(?<![\w./-]){re.escape(model)}(?![\w./-])")
    return _Downloads.everything or any(whole_id.search(text) for text in _Downloads.typed)


def trust_downloads(*models: str) -> None:
    """Allow these models to be downloaded from the hub, wherever their ids come from.

    Args:
        models: Ids on the hub, such as `intfloat/e5-small-v2`; all models if none is given.
    """
    _Downloads.everything = _Downloads.everything or not models
    _Downloads.typed += models


@contextmanager
def downloads_of(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Allow the downloads that a command line asks for, and restore the previous policy afterwards.

    Args:
        arguments: Arguments of the command line. `--allow-download` allows all downloads; otherwise only models whose
            ids are among the arguments may be downloaded.

    Yields:
        The arguments without `--allow-download`.
    """
    previous = _Downloads.everything, _Downloads.typed
    trust_downloads(*arguments)
    _Downloads.everything = previous[0] or DOWNLOAD_FLAG in arguments
    try:
        yield [argument for argument in arguments if argument != DOWNLOAD_FLAG]
    finally:
        _Downloads.everything, _Downloads.typed = previous
