"""Import of optional packages, with an error that names the extra to install."""

import importlib
from types import ModuleType

from face_lightning.errors import MissingDependencyError


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, which the optional dependency group `extra` brings.

    Args:
        module: Dotted name of the module.
        extra: Name of the extra in pyproject.toml that installs it.
        purpose: What the module is wanted for, as it reads after "is needed for".

    Raises:
        MissingDependencyError: If the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module} is needed for {purpose} but cannot be imported ({error}); "
            f"install it with: pip install 'face-lightning[{extra}]'"
        ) from error
