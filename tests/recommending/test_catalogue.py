import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.errors import ConfigurationError
from face_lightning.recommending.catalogue import Catalogue


def naive(
    table: np.ndarray, query: np.ndarray, k: int, candidates: set[int], excluded: set[int]
) -> list[tuple[int, float]]:
    """Top-k rows by a full sort of exact scores, ties by row."""
    scores = {row: float(table[row] @ query) for row in sorted(candidates - excluded)}
    return sorted(scores.items(), key=lambda pair: -pair[1])[: min(k, len(candidates))]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_ranking_equals_a_full_sort_of_the_candidates(data: st.DataObject) -> None:
    num_rows, num_queries = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    draws = np.random.default_rng(data.draw(st.integers(0, 1000)))
    table = draws.integers(-3, 4, (num_rows, 4)).astype(np.float32)  # integers: exact sums, and many ties
    queries = draws.integers(-3, 4, (num_queries, 4)).astype(np.float32)
    rows = st.lists(st.integers(0, num_rows - 1), unique=True)
    allow, deny = data.draw(st.none() | rows), data.draw(st.none() | rows)
    excluded = [sorted(data.draw(rows)) for _ in range(num_queries)]
    k = data.draw(st.integers(1, num_rows + 3))

    catalogue = Catalogue(torch.from_numpy(table))
    candidates = catalogue.candidates(*(None if ids is None else np.array(ids, int) for ids in (allow, deny)))
    pairs = (
        np.repeat(np.arange(num_queries), [len(ids) for ids in excluded]),
        np.array([row for rows in excluded for row in rows], int),
    )
    (ranked,) = catalogue.rank(torch.from_numpy(queries), np.arange(num_queries), k, candidates, pairs)
    allowed = (set(range(num_rows)) if allow is None else set(allow)) - set(deny or [])
    for query in range(num_queries):
        expected = naive(table, queries[query], k, allowed, set(excluded[query]))
        count = ranked.counts[query]
        found = list(zip(ranked.rows[query][:count].tolist(), ranked.scores[query][:count].tolist(), strict=True))
        assert found == expected
        assert np.isneginf(ranked.scores[query][count:]).all()


def test_ranking_in_tiles_equals_ranking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    excluded = np.repeat(np.arange(20), 2), np.tile([3, 7], 20)
    catalogue = Catalogue(table)
    (whole,) = catalogue.rank(table[:20], np.arange(20), 5, None, excluded)
    monkeypatch.setattr("face_lightning.recommending.catalogue._MAX_SCORES_CPU", 150)
    tiles = list(catalogue.rank(table[:20], np.arange(20), 5, None, excluded))
    assert [len(tile.queries) for tile in tiles] == [3] * 6 + [2]
    for name in whole._fields:
        assert np.array_equal(np.concatenate([getattr(tile, name) for tile in tiles]), getattr(whole, name)), name
    assert not np.isin(whole.rows, [3, 7]).any()


def test_the_search_among_the_last_candidates_is_cached() -> None:
    catalogue = Catalogue(torch.eye(4))
    first, second = np.array([0, 2]), np.array([1])
    searches = [catalogue._search(candidates) for candidates in (first, first.copy(), second, None, None)]
    assert searches[0] is searches[1]
    assert searches[3] is searches[4]
    assert len(set(map(id, searches))) == 3


def test_k_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="k: expected at least 1, got 0; 20 is usual"):
        list(Catalogue(torch.eye(2)).rank(torch.eye(2), np.arange(2), 0))
