"""The report of a run with hostile names and texts is valid HTML that shows them as text and loads nothing."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tinyhtml5
import yaml
from tinyhtml5.parser import HTMLParser

from face_lightning.reports.document import number
from tests.chain.tiny import face
from tests.recommending.test_recommender import write_run

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "{{ 7 * 7 }} $x^2$ &amp;",
    "ראשון \u202eabc\u2066 \x1b[31m",
    "=HYPERLINK(1)" + "W" * 500,
)
METRICS = {"test/recall@2": 0.25, "test/ndcg@2": 0.5}


def write_finished(folder: Path, name: str, words: bool = True) -> Path:
    """A hand-made run with hostile names, texts and words."""
    run = write_run(folder)
    rows = [
        {"kind": kind, "id": identifier, "label": label, "words": [label, "<b>"], "text": f"film {label}"}
        for kind, identifier, label in [
            *(("user", identifier, identifier) for identifier in ("ann", "bob", "7")),
            *(("item", str(10 * (place + 1)), label) for place, label in enumerate(HOSTILE)),
        ]
    ]
    (run / "descriptors.parquet").unlink()
    if words:
        pq.write_table(pa.Table.from_pylist(rows), run / "descriptors.parquet")
    users = pa.table({"user_id": ["ann", "bob"], "test/recall@2": [0.5, 0.0], "test/ndcg@2": [1.0, 0.0]})
    pq.write_table(users, run / "test_users.parquet")
    result: dict[str, Any] = {"stage": "mapping", "backbone": "GMF", "dataset": HOSTILE[0], "seed": 0, "epochs": 3}
    result |= {"seconds": 1234.5, "peak_mib": 777, "best": {"monitor": "val/recall@2", "score": None}}
    result["metrics"] = METRICS | {"codebook/perplexity": 12.5, "last_epoch": {"train/loss": 1.0}}
    (run / "result.json").write_text(json.dumps(result))
    (run / "config.yaml").write_text(yaml.safe_dump({"run_dir": name, "note": HOSTILE[1], "lr": len(name)}))
    environment = {"machine": "x", "threads": 1, "gpus": [], "versions": {"torch": "2"}, "data": {"name": HOSTILE[1]}}
    (run / "environment.json").write_text(json.dumps(environment))
    lines = [{"epoch": epoch, "val/recall@2": 0.1 * epoch, "train/loss": None} for epoch in range(3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def check_page(page: str) -> None:
    """Check that HTML is valid, and has no scripts, event handlers, duplicate ids or external resources."""
    parser = HTMLParser()
    tree = parser.parse(page)
    assert parser.errors == []
    elements = list(tree.iter())
    names = {str(element.tag).rpartition("}")[2] for element in elements}
    assert not names & {"script", "img", "link", "iframe", "object", "base", "b"}
    ids = [element.get("id") for element in elements if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in elements:
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on"), key
            if key.rpartition("}")[2] in ("href", "src"):
                assert value.startswith("#"), value
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", page)


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    run = write_finished(tmp_path / "<b>run", "one")
    other = write_finished(tmp_path / "other", "other", words=False)
    out = tmp_path / "report.html"
    assert face("report", "--run", run, "--compare", other, "--out", out) == 0
    page = out.read_text("utf-8")
    check_page(page)
    text = "".join(tinyhtml5.parse(page).itertext())
    assert HOSTILE[0] in text
    assert HOSTILE[2] in text
    assert "ראשון" in text
    assert "49" not in re.findall(r"\d+", "".join(re.findall(r"\{\{.{9}", text)))
    with (tmp_path / "report_csv" / "samples.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert any(row["label"].startswith("'=HYPERLINK") for row in rows)


def test_judgements_are_shown_with_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_finished(tmp_path / "run", "run")
    judged = [
        {"judge": HOSTILE[0], "kind": "item", "words": variant, "entities": 5, "retrieval@2": share, "seed": 0}
        for variant, share in (("learnt", 0.875), ("random", 0.5))
    ]
    (run / "judgements.jsonl").write_text("".join(json.dumps(record) + "\n" for record in judged))
    assert face("report", "--run", run, "--out", tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text()
    check_page(page)
    assert "Independent judges" in page
    rows = list(csv.reader((tmp_path / "report_csv" / "judgements.csv").open()))
    assert [row[-1] for row in rows] == ["retrieval@2", "0.875", "0.5"]
    (run / "judgements.jsonl").write_text("[]\n")
    assert face("report", "--run", run, "--out", tmp_path / "other.html") == 2
    assert "judgements.jsonl is damaged" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


def test_a_report_needs_finished_runs_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_finished(tmp_path / "run", "one")
    assert face("report", "--run", run, "--out", tmp_path / "missing" / "report.html") == 2
    assert "out: expected a file such as report.html in a folder that exists" in capsys.readouterr().err
    assert face("report", "--run", tmp_path, "--out", tmp_path / "report.html") == 2
    assert "run: expected the folder of a finished run" in capsys.readouterr().err
    (run / "result.json").write_text("{")
    assert face("report", "--run", run, "--out", tmp_path / "report.html") == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_run_without_embeddings_or_words_has_a_report(tmp_path: Path) -> None:
    run = write_finished(tmp_path / "run", "one", words=False)
    (run / "embeddings.safetensors").unlink()
    assert face("report", "--run", run, "--out", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    check_page(page)
    assert "has no embeddings" in page


def test_a_run_without_test_data_has_a_report(tmp_path: Path) -> None:
    run = write_finished(tmp_path / "run", "one")
    (run / "test_users.parquet").unlink()
    content = json.loads((run / "result.json").read_text())
    content["metrics"] = {"codebook/perplexity": 12.5}
    (run / "result.json").write_text(json.dumps(content))
    assert face("report", "--run", run, "--out", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    check_page(page)
    assert "was not tested" in page


def test_numbers_are_formatted() -> None:
    assert [number(value) for value in (0.12345, 4087.0739, 6842.0, 0.0, None, float("nan"))] == [
        "0.1235",
        "4,087.1",
        "6,842",
        "0.0000",
        "\N{EN DASH}",
        "\N{EN DASH}",
    ]
