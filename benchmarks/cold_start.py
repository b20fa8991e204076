"""Items of which only a text is known: python -m benchmarks.cold_start FOLDER (of citeulike-a) --seeds 0 1 2 3 4.

A fifth of the items is cold: none of their interactions is trained on. Half of them is for validation, half for test;
interactions of other items are split 8:1:1. Cold items are ranked among the cold items of their half for every user who
has one, Recall@20 and NDCG@20. Least squares (`LeastSquaresStage`) gives the embeddings, or, untuned, LightGCN with
`--backbone LightGCN`; ways to rank cold items:

- text: kernel ridge regression from the sentence vector of the item's tags to its embedding, as `Recommender` does it
- words: the same from 16 words of the vocabulary that say what the text says
- tags: from TF-IDF of the tags
- text + tags: from the sum of both kernels
- profile: mean kernel of text + tags with the items of the user's history, without embeddings
- embedding + profile: the sum of the last two, each standardised
- own text model: AlphaRec alone, which maps the sentence vector of the tags by its own MLP

Ridges and the share of the profile are chosen on validation items of seed 0. Warm metrics are those of the embeddings,
which cold items do not change. The texts are tags that users gave, not titles and abstracts.
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
from face_lightning.losses import SampledSoftmax
from face_lightning.stages.base import Stage
from face_lightning.stages.least_squares import LeastSquaresStage
from face_lightning.stages.pretraining import PretrainingStage
from face_lightning.structures import Embeddings
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, word_vectors
from face_lightning.words.centering import center
from face_lightning.words.targets import pursue

DIMS = {"least squares": 256, "LightGCN": 64, "AlphaRec": 256}
RIDGES, SHARES = {"text": 0.1, "words": 0.1, "tags": 0.3, "text + tags": 0.3}, 0.5
_DISCOUNTS = 1 / torch.log2(torch.arange(20) + 2.0)


class ColdItems(Reader):
    """citeulike-a with a fifth of its items cold.

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
        """Warm interactions, and the texts of all items."""
        ids = [np.arange(count).astype(str) for count in (self.num_users, self.num_items)]
        parts = [(part[:, 0], part[:, 1]) for part in self.splits]
        interactions = Interactions.from_coordinates(
            parts[0], parts[1], parts[2], name="citeulike-a", user_ids=ids[0], item_ids=ids[1]
        )
        profiles = Profiles((None,) * self.num_users, self.texts, tuple(ids[0]), tuple(ids[1]))
        return Dataset(interactions, profiles)


def build_stage(backbone: str, num_users: int, num_items: int) -> Stage:
    """Least squares, LightGCN or AlphaRec."""
    if backbone == "LightGCN":
        adam = partial(torch.optim.Adam, lr=4e-3)
        return PretrainingStage(partial(LightGCN, embedding_dim=DIMS[backbone]), num_users, num_items, optimizer=adam)
    if backbone == "AlphaRec":
        # Negatives of the batch: cold items, which are never positive, are not drawn as negatives.
        loss = partial(SampledSoftmax, negatives="batch", cosine=True, temperature=0.15)
        model = partial(AlphaRec, embedding_dim=DIMS[backbone])
        return PretrainingStage(model, num_users, num_items, ranking_loss=loss, l2_weight=0.0)
    return LeastSquaresStage(
        partial(GMF, embedding_dim=DIMS[backbone]),
        num_users,
        num_items,
        unobserved_weight=0.02,
        regularization=3.0,
        regularization_growth=1.0,
    )


def train(reader: ColdItems, backbone: str, seed: int, epochs: int) -> tuple[Embeddings, dict[str, float]]:
    """Embeddings, and their metrics on warm test interactions."""
    L.seed_everything(seed, verbose=False)
    data = InteractionDataModule(reader, batch_size=4096)
    stage = build_stage(backbone, data.num_users, data.num_items)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=epochs, limit_val_batches=0, accelerator="cpu", enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    trainer.fit(stage, data)
    (metrics,) = trainer.test(stage, data, verbose=False)
    with torch.no_grad():
        stage.eval()
        return Embeddings(*(table.detach() for table in stage.backbone(stage.graph))), dict(metrics)


