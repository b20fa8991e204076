"""Benchmarks that look into a finished run."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import ablations, alignment, grounding, records, retrieval
from tests.chain.tiny import World


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the results of a test."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_parts_do_not_count_what_is_inside_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(alignment.Parts, "now", staticmethod(lambda: next(times)))
    parts = alignment.Parts()
    with parts.part("outer"):
        with parts.part("inner"):
            pass
        parts.become("rest")
    assert parts.seconds == {"outer": 2 + 4, "inner": 3, "rest": 5}


def test_a_step_is_timed_in_every_form(chain: World) -> None:
    found = alignment.measure(chain.run("stage3"), 1, [])
    assert found.keys() == alignment.FORMS.keys()
    expected = {"search", "encoder", "anchoring", "grounding", "mapper: decoder", "contrast", "optimizer"}
    expected |= {f"backward: {part}" for part in ("contrast", "encoder", "mapper, anchoring", "backbone")}
    for parts in found.values():
        assert expected <= parts.keys()
        assert parts["step"] == pytest.approx(sum(taken for part, taken in parts.items() if part != "step"))


def test_words_of_a_run_are_compared_with_those_of_its_texts(chain: World, results: Path) -> None:
    retrieval.show(chain.run("stage3"), [])
    lines = [json.loads(line) for line in (results / "retrieval.jsonl").read_text().splitlines()]
    shares = {line["variant"]: line["metrics"] for line in lines}
    assert set(shares) == {"learnt", "TF-IDF of the text", "targets of anchoring", "random"}
    logged = json.loads((chain.run("stage3") / "result.json").read_text())["metrics"]
    for key, share in shares["learnt"].items():
        if key.startswith("words/"):
            assert share == pytest.approx(logged[key], abs=1e-6)
    assert len([key for key in shares["learnt"] if key in logged]) >= 4


def test_runs_of_a_set_are_kept_once(
    chain: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("stage1", "stage3"):
        place = tmp_path / "mine" / "0" / stage / "common"
        place.mkdir(parents=True)
        shutil.copy(chain.run(stage) / "result.json", place)
    monkeypatch.setattr(sys, "argv", ["ablations", str(tmp_path / "mine")])
    ablations.main()
    ablations.main()
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/mine: 2 runs, {new} of them new" for new in (2, 0)]
    lines = [json.loads(line) for line in (results / "ablations.jsonl").read_text().splitlines()]
    assert [(line["set"], line["run"], line["stage"]) for line in lines] == [
        ("mine", "stage1", "pretraining"),
        ("mine", "stage3", "alignment"),
    ]
    logged = json.loads((chain.run("stage3") / "result.json").read_text())["metrics"]
    assert lines[1]["metrics"]["test/recall@20"] == logged["test/recall@20"]
    monkeypatch.setattr(sys, "argv", ["ablations", str(tmp_path)])
    with pytest.raises(SystemExit, match="expected runs of face ablate"):
        ablations.main()


def test_grounding_is_compared_from_one_start_with_every_kind_of_vectors(
    chain: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = grounding.load_run(chain.run("stage3"))[0]
    texts, found = stage.space.texts, grounding.vectors_of(stage, num_near=3)
    users = texts.num_users
    assert torch.equal(found["slots of users"][:users], found["slots"][:users])
    assert torch.equal(found["slots of users"][users:], texts.vectors[users:])
    assert torch.equal(found["slots of items"], torch.cat([texts.vectors[:users], found["slots"][users:]]))
    config = yaml.safe_load((chain.run("stage1") / "config.yaml").read_text())
    text = {"class_path": "ContrastiveText", "init_args": {"weight": 0.1}}
    config["model"]["init_args"] |= {"text": text, "encoder": config_of_encoder(chain)}
    (tmp_path / "con.yaml").write_text(yaml.safe_dump(config))
    command = ["grounding", str(chain.run("stage3")), "--config", str(tmp_path / "con.yaml"), "--variants", "slots"]
    command += ["--init_from", str(chain.run("stage1")), "--data", str(chain.root / "data"), "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    grounding.main()
    grounding.main()
    (line,) = (json.loads(line) for line in (results / "grounding.jsonl").read_text().splitlines())
    assert (line["variant"], line["words_of"]) == ("slots", "alignment")
    assert f"{line['metrics']['val/recall@20']:.4f}" in capsys.readouterr().out


def config_of_encoder(chain: World) -> dict[str, object]:
    """The encoder as stage 3 has it."""
    config = yaml.safe_load((chain.run("stage3") / "config.yaml").read_text())
    encoder: dict[str, object] = config["model"]["init_args"]["words"]["init_args"]["encoder"]
    return encoder
