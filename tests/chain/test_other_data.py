"""A run knows its data: what it keeps of them, and what happens when others are configured."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from face_lightning.backbones import LightGCN
from face_lightning.data.pickles import read_matrix
from face_lightning.data.readers import RLMRecFolder
from face_lightning.graph import build_graph
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import read_embeddings, read_entities, read_interactions
from tests.chain.tiny import NUM_ITEMS, NUM_USERS, QUIET, World, checkpoint, face, fit


@pytest.fixture
def other_split(chain: World, tmp_path: Path) -> str:
    """Data options of the same users and items with validation and test exchanged."""
    folder = tmp_path / "other"
    shutil.copytree(chain.root / "data", folder)
    for name, source in (("val", "tst"), ("tst", "val")):
        shutil.copy(chain.root / "data" / f"{source}_mat.pkl", folder / f"{name}_mat.pkl")
    return str(folder)


def fingerprint(folder: str | Path) -> str:
    return RLMRecFolder(Path(folder)).read().interactions.fingerprint


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_run_keeps_what_inference_needs(chain: World, stage: str) -> None:
    interactions = RLMRecFolder(chain.root / "data").read().interactions
    entities, (seen, _), (embeddings, _) = (
        read(chain.run(stage)) for read in (read_entities, read_interactions, read_embeddings)
    )
    assert entities.user_ids.to_pylist() == interactions.user_ids.tolist()
    assert entities.item_ids.to_pylist() == interactions.item_ids.tolist()
    assert entities.item_labels[1].as_py() == "Film 1"
    for number, split in enumerate(("train", "valid", "test")):
        assert (seen.matrix(number, interactions.num_items) != interactions.matrix(split)).nnz == 0
    table = checkpoint(chain.run(stage), "best")["state_dict"]["backbone.tables.weight"]
    assert torch.equal(torch.cat(list(embeddings)), table), "of the best epoch, which GMF ranks by as they are"
    assert entities.fingerprint == interactions.fingerprint == checkpoint(chain.run(stage))["data"]["fingerprint"]


def test_graph_embeddings_are_kept_as_evaluation_uses_them(chain: World, tmp_path: Path) -> None:
    assert fit(chain.config("stage1"), "--run_dir", tmp_path, "--model.init_args.backbone", "LightGCN") == 0
    embeddings, _ = read_embeddings(tmp_path)
    backbone = LightGCN(NUM_USERS, NUM_ITEMS, 16).eval()
    backbone.tables.weight.data = checkpoint(tmp_path, "best")["state_dict"]["backbone.tables.weight"]
    with torch.no_grad():
        expected = backbone(build_graph(RLMRecFolder(chain.root / "data").read().interactions.train))
    torch.testing.assert_close(tuple(embeddings), tuple(expected))


@pytest.mark.parametrize("command", ["test", "validate", "predict", "fit"])
def test_other_data_are_refused(
    chain: World, other_split: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = chain.run("stage1")
    before = (run / "environment.json").read_bytes()
    arguments = [command, "--config", chain.config("stage1"), "--data.reader.init_args.root", other_split, *QUIET]
    assert face(*arguments, "--ckpt_path", "last") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("face: error: ckpt_path: trained on data (fingerprint ")
    for folder in (chain.root / "data", other_split):
        assert fingerprint(folder) in line
    assert "--allow-other-data" in line
    assert (run / "environment.json").read_bytes() == before


def test_another_split_is_tested_where_that_is_meant(
    chain: World, other_split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["test", "--config", chain.config("stage1"), "--data.reader.init_args.root", other_split, *QUIET]
    assert face(*arguments, "--allow-other-data") == 0
    assert "test/recall@20" in capsys.readouterr().out


def test_tables_of_another_size_are_refused_however_meant(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load((chain.root / "parts" / "data.yaml").read_text())
    data["reader"] = {"class_path": "InteractionFile", "init_args": {"source": str(tmp_path / "few.csv"), "core": 1}}
    data["reader"]["init_args"] |= {"user": "u", "item": "i"}
    (tmp_path / "few.csv").write_text("u,i\n" + "".join(f"u{row % 5},i{row}\n" for row in range(30)))
    config = chain.read("stage1") | {"data": data}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(chain.root / "parts", tmp_path / "parts")
    assert face("test", "--config", tmp_path / "few.yaml", "--allow-other-data", *QUIET) == 2
    message = capsys.readouterr().err
    assert "40 users, 30 items" in message
    assert "--allow-other-data" not in message


def test_predictions_of_an_earlier_number_of_processes_go(chain: World, tmp_path: Path) -> None:
    run = tmp_path / "stage1"
    shutil.copytree(chain.run("stage1"), run)
    for name in ("predictions-0.parquet", "predictions-1.parquet", "predictions.parquet"):
        (run / name).write_text("old")
    assert face("predict", "--config", chain.config("stage1"), "--run_dir", run, *QUIET) == 0
    (left,) = run.glob("predictions*")
    assert left.name == "predictions.parquet"
    assert left.read_bytes() != b"old"


def grown(folder: Path, target: Path) -> None:
    """The data with users in another order, item 0 gone, and a new user who likes what the first one does."""
    target.mkdir()
    users = [*range(NUM_USERS - 1, -1, -1), 0]
    for name in ("trn", "val", "tst"):
        matrix = read_matrix(folder / f"{name}_mat.pkl").tocsr()[users][:, 1:]
        (target / f"{name}_mat.pkl").write_bytes(pickle.dumps(matrix.tocoo()))
    (target / "user_ids.txt").write_text("".join(f"u{user}\n" for user in [*users[:-1], "-new"]))
    (target / "item_ids.txt").write_text("".join(f"i{item}\n" for item in range(1, NUM_ITEMS)))


def test_a_stage_on_grown_data_starts_from_rows_of_the_same_ids(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown(chain.root / "data", tmp_path / "grown")
    still = ["--model.init_args.optimizer.init_args.lr", "1e-30", "--trainer.max_epochs", "1"]
    arguments = [*still, "--data.reader.init_args.root", str(tmp_path / "grown"), "--run_dir", str(tmp_path / "run")]
    assert fit(chain.config("control"), *arguments) == 0
    assert (
        "users: 40 of 41 by id, 1 of the new ones from their interactions; items: 29 of 29" in capsys.readouterr().out
    )
    before = checkpoint(chain.run("stage1"), "best")["state_dict"]["backbone.tables.weight"]
    after = checkpoint(tmp_path / "run")["state_dict"]["backbone.tables.weight"]
    assert torch.equal(after[:NUM_USERS], before[:NUM_USERS].flip(0))
    assert torch.equal(after[NUM_USERS + 1 :], before[NUM_USERS + 1 :])
    first = RLMRecFolder(tmp_path / "grown").read().interactions
    liked = first.item_ids[first.train[[NUM_USERS]].indices].tolist()
    expected = Recommender.load(chain.run("stage1")).embed_history([liked])[0]
    torch.testing.assert_close(after[NUM_USERS], expected)
