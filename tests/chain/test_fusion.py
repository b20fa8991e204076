"""Stage 3 in closed form: a naive form in float64, resume, and what it leaves of the words."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from benchmarks.loading import load_run
from face_lightning.data.held_out import held_out
from face_lightning.data.readers import RLMRecFolder
from face_lightning.fold_in import FoldIn, LeastSquaresFoldIn
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.kept_loss import kept_fold_in
from face_lightning.structures import Embeddings
from tests.chain.tiny import NUM_ITEMS, NUM_USERS, World, assert_same_weights, checkpoint, fit, result, rows

WEIGHT, REGULARIZATION, STEP = 0.1, 2.0, 0.3
ARGUMENTS = {
    "backbone": "parts/backbone.yaml",
    "mapper": "parts/mapper.yaml",
    "words": "parts/words.yaml",
    "unobserved_weight": WEIGHT,
    "regularization": REGULARIZATION,
    "share_step": STEP,
}


def write(world: World, name: str, **arguments: Any) -> str:
    model = {"class_path": "FusionStage", "init_args": {**ARGUMENTS, **arguments}}
    return world.write(
        name,
        {
            "run_dir": str(world.run(name)),
            "init_from": str(world.run("stage2")),
            "data": "parts/data.yaml",
            "trainer": {"max_epochs": 3},
            "model": model,
        },
    )


def uncentered(world: World) -> dict[str, Any]:
    """Settings of words under which the stage sees text vectors as the encoder gives them, and centers them itself."""
    words = world.read("parts/words")
    words["init_args"]["center"] = False
    return words


@pytest.fixture(scope="module")
def fused(chain: World) -> World:
    assert fit(write(chain, "fusion-texts", meanings="texts", words=uncentered(chain))) == 0
    return chain


def tables(run: Path, name: str = "last") -> np.ndarray:
    values: np.ndarray = checkpoint(run, name)["state_dict"]["backbone.tables.weight"].double().numpy()
    return values


def spread(vectors: np.ndarray, power: float) -> np.ndarray:
    """Vectors less their mean, divided by the deviations of their principal components to a power, of unit length."""
    left, values, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    kept = values > 1e-6 * values[0]
    scaled = left[:, kept] * values[kept] ** (1 - power)
    unit: np.ndarray = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def centered(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors - vectors.mean(0)
    return unit / np.linalg.norm(unit, axis=1, keepdims=True)


def text_meanings(world: World, share: float = 0.0) -> np.ndarray:
    """What texts mean; 0 for the share of items whose texts are held out."""
    from face_lightning.text.encoders import TextEncoder

    texts = RLMRecFolder(world.root / "data", "movie").read().profiles.item_texts  # type: ignore[union-attr]
    encoder = TextEncoder(str(world.root / "encoder" / "model"), precision="float32", cache_dir=world.root / "cache")
    known = ~held_out("item", [f"i{item}" for item in range(NUM_ITEMS)], share, seed=0)
    of_known = spread(centered(encoder.encode(texts).double().numpy()[known]), 0.5)
    meanings = np.zeros((NUM_ITEMS, of_known.shape[1]))
    meanings[known] = of_known
    return meanings


@torch.no_grad()
def word_meanings(world: World, near_words: int) -> np.ndarray:
    """Mean over slots of what their nearest words mean, by a loop."""
    stage = load_run(world.run("stage2"))[0].eval()
    words = spread(stage.space.word_vectors.vectors.double().numpy(), 1.0)
    codes = stage.mapper.quantizer.codes()
    meanings = []
    for concepts in stage.mapper.encode(stage.backbone(stage.graph).items):
        slots = []
        for agreement in (concepts @ codes.T).double().numpy():
            near = np.argsort(-agreement, kind="stable")[:near_words]
            weights = np.exp(agreement[near] / stage.space.word_vectors.temperature)
            slots.append(weights @ words[near] / weights.sum())
        meanings.append(np.mean(slots, axis=0))
    return spread(centered(np.stack(meanings)), 0.5)


def expected_scores(world: World, items: np.ndarray, epoch: int) -> np.ndarray:
    cells = RLMRecFolder(world.root / "data", "movie").read().interactions.train.toarray()
    frequencies = cells.sum(1) + WEIGHT * NUM_ITEMS
    ridges = REGULARIZATION * (frequencies / frequencies.mean()) ** 0.5
    profiles = []
    for user in range(NUM_USERS):
        read = items[cells[user] > 0]
        system = read.T @ read + WEIGHT * items.T @ items + ridges[user] * np.eye(items.shape[1])
        profiles.append(np.linalg.solve(system, read.sum(0)))
    start = tables(world.run("stage2"), "best")
    first, second = start[:NUM_USERS] @ start[NUM_USERS:].T, np.stack(profiles) @ items.T
    total = first + epoch * STEP * np.sqrt((first**2).mean() / (second**2).mean()) * second
    left, values, right = np.linalg.svd(total)
    scores: np.ndarray = left[:, :16] * values[:16] @ right[:16]
    return scores


def test_scores_are_those_of_embeddings_and_profiles_of_texts(fused: World) -> None:
    expected = expected_scores(fused, text_meanings(fused), 2)
    found = tables(fused.run("fusion-texts"))
    assert found[:NUM_USERS] @ found[NUM_USERS:].T == pytest.approx(expected, abs=2e-4 * np.abs(expected).max())


def test_words_and_texts_have_one_profile_and_an_item_without_text_has_its_words(fused: World) -> None:
    config = write(fused, "fusion-both", near_words=3, words=uncentered(fused))
    assert fit(config, "--trainer.max_epochs", "2", "--data.held_out_texts", "0.4") == 0
    texts = text_meanings(fused, share=0.4)
    assert not texts.any(1).all()
    expected = expected_scores(fused, np.concatenate([word_meanings(fused, 3), texts], 1), 1)
    found = tables(fused.run("fusion-both"))
    assert found[:NUM_USERS] @ found[NUM_USERS:].T == pytest.approx(expected, abs=2e-4 * np.abs(expected).max())


def test_it_starts_from_what_the_run_before_had_and_keeps_the_best(fused: World) -> None:
    logged = rows(fused.run("fusion-texts"))
    assert [row["train/share"] for row in logged] == pytest.approx([0.0, STEP, 2 * STEP])
    before = rows(fused.run("stage2"))[-1]
    assert logged[0]["val/recall@20"] == pytest.approx(before["val/recall@20"])
    best = checkpoint(fused.run("fusion-texts"), "best")["epoch"]
    assert logged[best]["val/recall@20"] == max(row["val/recall@20"] for row in logged)


def test_words_are_scored_and_stay_as_they_were(fused: World) -> None:
    assert fit(write(fused, "fusion")) == 0
    words = [
        pq.read_table(fused.run(name) / "descriptors.parquet").to_pydict()["words"] for name in ("stage2", "fusion")
    ]
    assert words[0] == words[1]
    assert result(fused.run("fusion"))["stage"] == "fusion"
    assert not np.allclose(tables(fused.run("fusion")), tables(fused.run("fusion-texts")))
    recommender = Recommender.load(fused.run("fusion"))
    assert len(recommender.describe(items=["i0"])[0].words) == 4


def test_a_shorter_run_goes_on_as_the_longer_one(fused: World, tmp_path: Path) -> None:
    config = str(fused.root / "fusion-texts.yaml")
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_epochs", "2") == 0
    assert fit(config, "--run_dir", tmp_path, "--ckpt_path", "last") == 0
    assert_same_weights(tmp_path, fused.run("fusion-texts"))


def test_another_backbone_is_refused(fused: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = {"class_path": "LightGCN", "init_args": {"embedding_dim": 16}}
    config = write(fused, "fusion-lightgcn", backbone=backbone)
    content = fused.read("fusion-lightgcn")
    del content["init_from"]
    fused.write("fusion-lightgcn", content)
    assert fit(config, "--run_dir", tmp_path / "run") == 2
    assert "backbone: expected GMF for fusion, got LightGCN" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "kind"), [("FusionStage", FoldIn), ("MappingStage", LeastSquaresFoldIn)])
def test_new_users_are_solved_for_only_where_tables_minimise_squares(tmp_path: Path, stage: str, kind: type) -> None:
    arguments = {
        "backbone": {"class_path": "face_lightning.backbones.GMF"},
        "ranking_loss": {"class_path": "face_lightning.losses.WeightedSquares", "init_args": {"regularization": 1.0}},
    }
    model = {"class_path": f"face_lightning.stages.{stage}", "init_args": arguments}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    embeddings = Embeddings(torch.ones(2, 3), torch.ones(4, 3))
    starts, items = np.array([0, 1, 2]), np.array([0, 1])
    assert type(kept_fold_in(tmp_path, embeddings, starts, items)) is kind
