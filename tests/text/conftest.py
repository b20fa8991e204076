import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = ["dragon", "toy", "war", "love", "robot", "music", "ship", "crime", "magic", "ocean", "thriller"]
SENTENCE = ["the", "movie", "user", "attracts", "those", "who", "like", "words", ":", "and", "more", ".", "a"]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a two-layer BERT with random weights and dropout as a sentence-transformers folder."""
    made: dict[str, Path] = {}

    def make(pooling: str = "mean") -> Path:
        if pooling not in made:
            import torch
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
            from transformers import BertConfig, BertModel, BertTokenizerFast

            folder = tmp_path_factory.mktemp(f"bert-{pooling}")
            vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SENTENCE, *WORDS, "##s"]
            tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(vocabulary)}, model_max_length=24)
            torch.manual_seed(0)
            config = BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=24,
                initializer_range=0.5,
                hidden_dropout_prob=0.5,
                attention_probs_dropout_prob=0.5,
            )
            BertModel(config).save_pretrained(folder / "bert")
            tokenizer.save_pretrained(folder / "bert")
            transformer = Transformer(str(folder / "bert"), max_seq_length=24)
            model = SentenceTransformer(modules=[transformer, Pooling(16, pooling)], device="cpu")
            model.save(str(folder / "model"), create_model_card=False)
            made[pooling] = folder / "model"
        return made[pooling]

    return make


@pytest.fixture
def tiny_model(make_model: Callable[[str], Path]) -> Path:
    return make_model("mean")


@pytest.fixture(scope="session")
def make_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the vocabulary of a language model: a tokenizer of the given family, and random token embeddings."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str, name: str = "model.embed_tokens.weight") -> Path:
        if (family, name) not in made:
            import torch
            from safetensors.torch import save_file
            from transformers import PreTrainedTokenizerFast

            folder = tmp_path_factory.mktemp(family)
            tokenizer = _tokenizer(family)
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
            table = torch.randn(tokenizer.get_vocab_size() + 1, 8, generator=torch.Generator().manual_seed(0))
            save_file({name: table}, folder / "model.safetensors")
            made[family, name] = folder
        return made[family, name]

    return make


def _tokenizer(family: str) -> Any:
    """Train a tokenizer of the given family on a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    known = [*WORDS, "ships", "toys"]
    corpus = [f"a {word} and the {other}" for word in known for other in known]
    alphabet = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    common: dict[str, Any] = {"special_tokens": ["<unk>"], "show_progress": False}
    trainer: Any
    if family == "wordpiece":
        vocabulary = ["<unk>", "a", "and", "the", *known, *(f"##{letter}" for letter in alphabet)]
        tokenizer = Tokenizer(models.WordPiece({entry: i for i, entry in enumerate(vocabulary)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return tokenizer
    if family == "sentencepiece":
        scores = [("<unk>", 0.0), ("▁", -9.0), *((f"▁{word}", -2.0) for word in ["a", "and", "the", *known])]
        tokenizer = Tokenizer(models.Unigram([*scores, *((letter, -8.0) for letter in alphabet)], unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if family == "bytelevel":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common)
    elif family == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=257, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common)
    elif family == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(vocab_size=1, **common)
    else:  # end-of-word BPE
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", **common)
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def config_of(kind: str, vocab_size: int, positions: int) -> Any:
    """Settings of a tiny model, with large initial weights so that differences are visible."""
    import transformers as hf

    common = {"vocab_size": vocab_size, "initializer_range": 0.3, "pad_token_id": None}
    one = {"num_key_value_heads": 1, "head_dim": 8}
    if kind == "gpt2":
        return hf.GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=positions, resid_pdrop=0.5, embd_pdrop=0.5, **common
        )
    if kind == "gemma3":
        return hf.Gemma3TextConfig(**SIZES, **one, max_position_embeddings=positions, sliding_window=32, **common)
    if kind == "bert":
        return hf.BertConfig(**SIZES, max_position_embeddings=positions, hidden_dropout_prob=0.5, **common)
    kinds = {"llama": hf.LlamaConfig, "qwen2": hf.Qwen2Config}
    return kinds[kind](**SIZES, num_key_value_heads=1, max_position_embeddings=positions, **common)


TOKENIZERS = {
    "llama": "bytelevel",
    "qwen2": "bytelevel",
    "gpt2": "bytelevel",
    "gemma3": "sentencepiece",
    "bert": "wordpiece",
}


@pytest.fixture(scope="session")
def make_language_model(
    tmp_path_factory: pytest.TempPathFactory, make_vocabulary: Callable[..., Path]
) -> Callable[..., Path]:
    """Write a tiny language model with random weights, without settings of sentence-transformers."""
    made: dict[tuple[str, int], Path] = {}

    def make(kind: str, positions: int = 48) -> Path:
        if (kind, positions) not in made:
            import torch
            import transformers as hf

            folder = tmp_path_factory.mktemp(kind) / "model"
            shutil.copytree(make_vocabulary(TOKENIZERS[kind]), folder)
            (folder / "model.safetensors").unlink()
            vocab_size = len(hf.AutoTokenizer.from_pretrained(folder)) + 1  # Qwen2's tokenizer adds a token
            torch.manual_seed(0)
            auto = hf.AutoModel if kind == "bert" else hf.AutoModelForCausalLM
            model = auto.from_config(config_of(kind, vocab_size, positions))
            # Put the table into a separate shard, as in large models
            model.save_pretrained(folder, max_shard_size=2_000 if kind == "llama" else "1GB")
            if kind == "llama":
                (folder / "chat_template.jinja").write_text("{% for m in messages %}war {{ m.content }}{% endfor %}")
            made[kind, positions] = folder
        return made[kind, positions]

    return make
