import select
import socket
import sys
from multiprocessing.reduction import ForkingPickler

import pytest

from face_lightning.serving.worker_sockets import WorkerSocket, run_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux distributes connections among sockets")


def test_connections_are_distributed_among_copies() -> None:
    with WorkerSocket.bound("127.0.0.1", 0) as parent:
        copies = [ForkingPickler.loads(ForkingPickler.dumps(parent)) for _ in range(2)]
        address = parent.getsockname()
        assert [copy.getsockname() for copy in copies] == [address] * 2
        for copy in copies:
            copy.listen(64)
        clients = [socket.create_connection(address, timeout=10) for _ in range(64)]
        ready, _, _ = select.select(copies, [], [], 10)
        assert set(ready) == set(copies)  # by chance, one gets none with probability 2^-63
        for each in (*clients, *copies):
            each.close()


def test_port_of_another_server(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            run_workers("missing:app", host="127.0.0.1", port=port, workers=2)
    assert "Address already in use" in capfd.readouterr().err
