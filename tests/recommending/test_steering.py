from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from face_lightning.cli import main
from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.recommending.recommender import Recommender
from face_lightning.recommending.steering import WordSteering
from face_lightning.text.cache import save_tensors
from tests.recommending.test_recommender import ITEMS, USERS, write_run


def write_meanings(run: Path) -> Path:
    """A vocabulary of two words with opposite meanings; the first items are about war, the last about love."""
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])
    save_tensors(run / "meanings.safetensors", {"words": torch.eye(2), "items": items}, {"words": "war love"})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_meanings(write_run(tmp_path / "run"))


@pytest.fixture
def recommender(run: Path) -> Recommender:
    return Recommender.load(run)


def test_the_direction_of_a_meaning_is_its_least_squares_solution_beside_the_meaning() -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(60, 3, generator=draws), F.normalize(torch.randn(60, 4, generator=draws), dim=1)
    meaning = meanings[7]
    steering = WordSteering(items, meanings)
    direction = steering.direction(meaning)
    marked = torch.zeros(60, dtype=torch.float64)
    marked[sorted(range(60), key=lambda row: -float(meanings[row] @ meaning))[:12]] = 1  # a fifth of the items
    points = (items - items.mean(0)).double()
    gram = points.T @ points
    learnt = torch.linalg.solve(gram + 10 * gram.trace() / 3 * torch.eye(3), points.T @ marked)
    scores = torch.cat([items, meanings], 1) @ direction
    assert float(scores.std()) == pytest.approx(1, rel=1e-5)
    assert F.cosine_similarity(direction[:3], learnt.float(), dim=0) == pytest.approx(1, abs=1e-5)
    assert F.cosine_similarity(direction[3:], meaning, dim=0) == pytest.approx(1, abs=1e-6)
    other = steering.direction(meanings[8])
    combined, expected = steering.combine([direction], [other]), direction - other
    assert torch.allclose(combined, expected / (torch.cat([items, meanings], 1) @ expected).std(), rtol=1e-4, atol=1e-5)
    spreads = float((items @ direction[:3]).std(unbiased=False)), float((meanings @ direction[3:]).std())
    assert spreads[0] == pytest.approx(spreads[1], rel=1e-5)


def test_large_tables_are_summed_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 10
    monkeypatch.setattr("face_lightning.recommending.steering._NUM_ROWS", 7)
    users = torch.eye(3)
    spread = WordSteering(table[:, :3], F.normalize(table, dim=1)).spread(users)
    assert torch.allclose(spread, table[:, :3].std(0, correction=0), rtol=1e-5)


def test_what_texts_name_clearly_is_learnt_less_from_examples() -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(400, 3, generator=draws), F.normalize(torch.randn(400, 8, generator=draws), dim=1)
    vague, clear = F.normalize(torch.randn(8, generator=draws), dim=0), torch.eye(8)[0]
    meanings[:, 0] = 0
    meanings[:20] = clear
    steering = WordSteering(items, meanings)
    shares = []
    for meaning in (vague, clear):
        direction = steering.direction(meaning)
        shares.append(float((items @ direction[:3]).std() / (meanings @ direction[3:]).std()))
    assert shares == pytest.approx([1, 0.25], rel=5e-3)


def test_more_and_less_of_a_word_pull_opposite_ways(recommender: Recommender) -> None:
    more = recommender.steer("7", more=["love"], strength=0.9, filter_seen=None)
    assert more.ids.tolist() == ["50", "40", "30", "20", "10"]
    less = recommender.steer("7", less=["love"], strength=0.9, filter_seen=None)
    assert less.ids.tolist() == more.ids.tolist()[::-1]
    assert (more.more, more.less) == ({"love": ["love"]}, {})
    assert less.less == {"love": ["love"]}


