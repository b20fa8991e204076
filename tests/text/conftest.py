from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = ["dragon", "toy", "war", "love", "robot", "music", "ship", "crime", "magic", "ocean", "thriller"]
SENTENCE = ["the", "movie", "user", "attracts", "those", "who", "like", "words", ":", "and", "more", ".", "a"]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a two-layer BERT with random weights and dropout as a sentence-transformers folder."""
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
