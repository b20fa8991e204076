"""`face judge` on a run of the tiny world."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chain.test_language_models import write_llama
from tests.chain.tiny import NUM_ITEMS, World, face, write_encoder


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, seed=1)
    return folder / "model"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_judges_answer_about_learnt_words_and_controls(
    chain: World, other_encoder: Path, tmp_path: Path, serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda number, body: (200, b'{"choices": [{"message": {"content": "A"}}]}', {}))
    llama = write_llama(tmp_path / "llama")
    judges = ["--encoder", other_encoder, "--lm", llama, "--url", server.url, "--model", "chat"]
    few = ["--limit", "8", "--candidates", "3", "20", "--orders", "2", "--cache_dir", tmp_path / "cache"]
    out = tmp_path / "judgements.jsonl"
    assert face("judge", "--run", chain.run("stage3"), *judges, *few, "--out", out) == 0
    found = records(out)
    assert {record["judge"] for record in found} == {"model", "llama", "chat"}
    variants = ["learnt", "TF-IDF of the text", "random", "another's"]
    assert [record["words"] for record in found if record["judge"] == "chat" and record["kind"] == "item"] == variants
    for record in found:
        assert record["entities"] == 8
        assert 0 <= record["retrieval@3"] <= 1
        assert "retrieval@20" not in record, "there are not so many texts"
        if record["words"] == "learnt":
            assert 0 <= record["detection"] <= 1
    shown = capsys.readouterr().out
    assert "retrieval@3" in shown
    assert "another's" in shown
    assert "judgements.jsonl: 24 lines" in shown


def test_the_same_seed_gives_the_same_judgement(chain: World, other_encoder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        options = ["--candidates", "5", "--out", tmp_path / name, "--cache_dir", tmp_path / "cache"]
        assert face("judge", "--run", chain.run("stage2"), "--encoder", other_encoder, *options) == 0
    assert records(tmp_path / "one") == records(tmp_path / "two")
    assert records(tmp_path / "one")[0]["entities"] == NUM_ITEMS


def test_only_the_given_tasks_are_asked(chain: World, other_encoder: Path, tmp_path: Path) -> None:
    options = ["--tasks", "detection", "--out", tmp_path / "few", "--cache_dir", tmp_path / "cache"]
    assert face("judge", "--run", chain.run("stage2"), "--encoder", other_encoder, *options) == 0
    learnt = records(tmp_path / "few")[0]
    assert "detection" in learnt
    assert not {"intrusion", "retrieval@10"} & set(learnt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "judges: expected --encoder, --lm or --url, got none"),
        (["--url", "http://localhost:1/v1"], "model: expected the name of a model on the server"),
        (["--lm", "nowhere/at/all", "--candidates", "1"], "candidates: expected"),
        (["--lm", "x", "--out", "nowhere/file"], "out: expected a file in a folder that exists"),
    ],
)
def test_impossible_arguments_are_reported(
    chain: World, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert face("judge", "--run", chain.run("stage2"), *arguments) == 2
    assert message in capsys.readouterr().err


def test_the_encoder_that_words_were_trained_with_is_no_judge_of_them(
    chain: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert face("judge", "--run", chain.run("stage2"), "--encoder", chain.root / "encoder" / "model") == 2
    assert "encoder: expected another model than the one that the words were trained with" in capsys.readouterr().err


def test_a_run_without_words_is_reported(chain: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert face("judge", "--run", chain.run("stage1"), "--lm", "x") == 2
    assert "run: " in capsys.readouterr().err
