import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from face_lightning.cli import main
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.text.writing.journal import Journal
from face_lightning.text.writing.writer import Summary

GOOD = "People who enjoy quiet stories about the sea."


def completion(content: str) -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    return json.dumps({"choices": [{"message": {"content": content}}], "usage": usage}).encode()


GOOD_REPLY = completion(json.dumps({"summarization": GOOD}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two users, four items, item 3 unknown; user 1's test item is item 0."""
    root = tmp_path / "mine"
    root.mkdir()
    for name, pairs in {"trn": [(0, 0), (0, 1), (1, 2), (1, 3)], "val": [(0, 2)], "tst": [(1, 0)]}.items():
        rows, columns = zip(*pairs, strict=True)
        with (root / f"{name}_mat.pkl").open("wb") as file:
            pickle.dump(coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(2, 4)), file)
    records = [{"item_id": item, "title": f"Film {item}", "tags": ["Drama"]} for item in range(3)]
    (root / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (root / "item_ids.txt").write_text("a\nb\nc\nd\n")
    return root


@pytest.fixture
def summarize(folder: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        data = ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", str(folder)]
        where = ["--out", str(tmp_path / "out.jsonl"), "--cache_dir", str(tmp_path / "cache")]
        return main(["summarize", *data, "--data.reader.init_args.domain", "movie", *where, *arguments])

    return run


def written(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    return {(line["kind"], line["id"]): line for line in map(json.loads, lines)}


def test_templates_write_and_list_entities_without_facts(
    summarize: Callable[..., int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarize() == 0
    found = written(tmp_path)
    assert len(found) == 6
    assert found["item", "a"] == {"kind": "item", "id": "a", "text": "Film 0, drama movie.", "error": None}
    assert found["item", "d"]["text"] is None
    assert found["item", "d"]["error"].startswith("no facts")
    shown = capsys.readouterr()
    assert "5 summaries of 6 entities" in shown.out
    assert "no summary of item d: no facts" in shown.err
    assert "0 for which the writer failed (run again to retry), 1 without facts" in shown.err
    data = InteractionDataModule(RLMRecFolder(folder, "movie"), summaries=tmp_path / "out.jsonl")
    assert data.profiles.item_texts[0] == "Film 0, drama movie."


def test_a_server_writes_and_its_texts_reach_training(
    summarize: Callable[..., int], folder: Path, tmp_path: Path, serve: Callable[..., Any], capsys: Any
) -> None:
    server = serve(lambda number, body: (200, GOOD_REPLY, {}))
    arguments = ["--writer", "server", "--url", server.url, "--model", "m"]
    assert summarize(*arguments) == 0
    assert [line["text"] for line in written(tmp_path).values()].count(GOOD) == 5
    assert "50 tokens read, 15 written" in capsys.readouterr().out
    prompts = {body["messages"][1]["content"] for body in server.bodies}
    of_users = [text for text in prompts if "The user chose" in text]
    assert len(of_users) == 2
    assert not any("Film 0" in text and "Film 2" in text for text in of_users)  # user 1 tests on film 0
    assert summarize(*arguments) == 0
    assert len(server.bodies) == 5
    assert "5 from the cache; 0 tokens read" in capsys.readouterr().out
    data = InteractionDataModule(RLMRecFolder(folder, "movie"), summaries=tmp_path / "out.jsonl")
    assert data.profiles.user_texts == (GOOD, GOOD)


def test_an_entity_that_fails_is_listed(
    summarize: Callable[..., int], tmp_path: Path, serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        bad = "Title: Film 1" in body["messages"][1]["content"]
        return 200, completion("garbage") if bad else GOOD_REPLY, {}

    server = serve(reply)
    common = ["--writer", "server", "--url", server.url, "--model", "m", "--retries", "1", "--backoff", "0.01"]
    assert summarize(*common, "--kinds", '["item"]', "--limit", "2") == 1
    line = written(tmp_path)["item", "b"]
    assert line["text"] is None
    assert line["error"] == "no JSON object: 'garbage' (2 attempts)"
    assert "no summary of item b: no JSON object" in capsys.readouterr().err
    assert len(written(tmp_path)) == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((429, b"busy", {"Retry-After": "0"}), "the first failed with: status 429: busy (2 attempts)"),
        ((500, b"", {}), "status 500 (2 attempts)"),
        ((200, b"garbage", {}), "expected a chat completion, got 'garbage' (2 attempts)"),
        ((200, b"", {}), "an empty reply (2 attempts)"),
        ((0, b"", {}), "no reply from http"),
        ((401, b"", {}), "status 401; check the key"),
        ((404, b"", {}), "status 404; check --url"),
    ],
    ids=str,
)
def test_a_server_without_answers_is_reported_in_one_line(
    summarize: Callable[..., int],
    tmp_path: Path,
    serve: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    reply: tuple[int, bytes, dict[str, str]],
    message: str,
) -> None:
    server = serve(lambda number, body: reply)
    common = ["--writer", "server", "--url", server.url, "--model", "m", "--retries", "1", "--backoff", "0.01"]
    assert summarize(*common) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--writer", "server", "--model", "m"], "url: expected the address"),
        (["--writer", "server", "--url", "http://x/v1"], "model: expected the name of a model"),
        (["--writer", "server", "--url", "x", "--model", "m"], "url: expected the address"),
        (
            ["--writer", "server", "--url", "http://x/v1", "--model", "m", "--api_key_env", "NO_SUCH"],
            "expected a key in the variable NO_SUCH",
        ),
        (["--writer", "local", "--model", "no/such-model"], "cannot be loaded"),
        (["--writer", "poet"], "writer"),
        (["--limit", "0"], "limit: expected at least 1"),
        (["--domain", "film"], "domain: expected one of"),
        (["--out", "none/out.jsonl"], "out: expected a file in an existing folder"),
        (["--data.reader.init_args.root", "none"], "tst_mat.pkl, got none"),
    ],
    ids=str,
)
def test_mistakes_are_reported_in_one_line(
    summarize: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    assert summarize(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_the_key_comes_from_the_environment(
    summarize: Callable[..., int], serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "k-1")
    server = serve(lambda number, body: (200, GOOD_REPLY, {}))
    common = ["--writer", "server", "--url", server.url, "--model", "m", "--api_key_env", "MY_KEY"]
    assert summarize(*common, "--limit", "1") == 0
    assert {header["Authorization"] for header in server.headers} == {"Bearer k-1"}


def test_a_dry_run_sends_no_request(summarize: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert summarize("--writer", "server", "--url", "http://127.0.0.1:9/v1", "--model", "m", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "--- item a\n" in shown
    assert "Title: Film 0\nTags: Drama\n\nIn one or two sentences" in shown
    assert "5 prompts for 6 entities, 1 without facts" in shown
    assert not (tmp_path / "out.jsonl").exists()


def test_an_interruption_is_reported_and_keeps_all_summaries(
    summarize: Callable[..., int],
    tmp_path: Path,
    serve: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(lambda number, body: (200, GOOD_REPLY, {}))
    common = ["--writer", "server", "--url", server.url, "--model", "m", "--concurrency", "1"]
    add, added = Journal.add, []

    def interrupted(journal: Journal, key: str, summary: Summary) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(key)
        add(journal, key, summary)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", interrupted)
        assert summarize(*common) == 130
    assert "stopped; the summaries so far are kept" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert summarize(*common) == 0
    assert "2 from the cache" in capsys.readouterr().out


def test_a_full_disk_keeps_existing_summaries(
    summarize: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are limited to 64 bytes, so that neither the cache nor the result can be written."""
    assert summarize("--limit", "1") == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    names, limits = sorted(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    for cured in ("cache_dir: cannot write", "out: cannot write"):
        capsys.readouterr()
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
        try:
            code = summarize()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        error = capsys.readouterr().err
        assert code == 2
        assert cured in error
        assert "make room" in error
        assert error.count("\n") == 1
        assert (tmp_path / "out.jsonl").read_bytes() == before
        assert sorted(tmp_path.iterdir()) == names
        assert summarize("--out", str(tmp_path / "cache" / "whole.jsonl")) == 0  # all summaries are in the cache now
