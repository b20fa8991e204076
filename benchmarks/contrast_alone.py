"""Training of the mapper by the contrast alone: python -m benchmarks.contrast_alone STAGE1 --config STAGE2.yaml.

The mapper of a stage-2 configuration learns words of items from the contrast of its words with the texts of all items,
without target words or reconstruction, with the backbone frozen. Measures how often its words identify their item among
10 after some passes over the items, and how the gradient reaches the concept vectors: the cosine between the movement
of the concept vectors in a step and their gradient, and the share of that movement that is common to all items of the
step.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.loading import load_run
from benchmarks.records import append
from face_lightning.mapping.tokens import TokenGradient, tokens_with_gradient
from face_lightning.words.retrieval import measure_retrieval


class ContrastTraining:
    """Trains the mapper on items by the contrast alone.

    Args:
        stage: A stage with words, whose mapper is untrained.
        batch_size: Items of a step.
        temperature: Temperature of the contrast.
        gradient: How the gradient reaches the concept vectors: see `token_gradient`.
        learning_rate: Initial learning rate of Adam; it decays to 0 by a cosine.
        num_steps: Steps of the whole training.
    """

    def __init__(
        self,
        stage: Any,  # noqa: ANN401
        batch_size: int,
        temperature: float,
        gradient: TokenGradient,
        learning_rate: float,
        num_steps: int,
    ) -> None:
        self.space, self.temperature, self.gradient, self.batch_size = stage.space, temperature, gradient, batch_size
        present = self.space.texts.present.nonzero().squeeze(1)
        self.items = present[present >= self.space.texts.num_users]
        with torch.no_grad():
            whole = torch.cat(list(stage.backbone(stage.graph)))
        self.embeddings = whole[self.items]
        self.mapper = stage.mapper
        self.mapper.fit_input([whole])
        self._queue = torch.empty(0, dtype=torch.long)
        self._optimizer = torch.optim.Adam(self.mapper.parameters(), lr=learning_rate)
        warmup = torch.optim.lr_scheduler.LinearLR(self._optimizer, 0.1, total_iters=15)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, num_steps)
        self._scheduler = torch.optim.lr_scheduler.ChainedScheduler([warmup, decay])

    def step(self, observe: bool = False) -> dict[str, float]:
        """Take one step; if it is observed, statistics of the gradient."""
        if len(self._queue) < self.batch_size:
            self._queue = torch.randperm(len(self.items))
        rows, self._queue = self._queue[: self.batch_size], self._queue[self.batch_size :]
        self.mapper.train()
        concepts = self.mapper.encode(self.embeddings[rows])
        concepts.retain_grad()
        self._optimizer.zero_grad()
        self._loss(concepts, rows).backward()
        self._optimizer.step()
        self._scheduler.step()
        return self._movement(concepts.detach(), concepts.grad, rows) if observe else {}

    def _loss(self, concepts: Tensor, rows: Tensor) -> Tensor:
        """Contrastive loss of the words of some items against the texts of all items; equal texts are not negatives."""
        codes = self.mapper.quantizer.codes().detach()
        words = self.mapper.quantizer(concepts, codes).indices[0]
        tokens = tokens_with_gradient(concepts, words, codes, self.space.descriptors.token_embeddings, self.gradient)
        vectors = self.space.descriptors.encode_tokens(tokens, self.items[rows])
        logits = vectors @ self.space.texts.vectors[self.items].T / self.temperature
        classes = self.space.texts.classes[self.items]
        same = classes[rows].unsqueeze(1) == classes
        same[torch.arange(len(rows)), rows] = False
        return F.cross_entropy(logits.masked_fill(same, -torch.inf), rows)

    @torch.no_grad()
    def _movement(self, before: Tensor, gradient: Tensor | None, rows: Tensor) -> dict[str, float]:
        assert gradient is not None, "the loss depends on the concepts"
        moved = (self.mapper.encode(self.embeddings[rows]) - before).flatten(1)
        along = (gradient * before).sum(-1, keepdim=True) * before  # concepts are unit vectors
        wanted = (along - gradient).flatten(1)
        common = moved.mean(0).square().sum() / moved.square().sum(1).mean()
        return {"cosine": F.cosine_similarity(moved, wanted).mean().item(), "common": common.item()}

    @torch.no_grad()
    def picked(self) -> float:
        """Share of all items that the mapper's words pick out of 10."""
        self.mapper.eval()
        words = self.mapper.describe(self.embeddings.split(1024))
        everyone = words.new_zeros(len(self.space.texts.present), words.shape[1])
        everyone[self.items] = words
        shares = measure_retrieval(everyone, self.space.descriptors, self.space.texts, len(self.items), (10,))
        return shares["retrieval_items@10"].item()


def main() -> None:
    """Train, record and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="STAGE1", help="folder of a finished run of stage 1")
    parser.add_argument("--config", type=Path, required=True, help="stage 2 of its backbone and data")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--every", type=int, default=40, help="steps between measurements")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--gradient", choices=get_args(TokenGradient), default="linear")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("OPTION", "VALUE"))
    options = parser.parse_args()
    extra = [text for option, value in options.set for text in (f"--{option}", value)]
    stage, _ = load_run(options.run, [*extra, "--seed_everything", str(options.seed)], options.config)
    stage.eval()
    recipe = options.batch_size, options.temperature, options.gradient, options.lr, options.steps
    training = ContrastTraining(stage, *recipe)
    result = json.loads((options.run / "result.json").read_text())
    origin = {key: result[key] for key in ("dataset", "backbone", "fingerprint")} | {"seed": options.seed}
    table = Table("steps", "passes", "seconds", "picked out of 10", "cosine", "common")
    seconds, start = 0.0, time.perf_counter()
    for number in range(options.steps + 1):
        if number % options.every == 0:
            seconds += time.perf_counter() - start
            found = {"picked": training.picked(), "passes": number * options.batch_size / len(training.items)}
            start = time.perf_counter()
        movement = {} if number == options.steps else training.step(observe=number % options.every == 0)
        if number % options.every == 0:
            metrics = {**found, **movement, "seconds": seconds}
            append("contrast_alone", {**origin, "variant": options.gradient, "case": str(number), "metrics": metrics})
            shown = (found["passes"], seconds, 100 * found["picked"], *movement.values())
            table.add_row(str(number), *(f"{value:.2f}" for value in shown))
            print(number, shown, flush=True)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
