"""A run that is retrained in its folder while it is served."""

import threading
from pathlib import Path

import pytest

from tests.chain.tiny import QUIET, fit, process, write_world
from tests.serving.conftest import Start


@pytest.mark.slow
def test_a_run_is_served_while_it_is_retrained(tmp_path: Path, start: Start) -> None:
    world = write_world(tmp_path)
    assert fit(world.config("stage1")) == 0
    client = start(world.run("stage1"), watch_seconds=0.05)
    user = client.app.state.live.current.entities.user_ids[0].as_py()
    answers: list[tuple[int, object]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.01):
            status, found = client.ask("POST", "/recommend", {"users": [user], "k": 5})
            answers.append((status, tuple(found["results"][0]["ids"]) if status == 200 else found))

    asking = threading.Thread(target=ask)
    asking.start()
    arguments = ["--config", world.config("stage1"), *QUIET, "--seed_everything", "7", "--if_exists", "overwrite"]
    training = process("fit", *arguments)
    _, errors = training.communicate()
    while training.returncode == 0 and client.ask("GET", "/health")[1]["reloads"] == 0:
        pass
    done.set()
    asking.join()
    assert training.returncode == 0, errors
    assert {status for status, _ in answers} == {200}, answers
    assert len({ids for _, ids in answers}) == 2  # the results of both trainings, and no others
    assert client.ask("GET", "/health")[1]["status"] == "ok"
