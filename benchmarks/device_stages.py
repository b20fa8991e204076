"""Stages of a given size on a device, to be stepped without a Trainer: generated interactions, a random encoder."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bare_stage import total_loss
from face_lightning.backbones import LightGCN
from face_lightning.data.sampling import EntityLoader, TrainingLoader
from face_lightning.graph import build_graph
from face_lightning.losses import ContrastiveText
from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.stages import AlignmentStage, MappingStage, PretrainingStage, Stage
from face_lightning.structures import TrainingBatch
from face_lightning.text.encoders import TextEncoder
from face_lightning.words.descriptor_encoder import DescriptorEncoder
from face_lightning.words.entity_texts import EntityTexts
from face_lightning.words.settings import WordSettings
from face_lightning.words.space import WordSpace
from face_lightning.words.word_vectors import WordVectors

STAGES = ("stage1", "stage2", "stage3")


@dataclass(frozen=True)
class Size:
    """Sizes of a data set, a vocabulary and the models."""

    name: str
    num_users: int
    num_items: int
    num_interactions: int
    embedding_dim: int = 256
    batch_size: int = 4096
    entities_per_step: int = 1024
    num_words: int = 20_000
    encoder_dim: int = 384
    encoder_layers: int = 6
    narrow_mapper: bool = False


def interactions(size: Size) -> sp.csr_array:
    """Random interactions with skewed popularity, about as many as `size` asks for."""
    draws = np.random.default_rng(0)
    users = draws.integers(0, size.num_users, size.num_interactions, dtype=np.int64)
    items = (size.num_items * draws.random(size.num_interactions) ** 2).astype(np.int64)
    pairs = np.unique(users * size.num_items + items)
    cells = np.ones(len(pairs), dtype=np.float32), (pairs // size.num_items, pairs % size.num_items)
    matrix = sp.csr_array(cells, shape=(size.num_users, size.num_items))
    matrix.sort_indices()
    return matrix


def write_encoder(folder: Path, size: Size) -> list[str]:
    """Write a randomly initialised BERT as a sentence-transformers folder; returns its vocabulary."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    letters = "abcdefghijklmnopqrstuvwxyz"
    numbers = range(size.num_words)
    words = ["".join(letters[number // 26**place % 26] for place in range(5)) for number in numbers]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "user", "item", "who", "likes", ":", *words]
    tokenizer = BertTokenizerFast(vocab={token: row for row, token in enumerate(tokens)}, model_max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=size.encoder_dim,
        num_hidden_layers=size.encoder_layers,
        num_attention_heads=size.encoder_dim // 32,
        intermediate_size=4 * size.encoder_dim,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert"), max_seq_length=64), Pooling(size.encoder_dim, "mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)
    return words


def build(name: str, train: sp.csr_array, size: Size, device: torch.device) -> Stage:
    """Build a stage on its device. Texts and target words are random, which does not affect the time of a step."""
    graph = build_graph(train)
    torch.manual_seed(0)
    backbone = partial(LightGCN, embedding_dim=size.embedding_dim)
    sizes: dict[str, Any] = {"num_users": size.num_users, "num_items": size.num_items}
    stage: Stage
    if name == "stage1":
        stage = PretrainingStage(backbone, **sizes)
    else:
        folder = Path(tempfile.mkdtemp())
        words = write_encoder(folder, size)
        (folder / "words.txt").write_text("\n".join(words) + "\n")
        settings = {"word_list": folder / "words.txt", "blocklist": None, "user_prompt": "a user who likes : {words}"}
        encoder = TextEncoder(str(folder / "model"), cache_dir=folder / "cache")
        narrow = {"num_descriptors": 4, "concept_dim": 16, "hidden_dim": 32, "feedforward_dim": 16}
        mapper = partial(TokenMapper, **(narrow if size.narrow_mapper else {}))  # type: ignore[arg-type]
        options: dict[str, Any] = {"mapper": mapper, "words": partial(WordSettings, encoder, **settings), **sizes}  # type: ignore[arg-type]
        more: dict[str, Any] = {"grounding": ContrastiveText}
        kind: Callable[..., Stage] = MappingStage if name == "stage2" else partial(AlignmentStage, **more)
        stage = kind(backbone=backbone, **options)
    stage = stage.to(device).train()
    stage.graph = graph.to(device)
    stage.backbone.prepare(stage.graph)
    if name != "stage1":
        _give_words(stage, size, device)
    return stage


@torch.no_grad()
def _give_words(stage: Any, size: Size, device: torch.device) -> None:  # noqa: ANN401 either stage with words
    num_entities, width = size.num_users + size.num_items, size.encoder_dim
    encoder = stage.words.encoder.to(device)

    def directions(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, width, device=device), dim=1)

    vectors, ids = directions(num_entities), torch.arange(num_entities, device=device)
    names = [str(entity) for entity in range(num_entities)]
    texts = EntityTexts(size.num_users, names, names, vectors, torch.ones_like(ids, dtype=torch.bool), ids)
    num_words = len(stage.codebook.words)
    tokens = torch.randint(num_words, (num_entities, stage.words.num_targets), device=device)
    embeddings = stage.codebook.token_embeddings.to(device)
    stage.space = WordSpace(
        texts=texts,
        targets=LexicalTargets(tokens, torch.full(tokens.shape, 1 / tokens.shape[1], device=device)),
        word_vectors=WordVectors(stage.codebook.words, directions(num_words), stage.words.anchoring_temperature),
        descriptors=DescriptorEncoder(encoder, embeddings, stage.words.prompts, size.num_users),
    )
    final = stage.backbone(stage.graph)
    stage.mapper.fit_input([final.users[:4096], final.items[:4096]])
    stage._final = final
    if isinstance(stage, AlignmentStage):
        stage._grounding_vectors = vectors


class Stepper:
    """Runs training steps of a stage, from the sampler to the optimizer.

    Attributes:
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(self, name: str, stage: Stage, train: sp.csr_array, size: Size) -> None:
        self._stage, self._device = stage, stage.device
        loader: EntityLoader | TrainingLoader
        if name == "stage2":
            loader = EntityLoader(sum(train.shape), entities_per_step=size.entities_per_step)
        else:
            entities = 0 if name == "stage1" else size.entities_per_step
            loader = TrainingLoader(train, batch_size=size.batch_size, entities_per_step=entities)
        self.steps_per_epoch = len(loader)
        self._batches: Iterator[TrainingBatch] = chain.from_iterable(repeat(loader))
        (self._optimizer,), _ = stage.configure_optimizers()

    def step(self) -> Tensor:
        """Run the next training step; returns its loss without synchronising the device."""
        batch = next(self._batches)
        users, positives, negatives, entities = (ids.to(self._device, non_blocking=True) for ids in batch[:4])
        batch = TrainingBatch(users, positives, negatives, entities, batch.pair_share, batch.entity_share)
        self._optimizer.zero_grad()
        loss = total_loss(self._stage, batch)
        loss.backward()
        self._optimizer.step()
        return loss.detach()
