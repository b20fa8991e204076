"""New users, compared with the same users in training: python -m benchmarks.new_users configs/ml-100k/ials.

A tenth of the users, chosen by a hash of id and seed, is absent from stage 1. Then they arrive with their training
items: measured are the Recall@20 of their folded-in embedding on their test items, and how often the words of that
embedding pick their text out of 10. For comparison, the same users are trained together with all others, but without a
text. Both get the words of the text that kernel ridge regression predicts from embedding and history, which are the
target words of stage 2 for users without a text.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.loading import load_run
from benchmarks.records import append
from face_lightning.commands.stage import main as run_stage
from face_lightning.data.held_out import held_out
from face_lightning.data.interactions import SPLITS, Interactions
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers import MovieLens100K, RLMRecFolder
from face_lightning.data.readers.reader import Reader
from face_lightning.recommending.recommender import Recommender
from face_lightning.words.centering import center
from face_lightning.words.entity_texts import EntityTexts, text_vectors
from face_lightning.words.prediction import UserTexts, predicted_words
from face_lightning.words.retrieval import picking_accuracy

READERS: dict[str, type[Reader]] = {"MovieLens100K": MovieLens100K, "RLMRecFolder": RLMRecFolder}
NUM_WORDS = 16


class KnownUsers(Reader):
    """A data set in which a share of the users is missing.

    Args:
        reader: Name of the reader of the whole data set.
        arguments: Arguments of the reader.
        share: Expected share of missing users.
        seed: Seed of the hash that chooses them.
    """

    def __init__(self, reader: str, arguments: dict[str, Any], share: float = 0.1, seed: int = 0) -> None:
        self.whole = READERS[reader](**arguments)
        self.share, self.seed = share, seed

    def read(self) -> Dataset:
        """See `Reader`."""
        dataset = self.whole.read()
        interactions, profiles = dataset.interactions, dataset.profiles
        assert profiles is not None, "data sets with texts only"
        rows = np.flatnonzero(~held_out("user", interactions.user_ids.tolist(), self.share, self.seed))
        known = Interactions.from_matrices(
            *(interactions.matrix(split)[rows] for split in SPLITS),
            name=interactions.name,
            user_ids=interactions.user_ids[rows],
            item_ids=interactions.item_ids,
        )
        texts = tuple(profiles.user_texts[row] for row in rows)
        labels = tuple(profiles.user_labels[row] for row in rows)
        return Dataset(known, replace(profiles, user_texts=texts, user_labels=labels, facts=None))


def fit(configs: Path, run_dir: Path, data: Sequence[str], seed: int) -> Path:
    """Fit stage 1; returns the folder of the run."""
    command = ["fit", "--config", str(configs / "stage1.yaml"), "--run_dir", str(run_dir), "--if_exists", "skip"]
    run_stage([*command, "--seed_everything", str(seed), "--trainer.enable_progress_bar", "false", *data])
    return run_dir


def recall(found: np.ndarray, relevant: Sequence[Sequence[str]]) -> float:
    """Mean recall over users that have relevant items."""
    pairs = [(set(row.tolist()), set(items)) for row, items in zip(found, relevant, strict=True) if len(items)]
    return float(np.mean([len(row & items) / len(items) for row, items in pairs]))


def items_of(interactions: Interactions, split: str, rows: np.ndarray) -> list[list[str]]:
    """Original ids of the items of some users in a split."""
    matrix = interactions.matrix(split)
    return [interactions.item_ids[matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]].tolist() for row in rows]


def without_texts(texts: EntityTexts, rows: np.ndarray) -> EntityTexts:
    """Copy of the texts without those of some users."""
    present = texts.present.clone()
    present[torch.from_numpy(rows)] = False
    return replace(texts, present=present)


def words_of(
    stage: Any,  # noqa: ANN401
    texts: EntityTexts,
    known: Tensor,
    interactions: np.ndarray,
    asked: Tensor,
    histories: Sequence[np.ndarray],
) -> Tensor:
    """Words of users from embeddings `(B, D)` and histories, given embeddings `(U + I, D)` and known interactions."""
    regression = UserTexts.fit(texts, known, torch.from_numpy(interactions), stage.words.missing_ridge)
    assert regression is not None, "data sets with texts only"
    starts = np.concatenate([[0], np.cumsum([len(history) for history in histories])[:-1]])
    given = torch.from_numpy(np.concatenate(histories).astype(np.int64)), torch.from_numpy(starts.astype(np.int64))
    vocabulary = stage.space.word_vectors
    sizes = NUM_WORDS, stage.words.target_pool
    predicted = regression.predict(asked, *given)
    return predicted_words(predicted, vocabulary.vectors, vocabulary.lemmas, *sizes)


def main() -> None:
    """Train with and without the users, measure, record and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, help="folder of stage1.yaml and stage2.yaml")
    parser.add_argument("--reader", choices=READERS, default="MovieLens100K")
    parser.add_argument("--arguments", type=json.loads, default={}, help="arguments of the reader as JSON")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/new_users"))
    options = parser.parse_args()
    given = [f"--data.reader.init_args.{name}={value}" for name, value in options.arguments.items()]
    whole = fit(options.configs, options.runs / "all" / str(options.seed), given, options.seed)
    absent = ["--allow-code", "--data.reader", "benchmarks.new_users.KnownUsers"]
    wrapped = {"reader": options.reader, "arguments": options.arguments, "share": options.share, "seed": options.seed}
    absent += [
        f"--data.reader.init_args.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in wrapped.items()
    ]
    known = fit(options.configs, options.runs / "known" / str(options.seed), absent, options.seed)

    stage, datamodule = load_run(whole, given, options.configs / "stage2.yaml")
    interactions: Interactions = datamodule.interactions
    profiles: Any = datamodule.dataset.profiles
    rows = np.flatnonzero(held_out("user", interactions.user_ids.tolist(), options.share, options.seed))
    rows = rows[[len(history) > 0 for history in items_of(interactions, "train", rows)]]
    histories, relevant = items_of(interactions, "train", rows), items_of(interactions, "test", rows)
    old, new = Recommender.load(whole), Recommender.load(known)
    users, items = old.embeddings()
    all_old = torch.cat([users, items])
    # In the order of all users; the regression reads no rows of missing users.
    all_new = torch.zeros_like(all_old)
    all_new[old.user_rows(new.entities.user_ids.to_pylist())], all_new[len(users) :] = new.embeddings()
    texts_known = without_texts(stage.space.texts, rows)
    clicks = np.stack(interactions.train.nonzero())
    others = clicks[:, ~np.isin(clicks[0], rows)]
    item_rows = [interactions.train.indices[slice(*interactions.train.indptr[row : row + 2])] for row in rows]
    recommended = {
        "trained": old.recommend(interactions.user_ids[rows], 20, filter_seen="train").ids,
        "new": new.recommend_history(histories, 20, unknown="skip").ids,
    }
    words = {
        "trained": words_of(stage, texts_known, all_old, clicks, users[torch.from_numpy(rows)], item_rows),
        "new": words_of(stage, texts_known, all_new, others, new.embed_history(histories), item_rows),
    }
    texts = center(text_vectors(stage.words.encoder, profiles)[: len(users)])[rows]
    classes = torch.unique(texts, dim=0, return_inverse=True)[1]
    result = json.loads((whole / "result.json").read_text())
    table = Table("users", "Recall@20", "picked out of 10 by words", title=f"{result['dataset']}, {len(rows)} users")
    for variant in words:
        described = stage.space.descriptors.encode(words[variant], torch.zeros(len(rows), dtype=torch.long))
        picked = picking_accuracy(center(described), texts, classes, (10,))[10].item()
        metrics = {"test/recall@20": recall(recommended[variant], relevant), "words/heldout_users@10": picked}
        origin = {key: result[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
        append("new_users", {**origin, "variant": variant, "metrics": {**metrics, "users": len(rows)}})
        table.add_row(variant, f"{metrics['test/recall@20']:.4f}", f"{picked:.1%}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
