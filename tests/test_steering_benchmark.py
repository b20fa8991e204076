import math

import pytest
import torch

from benchmarks.steering import at_recall, ndcg
from benchmarks.withheld_topics import without
from benchmarks.word_bottleneck import mapped


def test_texts_that_mention_a_topic_are_found_alone_in_the_plural_and_within_longer_tags() -> None:
    pattern = without(["zombie", "co-op", "rpg"])
    for text in ("Zombies", "Zombie Apocalypse", "Local Co-Op", "Action RPG"):
        assert pattern.search(text), text
    for text in ("Zombieland", "Scoop", "JRPG"):
        assert not pattern.search(text), text


def test_ndcg_of_a_topic() -> None:
    marked = torch.tensor([True, False, True] + [False] * 27)
    top = torch.arange(20)[None].repeat(2, 1)
    top[1] += 5
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(top, marked) == pytest.approx((1 + 1 / 2) / ideal / 2)


def test_values_are_interpolated_at_equal_recall() -> None:
    rows = [
        {"test/recall@20": recall, "topic_ndcg@20": value} for recall, value in ((0.4, 0.1), (0.3, 0.2), (0.1, 0.5))
    ]
    assert at_recall(rows, 0.875) == pytest.approx(0.15)
    assert at_recall(rows, 0.5) == pytest.approx(0.35)
    assert math.isnan(at_recall(rows, 0.1))


def test_predictions_come_from_other_folds() -> None:
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(mapped(values @ torch.tensor([[2.0, 1.0], [0.0, 1.0]]), values, 1e-6), values, atol=1e-2)
    unrelated = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    assert (mapped(unrelated, values, 1e-6) - values).square().mean() > values.var() / 2
