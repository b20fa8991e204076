"""How well words identify their entity among candidates: python -m benchmarks.retrieval RUN_DIR [RUN_DIR ...].

For each run of stage 2 or 3, at 10, 20, 40 and 60 candidates, for users and items: the words of the run and, on the
same entities, in the same sentences and from the same vocabulary,

- the words of highest TF-IDF in the entity's own text, up to the same number: a ceiling
- the target words of anchoring, which together are closest to the text
- random words: the floor

Also measures how well words reflect which entities are similar: the rank correlation, over pairs, of the similarity of
their word vectors with that of their texts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.table import Table
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from benchmarks.loading import load_run, print_tables
from benchmarks.records import append
from face_lightning.runs.outputs import descriptors_of
from face_lightning.words.retrieval import CANDIDATES, picking_accuracy, retrieval_members
from face_lightning.words.space import WordSpace


def frequent_words(space: WordSpace, num_descriptors: int) -> list[list[int]]:
    """Tokens of highest TF-IDF in each entity's own text, users and items apart; fewer if the text has fewer."""
    result: list[list[int]] = []
    for texts in (space.texts.texts[: space.texts.num_users], space.texts.texts[space.texts.num_users :]):
        vectorizer = TfidfVectorizer(vocabulary=list(space.word_vectors.words), token_pattern=r"[^\W\d_]+")
        table = vectorizer.fit_transform([text or "" for text in texts]).tocsr()
        for row in range(table.shape[0]):
            span = slice(table.indptr[row], table.indptr[row + 1])
            best = np.argsort(-table.data[span], kind="stable")[:num_descriptors]
            result.append(table.indices[span][best].tolist())
    return result


def random_words(space: WordSpace, num_descriptors: int) -> list[list[int]]:
    """Random tokens, distinct within an entity."""
    draws = np.random.default_rng(0)
    return [
        draws.choice(len(space.word_vectors.words), num_descriptors, replace=False).tolist()
        for _ in range(len(space.texts.texts))
    ]


@torch.no_grad()
def encode(space: WordSpace, tokens: Sequence[Sequence[int]], members: Tensor) -> Tensor:
    """Sentence vectors `(N, E)` of the words of some entities, whose number may differ."""
    vectors = torch.empty(len(members), space.texts.vectors.shape[1])
    lengths = torch.tensor([len(tokens[member]) for member in members.tolist()])
    for length in lengths.unique():
        rows = (lengths == length).nonzero().squeeze(1)
        chosen = torch.tensor([list(tokens[member]) for member in members[rows].tolist()], dtype=torch.long)
        vectors[rows] = space.descriptors.encode(chosen.view(len(rows), int(length)), members[rows])
    return vectors


def measure(space: WordSpace, tokens: Sequence[Sequence[int]], limit: int = 4096) -> dict[str, float]:
    """Share of entities picked by their words, for users and items and each number of candidates."""
    result: dict[str, float] = {}
    for kind, members in retrieval_members(space.texts, limit).items():
        if len(members) >= CANDIDATES[0]:
            vectors_of_words = encode(space, tokens, members)
            picked = picking_accuracy(vectors_of_words, space.texts.vectors[members], space.texts.classes[members])
            result |= {f"words/retrieval_{kind}@{count}": share.item() for count, share in picked.items()}
            result[f"{kind}_words"] = float(np.mean([len(tokens[member]) for member in members.tolist()]))
            result[f"{kind}_similarity"] = similarity(space, tokens, members)
    return result


def similarity(space: WordSpace, tokens: Sequence[Sequence[int]], members: Tensor, num_pairs: int = 100_000) -> float:
    """Rank correlation between similarities of words and of texts, over random pairs of entities."""
    known = torch.tensor([member for member in members.tolist() if len(tokens[member])])
    meanings = torch.stack([space.word_vectors.vectors[list(tokens[member])].mean(0) for member in known.tolist()])
    pairs = torch.randint(len(known), (2, num_pairs), generator=torch.Generator().manual_seed(0))
    alike = [
        torch.linalg.vecdot(*F.normalize(vectors - vectors.mean(0), dim=1)[pairs]).numpy()
        for vectors in (meanings, space.texts.vectors[known])
    ]
    return float(spearmanr(*alike).statistic)


def show(run_dir: Path, extra: Sequence[str]) -> Table:
    """Measure and record the words of a run and those they are compared with; rows of a table."""
    stage = load_run(run_dir, extra)[0]
    space: WordSpace = stage.space
    run_result = json.loads((run_dir / "result.json").read_text())
    learnt = descriptors_of(stage).tolist()
    num_descriptors = len(learnt[0])
    variants: dict[str, list[list[int]]] = {
        "learnt": learnt,
        "TF-IDF of the text": frequent_words(space, num_descriptors),
        "targets of anchoring": space.targets.tokens[:, :num_descriptors].tolist(),
        "random": random_words(space, num_descriptors),
    }
    columns = [f"{kind}@{count}" for kind in ("items", "users") for count in CANDIDATES]
    name = f"{run_result['dataset']}, {run_result['backbone']}, {run_result['stage']}, seed {run_result['seed']}"
    table = Table("words", *columns, "words an item, a user", "similarity of items, users", title=name)
    for variant, tokens in variants.items():
        metrics = measure(space, tokens, stage.words.retrieval_limit)
        append("retrieval", {**_origin(run_result), "variant": variant, "metrics": metrics})
        cells = (metrics.get(f"words/retrieval_{column}") for column in columns)
        counts, alike = (
            ", ".join(f"{metrics.get(f'{kind}_{what}', 0):{form}}" for kind in ("items", "users"))
            for what, form in (("words", ".1f"), ("similarity", ".2f"))
        )
        table.add_row(variant, *("" if cell is None else f"{cell:.3f}" for cell in cells), counts, alike)
    return table


def _origin(run_result: dict[str, Any]) -> dict[str, Any]:
    return {key: run_result[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}


if __name__ == "__main__":
    print_tables(__doc__, show, width=150)
