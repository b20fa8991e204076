import pytest

from tests.chain.tiny import World, fit, write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world with its configurations, before any run."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def chain(world: World) -> World:
    """The world after stage 1, its control, stage 2 and stage 3; to be read only."""
    for name in ("stage1", "control", "stage2", "stage3"):
        assert fit(world.config(name)) == 0
    return world
