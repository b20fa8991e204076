"""Benchmarks of words: users who come after training, samples of hidden items, records of judges."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    contrast_alone,
    judgements,
    language_model_tasks,
    new_users,
    records,
    word_gradients,
    word_samples,
)
from face_lightning.text.encoders import TextEncoder
from tests.chain.tiny import WORDS, World, fit


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the results of a test."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_new_users_are_compared_with_the_same_users_trained(
    world: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = json.dumps({"root": str(world.root / "data"), "domain": "movie"})
    command = ["new_users", str(world.root), "--reader", "RLMRecFolder", "--arguments", arguments, "--share", "0.5"]
    monkeypatch.setattr(sys, "argv", [*command, "--runs", str(tmp_path / "runs")])
    monkeypatch.setattr(new_users, "NUM_WORDS", 4)
    new_users.main()
    found = {line["variant"]: line["metrics"] for line in lines(results / "new_users.jsonl")}
    known = json.loads((tmp_path / "runs" / "known" / "0" / "environment.json").read_text())["data"]["num_users"]
    assert found.keys() == {"trained", "new"}
    assert 0 < known == 40 - found["new"]["users"] < 40
    for metrics in found.values():
        assert 0 < metrics["test/recall@20"] <= 1
        assert 0 <= metrics["words/heldout_users@10"] <= 1


def test_seen_and_hidden_items_are_sampled_by_their_clicks(
    chain: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "hidden"
    hide = ["--data.held_out_texts", "0.4", "--trainer.max_epochs", "1"]
    assert fit(chain.config("stage2"), "--run_dir", run, *hide) == 0
    monkeypatch.setattr(sys, "argv", ["word_samples", str(run), "--count", "3"])
    word_samples.main()
    found = lines(results / "word_samples.jsonl")
    assert [line["text"] for line in found] == ["seen"] * 3 + ["hidden"] * 3
    assert len({line["case"] for line in found}) == 6
    assert all(len(set(line["words"].split())) == 4 for line in found)


def test_the_contrast_alone_teaches_free_concepts(chain: World, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["word_gradients", str(chain.run("stage2")), "--items", "12", "--steps", "20"]
    monkeypatch.setattr(sys, "argv", command)
    word_gradients.main()
    found = {(line["case"], line["variant"]): line["metrics"] for line in lines(results / "word_gradients.jsonl")}
    swaps = {(words, others) for words in ("learnt", "random") for others in ("nearest", "random", "preferred")}
    assert found.keys() == swaps | {("free", "soft"), ("free", "linear")}
    for case in swaps:
        assert found[case]["change of the best"] <= found[case]["change of the gradient's choice"]
    assert found["free", "soft"]["picked after 20"] > found["free", "soft"]["picked after 0"]


def test_the_contrast_alone_teaches_the_mapper(chain: World, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["contrast_alone", str(chain.run("stage1")), "--config", str(chain.config("stage2"))]
    command += ["--steps", "30", "--every", "15", "--batch_size", "24"]
    monkeypatch.setattr(sys, "argv", command)
    contrast_alone.main()
    found = [line["metrics"] for line in lines(results / "contrast_alone.jsonl")]
    assert found[2]["passes"] == 2 * found[1]["passes"] > found[0]["passes"] == 0
    assert found[-1]["picked"] > found[0]["picked"]
    assert all(-1 <= metrics["cosine"] <= 1 and 0 <= metrics["common"] <= 1.001 for metrics in found[:-1])


def test_what_judges_wrote_is_recorded(
    chain: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"judge": "mine", "kind": "item", "words": "learnt", "entities": 9, "retrieval@10": 0.5, "seed": 0}
    (tmp_path / "judgements.jsonl").write_text(json.dumps(written) + "\n")
    command = ["judgements", str(chain.run("stage3")), "--file", str(tmp_path / "judgements.jsonl")]
    monkeypatch.setattr(sys, "argv", command)
    judgements.main()
    (line,) = lines(results / "judgements.jsonl")
    assert (line["variant"], line["judge"], line["stage"], line["seed"]) == ("learnt", "mine", "alignment", 0)
    assert line["metrics"] == {"retrieval@10": 0.5, "entities": 9}


def test_a_server_describes_items_from_their_words(
    chain: World, results: Path, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        named = [word for word in WORDS if word in body["messages"][1]["content"].split("\n")[0]]
        answer = f"A film that {' beside '.join(named) or 'nobody can describe'}."
        return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode(), {}

    server = serve(reply)
    encoder = chain.read("parts/words")["init_args"]["encoder"]["init_args"]
    monkeypatch.setattr(language_model_tasks, "TextEncoder", lambda: TextEncoder(**encoder))
    command = ["language_model_tasks", str(chain.run("stage3")), "--model", "some-model", "--url", server.url]
    monkeypatch.setattr(sys, "argv", [*command, "--items", "6"])
    language_model_tasks.main()
    found = {line["variant"]: line for line in lines(results / "language_model_tasks.jsonl")}
    assert found.keys() == {"words", "no words"}
    assert {line["model"] for line in found.values()} == {"some-model, by a server"}
    assert all(line["metrics"]["answered"] == 1 for line in found.values())
    prompts = [body["messages"][1]["content"] for body in server.bodies]
    assert len(prompts) == 12
    assert len(set(prompts[:6])) == 6  # words of six items
    assert len(set(prompts[6:])) == 1  # nothing of any
    assert found["words"]["metrics"]["similarity"] > found["no words"]["metrics"]["similarity"]
