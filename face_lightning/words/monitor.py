"""Monitoring of the words: codebook usage, churn between evaluations, and collapse."""

from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from face_lightning.plain_text import as_markdown
from face_lightning.words.entity_texts import EntityTexts
from face_lightning.words.word_vectors import WordVectors


def codebook_health(descriptors: Tensor, num_codes: int) -> dict[str, Tensor]:
    """Compute statistics of codebook usage.

    Args:
        descriptors: `(N, S)`.
        num_codes: V.

    Returns:
        `perplexity` (exponential of the entropy of word usage), `active` (number of words in use), `active_fraction`
        (their share of the vocabulary), `top_word_share` (share of entities with the most frequent word) and
        `duplicate_rate` (share of entities whose set of words another entity also has).
    """
    counts = torch.bincount(descriptors.flatten(), minlength=num_codes).double()
    share = counts / counts.sum()
    sets, occurrences = torch.unique(descriptors.sort(dim=1).values, dim=0, return_counts=True)
    del sets
    active = (counts > 0).sum()
    return {
        "perplexity": torch.special.entr(share).sum().exp(),
        "active": active.double(),
        "active_fraction": active / num_codes,
        "top_word_share": counts.max() / len(descriptors),
        "duplicate_rate": occurrences[occurrences > 1].sum() / len(descriptors),
    }


def churn(before: Tensor, now: Tensor) -> Tensor:
    """Share of words that are new to their entity since `before`, over all entities.

    Args:
        before: Descriptors `(N, S)`, distinct within a row.
        now: Descriptors `(N, S)` of the same entities.
    """
    tiles = zip(now.split(4096), before.split(4096), strict=True)
    kept = [(rows.unsqueeze(2) == old.unsqueeze(1)).any(2) for rows, old in tiles]
    return 1 - torch.cat(kept).double().mean()


class WordMonitor:
    """Measures the words of all entities at each evaluation, and compares them with the previous one.

    Attributes:
        descriptors: Descriptors of the last validation, `(U + I, S)`; None before the first.

    Args:
        num_codes: V.
        num_descriptors: S.
        num_users: U.
    """

    def __init__(self, num_codes: int, num_descriptors: int, num_users: int) -> None:
        self._num_codes, self._num_descriptors, self._num_users = num_codes, num_descriptors, num_users
        self.descriptors: Tensor | None = None
        self._best_perplexity = 0.0

    def measure(self, descriptors: Tensor, *, fitting: bool = True) -> dict[str, Tensor]:
        """Compute the statistics to log, by key `codebook/...`; warns if the codebook starts to collapse.

        Args:
            descriptors: Descriptors of all entities `(U + I, S)` in the current evaluation.
            fitting: Whether the evaluation is part of a fit; only then is it compared with the previous one.
        """
        health = codebook_health(descriptors, self._num_codes)
        items = codebook_health(descriptors[self._num_users :], self._num_codes)
        values = {f"codebook/{key}": value for key, value in health.items()}
        values |= {f"codebook/items_{key}": value for key, value in items.items()}
        if fitting:
            if self.descriptors is not None:
                values["codebook/churn"] = churn(self.descriptors.to(descriptors.device), descriptors)
            self.descriptors = descriptors
            self._warn(health["perplexity"].item(), int(health["active"]))
        return {key: value.float() for key, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        before = None if self.descriptors is None else self.descriptors.int().cpu()
        return {"before": before, "best_perplexity": self._best_perplexity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        before = state["before"]
        self.descriptors = None if before is None else before.long()
        self._best_perplexity = state["best_perplexity"]

    def _warn(self, perplexity: float, active: int) -> None:
        """Warn if the perplexity is too small for any catalogue, or below half of its best value."""
        few = perplexity < 4 * self._num_descriptors
        lost = perplexity < self._best_perplexity / 2
        if few or lost:
            came = f"{perplexity:,.0f} ({active:,} words in use)"
            before = f" after {self._best_perplexity:,.0f}" if lost else ""
            rank_zero_warn(
                f"codebook: its perplexity is {came}{before}: the words collapse; lower the optimizer's lr or "
                "alignment_weight, raise anchoring_weight, and use the default mapper (normalize_input, "
                "normalize_codebook, similarity: cosine)"
            )
        self._best_perplexity = max(self._best_perplexity, perplexity)


def sample_table(
    texts: EntityTexts, word_vectors: WordVectors, descriptors: Tensor, num_items: int = 8, num_users: int = 4
) -> str:
    """Format the words of the first items and users as a Markdown table.

    Args:
        texts: Names of entities.
        word_vectors: Vectors of the vocabulary's words.
        descriptors: Descriptors of all entities `(U + I, S)`.
        num_items: Number of items in the table.
        num_users: Number of users in the table.
    """
    rows = [*range(texts.num_users, texts.num_users + num_items), *range(min(num_users, texts.num_users))]
    rows = [row for row in rows if row < len(descriptors)]
    lines = ["| entity | words |", "|---|---|"]
    for row, words in zip(rows, word_vectors.sorted_words(descriptors[rows]), strict=True):
        lines.append(f"| {as_markdown(texts.labels[row])} | {as_markdown(' '.join(words))} |")
    return "\n".join(lines)
