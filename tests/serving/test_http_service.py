"""The service over real sockets."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_embeddings
from face_lightning.structures import Embeddings
from tests.recommending.test_recommender import ITEMS, USERS, write_run
from tests.serving.client import Client
from tests.serving.hostile import HOSTILE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def client(run: Path, start: Callable[..., Client]) -> Client:
    return start(run, watch_seconds=0, max_bytes=20_000)


def test_responses_equal_those_of_the_recommender(run: Path, client: Client) -> None:
    recommender = Recommender.load(run)
    status, found = client.ask("POST", "/recommend", {"users": ["ann", 7], "k": 3, "filter_seen": "train"})
    top = recommender.recommend(["ann", 7], 3, filter_seen="train")
    assert status == 200
    assert [row["id"] for row in found["results"]] == ["ann", "7"]
    assert [row["ids"] for row in found["results"]] == top.ids.tolist()
    assert [row["scores"] for row in found["results"]] == top.scores.tolist()
    _, found = client.ask("POST", "/recommend/history", {"histories": {"eve": [10, "20"]}, "k": 2, "deny": ["30"]})
    assert found["results"][0]["ids"] == recommender.recommend_history([[10, 20]], 2, deny=["30"]).ids[0].tolist()
    _, found = client.ask("POST", "/similar/items", {"ids": ["10"], "k": 2})
    assert found["results"][0]["ids"] == ["20", "30"]
    _, found = client.ask("POST", "/similar/users", {"ids": ["ann"], "k": 1})
    assert found["results"][0]["ids"] == ["7"]
    _, found = client.ask("POST", "/describe", {"users": ["bob"], "items": [50]})
    assert [row["words"] for row in found["results"]] == [["wbob"], ["w50"]]


def test_large_requests_are_ranked_alone_with_the_same_results(client: Client) -> None:
    for path, field in (("/recommend", "users"), ("/similar/users", "ids")):
        _, one = client.ask("POST", path, {field: ["ann"], "k": 20})
        _, found = client.ask("POST", path, {field: ["ann"] * 600, "k": 20})
        assert found["results"] == one["results"] * 600


def test_users_who_have_seen_everything_get_a_shorter_list(client: Client) -> None:
    _, found = client.ask("POST", "/recommend", {"users": ["ann"], "k": 5})
    assert found["results"][0]["ids"] == ["40", "50"]
    _, found = client.ask("POST", "/recommend", {"users": ["eve"], "unknown": "skip"})
    assert found == {"results": []}


def test_health_metrics_and_documentation(client: Client) -> None:
    status, health = client.ask("GET", "/health")
    assert (status, health["status"], health["users"], health["items"]) == (200, "ok", 3, 5)
    assert health["fingerprint"] == "f" * 64
    client.ask("POST", "/recommend", {"users": ["ann"]})
    client.ask("POST", "/recommend", {"users": []})
    client.ask("GET", "/" + "x" * 50)
    _, metrics = client.ask("GET", "/metrics")
    assert 'face_requests_total{path="/recommend",status="200"} 1.0' in metrics
    assert 'face_requests_total{path="/recommend",status="422"} 1.0' in metrics
    assert 'face_requests_total{path="other",status="404"} 1.0' in metrics
    assert 'face_request_seconds_count{path="/recommend"} 2.0' in metrics
    _, described = client.ask("GET", "/openapi.json")
    assert {"/recommend", "/recommend/history", "/similar/items", "/describe", "/health"} <= described["paths"].keys()
    assert client.ask("GET", "/docs")[0] == 200


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_items_are_ranked_by_an_index_whose_recall_is_reported(
    run: Path, start: Callable[..., Client], index: str
) -> None:
    client = start(run, watch_seconds=0, index=index)
    health = client.ask("GET", "/health")[1]
    assert (health["index"], health["recall"]) == (index, 1.0)
    _, found = client.ask("POST", "/recommend", {"users": ["ann"], "filter_seen": "train"})
    assert found["results"][0]["ids"] == ["20", "30", "40", "50"]
    assert client.ask("POST", "/reload", {})[1]["reloaded"] is True


def test_hostile_requests_are_rejected_and_the_server_keeps_running(client: Client) -> None:
    assert len(HOSTILE) >= 60
    for path, body, expected in HOSTILE:
        status, answer = client.ask("POST", path, body)
        assert status == expected, (path, body, answer)
        assert expected == 307 or answer["detail"], (path, body)
        assert "Traceback" not in json.dumps(answer)
    assert client.ask("POST", "/recommend", {"users": ["ann"], "k": 1})[0] == 200
    assert client.ask("GET", "/health")[1]["status"] == "ok"


def test_bodies_without_content_length_are_limited(client: Client) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in client.send(head + 6 * chunk).split(b"\r\n")[0]


def test_slow_clients_time_out(run: Path, start: Callable[..., Client]) -> None:
    client = start(run, timeout=0.3)
    answer = client.send(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert client.ask("GET", "/health")[0] == 200


def test_a_token_is_required_if_one_is_set(
    run: Path, start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACE_SERVE_TOKEN", "secret")
    client = start(run)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "Bearer é"}):
        assert client.ask("POST", "/recommend", {"users": ["ann"]}, headers)[0] == 401
    assert client.ask("GET", "/metrics")[0] == 401
    assert client.ask("GET", "/health")[0] == 200
    assert client.ask("POST", "/recommend", {"users": ["ann"]}, {"Authorization": "Bearer secret"})[0] == 200


def test_a_new_run_is_loaded_without_losing_a_request(tmp_path: Path, start: Callable[..., Client]) -> None:
    first, second = write_run(tmp_path / "one"), write_run(tmp_path / "two", "e" * 64)
    write_embeddings(second, Embeddings(USERS, ITEMS.flip(0)), "e" * 64)
    link = tmp_path / "current"
    link.symlink_to(first)
    client = start(link, watch_seconds=0.02)
    answers: list[tuple[int, list[str]]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            status, found = client.ask("POST", "/recommend", {"users": ["ann"], "k": 5, "filter_seen": None})
            answers.append((status, found["results"][0]["ids"] if status == 200 else found))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for target in (second, first, second):
        before = client.ask("GET", "/health")[1]["reloads"]
        (tmp_path / "next").symlink_to(target)
        (tmp_path / "next").replace(link)
        while client.ask("GET", "/health")[1]["reloads"] == before:
            pass
    done.set()
    for thread in threads:
        thread.join()
    known = ["10", "20", "30", "40", "50"]
    assert {status for status, _ in answers} == {200}
    assert {tuple(ids) for _, ids in answers} == {tuple(known), tuple(known[::-1])}
    assert client.ask("GET", "/health")[1]["fingerprint"] == "e" * 64


def test_the_old_run_is_served_if_the_new_one_is_damaged(run: Path, client: Client) -> None:
    path = run / "embeddings.safetensors"
    content = path.read_bytes()
    path.with_name("new").write_bytes(content[:50])
    path.with_name("new").replace(path)
    status, answer = client.ask("POST", "/reload", {})
    assert (status, answer["reloaded"]) == (200, False)
    health = client.ask("GET", "/health")[1]
    assert health["status"] == "stale"
    assert "embeddings.safetensors is damaged" in health["error"]
    assert client.ask("POST", "/recommend", {"users": ["ann"], "k": 1})[1]["results"][0]["ids"] == ["40"]
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)
    assert client.ask("POST", "/reload", {})[1] == {"reloaded": True, "error": None}
    assert client.ask("GET", "/health")[1]["status"] == "ok"


def test_a_run_overwritten_in_its_folder_is_reloaded(run: Path, client: Client) -> None:
    write_embeddings(run, Embeddings(USERS, torch.zeros_like(ITEMS)), "f" * 64)
    live = client.app.state.live
    assert live.reload() is True
    assert live.reload() is False
    assert client.ask("POST", "/similar/items", {"ids": ["10"], "k": 1})[1]["results"][0]["scores"] == [0.0]
