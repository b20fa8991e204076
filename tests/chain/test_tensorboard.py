"""What TensorBoard shows of a chain: hyper-parameters with final metrics, use of words by epoch, and the projector."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from face_lightning.recommending.recommender import Recommender
from tests.chain.tiny import World, result


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"tensors": 0, "histograms": 0}).Reload()


def test_hyperparameters_come_with_final_metrics(chain: World) -> None:
    run = chain.run("stage3")
    found = events(run)
    contents = [HParamsPluginData.FromString(one) for one in found.PluginTagToContent("hparams").values()]
    (started,) = [one.session_start_info for one in contents if one.HasField("session_start_info")]
    assert started.hparams["mapping_weight"].number_value == 1
    listed = {info.name.tag for one in contents for info in one.experiment.metric_infos}
    assert {"test/recall@20", "test/ndcg@20"} <= listed
    assert "hp_metric" not in listed
    value = found.Scalars("test/recall@20")[-1].value
    assert value == pytest.approx(result(run)["metrics"]["test/recall@20"])


def test_hyperparameters_are_plain_and_small(chain: World) -> None:
    for stage in ("stage1", "stage2", "stage3"):
        path = chain.run(stage) / "hparams.yaml"
        assert path.stat().st_size < 20_000
        assert yaml.safe_load(path.read_text())["num_items"] == 30  # nothing but plain values: a safe loader reads it


def test_words_are_logged_after_each_validation(chain: World) -> None:
    found = events(chain.run("stage3"))
    steps = {event.step for event in found.Histograms("words/use")}
    assert len(steps) >= 3
    assert {event.step for event in found.Tensors("words/text_summary")} >= steps
    counts = found.Histograms("words/use")[0].histogram_value
    assert counts.sum == 70 * 4  # each of 70 users and items has four words


def test_the_projector_has_items_with_names_and_words(chain: World) -> None:
    run = chain.run("stage3")
    config = text_format.Parse((run / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (entry,) = config.embeddings
    vectors = [list(map(float, line.split("\t"))) for line in (run / entry.tensor_path).read_text().splitlines()]
    header, *lines = (run / entry.metadata_path).read_text().splitlines()
    assert header.split("\t") == ["label", "id", "words"]
    assert len(vectors) == len(lines) == 30
    recommender = Recommender.load(run)
    label, identifier, words = lines[0].split("\t")
    (described,) = recommender.describe(items=[identifier])
    assert (described.label, " ".join(described.words)) == (label, words)
    row = recommender.item_rows([identifier])[0]
    assert vectors[0] == pytest.approx(recommender.embeddings().items[row].tolist(), rel=1e-4)
