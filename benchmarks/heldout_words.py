"""Words of entities whose texts were hidden: python -m benchmarks.heldout_words RUN_DIR [RUN_DIR ...].

For each run of stage 2 or 3 that was trained with `--data.held_out_texts SHARE`: how often the words of users and items
with hidden texts pick these texts out of 10, compared with predictions from the embeddings of the run and the texts
that it saw of the same kind of entity:

- the text vector predicted by ridge regression and by kernel ridge regression, and the mean text of the 20 nearest
- as many words as learnt ones, chosen for the vector of kernel ridge regression as target words are chosen for a text
- the run's own target words of entities without text, which use the texts around an entity besides its embedding
- for comparison, learnt words of entities whose text was seen
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from benchmarks.loading import load_run, print_tables
from benchmarks.records import append
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.runs.checkpoint_reading import load_checkpoint, locate_checkpoint
from face_lightning.runs.outputs import descriptors_of
from face_lightning.words.centering import center
from face_lightning.words.entity_texts import EntityTexts, collect_texts, text_vectors
from face_lightning.words.retrieval import measure_retrieval, picking_accuracy, retrieval_members
from face_lightning.words.space import WordSpace
from face_lightning.words.targets import pursue

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]  # of known embeddings, their texts, other embeddings


def ridge(known: Tensor, values: Tensor, queries: Tensor, penalty: float = 1.0) -> Tensor:
    """Linear ridge regression between unit embeddings and centered texts."""
    points = F.normalize(known, dim=1).double()
    weights = torch.linalg.solve(
        points.T @ points + penalty * torch.eye(points.shape[1]).double(), points.T @ values.double()
    )
    predicted: Tensor = (F.normalize(queries, dim=1).double() @ weights).float()
    return predicted


def nearest(known: Tensor, values: Tensor, queries: Tensor, count: int = 20) -> Tensor:
    """Mean text of the nearest known entities by cosine."""
    similarity = F.normalize(queries, dim=1) @ F.normalize(known, dim=1).T
    return values[similarity.topk(min(count, len(known)), dim=1).indices].mean(1)


def kernel_ridge(known: Tensor, values: Tensor, queries: Tensor) -> Tensor:
    """Kernel ridge regression of embeddings alone."""
    return KernelRidge.fit(known, values).predict(queries)


PREDICTORS: dict[str, Predictor] = {
    "20 nearest": nearest,
    "ridge regression": ridge,
    "kernel ridge": kernel_ridge,
}


def predict(space: WordSpace, held_out: EntityTexts, embeddings: Tensor, predictor: Predictor) -> Tensor:
    """Predicted centered text vectors `(U + I, E)` of held-out entities, fitted per kind; zeros for other entities."""
    predicted = torch.zeros_like(space.texts.vectors)
    ids = torch.arange(len(predicted))
    for of_kind in (ids < space.texts.num_users, ids >= space.texts.num_users):
        known, missing = (of_kind & present for present in (space.texts.present, held_out.present))
        if known.any() and missing.any():
            values = center(space.texts.vectors[known])
            predicted[missing] = predictor(embeddings[known], values, embeddings[missing])
    return predicted


def picked_by_vectors(space: WordSpace, held_out: EntityTexts, vectors: Tensor, limit: int) -> dict[str, float]:
    """Share of centered vectors that pick their entity's text, which is centered by the mean of seen texts."""
    found = {}
    for kind, members in retrieval_members(held_out, limit).items():
        if len(members) >= 10:
            seen = slice(None, held_out.num_users) if kind == "users" else slice(held_out.num_users, None)
            mean = space.texts.vectors[seen][space.texts.present[seen]].mean(0)
            texts = F.normalize(held_out.vectors[members] - mean, dim=1)
            share = picking_accuracy(F.normalize(vectors[members], dim=1), texts, held_out.classes[members], (10,))
            found[kind] = share[10].item()
    return found


def measure(run_dir: Path, extra: Sequence[str]) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Settings of the run, and the share of correct picks out of 10 for users and items, for each variant."""
    stage, datamodule = load_run(run_dir, extra)
    profiles: Any = datamodule.held_out_profiles
    if profiles is None:
        raise SystemExit(f"{run_dir}: expected a run with held-out texts; train it with --data.held_out_texts 0.2")
    space, limit = stage.space, stage.words.retrieval_limit
    centered = space.descriptors.centers is not None
    held_out = collect_texts(profiles, text_vectors(stage.words.encoder, profiles), "cpu", centered)
    stage.eval()
    with torch.no_grad():
        embeddings = torch.cat(list(stage.backbone(stage.graph)))

    def by_words(descriptors: Tensor, texts: EntityTexts) -> dict[str, float]:
        shares = measure_retrieval(descriptors, space.descriptors, texts, limit, (10,))
        return {key.removeprefix("retrieval_").removesuffix("@10"): share.item() for key, share in shares.items()}

    learnt = descriptors_of(stage)
    found = {"learnt": by_words(learnt, held_out), "learnt, text seen": by_words(learnt, space.texts)}
    for name, predictor in PREDICTORS.items():
        vectors = predict(space, held_out, embeddings, predictor)
        found[name] = picked_by_vectors(space, held_out, vectors, limit)
    vocabulary = space.word_vectors
    near = F.normalize(vectors, dim=1), vocabulary.vectors
    words = pursue(*near, learnt.shape[1], stage.words.target_pool, vocabulary.lemmas)
    found["words of kernel ridge"] = by_words(words, held_out)
    predicted = load_checkpoint(locate_checkpoint(run_dir)).get("predicted_targets")
    if predicted is not None:
        targets = space.targets.tokens.clone()
        targets[~space.texts.present] = predicted.to(targets).clamp_min(0)
        found["targets"] = by_words(targets, held_out)
    contrast = stage.loss_weights.get("alignment")
    trained = {} if contrast is None else {"case": "with the contrast" if contrast else "without the contrast"}
    return {"loss": type(stage.ranking_loss).__name__, **trained}, found


def show(run_dir: Path, extra: Sequence[str]) -> Table:
    """Measure and record a run; its rows of a table."""
    of_run = json.loads((run_dir / "result.json").read_text())
    origin = {key: of_run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
    name = f"{of_run['dataset']}, {of_run['backbone']}, {of_run['stage']}, seed {of_run['seed']}"
    table = Table("picks 1 of 10 by", "items", "users", title=name)
    trained, found = measure(run_dir, extra)
    for variant, shares in found.items():
        metrics = {f"words/heldout_{kind}@10": share for kind, share in shares.items()}
        if variant == "learnt":
            metrics |= {key: of_run["metrics"][key] for key in ("test/recall@20", "test/ndcg@20")}
        append("heldout_words", {**origin, **trained, "variant": variant, "metrics": metrics})
        table.add_row(variant, *(f"{shares[kind]:.3f}" if kind in shares else "" for kind in ("items", "users")))
    return table


if __name__ == "__main__":
    print_tables(__doc__, show, width=100)
