import socket

import pytest

from face_lightning.commands.addresses import check_address
from face_lightning.errors import ConfigurationError


def test_a_port_in_use_is_refused_until_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"got 127\.0\.0\.1, {port} \(Address already in use\)"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid", "2001:db8::1"])
def test_hosts_that_are_not_of_this_machine(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host, port: expected an address to listen on, got " + host):
        check_address(host, 8000)
