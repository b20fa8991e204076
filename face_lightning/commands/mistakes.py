"""Errors of Lightning's, torch's and the system's that are mistakes of the user's."""

from lightning.fabric.utilities.exceptions import MisconfigurationException

from face_lightning.errors import ConfigurationError, FaceError

_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's words for a lost process


def mistake_of(error: BaseException) -> FaceError | None:
    """An error as one that the user can mend; None for a bug."""
    if isinstance(error, FaceError):
        return error
    if isinstance(error, MisconfigurationException) or (isinstance(error, OSError) and error.filename is not None):
        return ConfigurationError(f"{error}; mend that, or see the whole error with --debug")
    if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
        return ConfigurationError(f"early_stopping.monitor: {error}")
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GONE):
        return ConfigurationError(
            "processes: expected all of them to the end, but one has died, which the output above or its own tells of; "
            "mend that, then go on with --ckpt_path last"
        )
    if isinstance(error, ValueError) and str(error).startswith("Invalid "):  # torch's optimizers
        return ConfigurationError(f"model.init_args.optimizer: {error}; correct the value")
    return None