def kernels(reader: ColdItems, known: np.ndarray, cold: np.ndarray) -> dict[str, tuple[Tensor, Tensor]]:
    """Similarities of known items `(N, N)`, and of cold with known ones `(M, N)`, of each kind of text."""
    encoder = TextEncoder()
    texts = encoder.encode(reader.texts)
    codebook, _ = build_codebook(encoder)
    of_words = center(word_vectors(encoder, codebook))
    meanings = center(texts).nan_to_num()
    rows = pursue(meanings[np.concatenate([known, cold])], of_words, 16, 32, codebook.lemmas)
    spoken = torch.zeros(len(meanings), of_words.shape[1])
    spoken[np.concatenate([known, cold])] = F.normalize(of_words[rows].mean(1), dim=1)
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
    found = {"text": gaussian(meanings), "words": gaussian(spoken), "tags": (counted[0], counted[1])}
    found["text + tags"] = (0.5 * found["text"][0] + counted[0], 0.5 * found["text"][1] + counted[1])
    return found


def measure(reader: ColdItems, embeddings: Embeddings, half: str, backbone: str) -> dict[str, tuple[float, float]]:
    """Recall@20 and NDCG@20 among the cold items of a half, by way of ranking."""
    cold = reader.cold[half]
    trained = np.bincount(reader.splits[0][:, 1], minlength=reader.num_items) > 0
    known = np.flatnonzero(trained & np.array([bool(tags) for tags in reader.tags]))
    pairs = reader.pairs[np.isin(reader.pairs[:, 1], cold)]
    users = np.unique(pairs[:, 0])
    relevant = torch.zeros(len(users), len(cold), dtype=torch.bool)
    relevant[np.searchsorted(users, pairs[:, 0]), np.searchsorted(cold, pairs[:, 1])] = True
    history = torch.zeros(reader.num_users, reader.num_items)
    history[reader.splits[0][:, 0], reader.splits[0][:, 1]] = 1
    history = history[users][:, known]
    history /= history.sum(1, keepdim=True).clamp_min(1).sqrt()
    if backbone == "AlphaRec":  # cold items have no neighbours in the graph: their rows are what the MLP gives
        return {"own text model": metrics_of(embeddings.users[users] @ embeddings.items[cold].T, relevant)}
    result: dict[str, tuple[float, float]] = {}
    for name, (between, to_cold) in kernels(reader, known, cold).items():
        between.diagonal().add_(RIDGES[name])
        predicted = to_cold @ torch.linalg.solve(between, embeddings.items[known])
        scores = embeddings.users[users] @ predicted.T
        result[name] = metrics_of(scores, relevant)
        if name == "text + tags":
            profile = history @ to_cold.T
            result["profile"] = metrics_of(profile, relevant)
            both = scores / scores.std() + SHARES * profile / profile.std()
            result["embedding + profile"] = metrics_of(both, relevant)
    return result


def metrics_of(scores: Tensor, relevant: Tensor) -> tuple[float, float]:
    """Recall@20 and NDCG@20, means over users."""
    hits = relevant.gather(1, scores.topk(20, dim=1).indices).float()
    count = relevant.sum(1)
    ideal = _DISCOUNTS.cumsum(0)[count.clamp_max(20) - 1]
    return float((hits.sum(1) / count).mean()), float((hits @ _DISCOUNTS / ideal).mean())


def main() -> None:
    """Measure the seeds that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--backbone", choices=list(DIMS), default="least squares")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--half", choices=["valid", "test"], default="test")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        begin = time.perf_counter()
        reader = ColdItems(arguments.root, seed)
        embeddings, warm = train(reader, arguments.backbone, seed, arguments.epochs)
        table = Table(f"seed {seed}, {arguments.half}", "Recall@20", "NDCG@20", title=f"warm: {warm}")
        for name, (recall, ndcg) in measure(reader, embeddings, arguments.half, arguments.backbone).items():
            table.add_row(name, f"{recall:.4f}", f"{ndcg:.4f}")
            if arguments.half == "test":
                metrics = {"cold/recall@20": recall, "cold/ndcg@20": ndcg, "test/recall@20": warm["test/recall@20"]}
                origin = {"dataset": "citeulike-a", "backbone": arguments.backbone, "seed": seed, "variant": name}
                append("cold_start", {**origin, "embedding_dim": DIMS[arguments.backbone], "metrics": metrics})
        Console(width=120).print(table)
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
