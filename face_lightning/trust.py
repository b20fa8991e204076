"""What configurations and checkpoints may name and download: one policy for all commands and for the API.

Names of classes: the policy is set where `face_lightning.commands` or `face_lightning.stages` is imported, and applies
to all that jsonargparse parses in the process, because Lightning's `load_from_checkpoint` builds what a checkpoint's
hyper-parameters name.

Downloads: a model of the hub is downloaded only if its id is typed on the command line, or if downloads are allowed. An
id in a configuration, a checkpoint or a run folder finds a model that is on this machine, and opens no address.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import _common, set_parsing_settings

from face_lightning.bounded_yaml import bound_yaml

FLAG = "--allow-code"
DOWNLOAD_FLAG = "--allow-download"
# Constructors of these neither run nor load code, reach no network, and write only to folders that are checked.
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
    """Let configurations and checkpoints name nothing but `TRUSTED`, and read no configuration from a network."""
    bound_yaml()
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=list(TRUSTED),
        instantiate_subclass_spec_in_any=False,
        config_read_mode_urls_enabled=False,
        config_read_mode_fsspec_enabled=False,
    )


def trust_packages(*names: str) -> None:
    """Let configurations and checkpoints name classes of these packages or modules as well.

    Args:
        names: Import paths, such as `mylab` or `mylab.decorrelated.Decorrelated`.
    """
    set_parsing_settings(import_path_allowlist=list(names))


@contextmanager
def policy_of(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Apply the policy that a command line asks for, and restore the one before it afterwards.

    Args:
        arguments: What was typed. Configurations cannot contain `--allow-code`: it is removed before they are read.

    Yields:
        The arguments without `--allow-code`.
    """
    settings = _common.parsing_settings  # private: jsonargparse has no public way to lift its denylist
    trust_no_code()
    before = settings["import_path_verdicts"]
    if FLAG in arguments:
        settings["import_path_verdicts"] = {}
    try:
        yield [argument for argument in arguments if argument != FLAG]
    finally:
        settings["import_path_verdicts"] = before


class _Downloads:
    """What may be downloaded: everything, or the ids that occur in `typed`."""

    everything = False
    typed: tuple[str, ...] = ()


def may_download(model: str) -> bool:
    """Whether a model of the hub may be downloaded.

    Args:
        model: Id on the hub.
    """
    whole = re.compile(rf"(?<![\w./-]){re.escape(model)}(?![\w./-])")
    return _Downloads.everything or any(whole.search(text) for text in _Downloads.typed)


def trust_downloads(*models: str) -> None:
    """Let these models be downloaded from the hub, whoever names them.

    Args:
        models: Ids on the hub, such as `intfloat/e5-small-v2`; without one, all models.
    """
    _Downloads.everything = _Downloads.everything or not models
    _Downloads.typed += models


@contextmanager
def downloads_of(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Allow the downloads that a command line asks for, and restore what was allowed before it afterwards.

    Args:
        arguments: What was typed: `--allow-download` allows all of them, else those are allowed that are named.

    Yields:
        The arguments without `--allow-download`.
    """
    before = _Downloads.everything, _Downloads.typed
    trust_downloads(*arguments)
    _Downloads.everything = before[0] or DOWNLOAD_FLAG in arguments
    try:
        yield [argument for argument in arguments if argument != DOWNLOAD_FLAG]
    finally:
        _Downloads.everything, _Downloads.typed = before
