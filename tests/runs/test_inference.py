import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.runs.inference import (
    EMBEDDINGS,
    ENTITIES,
    INTERACTIONS,
    check_seen,
    read_embeddings,
    read_entities,
    read_interactions,
    write_data,
    write_embeddings,
)
from face_lightning.structures import Embeddings

TRAIN = [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
VALID = [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
TEST = [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def matrices() -> list[csr_array]:
    return [csr_array(np.array(rows, dtype=np.float32)) for rows in (TRAIN, VALID, TEST)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ids = np.array(["ann", "bob", "Véronique"]), np.array(["1", "2", "3", "4"])
    write_data(tmp_path, matrices(), ids, (("Ann", "Bob", "V."), ("one", "two", "three", "four")), "f" * 64)
    write_embeddings(tmp_path, Embeddings(torch.eye(3, 2), torch.arange(8.0).view(4, 2)), "f" * 64)
    return tmp_path


def test_files_round_trip(run: Path) -> None:
    entities = read_entities(run)
    assert entities.user_ids.to_pylist() == ["ann", "bob", "Véronique"]
    assert entities.item_ids.to_pylist() == ["1", "2", "3", "4"]
    assert (entities.user_labels[2].as_py(), entities.item_labels[3].as_py()) == ("V.", "four")
    assert (entities.user_rows["bob"], entities.item_rows["4"]) == (1, 3)
    embeddings, fingerprint = read_embeddings(run)
    assert torch.equal(embeddings.users, torch.eye(3, 2))
    assert torch.equal(embeddings.items, torch.arange(8.0).view(4, 2))
    assert fingerprint == entities.fingerprint == read_interactions(run)[1] == "f" * 64
    assert sorted(path.name for path in run.iterdir()) == [EMBEDDINGS, ENTITIES, INTERACTIONS]


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs Linux's list of mapped files")
def test_tables_are_memory_mapped(run: Path) -> None:
    embeddings, _ = read_embeddings(run)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = [range(*(int(end, 16) for end in line[0].split("-"))) for line in lines if line[-1].endswith(EMBEDDINGS)]
    for table in embeddings:
        assert any(table.data_ptr() in addresses for addresses in mapped)


def test_seen_items_are_selected_by_split(run: Path) -> None:
    seen, _ = read_interactions(run)
    users = np.array([2, 1, 0])
    expected = {"train": ([0, 2, 2], [1, 0, 3]), "train+val": ([0, 0, 2, 2, 2], [0, 1, 0, 1, 3])}
    expected["all"] = ([0, 0, 2, 2, 2, 2], [0, 1, 0, 1, 2, 3])
    for name, (rows, items) in expected.items():
        found = seen.of(users, check_seen(name))
        assert (found[0].tolist(), found[1].tolist()) == (rows, items), name
    assert [part.tolist() for part in seen.of(np.array([], dtype=np.int64), "all")] == [[], []]


def test_each_split_is_read_as_a_matrix(run: Path) -> None:
    seen, _ = read_interactions(run)
    for split, rows in enumerate((TRAIN, VALID, TEST)):
        assert seen.matrix(split, 4).toarray().tolist() == rows


def test_files_have_the_permissions_of_the_umask(run: Path) -> None:
    modes = {stat.S_IMODE((run / name).stat().st_mode) for name in (ENTITIES, INTERACTIONS, EMBEDDINGS)}
    (run / "plain").touch()
    assert modes == {stat.S_IMODE((run / "plain").stat().st_mode)}


def test_ids_are_the_default_labels(tmp_path: Path) -> None:
    write_data(tmp_path, matrices(), (np.arange(3).astype(str), np.arange(4).astype(str)), None, "f" * 64)
    assert read_entities(tmp_path).item_labels.to_pylist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("name", [ENTITIES, INTERACTIONS, EMBEDDINGS])
def test_missing_and_damaged_files(run: Path, name: str) -> None:
    read = {ENTITIES: read_entities, INTERACTIONS: read_interactions, EMBEDDINGS: read_embeddings}[name]
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"run: .*{name} is damaged .*; train that run again"):
        read(run)
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=rf"run: expected the folder of a finished run, but .* has no {name}"):
        read(run)


def test_unknown_split() -> None:
    assert check_seen(None) is None
    with pytest.raises(ConfigurationError, match="filter_seen: expected train, train\\+val, all or None, got 'valid'"):
        check_seen("valid")
