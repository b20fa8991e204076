"""API keys of servers, from environment variables."""

import os

from face_lightning.errors import ConfigurationError


def read_api_key(variable: str | None) -> str | None:
    """Read a key from an environment variable, as other users could read it on the command line.

    Args:
        variable: Name of the variable; None for no key.

    Raises:
        ConfigurationError: If the variable is not set, or cannot be sent in an HTTP header.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigurationError(
            f"api_key_env: expected a key in the variable {variable}, got none; set it, or omit --api_key_env"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            f"api_key_env: expected a key of printable ASCII characters in the variable {variable}, got others, such "
            "as a line break; correct it"
        )
    return key
