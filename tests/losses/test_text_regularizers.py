"""Tests of RLMRec-Con and RLMRec-Gen: values, masking and gradients."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from face_lightning.backbones import GMF, Backbone, LightGCL, LightGCN, SimGCL
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.losses import ContrastiveText, GenerativeText
from face_lightning.losses.contrastive import info_nce
from face_lightning.losses.text_regularizer import rows_of_equal_text
from face_lightning.structures import Embeddings, TrainingBatch

USERS, ITEMS = 12, 9
BATCH = TrainingBatch(
    torch.tensor([0, 3, 3, 5]), torch.tensor([1, 2, 1, 8]), torch.tensor([4, 4, 0, 6]), torch.empty(0).long()
)
TEXTS = F.normalize(torch.randn(USERS + ITEMS, 6, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.fixture(autouse=True)
def exact_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute products in float32 on every machine."""
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: False)


@pytest.fixture
def graph() -> InteractionGraph:
    cells = (np.random.default_rng(0).random((USERS, ITEMS)) < 0.4).astype(np.float32)
    return build_graph(sp.csr_array(cells))


def test_contrastive_text_by_hand_skips_entities_without_text(graph: InteractionGraph) -> None:
    regularizer, backbone = ContrastiveText(4, 6), GMF(USERS, ITEMS, 4)
    embeddings = regularizer.embed(backbone, graph)
    present = torch.ones(USERS + ITEMS, dtype=torch.bool)
    present[[3, USERS + 8]] = False
    loss = regularizer.loss(BATCH, embeddings, TEXTS, present)
    expected = 0.0
    for table, first, rows in ((embeddings.users, 0, [0, 5]), (embeddings.items, USERS, [0, 1, 2, 4, 6])):
        mapped = regularizer.mlp(TEXTS[[first + row for row in rows]])
        scores = F.cosine_similarity(table[rows].unsqueeze(1), mapped.unsqueeze(0), dim=2) / 0.2
        expected = expected + F.cross_entropy(scores, torch.arange(len(rows)))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", [ContrastiveText, GenerativeText])
@pytest.mark.parametrize("backbone_kind", [LightGCN, SimGCL])
def test_gradient_reaches_all_parameters(kind: type, backbone_kind: type, graph: InteractionGraph) -> None:
    regularizer = kind(4, 6, **({"mask_ratio": 0.5} if kind is GenerativeText else {}))
    backbone = backbone_kind(USERS, ITEMS, 4)
    torch.manual_seed(0)
    embeddings = regularizer.embed(backbone, graph)
    regularizer.loss(BATCH, embeddings, TEXTS, torch.ones(USERS + ITEMS, dtype=torch.bool)).backward()
    for name, parameter in [*regularizer.named_parameters(), *backbone.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", [ContrastiveText, GenerativeText])
def test_batch_without_texts_has_zero_loss(kind: type, graph: InteractionGraph) -> None:
    regularizer, backbone = kind(4, 6), LightGCN(USERS, ITEMS, 4)
    embeddings = regularizer.embed(backbone, graph)
    loss = regularizer.loss(BATCH, embeddings, TEXTS, torch.zeros(USERS + ITEMS, dtype=torch.bool))
    assert loss == 0
    loss.backward()  # DDP requires gradients for all parameters
    assert all(parameter.grad is not None for parameter in regularizer.mlp.parameters())


def test_masked_entities_do_not_reach_the_backbone_and_tables_are_unchanged(graph: InteractionGraph) -> None:
    regularizer, backbone = GenerativeText(4, 6, mask_ratio=0.4), GMF(USERS, ITEMS, 4)
    before = backbone.tables.weight.detach().clone()
    torch.manual_seed(0)
    nodes = torch.cat(regularizer.embed(backbone, graph))
    hidden = (nodes == regularizer.mask).all(1)
    assert 0 < hidden.sum() < len(nodes)
    assert torch.equal(nodes[~hidden], before[~hidden])
    assert torch.equal(backbone.tables.weight, before)
    assert backbone.tables.weight is dict(backbone.named_parameters())["tables.weight"]


@pytest.mark.parametrize("backbone_kind", [SimGCL, LightGCL])
def test_contrastive_views_are_masked_as_the_embeddings_are(backbone_kind: type, graph: InteractionGraph) -> None:
    regularizer, backbone = GenerativeText(4, 6, mask_ratio=0.4), backbone_kind(USERS, ITEMS, 4)
    backbone.prepare(graph)

    def contrast(embeddings: Embeddings) -> torch.Tensor:
        torch.manual_seed(1)
        return backbone.auxiliary_losses(BATCH, embeddings, graph)["contrast"]

    torch.manual_seed(0)
    masked = contrast(regularizer.embed(backbone, graph))
    torch.manual_seed(0)
    hidden = torch.rand(USERS + ITEMS) < 0.4
    with torch.no_grad():
        backbone.tables.weight[hidden] = regularizer.mask
    torch.testing.assert_close(masked, contrast(backbone(graph)))


class Tableless(Backbone):
    def forward(self, graph: InteractionGraph) -> Embeddings:
        return Embeddings(torch.ones(self.num_users, 1), graph.item_degrees().float().unsqueeze(1))


def test_invalid_values_raise(graph: InteractionGraph) -> None:
    with pytest.raises(ConfigurationError, match="temperature: expected more than 0, got 0"):
        ContrastiveText(4, 6, temperature=0)
    with pytest.raises(ConfigurationError, match="mask_ratio: expected between 0 and 1, got 1"):
        GenerativeText(4, 6, mask_ratio=1)
    with pytest.raises(ConfigurationError, match=r"got Tableless; use ContrastiveText"):
        GenerativeText(1, 6).embed(Tableless(USERS, ITEMS, 1), graph)


@pytest.mark.parametrize("kinds", [[0, 1, 2, 3], [0, 1, 0, 2, 0, 1], [0, 0, 0]])
def test_entities_of_equal_text_are_not_negatives(kinds: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.tensor(kinds)
    texts = F.normalize(torch.randn(4, 6, generator=generator), dim=1)[groups]
    embeddings = torch.randn(len(kinds), 4, generator=generator)
    regularizer = ContrastiveText(4, 6)
    same = groups.unsqueeze(1) == groups
    keys = F.normalize(regularizer.mlp(texts), dim=1)
    expected = info_nce(F.normalize(embeddings, dim=1), keys, regularizer.temperature, same)
    loss = regularizer(torch.arange(len(kinds)), embeddings, texts)
    assert loss.item() == pytest.approx(expected.item(), rel=0.02, abs=0.02)  # products may be in bfloat16
    assert (rows_of_equal_text(texts) is None) == (len(set(kinds)) == len(kinds))
