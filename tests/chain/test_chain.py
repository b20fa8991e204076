"""Stage 1, its control, stage 2 and stage 3 by the real command, and what they leave."""

import json
import warnings
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.loading import load_run
from tests.chain.tiny import NUM_ITEMS, NUM_USERS, SENTENCE, WORDS, World, checkpoint, face, fit, result, rows

STAGES = ("stage1", "control", "stage2", "stage3")
NAMES = {"stage1": "pretraining", "control": "pretraining", "stage2": "mapping", "stage3": "alignment"}
EPOCHS = {"stage1": 4, "control": 2, "stage2": 3, "stage3": 3}
RANKING = [f"{metric}@{top_k}" for metric in ("recall", "ndcg") for top_k in (5, 10, 20)]
TERMS = {
    "stage1": {"bpr", "l2"},
    "control": {"bpr", "l2"},
    "stage2": {"reconstruction", "codebook", "commitment", "anchoring"},
    "stage3": {"bpr", "l2", "reconstruction", "codebook", "commitment", "anchoring", "alignment"},
}
HEALTH = {f"codebook/{key}" for key in ("perplexity", "active_fraction", "top_word_share", "duplicate_rate")}


def events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize("stage", STAGES)
def test_result_tells_what_ran_and_how_good_it_is(chain: World, stage: str) -> None:
    content = result(chain.run(stage))
    assert (content["stage"], content["epochs"]) == (NAMES[stage], EPOCHS[stage])
    assert (content["backbone"], content["dataset"], content["seed"]) == ("GMF", "data", 0)
    assert {f"test/{key}" for key in RANKING} <= content["metrics"].keys()
    assert {f"val/{key}" for key in RANKING} <= content["metrics"]["last_epoch"].keys()
    assert all(0 < content["metrics"][f"test/{key}"] <= 1 for key in RANKING)
    assert content["peak_mib"] > 0


def test_stage1_finds_the_clusters(chain: World) -> None:
    first, last = rows(chain.run("stage1"))[0], rows(chain.run("stage1"))[-1]
    assert last["val/recall@10"] > first["val/recall@10"]
    assert last["train/bpr"] < first["train/bpr"]


@pytest.mark.parametrize("stage", STAGES)
def test_metrics_file_has_a_row_for_each_epoch(chain: World, stage: str) -> None:
    content = rows(chain.run(stage))
    assert [row["epoch"] for row in content] == list(range(EPOCHS[stage]))
    steps = [row["step"] for row in content]
    assert [row * steps[0] for row in range(1, len(steps) + 1)] == steps
    for row in content:
        assert {f"val/{key}" for key in RANKING} | {f"train/{term}" for term in TERMS[stage]} <= row.keys()
    seconds = [row["seconds"] for row in content]
    assert seconds == sorted(seconds)
    assert result(chain.run(stage))["seconds"] >= seconds[-1] - 0.1  # of all epochs, not up to the best one


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_every_epoch_tells_the_health_of_the_words(chain: World, stage: str) -> None:
    own = {"stage2": set(), "stage3": {"alignment/accuracy", "alignment/modality_gap"}}[stage]
    first, *others = rows(chain.run(stage))
    assert own | HEALTH <= first.keys()
    assert "alignment/shift" not in first
    for row in others:
        assert own | HEALTH | {"codebook/churn"} <= row.keys()
    assert {f"words/retrieval_{kind}@{count}" for kind in ("users", "items") for count in (10, 20)} <= result(
        chain.run(stage)
    )["metrics"].keys()


