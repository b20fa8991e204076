from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from face_lightning.cli import main
from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.recommending.recommender import Recommender
from face_lightning.recommending.steering import Topic, WordSteering
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


def parts(steering_of: tuple[torch.Tensor, torch.Tensor], meaning: torch.Tensor) -> list[torch.Tensor]:
    """Agreement of items with a word by texts and by least squares, both standardised over items, naively."""
    items, meanings = steering_of
    num_examples = min(20, len(items) // 5)
    marked = torch.zeros(len(items), dtype=torch.float64)
    marked[sorted(range(len(items)), key=lambda row: -float(meanings[row] @ meaning))[:num_examples]] = 1
    points = (items - items.mean(0)).double()
    gram = points.T @ points
    learnt = torch.linalg.solve(gram + 10 * gram.diagonal().mean() * torch.eye(len(gram)), points.T @ marked)
    values = (meanings @ meaning).double(), points @ learnt
    return [(value - value.mean()) / value.std(correction=0) for value in values]


def test_a_topic_combines_texts_and_least_squares() -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(60, 3, generator=draws), F.normalize(torch.randn(60, 4, generator=draws), dim=1)
    topic = WordSteering(items, meanings).topic(meanings[7])
    by_text, by_embedding = parts((items, meanings), meanings[7])
    columns = torch.stack([by_text, by_embedding, torch.ones(60)], 1)
    fitted = torch.linalg.lstsq(columns, topic.agreement.double()[:, None]).solution
    assert torch.allclose(columns @ fitted, topic.agreement.double()[:, None], atol=1e-5)
    assert float(fitted[1] / fitted[0]) == pytest.approx(1, rel=1e-4)  # random texts name nothing clearly
    along = (items @ topic.direction).double()
    assert torch.allclose(along - along.mean(), by_embedding, atol=1e-4)


def test_the_gram_matrix_is_summed_in_tiles_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(50, 4, generator=draws) + 10, F.normalize(torch.randn(50, 4, generator=draws), dim=1)
    expected = WordSteering(items, meanings).topic(meanings[0])
    monkeypatch.setattr("face_lightning.recommending.steering._NUM_ROWS", 7)
    topic = WordSteering(items, meanings).topic(meanings[0])
    assert torch.allclose(topic.agreement, expected.agreement, atol=1e-4)


def test_clear_texts_reduce_the_weight_of_least_squares() -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(400, 3, generator=draws), F.normalize(torch.randn(400, 8, generator=draws), dim=1)
    vague, clear = F.normalize(torch.randn(8, generator=draws), dim=0), torch.eye(8)[0]
    meanings[:, 0] = 0
    meanings[:20] = clear
    steering = WordSteering(items, meanings)
    for meaning, weight in ((vague, 1), (clear, 0.25)):
        by_text, by_embedding = parts((items, meanings), meaning)
        expected = by_text + weight * by_embedding
        agreement = steering.topic(meaning).agreement.double()
        assert torch.allclose(agreement, expected / expected.std(correction=0), atol=0.02)


def test_relevance_is_the_difference_of_exponential_gains() -> None:
    draws = torch.Generator().manual_seed(0)
    items, meanings = torch.randn(60, 3, generator=draws), F.normalize(torch.randn(60, 4, generator=draws), dim=1)
    steering = WordSteering(items, meanings)
    one, two, three = (steering.topic(meaning) for meaning in meanings[:3])

    def gain(*topics: Topic) -> torch.Tensor:
        total = torch.stack([topic.agreement for topic in topics]).sum(0)
        return torch.exp((total - total.mean()) / total.std(correction=0))

    for more, less, expected in (
        ([one], [], gain(one)),
        ([], [one], -gain(one)),
        ([one, two], [three], gain(one, two) - gain(three)),
        ([one, one, two], [], gain(one, one, two)),
    ):
        relevance = steering.relevance(more, less)
        standardized = (expected - expected.mean()) / expected.std(correction=0)
        assert torch.allclose(relevance - relevance.mean(), standardized, atol=1e-5)
    user = torch.randn(3, generator=draws)
    scores = items @ user
    blend = steering.scores(user, steering.relevance([one], []), 0.25)
    expected = 0.75 * scores + 0.25 * scores.std(correction=0) * gain(one) / gain(one).std(correction=0)
    assert torch.allclose(blend - blend.mean(), expected - expected.mean(), atol=1e-5)


def test_more_and_less_of_a_word_have_opposite_effects(recommender: Recommender) -> None:
    more = recommender.steer("7", more=["love"], strength=0.9, filter_seen=None)
    assert more.ids.tolist() == ["50", "40", "30", "20", "10"]
    less = recommender.steer("7", less=["love"], strength=0.9, filter_seen=None)
    assert less.ids.tolist() == more.ids.tolist()[::-1]
    assert (more.more, more.less) == ({"love": ["love"]}, {})
    assert less.less == {"love": ["love"]}


def test_the_edited_embedding_moves_towards_the_words(recommender: Recommender) -> None:
    user = recommender.steer("7").embedding
    towards, away = (
        recommender.steer("7", **words, strength=0.5).embedding for words in ({"more": ["love"]}, {"less": ["love"]})
    )
    assert torch.allclose(towards + away, user, atol=1e-5)
    along = towards - away
    assert float(ITEMS[4] @ along) > float(ITEMS[0] @ along)


def test_steering_without_words_or_strength_changes_nothing(recommender: Recommender) -> None:
    plain = recommender.recommend(["ann"], k=3)
    for steered in (recommender.steer("ann", k=3), recommender.steer("ann", ["love"], strength=0, k=3)):
        assert steered.ids.tolist() == plain.ids[0][:2].tolist()  # ann has seen all but two
        assert torch.equal(steered.embedding, USERS[0])


def test_histories_and_the_average_user_can_be_steered(recommender: Recommender) -> None:
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
