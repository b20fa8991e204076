"""Words and alignment of a decoder-only language model, from its files to stage 3, by the real commands."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.chain.tiny import NUM_ITEMS, NUM_USERS, SENTENCE, WORDS, World, face, fit, result, rows

SMOLLM2 = Path("~/.cache/face_lightning/models/SmolLM2-135M-Instruct").expanduser()


def write_llama(folder: Path) -> Path:
    """A Llama of random weights in shards, with a byte-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    known = [*WORDS, *(word for word in SENTENCE if word.isalpha())]
    tokenizer.train_from_iterator([f"a {word} {other}" for word in known for other in known], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256).save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        intermediate_size=32,
        max_position_embeddings=256,
        initializer_range=0.5,
        pad_token_id=None,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=20_000)
    return folder


def run_both_stages(world: World, model: Path, name: str, texts: Path, *arguments: str) -> Path:
    """Codebook, mapping and alignment with a model; returns the folder of the runs."""
    runs = world.root / "runs" / name
    words = world.root / f"words-{name}"
    cache = str(world.root / "cache")
    build = ["--model", str(model), "--word_list", str(world.root / "words.txt"), "--texts", str(texts)]
    assert face("vocab", "build", *build, "--out", words, "--cache_dir", cache) == 0
    space = "--model.init_args.words.init_args"
    common = [f"{space}.encoder.init_args.model", str(model), f"{space}.codebook", str(words)]
    common += ["--data.summaries", str(texts), *arguments]
    before = world.run("stage1")
    for stage in ("stage2", "stage3"):
        assert fit(world.config(stage), "--run_dir", runs / stage, "--init_from", before, *common) == 0
        before = runs / stage
    return runs


def summarize(world: World) -> Path:
    texts = world.root / "texts.jsonl"
    reader = ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", world.root / "data"]
    where = ["--out", texts, "--cache_dir", world.root / "cache"]
    assert face("summarize", *reader, "--data.reader.init_args.domain", "movie", *where) == 0
    return texts


def check_words(world: World, runs: Path, name: str) -> None:
    table = pq.read_table(runs / "stage3" / "descriptors.parquet").to_pylist()
    known = set((world.root / f"words-{name}" / "words.txt").read_text().split())
    assert len(table) == NUM_USERS + NUM_ITEMS
    assert {word for row in table for word in row["words"]} <= known
    last = rows(runs / "stage3")[-1]
    assert 0 < last["train/alignment"] < 100
    assert result(runs / "stage3")["metrics"]["test/recall@20"] > 0


def test_a_sharded_decoder_goes_through_all_stages(chain: World, tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama")
    assert (model / "model.safetensors.index.json").is_file()
    runs = run_both_stages(chain, model, "llama", summarize(chain))
    report = json.loads((chain.root / "words-llama" / "report.json").read_text())
    assert (report["family"], report["num_common"]) == ("byte-level BPE", len(WORDS))
    check_words(chain, runs, "llama")


def test_a_codebook_of_another_model_is_refused(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_llama(tmp_path / "llama")
    build = ["--model", model, "--word_list", chain.root / "words.txt", "--out", tmp_path / "words"]
    assert face("vocab", "build", *build, "--cache_dir", tmp_path / "cache") == 0
    capsys.readouterr()
    codebook = ["--model.init_args.words.init_args.codebook", tmp_path / "words", "--run_dir", tmp_path / "run"]
    assert fit(chain.config("stage2"), *codebook) == 2
    error = capsys.readouterr().err
    assert "codebook: expected words of" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: python -m benchmarks.smollm2")
def test_smollm2_goes_through_all_stages(chain: World) -> None:
    few = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--data.entities_per_step", "8"]
    few += ["--model.init_args.words.init_args.retrieval_limit", "12"]
    runs = run_both_stages(chain, SMOLLM2, "smollm2", summarize(chain), *few)
    report = json.loads((chain.root / "words-smollm2" / "report.json").read_text())
    assert report["num_common"] > 25
    check_words(chain, runs, "smollm2")
