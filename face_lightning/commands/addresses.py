"""Addresses that commands serve on."""

import socket

from face_lightning.errors import ConfigurationError


def check_address(host: str, port: int) -> None:
    """Check that a server can listen on an address.

    Raises:
        ConfigurationError: If another server uses the port, or the host is not an address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, to restart without delay
            probe.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"host, port: expected an address to listen on, got {host}, {port} ({error.strerror}); "
            "choose another port by --port, or another address of this machine by --host"
        ) from error
