"""From a CSV and JSONL that tells of some items only, through the prepared folder and three stages, to words of all."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from face_lightning.data.readers import PreparedFolder, RLMRecFolder
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
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in items))


def test_entities_without_text_get_words_and_are_excluded_from_the_text_losses(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw_files(world, tmp_path)
    command = ["data", "import", tmp_path / "clicks.csv", "--user", "who", "--item", "what", "--separator", ";"]
    command += ["--item_metadata", tmp_path / "items.jsonl", "--item_key", "item_id", "--domain", "movie"]
    assert face(*command, "--core", "2", "--out", tmp_path / "mine") == 0
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
