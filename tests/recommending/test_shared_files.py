"""The cache of derived tables: the second process reads what the first has written."""

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from face_lightning import inner_product
from face_lightning.recommending import embedding_recommender, index_search
from face_lightning.recommending.index_search import IndexKind
from face_lightning.recommending.recommender import Recommender, TopK
from face_lightning.recommending.shared_files import SharedFiles
from tests.recommending.test_recommender import write_run

TABLE = torch.arange(6.0).view(2, 3)


def answers(recommender: Recommender, index: IndexKind | None) -> list[TopK]:
    if index is not None:
        recommender.use_index(index)
    recommender.warm_up()
    return [recommender.recommend(k=3), recommender.similar_items(["10", "30"], 2), recommender.similar_users("ann", 2)]


@pytest.mark.parametrize("index", [None, "hnsw", "ivf"])
@pytest.mark.parametrize("rounded", [False, True])
def test_the_second_process_reuses_the_cache_with_equal_results(
    index: IndexKind | None, rounded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inner_product, "has_bfloat16", lambda device: rounded)
    run = write_run(tmp_path / "run")
    expected = answers(Recommender.load(run), index)
    built: list[str] = []
    normalize, graph = embedding_recommender.F.normalize, index_search._build_graph

    def count(name: str, build: object) -> object:
        return lambda *arguments, **options: built.append(name) or build(*arguments, **options)  # type: ignore[operator]

    monkeypatch.setattr(embedding_recommender.F, "normalize", count("directions", normalize))
    monkeypatch.setattr(index_search, "_build_graph", count("graph", graph))
    for _ in range(2):
        recommender = Recommender.load(run)
        recommender.share(tmp_path / "shared")
        found = answers(recommender, index)
        assert [(one.ids.tolist(), one.scores.tolist()) for one in found] == [
            (one.ids.tolist(), one.scores.tolist()) for one in expected
        ]
    assert sorted(built) == ["directions", "directions", *(["graph"] if index == "hnsw" else [])]
    names = {path.name for path in (tmp_path / "shared").rglob("*")}
    assert names >= {"item_directions.pt", "user_directions.pt"}
    assert ("items-rounded.pt" in names) == rounded
    assert (f"items.{index}" in names) == (index is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["a", "table", "items-rounded"])
def test_tensors_are_aligned_to_cache_lines(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = SharedFiles(tmp_path, [TABLE]).tensor(name, lambda: TABLE.to(dtype))
    assert tensor.data_ptr() % 64 == 0
    assert torch.equal(tensor, TABLE.to(dtype))


def test_one_builds_while_others_wait(tmp_path: Path) -> None:
    built: list[int] = []
    begin = threading.Barrier(4)

    def build() -> Tensor:
        built.append(1)
        return TABLE.T

    def ask() -> None:
        begin.wait()
        assert torch.equal(SharedFiles(tmp_path, [TABLE]).tensor("turned", build), TABLE.T)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_other_tables_have_other_files_which_can_be_removed(tmp_path: Path) -> None:
    first, second = SharedFiles(tmp_path, [TABLE]), SharedFiles(tmp_path, [TABLE + 1])
    kept = first.tensor("table", lambda: TABLE)
    assert torch.equal(second.tensor("table", lambda: TABLE + 1), TABLE + 1)
    second.remove_others()
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(kept, TABLE)  # a mapped file stays readable after its removal
    assert torch.equal(SharedFiles(tmp_path, [TABLE.view(3, 2)]).tensor("table", lambda: TABLE - 1), TABLE - 1)


def test_a_failed_build_leaves_no_file(tmp_path: Path) -> None:
    shared = SharedFiles(tmp_path, [TABLE])
    with pytest.raises(ZeroDivisionError):
        shared.path("file", lambda path: path.write_text(str(1 / 0)))
    assert shared.path("file", lambda path: path.write_text("whole")).read_text() == "whole"  # type: ignore[arg-type, return-value]
