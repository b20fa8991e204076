"""Tests of alternating least squares: objective, planted clusters, resumes, two processes, and later stages."""

import itertools
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.sparse import csr_array

from face_lightning.backbones import GMF, LightGCN
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.errors import ConfigurationError
from face_lightning.recommending.recommender import Recommender
from face_lightning.stages import LeastSquaresStage
from face_lightning.stages.least_squares import Settings
from tests.chain.test_processes import fit_together
from tests.chain.tiny import (
    NUM_ITEMS,
    NUM_USERS,
    QUIET,
    World,
    assert_same_weights,
    checkpoint,
    face,
    fit,
    result,
    rows,
    write_world,
)
from tests.processes import Command

WEIGHT, REGULARIZATION, POWER, DISCOUNT = 0.1, 0.5, 0.5, 0.2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = write_world(tmp_path_factory.mktemp("world"))
    content = world.read("stage1")
    arguments = {"unobserved_weight": WEIGHT, "regularization": REGULARIZATION, "frequency_power": POWER}
    arguments |= {"popularity_discount": DISCOUNT, "regularization_growth": 1.0}
    content["model"] = {
        "class_path": "LeastSquaresStage",
        "init_args": {"backbone": "parts/backbone.yaml", **arguments},
    }
    content["run_dir"] = str(world.run("stage1-als"))
    world.write("stage1-als", content)
    assert fit(world.config("stage1-als")) == 0
    return world


def targets(cells: np.ndarray) -> np.ndarray:
    discounted = np.maximum(cells.sum(0), 1) ** -DISCOUNT
    return np.asarray(discounted / discounted.mean())


def naive_objective(
    tables: np.ndarray, cells: np.ndarray, regularization: float = REGULARIZATION, weight: float = WEIGHT
) -> float:
    users, items = tables[:NUM_USERS], tables[NUM_USERS:]
    scores = users @ items.T
    total = ((scores - targets(cells)) ** 2)[cells > 0].sum() + weight * (scores**2).sum()
    for table, counts, others in ((users, cells.sum(1), NUM_ITEMS), (items, cells.sum(0), NUM_USERS)):
        frequency = counts + weight * others
        total += (regularization * (frequency / frequency.mean()) ** POWER * (table**2).sum(1)).sum()
    return float(total / cells.sum())


def test_objective_is_over_all_pairs_and_never_increases(world: World) -> None:
    logged = [row["train/loss"] for row in rows(world.run("stage1-als"))]
    assert len(logged) == 4
    assert all(later < earlier + 1e-6 for earlier, later in itertools.pairwise(logged))
    tables = checkpoint(world.run("stage1-als"))["state_dict"]["backbone.tables.weight"].double().numpy()
    cells = RLMRecFolder(world.root / "data", "movie").read().interactions.train.toarray()
    assert logged[-1] == pytest.approx(naive_objective(tables, cells), rel=1e-5)
    for row in range(NUM_USERS, NUM_USERS + NUM_ITEMS):  # items were solved last: each is optimal
        for factor in (0.9, 1.1):
            moved = tables.copy()
            moved[row] *= factor
            assert naive_objective(moved, cells) > naive_objective(tables, cells) - 1e-9


def test_default_increases_regularisation_along_the_path(world: World, tmp_path: Path) -> None:
    """The third step, taken by a resumed run, does not depend on whether the second improved validation."""
    command = ["--model.init_args.regularization_growth=1.5", "--model.init_args.unobserved_weight=null"]
    command = [world.config("stage1-als"), *command, "--run_dir", str(tmp_path)]
    assert fit(*command, "--trainer.max_epochs=2") == 0
    assert fit(*command, "--trainer.max_epochs=3", "--ckpt_path=last") == 0
    kept = checkpoint(tmp_path)
    tables = kept["state_dict"]["backbone.tables.weight"].double().numpy()
    cells = RLMRecFolder(world.root / "data", "movie").read().interactions.train.toarray()
    of_the_third_epoch, weight = REGULARIZATION * 1.5**2, 0.2 * np.sqrt(cells.mean())
    settings = {"unobserved_weight": weight, "regularization": of_the_third_epoch, "popularity_discount": DISCOUNT}
    assert kept["least_squares"]["settings"] == pytest.approx(settings)
    expected = naive_objective(tables, cells, of_the_third_epoch, weight)
    assert rows(tmp_path)[-1]["train/loss"] == pytest.approx(expected, rel=1e-5)
    for row in range(NUM_USERS, NUM_USERS + NUM_ITEMS):  # solved last
        moved = tables.copy()
        moved[row] *= 1.1
        assert naive_objective(moved, cells, of_the_third_epoch, weight) > expected


def test_steps_against_popularity_raise_weight_regularisation_and_discount() -> None:
    settings = Settings(0.01, 2.0, 0.05)
    assert settings.against_popularity(0) == settings
    assert settings.against_popularity(2) == pytest.approx((0.02, 2.5, 0.15))
    assert settings.against_popularity(-2) == pytest.approx((0.005, 1.6, 0.0)), "no discount below 0"


def test_refinements_surround_constant_settings() -> None:
    stage = LeastSquaresStage(
        GMF, 3, 4, unobserved_weight=0.01, regularization=2.0, regularization_growth=1.0, popularity_discount=0.1
    )
    found = [tuple(options.values()) for options in stage.refinements()]
    expected = [(0.01 * 2**0.5, 2 * 1.25**0.5, 0.15), (0.01 / 2**0.5, 2 / 1.25**0.5, 0.05), (0.01, 2.2, 0.1)]
    expected.append((0.01, 2 / 1.1, 0.1))
    assert found == [pytest.approx((*values, 1.0)) for values in expected]


