"""Training of words by the contrast alone, without a mapper: python -m benchmarks.word_gradients RUN_DIR.

For items of a run of stage 2 or 3, with learnt words and with random words. First, compares the change of the
contrastive loss that its gradient predicts for another word in a slot with the actual change. The other words are the 8
nearest in the codebook, through which training passes the gradient (`token_gradient: soft`), 8 random ones, and the 8
that the gradient prefers in the whole vocabulary. Second, trains free concept vectors, one per word, from random words
by Adam on the contrast alone, and measures how often their words pick the item out of 10 after some steps.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.loading import load_run
from benchmarks.records import append
from face_lightning.mapping.search import build_search, search_distinct
from face_lightning.mapping.tokens import NUM_NEAR, TokenGradient, tokens_with_gradient
from face_lightning.runs.outputs import descriptors_of
from face_lightning.words.retrieval import picking_accuracy


class Contrast:
    """Contrastive loss of the words of some items against the texts of all items.

    Args:
        stage: A stage with words.
        count: Number of items.
        temperature: Temperature of the contrast.
    """

    def __init__(self, stage: Any, count: int, temperature: float) -> None:  # noqa: ANN401
        self.space, self.temperature = stage.space, temperature
        texts = self.space.texts
        items = texts.present.nonzero().squeeze(1)
        self._all = items[items >= texts.num_users]
        self._positives = torch.randperm(len(self._all))[:count].sort().values
        self.items = self._all[self._positives]
        self.table, self.codes = self.space.descriptors.token_embeddings, stage.mapper.quantizer.codes().detach()

    def losses(self, tokens: Tensor) -> Tensor:
        """Loss of each item `(N,)` given token embeddings `(N, S, T)`."""
        vectors = self.space.descriptors.encode_tokens(tokens, self.items)
        logits = vectors @ self.space.texts.vectors[self._all].T / self.temperature
        return F.cross_entropy(logits, self._positives, reduction="none")

    def picked(self, words: Tensor) -> float:
        """Share of items that their words `(N, S)` pick out of 10."""
        texts, vectors = self.space.texts, self.space.descriptors.encode(words, self.items)
        share = picking_accuracy(vectors, texts.vectors[self.items], texts.classes[self.items], (10,))
        return share[10].item()


def swaps(contrast: Contrast, words: Tensor, slots: Tensor) -> dict[str, dict[str, float]]:
    """Predicted and actual change of the loss `(N,)` for other words in one slot of each item."""
    rows, table = torch.arange(len(words)), contrast.table
    tokens = table[words].requires_grad_()
    losses = contrast.losses(tokens)
    (gradient,) = torch.autograd.grad(losses.sum(), tokens)
    own, losses = words[rows, slots], losses.detach()
    along = gradient[rows, slots]
    promised = along @ table.T - (along * table[own]).sum(1, keepdim=True)
    nearest = (contrast.codes[own] @ contrast.codes.T).topk(NUM_NEAR + 1, dim=1).indices[:, 1:]
    others = {
        "nearest": nearest,
        "random": torch.randint(len(table), nearest.shape),
        "preferred": promised.topk(NUM_NEAR, dim=1, largest=False).indices,
    }
    found = {}
    for name, candidates in others.items():
        changes = []
        for column in candidates.T:
            swapped = words.index_put((rows, slots), column)
            with torch.no_grad():
                changes.append(contrast.losses(table[swapped]) - losses)
        true, expected = torch.stack(changes, dim=1), promised.gather(1, candidates)
        found[name] = {
            "correlation": torch.corrcoef(torch.stack([expected.flatten(), true.flatten()]))[0, 1].item(),
            "improve": (true < 0).float().mean().item(),
            "change of the gradient's choice": true.gather(1, expected.argmin(1, keepdim=True)).mean().item(),
            "change of the best": true.min(1).values.mean().item(),
        }
    return found


def learn_freely(contrast: Contrast, num_slots: int, method: TokenGradient, steps: int, every: int) -> list[float]:
    """Share of items picked by the words of free concept vectors, at intervals of training by the contrast alone."""
    codes = contrast.codes
    start = codes[torch.randint(len(codes), (len(contrast.items), num_slots))]
    concepts = torch.nn.Parameter(start + 0.02 * torch.randn_like(start))
    optimizer, search = torch.optim.Adam([concepts], lr=0.01, betas=(0.9, 0.99)), build_search("auto")
    search.refresh(codes)
    picked = []
    for step in range(steps + 1):
        unit = F.normalize(concepts, dim=-1)
        words = search_distinct(search, unit.detach(), contrast.space.word_vectors.lemmas)
        if step % every == 0:
            picked.append(contrast.picked(words))
        near = search.search(unit.detach().flatten(0, 1), NUM_NEAR).view(*words.shape, -1)
        tokens = tokens_with_gradient(unit, words, codes, contrast.table, method, near)
        optimizer.zero_grad()
        contrast.losses(tokens).sum().backward()
        optimizer.step()
    return picked


def main() -> None:
    """Measure, record and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of a finished run with words")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.05)
    options = parser.parse_args()
    stage, _ = load_run(options.run)
    torch.manual_seed(0)
    contrast = Contrast(stage, options.items, options.temperature)
    learnt = descriptors_of(stage)[contrast.items]
    slots = torch.randint(learnt.shape[1], (len(learnt),))
    result = json.loads((options.run / "result.json").read_text())
    origin = {key: result[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
    table = Table("words", "other words", "correlation", "better", "change: the gradient's choice", "the best")
    for start, words in (("learnt", learnt), ("random", torch.randint(len(contrast.table), learnt.shape))):
        for name, metrics in swaps(contrast, words, slots).items():
            append("word_gradients", {**origin, "case": start, "variant": name, "metrics": metrics})
            table.add_row(start, name, *(f"{value:.2f}" for value in metrics.values()))
    Console(width=100).print(table)
    methods: tuple[TokenGradient, ...] = ("soft", "linear")
    for method in methods:
        picked = learn_freely(contrast, learnt.shape[1], method, options.steps, 10)
        metrics = {f"picked after {10 * number}": share for number, share in enumerate(picked)}
        append("word_gradients", {**origin, "case": "free", "variant": method, "metrics": metrics})
        print(
            f"free concept vectors, {method}, picked out of 10 every 10 steps:", *(f"{share:.1%}" for share in picked)
        )


if __name__ == "__main__":
    main()
