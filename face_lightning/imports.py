"""Import of optional packages, with an error that names the extra to install."""

import importlib
from types import ModuleType

from face_lightning.errors import MissingDependencyError


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module that an optional dependency group installs.

    Args:
        module: Dotted name of the module.
        extra: Name of the extra in pyproject.toml that installs it.
        purpose: What the module is needed for; completes "is needed for" in the error message.

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
