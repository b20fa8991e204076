import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.sparse import csr_array

from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_data, write_embeddings
from face_lightning.structures import Embeddings

USERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
ITEMS = torch.tensor([[4.0, 0.0], [3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [0.0, 4.0]])
NAMES = ("Alien", "Blade", "Cats", "Dune", "Emma")
SPLITS = (
    [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]],
    [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
)


def write_run(folder: Path, fingerprint: str = "f" * 64) -> Path:
    """A finished run of three users and five items, small enough to rank by eye."""
    folder.mkdir(exist_ok=True)
    matrices = [csr_array(np.array(split, dtype=np.float32)) for split in SPLITS]
    ids = np.array(["ann", "bob", "7"]), np.array(["10", "20", "30", "40", "50"])
    write_data(folder, matrices, ids, (("Ann", "Bob", "Zoë"), NAMES), fingerprint)
    write_embeddings(folder, Embeddings(USERS, ITEMS), fingerprint)
    rows = [("user", "ann"), ("user", "bob"), ("user", "7"), *(("item", item) for item in ids[1].tolist())]
    words = [{"kind": kind, "id": name, "label": name, "words": [f"w{name}"], "text": None} for kind, name in rows]
    pq.write_table(pa.Table.from_pylist(words), folder / "descriptors.parquet")
    return folder


@pytest.fixture
def recommender(tmp_path: Path) -> Recommender:
    return Recommender.load(write_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("filter_seen", "expected"),
    [
        (None, ["10", "20", "30", "40", "50"]),
        ("train", ["20", "30", "40", "50", None]),
        ("train+val", ["30", "40", "50", None, None]),
        ("all", ["40", "50", None, None, None]),
    ],
)
def test_users_get_their_top_unseen_items(
    recommender: Recommender, filter_seen: str | None, expected: list[str | None]
) -> None:
    top = recommender.recommend(["ann"], k=9, filter_seen=filter_seen)
    assert top.query_ids.tolist() == ["ann"]
    assert top.ids.tolist() == [expected]
    scores = {"10": 4.0, "20": 3.0, "30": 2.0, "40": 1.0, "50": 0.0, None: -np.inf}
    assert top.scores.tolist() == [[scores[item] for item in expected]]


def test_ties_are_ordered_by_row_and_ids_may_be_numbers(recommender: Recommender) -> None:
    top = recommender.recommend([7], k=3, filter_seen=None)
    assert top.ids.tolist() == [["10", "20", "30"]]
    assert recommender.recommend("bob", k=1, filter_seen=None).ids.tolist() == [["50"]]


def test_all_users_are_ranked_in_order_by_default(recommender: Recommender) -> None:
    top = recommender.recommend(k=2)
    assert top.query_ids.tolist() == ["ann", "bob", "7"]
    assert top.ids.tolist() == [["40", "50"], ["30", "20"], ["20", "30"]]


def test_items_are_chosen_and_left_out_by_id(recommender: Recommender) -> None:
    assert recommender.recommend(["ann"], 3, filter_seen=None, allow=[40, 20, 30], deny=["20"]).ids.tolist() == [
        ["30", "40"]
    ]
    assert recommender.recommend(["ann"], 3, deny=["40", "50"]).ids.tolist() == [[None, None, None]]
    assert recommender.recommend(["ann"], 3, allow=[]).ids.shape == (1, 0)


def test_new_users_get_items_similar_to_their_history(recommender: Recommender) -> None:
    top = recommender.recommend_history({"eve": ["10", "20"], "max": [50, "50"]}, k=2)
    assert top.query_ids.tolist() == ["eve", "max"]
    assert top.ids[:, 0].tolist() == ["30", "40"]
    numbered = recommender.recommend_history([["50"]], k=2, filter_seen=False)
    assert numbered.query_ids.tolist() == ["0"]
    assert numbered.ids[0, 0] == "50"
    embedded = recommender.embed_history([["50"]])
    assert numbered.scores[0, 0] == pytest.approx(float(embedded[0] @ ITEMS[4]))


def test_unknown_ids_are_named_in_one_error_or_skipped(recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"users: eve, 8 not among the users of this run .* or skip unknown ones"):
        recommender.recommend(["eve", "ann", 8])
    with pytest.raises(DataError, match="items: 60, 70 not among the items"):
        recommender.recommend_history([["10", "60"], ["70"]])
    with pytest.raises(DataError, match="items: 0, 1, 2, 3, 4 and 4 more not among"):
        recommender.similar_items(range(9))
    assert recommender.recommend(["eve", "ann"], unknown="skip").query_ids.tolist() == ["ann"]
    skipped = recommender.recommend_history({"a": ["60"], "b": ["10", "60"]}, unknown="skip")
    assert skipped.query_ids.tolist() == ["b"]
    assert recommender.recommend(["eve"], unknown="skip").ids.shape == (0, 0)


def test_similar_entities_by_cosine_without_themselves(recommender: Recommender) -> None:
    top = recommender.similar_items(["10"], k=9)
    assert top.ids.tolist() == [["20", "30", "40", "50", None]]
    assert top.scores[0, :2].tolist() == pytest.approx([3 / 10**0.5, 1 / 2**0.5])
    assert recommender.similar_users(["ann"], k=1).ids.tolist() == [["7"]]


def test_words_come_from_the_run(recommender: Recommender) -> None:
    found = recommender.describe(items=["50"], users=["7"])
    assert [(one.kind, one.id, one.words) for one in found] == [("user", "7", ["w7"]), ("item", "50", ["w50"])]
    assert recommender.run_dir is not None
    (recommender.run_dir / "descriptors.parquet").unlink()
    with pytest.raises(CheckpointError, match=r"run: expected a run with words, but .* has no descriptors.parquet"):
        Recommender.load(recommender.run_dir).describe(items=["50"])


def test_embeddings_are_those_of_the_run(recommender: Recommender) -> None:
    assert torch.equal(recommender.embeddings().users, USERS)
    assert torch.equal(recommender.embeddings().items, ITEMS)


def test_mistakes(recommender: Recommender) -> None:
    with pytest.raises(ConfigurationError, match="filter_seen: expected train, train\\+val, all or None, got 'test'"):
        recommender.recommend(["ann"], filter_seen="test")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="unknown: expected error or skip, got 'ignore'"):
        recommender.recommend(["ann"], unknown="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="k: expected at least 1, got -1"):
        recommender.recommend(["ann"], k=-1)
    with pytest.raises(DataError, match="histories: expected at least one item in each, but a has none"):
        recommender.recommend_history({"a": [], "b": ["10"]})


def test_files_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_embeddings(run, Embeddings(USERS, ITEMS), "e" * 64)
    with pytest.raises(CheckpointError, match=r"run: expected files of one run, but those in .* belong to different"):
        Recommender.load(run)
    write_embeddings(run, Embeddings(USERS[:2], ITEMS), "f" * 64)
    with pytest.raises(CheckpointError, match="belong to different data"):
        Recommender.load(run)


def test_a_run_may_be_moved_and_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    write_run(tmp_path / "run").rename(tmp_path / "moved")
    code = (
        "import sys; from face_lightning import Recommender; r = Recommender.load(sys.argv[1]);"
        "assert r.recommend(['ann'], 1).ids.tolist() == [['40']];"
        "heavy = {'lightning', 'transformers', 'sentence_transformers', 'torch_geometric', 'scipy', 'wordfreq'};"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "moved")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