@pytest.mark.parametrize("stage", STAGES)
def test_best_score_is_the_best_row(chain: World, stage: str) -> None:
    best = result(chain.run(stage))["best"]
    pick = min if stage == "stage2" else max
    assert best["score"] == pytest.approx(pick(row[best["monitor"]] for row in rows(chain.run(stage))), abs=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_tensorboard_has_every_curve(chain: World, stage: str) -> None:
    accumulator = events(chain.run(stage))
    wanted = {f"val/{key}" for key in RANKING} | {f"train/{term}" for term in TERMS[stage]} | {"train/loss"}
    if stage in ("stage2", "stage3"):
        wanted |= HEALTH
        assert "words/text_summary" in accumulator.Tags()["tensors"]
        panel = accumulator.Tensors("words/text_summary")[-1].tensor_proto.string_val[0].decode()
        assert "| Film 0 |" in panel
    assert wanted <= set(accumulator.Tags()["scalars"])
    assert len(accumulator.Scalars("val/recall@20")) == EPOCHS[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_resolved_configuration_starts_the_same_run_again(chain: World, stage: str, tmp_path: Path) -> None:
    written = chain.run(stage) / "config.yaml"
    resolved = yaml.safe_load(written.read_text())
    assert resolved["model"]["init_args"]["backbone"]["init_args"]["embedding_dim"] == 16
    assert resolved["data"]["batch_size"] == 64
    assert face("fit", "--config", written, "--run_dir", tmp_path) == 0
    assert result(tmp_path)["metrics"] == result(chain.run(stage))["metrics"]
    assert result(tmp_path)["fingerprint"] == result(chain.run(stage))["fingerprint"]


def test_environment_names_versions_and_data_but_no_machine(chain: World) -> None:
    content = json.loads((chain.run("stage1") / "environment.json").read_text())
    assert content["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert (content["data"]["num_users"], content["data"]["num_items"]) == (NUM_USERS, NUM_ITEMS)
    assert len(content["data"]["fingerprint"]) == 64
    assert str(chain.root) not in json.dumps(content)


@pytest.mark.parametrize("stage", STAGES)
def test_test_users_mean_is_the_result(chain: World, stage: str) -> None:
    table = pq.read_table(chain.run(stage) / "test_users.parquet").to_pydict()
    assert table.keys() == {"user_id", *(f"test/{key}" for key in RANKING)}
    assert len(set(table["user_id"])) == len(table["user_id"]) <= NUM_USERS
    assert set(table["user_id"]) <= {f"u{user}" for user in range(NUM_USERS)}
    metrics = result(chain.run(stage))["metrics"]
    for key in RANKING:
        values = table[f"test/{key}"]
        assert sum(values) / len(values) == pytest.approx(metrics[f"test/{key}"], abs=1e-6)


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_every_entity_has_words_and_none_twice(chain: World, stage: str) -> None:
    table = pq.read_table(chain.run(stage) / "descriptors.parquet").to_pylist()
    assert Counter(row["kind"] for row in table) == {"user": NUM_USERS, "item": NUM_ITEMS}
    assert [row["id"] for row in table[:2]] == ["u0", "u1"]
    assert [row["label"] for row in table[NUM_USERS : NUM_USERS + 2]] == ["Film 0", "Film 1"]
    for row in table:
        assert len(row["words"]) == len(set(row["words"])) == 4
        assert set(row["words"]) <= {*WORDS, *SENTENCE}  # the catalogue's own words too
        assert row["text"]


def test_stages_without_words_leave_none(chain: World) -> None:
    assert not (chain.run("stage1") / "descriptors.parquet").exists()
    assert not (chain.run("control") / "descriptors.parquet").exists()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("which", ["best", "last"])
def test_checkpoint_holds_what_is_trained_alone(chain: World, stage: str, which: str) -> None:
    content = checkpoint(chain.run(stage), which)  # with weights_only=True
    parts = {key.partition(".")[0] for key in content["state_dict"]}
    own = {"stage2": {"mapper"}, "stage3": {"mapper", "grounding"}}
    assert parts == {"backbone"} | own.get(stage, set())
    assert content["face_stage"] == NAMES[stage]
    size = sum(value.numel() for value in content["state_dict"].values())
    assert size < 20_000  # no table of the encoder's


def test_backbone_rests_in_stage2_and_moves_in_the_others(chain: World) -> None:
    tables = {stage: checkpoint(chain.run(stage), "best")["state_dict"]["backbone.tables.weight"] for stage in STAGES}
    assert torch.equal(tables["stage2"], tables["stage1"])
    assert not torch.equal(tables["control"], tables["stage1"])
    assert not torch.equal(tables["stage3"], tables["stage2"])


def test_stage3_takes_over_the_mapper(chain: World, tmp_path: Path) -> None:
    still = ["--model.init_args.optimizer.init_args.lr", "1e-30", "--trainer.max_epochs", "1"]
    assert fit(chain.config("stage3"), "--run_dir", tmp_path, *still) == 0
    before, after = checkpoint(chain.run("stage2"), "best")["state_dict"], checkpoint(tmp_path)["state_dict"]
    assert {key for key in after if not key.startswith("grounding.")} == before.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value)


def test_stage3_is_grounded_in_the_words_of_stage2_from_first_to_last(chain: World) -> None:
    stage = load_run(chain.run("stage2"))[0].eval()
    expected = stage.expected_word_vectors(stage.backbone(stage.graph), 16)
    kept = checkpoint(chain.run("stage3"))["grounding_vectors"]
    assert kept.dtype == torch.float16
    torch.testing.assert_close(kept.float(), expected, atol=1e-3, rtol=0)
    shown = stage.space.word_vectors.means(stage.describe(stage.backbone(stage.graph)))
    assert (expected * shown).sum(1).mean() > 0.5, "and that is about the words that are shown"


def test_init_from_on_the_command_line_beats_the_file(chain: World, tmp_path: Path) -> None:
    still = ["--model.init_args.optimizer.init_args.lr", "1e-30", "--trainer.max_epochs", "1"]
    file = chain.run("control") / "checkpoints" / "last.ckpt"
    assert fit(chain.config("stage2"), "--run_dir", tmp_path, "--init_from", file, *still) == 0
    started = checkpoint(tmp_path)["state_dict"]["backbone.tables.weight"]
    assert torch.equal(started, checkpoint(chain.run("control"))["state_dict"]["backbone.tables.weight"])
    assert not torch.equal(started, checkpoint(chain.run("stage1"), "best")["state_dict"]["backbone.tables.weight"])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["init_from"] == str(file)


def test_epochs_without_validation_are_neither_judged_nor_warned_of(chain: World, tmp_path: Path) -> None:
    every = ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "4"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*could not find the monitored key")
        assert fit(chain.config("stage3"), "--run_dir", tmp_path, *every) == 0
    scores = {row["epoch"]: row["val/recall@20"] for row in rows(tmp_path) if "val/recall@20" in row}
    assert list(scores) == [1, 3]
    assert result(tmp_path)["best"]["score"] == pytest.approx(max(scores.values()))


def test_same_seed_same_run_and_another_seed_another(chain: World, tmp_path: Path) -> None:
    assert fit(chain.config("stage1"), "--run_dir", tmp_path / "same") == 0
    assert fit(chain.config("stage1"), "--run_dir", tmp_path / "other", "--seed_everything", "1") == 0
    assert result(tmp_path / "same")["metrics"] == result(chain.run("stage1"))["metrics"]
    assert result(tmp_path / "other")["metrics"] != result(chain.run("stage1"))["metrics"]


def test_warm_start_scales_the_tables_that_init_from_brings(chain: World, tmp_path: Path) -> None:
    still = ["--model.init_args.backbone_lr_factor", "0", "--trainer.max_epochs", "1"]
    assert (
        fit(chain.config("control"), "--run_dir", tmp_path, "--model.init_args.warm_start_scale", "0.25", *still) == 0
    )
    key = "backbone.tables.weight"
    before, after = checkpoint(chain.run("stage1"), "best")["state_dict"][key], checkpoint(tmp_path)["state_dict"][key]
    torch.testing.assert_close(after, before / 4, rtol=0, atol=0)


def test_a_share_of_the_mappers_gradient_reaches_the_backbone(chain: World, tmp_path: Path) -> None:
    optimizer = "--model.init_args.optimizer=torch.optim.SGD", "--model.init_args.optimizer.init_args.lr=0.1"
    moved = []
    for share in ("0", "0.5", "1"):
        step = [
            *optimizer,
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=1",
            f"--model.init_args.backbone_gradient={share}",
        ]
        assert fit(chain.config("stage3"), "--run_dir", tmp_path / share, *step) == 0
        moved.append(checkpoint(tmp_path / share)["state_dict"]["backbone.tables.weight"])
    none, half, whole = moved
    assert (whole - none).abs().max() > 1e-5, "at 0 the recommender and the grounding are all that moves it"
    torch.testing.assert_close(half - none, (whole - none) / 2, rtol=1e-2, atol=1e-7)
