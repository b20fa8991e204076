"""What configurations and checkpoints may name: one policy for all commands and for the API.

It is set where `face_lightning.commands` or `face_lightning.stages` is imported, and applies to all that jsonargparse
parses in the process, because Lightning's `load_from_checkpoint` builds what a checkpoint's hyper-parameters name.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import _common, set_parsing_settings

from face_lightning.bounded_yaml import bound_yaml

FLAG = "--allow-code"
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
