"""How much of a user passes through the words: python -m benchmarks.word_bottleneck RUN_DIR [RUN_DIR ...].

For finished runs of stage 2 or 3: test Recall@20 and NDCG@20 if each user's embedding is replaced by a prediction from
the user's words alone, by blends of both, and by controls. Item embeddings stay as they are. The prediction is a map,
fitted on other users (five folds), into the space of embeddings from

- decoder: output of the mapper's decoder, which was trained on all users, for the codes of the words in their slots,
  with the whitening of the mapper's input reversed
- slots: the codes themselves, in their slots
- meanings: mean token embedding of the words, without order
- shuffled: the decoder's output for another user's words (control)

The map is kernel ridge regression, or linear. Its ridge was chosen on validation pairs (`--split valid`, not recorded).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.records import append
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.kept_mapper import read_mapper

RIDGE = 0.3
_DISCOUNTS = 1 / torch.log2(torch.arange(20) + 2.0)


def regressed(features: Tensor, values: Tensor, ridge: float = RIDGE, folds: int = 5) -> Tensor:
    """Values `(N, D)` that kernel ridge regression predicts from features `(N, F)`, fitted on other folds."""
    fold = torch.arange(len(features)) % folds
    predicted = torch.empty_like(values)
    for number in range(folds):
        others = fold != number
        center, mean = features[others].mean(0), values[others].mean(0)
        regression = KernelRidge.fit(features[others] - center, values[others] - mean, ridge, max_points=len(features))
        predicted[~others] = regression.predict(features[~others] - center) + mean
    return predicted


def mapped(features: Tensor, values: Tensor, penalty: float = 0.1, folds: int = 5) -> Tensor:
    """Values `(N, D)` that ridge regression predicts from features `(N, F)`, fitted on the rows of other folds."""
    features = F.pad((features - features.mean(0)) / features.std(0).clamp_min(1e-6), (0, 1), value=1.0).double()
    fold = torch.arange(len(features)) % folds
    predicted = torch.empty_like(values)
    for number in range(folds):
        points, targets = features[fold != number], values[fold != number].double()
        gram = points.T @ points
        gram.diagonal().add_(penalty * len(points))
        predicted[fold == number] = (features[fold == number] @ torch.linalg.solve(gram, points.T @ targets)).float()
    return predicted


@torch.no_grad()
def measure(run_dir: Path, split: str = "test", ridge: float = RIDGE) -> dict[str, tuple[float, float]]:
    """Recall@20 and NDCG@20 for each representation of the users."""
    recommender = Recommender.load(run_dir)
    users, items = recommender.embeddings()
    mapper, codebook = read_mapper(run_dir, items.shape[1])
    descriptors = mapper.describe(users.split(1024))
    codes = mapper.quantizer.codes()
    decoded = torch.cat([mapper.decode(codes[rows]) for rows in descriptors.split(1024)])
    if mapper.whitening is not None:
        decoded = torch.linalg.solve(mapper.whitening.matrix, decoded.T).T
    meanings = codebook.token_embeddings[descriptors].mean(1)
    other = decoded[torch.randperm(len(users), generator=torch.Generator().manual_seed(0))]
    alone = regressed(decoded, users, ridge)
    stands = {
        "embedding": users,
        "words: decoder, kernel": alone,
        "words: decoder": mapped(decoded, users),
        "words: slots, kernel": regressed(codes[descriptors].flatten(1), users, ridge),
        "words: meanings": mapped(meanings, users),
        "words: meanings, kernel": regressed(meanings, users, ridge),
        "half words, half embedding": (alone + users) / 2,
        "shuffled": regressed(other, users, ridge),
    }
    train, valid, test = (recommender.seen.matrix(number, len(items)) for number in range(3))
    known, wanted = (train, valid) if split == "valid" else (train + valid, test)
    tested = np.flatnonzero(np.diff(wanted.indptr))
    seen = torch.from_numpy(known[tested].toarray() > 0)
    relevant = torch.from_numpy(wanted[tested].toarray() > 0)
    count = relevant.sum(1)
    ideal = _DISCOUNTS.cumsum(0)[count.clamp_max(20) - 1]
    found = {}
    for name, table in stands.items():
        top = (table[tested] @ items.T).masked_fill(seen, -torch.inf).topk(20, dim=1).indices
        hits = relevant.gather(1, top).float()
        found[name] = float((hits.sum(1) / count).mean()), float((hits @ _DISCOUNTS / ideal).mean())
    return found


def main() -> None:
    """Measure the given runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--split", choices=["valid", "test"], default="test")
    parser.add_argument("--ridge", type=float, default=RIDGE)
    arguments = parser.parse_args()
    for run_dir in arguments.runs:
        of_run = json.loads((run_dir / "result.json").read_text())
        origin = {key: of_run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
        table = Table("users by", "Recall@20", "NDCG@20", "kept, %", title=f"{of_run['dataset']}, {of_run['stage']}")
        found = measure(run_dir, arguments.split, arguments.ridge)
        for variant, (recall, ndcg) in found.items():
            kept = recall / found["embedding"][0]
            metrics = {"test/recall@20": recall, "test/ndcg@20": ndcg, "kept": kept}
            if arguments.split == "test":
                append("word_bottleneck", {**origin, "variant": variant, "metrics": metrics})
            table.add_row(variant, f"{recall:.4f}", f"{ndcg:.4f}", f"{100 * kept:.1f}")
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
