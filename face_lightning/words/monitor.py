"""Health of the words: how they are used, how they change, and whether they collapse."""

from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from face_lightning.plain_text import as_markdown
from face_lightning.words.entity_texts import EntityTexts
from face_lightning.words.word_vectors import WordVectors


def codebook_health(descriptors: Tensor, num_codes: int) -> dict[str, Tensor]:
    """How well the vocabulary is used by the descriptors of many entities.

    Args:
        descriptors: `(N, S)`.
        num_codes: V.

    Returns:
        `perplexity` of word use (exponential of its entropy), `active` words and `active_fraction` of the
        vocabulary, `top_word_share` (share of entities that have the most used word) and
        `duplicate_rate` (share of entities whose set of words another entity has too).
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
    """Share of words that an entity did not have before, over all entities.

    Args:
        before: Descriptors `(N, S)`, no word twice in a row.
        now: Descriptors `(N, S)` of the same entities.
    """
    tiles = zip(now.split(4096), before.split(4096), strict=True)
    kept = [(rows.unsqueeze(2) == old.unsqueeze(1)).any(2) for rows, old in tiles]
    return 1 - torch.cat(kept).double().mean()


class WordMonitor:
    """Compares the words of all entities from one evaluation to the next.

    `descriptors` holds those of the last validation, `(U + I, S)`, or None before the first.

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
        """Health of all entities' words by log key, `codebook/...`.

        Warns, with the cure, where the codebook starts to collapse.

        Args:
            descriptors: Descriptors of all entities `(U + I, S)`, as the current evaluation finds them.
            fitting: Whether the evaluation belongs to a fit: only then is there an earlier one to compare with.
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
        """What the next evaluation compares with, for checkpoints."""
        before = None if self.descriptors is None else self.descriptors.int().cpu()
        return {"before": before, "best_perplexity": self._best_perplexity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what the next evaluation compares with."""
        before = state["before"]
        self.descriptors = None if before is None else before.long()
        self._best_perplexity = state["best_perplexity"]

    def _warn(self, perplexity: float, active: int) -> None:
        """Warn where fewer words are in use than any catalogue needs, or half of the perplexity is lost."""
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
    """Words of the first items and users as a Markdown table.

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
