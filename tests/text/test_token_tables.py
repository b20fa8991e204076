import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from face_lightning.errors import DataError
from face_lightning.text.models import VocabularyFiles
from face_lightning.text.token_tables import TokenTable

TABLE = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def shard(folder: Path, name: str = "model.embed_tokens.weight", table: torch.Tensor = TABLE) -> Path:
    """A model of two shards as written by transformers, with the table in the second one."""
    folder.mkdir(exist_ok=True)
    parts = {"model.layers.0.mlp.weight": torch.zeros(3, 3)}, {name: table, "model.norm.weight": torch.ones(6)}
    files = {}
    for number, tensors in enumerate(parts, start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file(tensors, folder / file)
        files |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "model.embed_tokens.weight",
        "transformer.wte.weight",
        "wte.weight",
        "gpt_neox.embed_in.weight",
        "shared.weight",
    ],
)
@pytest.mark.parametrize("sharded", [False, True])
def test_the_table_is_found_by_its_name(tmp_path: Path, name: str, sharded: bool) -> None:
    if sharded:
        shard(tmp_path, name)
    else:
        save_file({name: TABLE, "lm_head.weight": torch.zeros(50, 6)}, tmp_path / "model.safetensors")
    table = TokenTable.find(tmp_path)
    assert table is not None
    assert table.shape == (50, 6)
    assert torch.equal(table.rows(torch.tensor([49, 0, 7, 7])), TABLE[[49, 0, 7, 7]])


def test_outermost_of_several_tables_is_used(tmp_path: Path) -> None:
    names = ["decoder.embed_tokens.weight", "encoder.block.embed_tokens.weight", "not_wte.weight"]
    save_file({name: torch.full((3, 2), float(i)) for i, name in enumerate(names)}, tmp_path / "model.safetensors")
    table = TokenTable.find(tmp_path)
    assert table is not None
    assert table.name == names[0]


def test_a_module_of_sentence_transformers_may_hold_the_model(tmp_path: Path) -> None:
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    shard(tmp_path / "0_Transformer")
    table = TokenTable.find(tmp_path)
    assert table is not None
    assert table.path.parent.name == "0_Transformer"


@settings(max_examples=30)
@given(st.lists(st.integers(0, 20_479), max_size=40), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_rows_equal_the_whole_table(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"rows-{dtype}"
    table = torch.arange(20_480 * 2).view(-1, 2).to(dtype)
    if not folder.exists():
        shard(folder, table=table)
    found = TokenTable.find(folder)
    assert found is not None
    rows = found.rows(torch.tensor(ids, dtype=torch.long))
    assert rows.dtype == torch.float32
    assert torch.equal(rows, table[ids].float())


def test_only_the_shard_with_the_table_is_needed(tmp_path: Path) -> None:
    shard(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    table = TokenTable.find(tmp_path)
    assert table is not None
    assert torch.equal(table.rows(torch.arange(50)), TABLE)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"expected model-00002-of-00002.safetensors .* download that shard"):
        TokenTable.find(tmp_path)


def test_key_depends_only_on_the_table(tmp_path: Path) -> None:
    shard(tmp_path)
    key = TokenTable.find(tmp_path).identity  # type: ignore[union-attr]
    save_file({"model.layers.0.mlp.weight": torch.ones(3, 3)}, tmp_path / "model-00001-of-00002.safetensors")
    assert TokenTable.find(tmp_path).identity == key  # type: ignore[union-attr]
    shard(tmp_path, table=TABLE + 1)
    assert TokenTable.find(tmp_path).identity != key  # type: ignore[union-attr]


def test_token_id_out_of_range_raises(tmp_path: Path) -> None:
    table = TokenTable.find(shard(tmp_path))
    assert table is not None
    with pytest.raises(
        DataError, match=r"expected token ids below 50, .* got up to 50; the tokenizer belongs to another"
    ):
        table.rows(torch.tensor([3, 50]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a weight_map"),
        ("{}", "expected a weight_map"),
        ("[]", "expected a weight_map"),
        ('{"weight_map": [1]}', "expected a weight_map"),
        ('{"weight_map": {"model.embed_tokens.weight": "../../etc/passwd"}}', "expected passwd .* no such file"),
    ],
)
def test_a_damaged_index_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(DataError, match=message):
        TokenTable.find(tmp_path)


def test_damaged_and_quantized_weights_are_reported(tmp_path: Path) -> None:
    save_file({"wte.weight": torch.ones(4, 2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"floating-point numbers, got I8 of shape \[4, 2\]"):
        TokenTable.find(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        TokenTable.find(tmp_path)


def test_a_folder_without_safetensors_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a safetensors file .* got no weights; save .* with save_pretrained"):
        VocabularyFiles(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(DataError, match=r"got pytorch_model\.bin; save"):
        VocabularyFiles(str(tmp_path))


def test_a_folder_without_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the tokenizer of .* cannot be loaded"):
        _ = VocabularyFiles(str(shard(tmp_path))).tokenizer


READ_SOME = """
import resource, sys
from pathlib import Path
import torch
from face_lightning.text.token_tables import TokenTable
(used,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line]
limit = 1024 * (used + 200_000) + 2**30  # the memory map takes address space but no memory
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
table = TokenTable.find(Path(sys.argv[1]))
print(table.rows(torch.arange(0, table.shape[0], 37)).numel() * 4 // 2**20, len(table.identity))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux does")
def test_words_of_a_large_model_take_little_memory(tmp_path: Path) -> None:
    """1 GiB of embeddings, in a sparse file, are read with 200 MB of memory."""
    header = {"model.embed_tokens.weight": {"dtype": "BF16", "shape": [65_536, 8_192], "data_offsets": [0, 2**30]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (tmp_path / "big.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2**30)
    index = {"weight_map": {"model.embed_tokens.weight": "big.safetensors", "lm_head.weight": "absent.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    done = subprocess.run([sys.executable, "-c", READ_SOME, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "55 64\n"), done.stderr[-500:]
