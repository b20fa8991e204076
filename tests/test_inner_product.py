"""Tests of the search for the largest blocks; ranker and token search test the whole search."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning import inner_product
from face_lightning.inner_product import InnerProductSearch, rank_items

NUMBERS = st.sampled_from([-float("inf"), -3.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, 3e38])


@given(st.integers(1, 4), st.integers(2, 9), st.integers(1, 9), st.data())
def test_blocks_are_those_of_the_largest_maxima(
    num_rows: int, num_blocks: int, count: int, data: st.DataObject
) -> None:
    size = num_rows * num_blocks * 3
    numbers = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    blocks = torch.tensor(numbers, dtype=torch.bfloat16).view(num_rows, num_blocks, 3)
    found = inner_product._best_blocks(blocks, min(count, num_blocks))
    for row, chosen in zip(blocks.float().amax(2), found, strict=True):
        assert len(set(chosen.tolist())) == len(chosen)
        assert sorted(row[chosen].tolist()) == row.sort(descending=True).values[: len(chosen)].sort().values.tolist()


def test_negative_scores_are_ordered_correctly() -> None:
    keys = -torch.rand(2000, 8, generator=torch.Generator().manual_seed(0))
    queries = torch.rand(5, 8, generator=torch.Generator().manual_seed(1))
    expected = rank_items((queries.double() @ keys.double().T).float(), 4)
    assert torch.equal(InnerProductSearch(keys).search(queries, 4), expected)


def test_num_candidates_per_call() -> None:
    keys = torch.randn(700, 4, generator=torch.Generator().manual_seed(0))
    search, expected = InnerProductSearch(keys, 1), rank_items(keys[:9] @ keys.T, 3)
    for count in (None, 1, 5, 700, 9000):
        assert torch.equal(search.search(keys[:9], 3, num_candidates=count), expected)
