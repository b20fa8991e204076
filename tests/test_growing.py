"""The split of the benchmark on growing data has no leakage."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import growing
from benchmarks.speed_tables import paired
from face_lightning.data.movielens import MovieLensTables


def test_old_interactions_are_the_first_ones_and_keep_their_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    pairs = np.stack(np.unravel_index(generator.permutation(600)[:300], (20, 30)), axis=1)
    ratings = np.column_stack([pairs, generator.integers(1, 6, 300), generator.permutation(300)])
    monkeypatch.setattr(growing, "read_tables", lambda root: MovieLensTables(ratings, (), ()))
    growing.write_splits(tmp_path, tmp_path, seed=0, share=0.8)

    def read(name: str) -> set[tuple[int, int]]:
        lines = (tmp_path / f"{name}.csv").read_text().splitlines()
        assert lines[0] == "user_id,item_id"
        return {tuple(map(int, line.split(","))) for line in lines[1:]}

    liked = ratings[ratings[:, 2] >= 4]
    oldest = liked[liked[:, 3].argsort()][: int(0.8 * len(liked))]
    old = [read(f"old{suffix}") for suffix in ("", "-valid", "-test")]
    whole = [read(f"whole{suffix}") for suffix in ("", "-valid", "-test")]
    assert set.union(*old) == {tuple(pair) for pair in oldest[:, :2].tolist()}
    assert set.union(*whole) == {tuple(pair) for pair in liked[:, :2].tolist()}
    assert sum(map(len, whole)) == len(liked)
    assert all(before <= after for before, after in zip(old, whole, strict=True))
    assert all(whole)


def test_differences_of_the_same_seeds_have_an_interval() -> None:
    metrics = ({"warm": 0.3, "anew": 0.2}, {"warm": 0.4, "anew": 0.2}, {"warm": 0.5, "anew": 0.2})
    records = [{"metrics": of_seed} for of_seed in metrics]
    assert paired("warm", "anew")(records, None) == "+0.2000 ± 0.2484"  # 4.3027 * 0.1 / sqrt(3)
    assert paired("warm", "anew")(records[:1], None) == ""