def test_warm_start_restores_zero_directions() -> None:
    stage = LeastSquaresStage(GMF, 30, 20)
    with torch.no_grad():
        for table in stage.backbone.initial_embeddings():
            table.zero_()[:, 0] = 1.0
    stage.warm_start()
    for table in stage.backbone.initial_embeddings():
        assert torch.linalg.matrix_rank(table) == len(table)
        assert (table[:, 0] - 1).abs().max() < 0.2


def test_path_requires_validation_pairs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interactions = RLMRecFolder(world.root / "data", "movie").read().interactions
    empty = replace(interactions, valid=csr_array(interactions.valid.shape, dtype=np.float32))
    monkeypatch.setattr(InteractionDataModule, "interactions", empty)
    growth = "--model.init_args.regularization_growth="
    assert fit(world.config("stage1-als"), f"{growth}1.1", "--run_dir", tmp_path / "run") == 2
    assert "regularization_growth: expected 1, got 1.1, as there are no validation" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_learns_the_planted_clusters(world: World) -> None:
    found = result(world.run("stage1-als"))
    assert found["stage"] == "least_squares"
    assert found["backbone"] == "GMF"
    assert found["metrics"]["test/ndcg@5"] > 0.5  # chance is a third of that: 1 of 3 clusters


def test_resuming_a_shorter_run_equals_a_longer_run(world: World, tmp_path: Path) -> None:
    assert fit(world.config("stage1-als"), "--run_dir", tmp_path, "--trainer.max_epochs", "2") == 0
    assert fit(world.config("stage1-als"), "--run_dir", tmp_path, "--ckpt_path", "last") == 0
    assert_same_weights(tmp_path, world.run("stage1-als"))
    assert result(tmp_path)["metrics"] == result(world.run("stage1-als"))["metrics"]


def test_resume_in_mid_epoch_is_bit_identical(world: World, tmp_path: Path) -> None:
    config = world.read("stage1-als")
    config["every_n_minutes"] = 0
    # batch 9 of the second sweep solves items: all users are new, and some of the items
    config["trainer"]["callbacks"] = [{"class_path": "tests.chain.tiny.Killer", "init_args": {"epoch": 1, "batch": 9}}]
    config["data"] = {**yaml.safe_load((world.root / "parts/data.yaml").read_text()), "batch_size": 64}
    killed = world.write("killed", {**config, "run_dir": str(tmp_path / "cut")})
    running = Command("fit", "--config", killed, *QUIET, "--allow-code")
    running.communicate(timeout=300)
    assert running.returncode == -signal.SIGKILL
    del config["trainer"]["callbacks"]
    whole = world.write("whole", {**config, "run_dir": str(tmp_path / "whole")})
    assert fit(whole) == 0
    assert fit(whole, "--run_dir", tmp_path / "cut", "--ckpt_path", "last") == 0
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_equal_one(world: World, tmp_path: Path) -> None:
    many = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=32", "--run_dir", str(tmp_path)]
    fit_together(2, ["fit", "--config", world.config("stage1-als"), *QUIET, *many])
    one, two = (checkpoint(run)["state_dict"]["backbone.tables.weight"] for run in (world.run("stage1-als"), tmp_path))
    assert torch.allclose(one, two, atol=1e-4)
    assert result(tmp_path)["metrics"]["test/recall@20"] == pytest.approx(
        result(world.run("stage1-als"))["metrics"]["test/recall@20"], abs=1e-3
    )


def test_stage_2_starts_from_it_with_unchanged_tables(world: World, tmp_path: Path) -> None:
    command = [
        "fit",
        "--config",
        world.config("stage2"),
        *QUIET,
        "--run_dir",
        tmp_path,
        "--init_from",
        world.run("stage1-als"),
    ]
    assert face(*command) == 0
    assert_same_tables(tmp_path, world.run("stage1-als"))


def assert_same_tables(one: Path, other: Path) -> None:
    key = "backbone.tables.weight"
    best = checkpoint(other, "best")["state_dict"][key]
    assert torch.equal(checkpoint(one)["state_dict"][key], best)


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ConfigurationError, match="backbone: expected GMF for least squares, got LightGCN"):
        LeastSquaresStage(LightGCN, 3, 4)
    with pytest.raises(ConfigurationError, match="regularization: expected more than 0, got 0"):
        LeastSquaresStage(GMF, 3, 4, regularization=0)
    with pytest.raises(ConfigurationError, match="frequency_power: expected at least 0 and at most 1, got 2"):
        LeastSquaresStage(GMF, 3, 4, frequency_power=2)


def test_fold_in_of_a_known_history_equals_another_half_epoch(world: World) -> None:
    """Expected values solve the normal equations of the objective."""
    recommender = Recommender.load(world.run("stage1-als"))
    items = recommender.embeddings().items.double().numpy()
    cells = RLMRecFolder(world.root / "data", "movie").read().interactions.train.toarray()
    frequency = cells.sum(1) + WEIGHT * NUM_ITEMS
    weights = REGULARIZATION * (frequency / frequency.mean()) ** POWER
    liked = [np.flatnonzero(row) for row in cells]
    expected = [
        np.linalg.solve(items[own].T @ items[own] + WEIGHT * items.T @ items + weight * np.eye(len(items.T)), sums)
        for own, weight, sums in zip(liked, weights, (targets(cells)[own] @ items[own] for own in liked), strict=True)
    ]
    found = recommender.embed_history([[recommender.entities.item_ids[item].as_py() for item in own] for own in liked])
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-5)
