import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.steering_curves import Curves, bootstrap, interpolate, ndcg
from benchmarks.withheld_topics import read, without, write_copy
from benchmarks.word_bottleneck import mapped, regressed


def test_texts_that_mention_a_topic_are_found_alone_in_the_plural_and_within_longer_tags() -> None:
    pattern = without(["zombie", "co-op", "rpg"])
    for text in ("Zombies", "Zombie Apocalypse", "Local Co-Op", "Action RPG"):
        assert pattern.search(text), text
    for text in ("Zombieland", "Scoop", "JRPG"):
        assert not pattern.search(text), text


def test_no_text_of_a_copy_mentions_a_withheld_topic(tmp_path: Path) -> None:
    pairs = [f"{user},{item}" for user in range(5) for item in range(6)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id", *pairs]))
    tags = [["Genes", "network"], ["genes", "social networks"], ["genes", "network"], ["genes"], ["rare"], []]
    lines = [json.dumps({"item_id": item, "tags": listed}) for item, listed in enumerate(tags)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    assert write_copy(read(tmp_path, "item"), out, every=2, least=2) == (["network"], ["genes"])
    kept = [json.loads(line)["tags"] for line in (out / "items.jsonl").read_text().splitlines()]
    assert kept == [["Genes"], ["genes"], ["genes"], ["genes"], ["rare"], []]
    assert json.loads((out / "topics.json").read_text())["items"] == {"genes": [0, 1, 2, 3], "network": [0, 2]}


def test_ndcg_of_a_topic() -> None:
    marked = torch.zeros(2, 30, dtype=torch.bool)
    marked[0, [0, 2]] = marked[1, 29] = True
    top = torch.arange(20)[None].repeat(2, 1)
    top[1] += 5
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(top, marked).flatten().tolist() == pytest.approx([(1 + 1 / 2) / ideal, 0, 0, 0])


def test_values_are_interpolated_at_equal_recall() -> None:
    recalls, values = [0.4, 0.3, 0.1], [0.1, 0.2, 0.5]
    assert interpolate(recalls, values, 0.875) == pytest.approx(0.15)
    assert interpolate(recalls, values, 0.5) == pytest.approx(0.35)
    assert math.isnan(interpolate(recalls, values, 0.1))


def test_intervals_are_of_differences_at_equal_recall() -> None:
    one, other = (Curves.__new__(Curves) for _ in range(2))
    draws = torch.Generator().manual_seed(0)
    falling = torch.tensor([0.4, 0.3, 0.1])[:, None, None].expand(3, 5, 8)
    for curves, gain in ((one, 0.2), (other, 0.1)):
        curves.recall = falling
        curves.ndcg = gain * torch.arange(3)[:, None, None] * torch.ones(3, 5, 8)
    assert one.at(0.75) - other.at(0.75) == pytest.approx(0.1)
    assert bootstrap([(one, other)], 0.75, 20) == pytest.approx((0.1, 0.1), abs=1e-6)
    one.ndcg = one.ndcg + torch.rand(1, 5, 8, generator=draws)
    low, high = bootstrap([(one, other)] * 2, 0.75, 200)
    assert low < one.at(0.75) - other.at(0.75) < high


def test_predictions_come_from_other_folds() -> None:
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(mapped(values @ torch.tensor([[2.0, 1.0], [0.0, 1.0]]), values, 1e-6), values, atol=1e-2)
    unrelated = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    assert (mapped(unrelated, values, 1e-6) - values).square().mean() > values.var() / 2
    assert (regressed(unrelated, values, 1e-6) - values).square().mean() > values.var() / 2
    points = F.normalize(values, dim=1)
    assert torch.allclose(regressed(points, points.square(), 1e-6), points.square(), atol=0.02)