def test_a_word_named_twice_counts_twice(recommender: Recommender) -> None:
    def embedding(*more: str) -> torch.Tensor:
        return recommender.steer("7", more, ["love"], strength=1).embedding

    assert torch.allclose(embedding("war", "war"), embedding("war"), atol=1e-5)  # opposite: only the length differs
    assert embedding("war", "love")[0] * embedding("war", "love", "love")[0] <= 0


def test_an_edit_without_words_or_strength_changes_nothing(recommender: Recommender) -> None:
    plain = recommender.recommend(["ann"], k=3)
    for steered in (recommender.steer("ann", k=3), recommender.steer("ann", ["love"], strength=0, k=3)):
        assert steered.ids.tolist() == plain.ids[0][:2].tolist()  # ann has seen all but two
        assert torch.equal(steered.embedding, USERS[0])


def test_histories_and_nobody_are_steered_too(recommender: Recommender) -> None:
    steered = recommender.steer(["10", "20"], more=["love"], strength=1, k=2)
    assert steered.ids.tolist() == ["50", "40"]
    assert "10" not in recommender.steer(["10", "20"], ["war"], k=9).ids
    assert recommender.steer(["10"], ["war"], strength=1, k=1, filter_seen=None).ids.tolist() == ["10"]
    alone = recommender.steer(None, more=["War "], strength=1, k=1)
    assert (alone.ids.tolist(), alone.more) == (["10"], {"War ": ["war"]})
    assert torch.allclose(recommender.steer(None).embedding, USERS.mean(0))
    assert recommender.steer(7, ["war"], strength=1, k=1, filter_seen=None, deny=["10"]).ids.tolist() == ["20"]


def test_mistakes(recommender: Recommender, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"strength: expected .* 0 .* got 2"):
        recommender.steer("ann", ["war"], strength=2)
    with pytest.raises(DataError, match="more, less: expected words or phrases, got an empty one"):
        recommender.steer("ann", [" "])
    with pytest.raises(DataError, match="users: eve not among"):
        recommender.steer("eve", ["war"])
    with pytest.raises(CheckpointError, match="run: expected a run with words"):
        Recommender.load(write_run(tmp_path / "other")).steer("ann", ["war"])
    (tmp_path / "run" / "config.yaml").write_text("model: {init_args: {words: {init_args: {encoder: null}}}}")
    (tmp_path / "run" / "meanings.safetensors").write_bytes(b"x" * 64)
    with pytest.raises(DataError, match=r"meanings.safetensors is damaged"):
        Recommender.load(tmp_path / "run").steer("ann", ["war"])
    with pytest.raises(CheckpointError, match="loaded from a run"):
        Recommender(recommender.embeddings(), recommender.entities, recommender.seen).steer("ann", ["war"])


def test_face_recommend_names_the_words_that_it_used(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["recommend", "--run", str(run), "--filter_seen", "none", "-k", "1", "--strength", "1"]
    assert main([*common, "--more", "love", "--less", "WAR", "--users", "ann", "bob"]) == 0
    shown = capsys.readouterr().out
    assert "more love\nless WAR: war\n" in shown
    rows = [line.replace("│", " ").split()[:3] for line in shown.splitlines()]
    assert ["ann", "50", "Emma"] in rows
    assert ["bob", "50", "Emma"] in rows
    out = tmp_path / "out.csv"
    assert main([*common, "--more", "war", "--history", "40", "50", "--out", str(out)]) == 0
    assert out.read_text().splitlines()[1].split(",")[1] == '"10"'
    assert main([*common, "--more", "war"]) == 0
    assert "words alone" in capsys.readouterr().out


def test_items_keep_the_scale_of_their_embeddings() -> None:
    steering = WordSteering(ITEMS, F.normalize(ITEMS - ITEMS.mean(0), dim=1))
    spread = (ITEMS @ USERS.T).std(0, correction=0)
    assert torch.allclose(steering.spread(USERS), spread.clamp_min(1e-6), atol=1e-5)
