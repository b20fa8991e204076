"""Cold-start items with a text: python -m benchmarks.cold_start FOLDER (of citeulike-a) --seeds 0 1 2 3 4.

A fifth of the items is cold: none of their interactions is used in training. Half of them is for validation, half for
test; interactions of other items are split 8:1:1. Cold items are ranked among the cold items of their half, for every
user who has one, by Recall@20 and NDCG@20. Embeddings are those of least squares (`LeastSquaresStage`) or, untuned, of
LightGCN (`--backbone LightGCN`). Ways to rank cold items:

- text: kernel ridge regression from the sentence vector of the item's tags to its embedding, as in `Recommender`
- words: the same from 16 words of the vocabulary that cover the meaning of the text
- tags: from TF-IDF of the tags
- text + tags: from the sum of both kernels
- profile: mean kernel of text + tags with the items of the user's history, without embeddings
- embedding + profile: the sum of the last two, each standardised
- own text model: AlphaRec alone, which maps the sentence vector of the tags by its own MLP

Ridges, the weight of the profile and AlphaRec's settings are chosen on validation items of seed 0 (`--half valid`). The
texts are tags given by users, not titles and abstracts. Cold items do not change the embeddings of others, but take
places in the ranking, so Recall@20 of warm test interactions is measured without and with the cold items of the half.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from benchmarks.records import append
from face_lightning.backbones import GMF, AlphaRec, LightGCN
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.data.readers.reader import Reader
from face_lightning.graph import InteractionGraph
from face_lightning.losses import SampledSoftmax
from face_lightning.metrics import Recall
from face_lightning.ranking import Ranker, find_hits
from face_lightning.stages.base import Stage
from face_lightning.stages.least_squares import LeastSquaresStage
from face_lightning.stages.pretraining import PretrainingStage
from face_lightning.structures import Embeddings, TrainingBatch
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, word_vectors
from face_lightning.words.centering import center
from face_lightning.words.targets import pursue

DIMS = {"least squares": 256, "LightGCN": 64, "AlphaRec": 256}
RIDGES, SHARES = {"text": 0.1, "words": 0.1, "tags": 0.3, "text + tags": 0.3}, 0.5
BATCH_SIZES = {"least squares": 4096, "LightGCN": 4096, "AlphaRec": 8192}
_CHUNK = 1024  # pairs whose items serve as negatives of each other
_COLUMNS = ("cold/recall@20", "cold/ndcg@20", "warm/recall@20", "warm_among_all/recall@20")
_DISCOUNTS = 1 / torch.log2(torch.arange(20) + 2.0)


class ColdItems(Reader):
    """citeulike-a with a fifth of the items cold.

    Args:
        root: Folder with clicks.csv and items.jsonl.
        seed: Seed of the split.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.pairs = np.loadtxt(root / "clicks.csv", delimiter=",", skiprows=1, dtype=np.int64)
        lines = [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]
        self.num_users, self.num_items = (int(column.max()) + 1 for column in self.pairs.T)
        self.num_items = max(self.num_items, 1 + max(line["item_id"] for line in lines))
        self.tags: list[list[str]] = [[] for _ in range(self.num_items)]
        for line in lines:
            self.tags[line["item_id"]] = line["tags"]
        draws = np.random.default_rng(seed)
        order = draws.permutation(self.num_items)
        count = self.num_items // 5
        self.texts = tuple(", ".join(tags[:24]) + "." if tags else None for tags in self.tags)
        self.cold = {"valid": np.sort(order[: count // 2]), "test": np.sort(order[count // 2 : count])}
        warm = self.pairs[~np.isin(self.pairs[:, 1], order[:count])]
        warm = warm[draws.permutation(len(warm))]
        self.splits = np.split(warm, [int(0.8 * len(warm)), int(0.9 * len(warm))])

    def read(self) -> Dataset:
        """Read the warm interactions, and the texts of all items."""
        ids = [np.arange(count).astype(str) for count in (self.num_users, self.num_items)]
        parts = [(part[:, 0], part[:, 1]) for part in self.splits]
        interactions = Interactions.from_coordinates(
            parts[0], parts[1], parts[2], name="citeulike-a", user_ids=ids[0], item_ids=ids[1]
        )
        profiles = Profiles((None,) * self.num_users, self.texts, tuple(ids[0]), tuple(ids[1]))
        return Dataset(interactions, profiles)


class ChunkedSoftmax(SampledSoftmax):
    """Softmax over the items of 1,024 pairs at a time.

    The propagation over the whole graph costs the same for any batch. So batches are large, and without chunks the
    similarities of all their pairs would cost more than the model.
    """

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`."""
        chunks = zip(batch.user_ids.split(_CHUNK), batch.positive_ids.split(_CHUNK), strict=True)
        parts = (batch._replace(user_ids=user_ids, positive_ids=positive_ids) for user_ids, positive_ids in chunks)
        losses = [len(part.user_ids) * super(ChunkedSoftmax, self).forward(part, embeddings, graph) for part in parts]
        return torch.stack(losses).sum() / len(batch.user_ids)


def build_stage(arguments: argparse.Namespace, num_users: int, num_items: int) -> Stage:
    """Build the stage of least squares, LightGCN or AlphaRec."""
    name: str = arguments.backbone
    adam = partial(torch.optim.Adam, lr=arguments.lr)
    if name == "LightGCN":
        return PretrainingStage(partial(LightGCN, embedding_dim=DIMS[name]), num_users, num_items, optimizer=adam)
    if name == "AlphaRec":
        # Negatives of the batch: cold items, which are never positive, are not drawn as negatives.
        loss = partial(ChunkedSoftmax, negatives="batch", cosine=True, temperature=arguments.temperature)
        model = partial(AlphaRec, embedding_dim=DIMS[name])
        return PretrainingStage(model, num_users, num_items, ranking_loss=loss, l2_weight=0.0, optimizer=adam)
    return LeastSquaresStage(
        partial(GMF, embedding_dim=DIMS[name]),
        num_users,
        num_items,
        unobserved_weight=0.02,
        regularization=3.0,
        regularization_growth=1.0,
    )


def train(reader: ColdItems, arguments: argparse.Namespace, seed: int) -> tuple[Embeddings, InteractionDataModule]:
    """Train; embeddings of all users and items, and the data."""
    L.seed_everything(seed, verbose=False)
    data = InteractionDataModule(reader, batch_size=BATCH_SIZES[arguments.backbone])
    stage = build_stage(arguments, data.num_users, data.num_items)
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        limit_val_batches=0,
        accelerator="cpu",
        precision=arguments.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(stage, data)
    with torch.no_grad():
        stage.eval()
        return Embeddings(*(table.detach().float() for table in stage.backbone(stage.graph))), data


def warm_recall(data: InteractionDataModule, embeddings: Embeddings, top_k: int = 20) -> float:
    """Recall of warm test interactions when all items of a table are ranked."""
    ranker, recall = Ranker(embeddings), Recall(top_k)
    for batch in data.test_dataloader():
        recall.update(*find_hits(ranker.rank(batch, top_k), batch, len(embeddings.items)))
    return float(recall.compute())


def kernels(reader: ColdItems, known: np.ndarray, cold: np.ndarray) -> dict[str, tuple[Tensor, Tensor]]:
    """Kernels between known items `(N, N)` and of cold with known items `(M, N)`, for each kind of text."""
    encoder = TextEncoder()
    texts = encoder.encode(reader.texts)
    codebook, _ = build_codebook(encoder)
    of_words = center(word_vectors(encoder, codebook))
    meanings = center(texts).nan_to_num()
    rows = pursue(meanings[np.concatenate([known, cold])], of_words, 16, 32, codebook.lemmas)
    word_meanings = torch.zeros(len(meanings), of_words.shape[1])
    word_meanings[np.concatenate([known, cold])] = F.normalize(of_words[rows].mean(1), dim=1)
    has_text = torch.tensor([float(bool(tags)) for tags in reader.tags])[:, None]
    vectorizer = TfidfVectorizer(analyzer=lambda tags: tags, min_df=2, sublinear_tf=True)
    table = vectorizer.fit_transform(reader.tags).tocsr()

    def gaussian(vectors: Tensor) -> tuple[Tensor, Tensor]:
        points, queries = vectors[known], vectors[cold]
        spread = 2 - 2 * points.mean(0).square().sum()
        squared = (torch.exp((2 * rows @ points.T - 2) / spread) for rows in (points, queries))
        first, second = squared
        return first, second * has_text[cold]

    counted = [torch.from_numpy((table[rows] @ table[known].T).toarray()).float() for rows in (known, cold)]
    found = {"text": gaussian(meanings), "words": gaussian(word_meanings), "tags": (counted[0], counted[1])}
    found["text + tags"] = (0.5 * found["text"][0] + counted[0], 0.5 * found["text"][1] + counted[1])
    return found


def measure(
    reader: ColdItems, embeddings: Embeddings, data: InteractionDataModule, half: str, backbone: str
) -> dict[str, dict[str, float]]:
    """Metrics of the cold items of a half, and of warm items without and with these in the ranking, for each way."""
    cold = reader.cold[half]
    warm_items = embeddings.items.clone()
    warm_items[np.concatenate(list(reader.cold.values()))] = 0.0  # 0 is below the score of any recommended item
    warm = warm_recall(data, Embeddings(embeddings.users, warm_items))
    trained = np.bincount(reader.splits[0][:, 1], minlength=reader.num_items) > 0
    known = np.flatnonzero(trained & np.array([bool(tags) for tags in reader.tags]))
    pairs = reader.pairs[np.isin(reader.pairs[:, 1], cold)]
    users = np.unique(pairs[:, 0])
    relevant = torch.zeros(len(users), len(cold), dtype=torch.bool)
    relevant[np.searchsorted(users, pairs[:, 0]), np.searchsorted(cold, pairs[:, 1])] = True
    result: dict[str, dict[str, float]] = {}

    def add(name: str, scores: Tensor, predicted: Tensor | None) -> None:
        recall, ndcg = metrics_of(scores, relevant)
        result[name] = {"cold/recall@20": recall, "cold/ndcg@20": ndcg, "warm/recall@20": warm}
        if predicted is not None:
            together = warm_items.clone()
            together[cold] = predicted
            result[name]["warm_among_all/recall@20"] = warm_recall(data, Embeddings(embeddings.users, together))

    if backbone == "AlphaRec":  # cold items have no neighbours in the graph, so their rows are the output of the MLP
        predicted = embeddings.items[cold]
        add("own text model", embeddings.users[users] @ predicted.T, predicted)
        return result
    history = torch.zeros(reader.num_users, reader.num_items)
    history[reader.splits[0][:, 0], reader.splits[0][:, 1]] = 1
    history = history[users][:, known]
    history /= history.sum(1, keepdim=True).clamp_min(1).sqrt()
    for name, (between, to_cold) in kernels(reader, known, cold).items():
        between.diagonal().add_(RIDGES[name])
        factor = torch.linalg.cholesky(between)
        predicted = to_cold @ torch.cholesky_solve(embeddings.items[known], factor)
        scores = embeddings.users[users] @ predicted.T
        add(name, scores, predicted)
        if name == "text + tags":
            profile = history @ to_cold.T
            add("profile", profile, None)
            add("embedding + profile", scores / scores.std() + SHARES * profile / profile.std(), None)
    return result


def metrics_of(scores: Tensor, relevant: Tensor) -> tuple[float, float]:
    """Recall@20 and NDCG@20, means over users."""
    hits = relevant.gather(1, scores.topk(20, dim=1).indices).float()
    count = relevant.sum(1)
    ideal = _DISCOUNTS.cumsum(0)[count.clamp_max(20) - 1]
    return float((hits.sum(1) / count).mean()), float((hits @ _DISCOUNTS / ideal).mean())


def main() -> None:
    """Measure the given seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--backbone", choices=list(DIMS), default="least squares")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=4e-3, help="learning rate of LightGCN and AlphaRec")
    parser.add_argument("--temperature", type=float, default=0.15, help="temperature of AlphaRec's softmax")
    parser.add_argument("--precision", default="32-true", help="Lightning's precision, such as bf16-mixed")
    parser.add_argument("--half", choices=["valid", "test"], default="test")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        begin = time.perf_counter()
        reader = ColdItems(arguments.root, seed)
        embeddings, data = train(reader, arguments, seed)
        table = Table(f"seed {seed}, {arguments.half}", *_COLUMNS)
        for name, metrics in measure(reader, embeddings, data, arguments.half, arguments.backbone).items():
            table.add_row(name, *(f"{metrics[column]:.4f}" if column in metrics else "" for column in _COLUMNS))
            if arguments.half == "test":
                origin = {"dataset": "citeulike-a", "backbone": arguments.backbone, "seed": seed, "variant": name}
                if arguments.backbone == "AlphaRec":
                    origin["case"] = f"temperature {arguments.temperature:g}"
                append("cold_start", {**origin, "embedding_dim": DIMS[arguments.backbone], "metrics": metrics})
        Console(width=120).print(table)
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
