"""From a CSV and JSONL that tells of some items only, through the prepared folder and three stages, to words of all."""

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from fastapi.testclient import TestClient

from face_lightning.app.explorer import Explorer
from face_lightning.app.visit import Visit
from face_lightning.data.readers import PreparedFolder, RLMRecFolder
from face_lightning.recommending.recommender import Recommender
from face_lightning.serving.http_service import Settings, create_app
from face_lightning.words.descriptor_encoder import DescriptorEncoder
from tests.chain.tiny import World, face, fit, result


def write_raw_files(world: World, folder: Path) -> None:
    """The world's interactions as rows, and what is known of every third item."""
    data = RLMRecFolder(world.root / "data").read().interactions
    rows = [
        f"{data.user_ids[user]};{data.item_ids[item]}\n"
        for split in ("train", "valid", "test")
        for user, item in zip(*data.matrix(split).nonzero(), strict=True)
    ]
    (folder / "clicks.csv").write_text("who;what\n" + "".join(rows))
    lines = (world.root / "data" / "items.jsonl").read_text().splitlines()[::3]
    items = [{**json.loads(line), "item_id": f"i{json.loads(line)['item_id']}"} for line in lines]
    items.append({"item_id": "new", "title": "Newcomer", "genres": ["love", "music"]})
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in items))


def test_entities_without_text_get_words_and_are_excluded_from_the_text_losses(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw_files(world, tmp_path)
    command = ["data", "import", tmp_path / "clicks.csv", "--user", "who", "--item", "what", "--separator", ";"]
    command += ["--item_metadata", tmp_path / "items.jsonl", "--item_key", "item_id", "--domain", "movie"]
    assert face(*command, "--core", "2", "--keep_new_items", "--out", tmp_path / "mine") == 0
    assert "items have no metadata: their words come from interactions" in capsys.readouterr().err

    contrasted: set[int] = set()
    encode = DescriptorEncoder.encode_tokens

    def spy(self: DescriptorEncoder, words: object, entity_ids: object, *rest: object) -> object:
        contrasted.update(entity_ids.tolist())
        return encode(self, words, entity_ids, *rest)

    monkeypatch.setattr(DescriptorEncoder, "encode_tokens", spy)
    data = {**world.read("parts/data"), "reader": {"class_path": "PreparedFolder"}}
    data["reader"]["init_args"] = {"root": str(tmp_path / "mine")}
    (world.root / "parts" / "own.yaml").write_text(yaml.safe_dump(data))
    for name, before in (("stage1", None), ("stage2", "stage1"), ("stage3", "stage2")):
        config = {**world.read(name), "data": "parts/own.yaml", "run_dir": str(tmp_path / name)}
        config |= {} if before is None else {"init_from": str(tmp_path / before)}
        contrasted.clear()
        assert fit(world.write(f"own-{name}", config)) == 0

    dataset = PreparedFolder(tmp_path / "mine").read()
    num_users = dataset.interactions.num_users
    texts = [*dataset.profiles.user_texts, *dataset.profiles.item_texts]
    assert any(text is None for text in texts[num_users:])
    assert contrasted
    assert all(texts[entity] is not None for entity in contrasted)
    words = pq.read_table(tmp_path / "stage3" / "descriptors.parquet").to_pylist()
    assert [row["text"] for row in words] == texts
    assert all(len(row["words"]) == 4 for row in words)
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["without_text"]["items"] == texts[num_users:].count(None)
    assert result(tmp_path / "stage3")["dataset"] == "clicks"
    assert_new_item_is_recommended(tmp_path / "stage3", capsys)
    assert_new_item_is_in_every_output(tmp_path / "stage3", tmp_path, capsys)


def assert_new_item_is_recommended(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What no training has seen is ranked with the others, by its text, without the text encoder."""
    capsys.readouterr()
    recommender, plain = Recommender.load(run), Recommender.load(run, new_items=False)
    assert len(recommender.embeddings().items) == len(plain.embeddings().items) + 1
    cold = plain.cold_start("Newcomer, love and music movie.", k=2)
    assert torch.allclose(recommender.embeddings().items[-1], cold.embedding, atol=1e-5)
    assert "new" in recommender.recommend(["u1"], k=31, filter_seen=None).ids
    assert "new" in recommender.steer("u1", ["love"], k=31, filter_seen=None).ids
    command = ["recommend", "--run", run, "--users", "u1", "--filter_seen", "none", "--top_k", "31"]
    assert face(*command) == 0
    assert "Newcomer" in capsys.readouterr().out
    assert face(*command, "--no_new_items") == 0
    assert "Newcomer" not in capsys.readouterr().out
    assert face("describe", "--run", run, "--items", "new", "--json") == 0
    assert json.loads(capsys.readouterr().out)["words"] == cold.words
    explorer = Explorer.load(run)
    (found,) = explorer.search("item", "newc")
    assert (found.id, found.words) == ("new", cold.words)
    assert explorer.text("item", "new") == "Newcomer, love and music movie."
    visit = Visit(explorer)
    visit.open("user", ["u1"])
    assert "new" in [row.item.id for row in visit.recommend(31)]


def assert_new_item_is_in_every_output(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`face similar`, `face export` and `face serve` have the new item by its id, with its words and vector."""
    recommender = Recommender.load(run)
    vector = recommender.embeddings().items[-1]
    (words,) = (one.words for one in recommender.describe(items=["new"]))
    nearest = recommender.similar_items(["new"], k=3)

    out = folder / "similar.jsonl"
    assert face("similar", "--run", run, "--items", "new", "--top_k", "3", "--out", out) == 0
    (line,) = map(json.loads, out.read_text().splitlines())
    assert (line["item_id"], line["similar_item_ids"]) == ("new", nearest.ids[0].tolist())
    assert np.isfinite(line["scores"]).all()
    neighbour = nearest.ids[0, 0]
    assert "new" in recommender.similar_items([neighbour], k=30).ids
    assert face("similar", "--run", run, "--items", neighbour, "--top_k", "30") == 0
    assert "Newcomer" in capsys.readouterr().out

    bundle = folder / "bundle"
    assert face("export", "--run", run, "--out", bundle) == 0
    row = pq.read_table(bundle / "items.parquet").to_pylist()[-1]
    assert (row["id"], row["label"], row["words"]) == ("new", "Newcomer", words)
    exported = np.load(bundle / "items.npy")
    assert np.isfinite(exported).all()
    assert np.array_equal(exported[row["row"]], vector.numpy())
    index = faiss.read_index(str(bundle / "items.faiss"))
    assert np.array_equal(index.reconstruct(row["row"]), vector.numpy())

    with TestClient(create_app(Settings(str(run), watch_seconds=0))) as client:
        (shown,) = client.post("/describe", json={"items": ["new"]}).json()["results"]
        assert (shown["label"], shown["words"]) == ("Newcomer", words)
        (similar,) = client.post("/similar/items", json={"ids": ["new"], "k": 3}).json()["results"]
        assert similar["ids"] == nearest.ids[0].tolist()
        (ranked,) = client.post("/recommend", json={"users": ["u1"], "k": 31, "filter_seen": None}).json()["results"]
        assert dict(zip(ranked["ids"], ranked["scores"], strict=True))["new"] == pytest.approx(
            float(recommender.embeddings().users[recommender.user_rows("u1")[0]] @ vector), abs=1e-5
        )
        (known,) = client.post("/recommend/history", json={"histories": {"me": ["new"]}}).json()["results"]
        assert known["ids"]
