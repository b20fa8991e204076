"""The data module of all stages."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import scipy.sparse as sp

from face_lightning.data.held_out import hold_out_texts
from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.data.readers import Reader
from face_lightning.data.row_tiles import RowLoader
from face_lightning.data.sampling import EntityLoader, EvaluationLoader, TrainingLoader
from face_lightning.data.summarizing import with_summaries
from face_lightning.errors import ConfigurationError, DataError, check_range
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.text.lexicon import frequent_words


class InteractionDataModule(L.LightningDataModule):
    """Interactions, their graph and the texts of users and items.

    Data are read lazily, once per process.

    Args:
        reader: Reader of the data set.
        batch_size: Training interactions per step and process, B, including padding in stages that solve whole rows.
        entities_per_step: Users and items to map per step and process; at least a quarter of them are items. All users,
            and all items, are visited before any is visited again.
        eval_batch_size: Users per evaluation batch.
        mask_seen: Items that are masked in the test: training items, as in the paper, or training and validation
            items. Validation always masks training items.
        seed: First counter of every random draw.
        popularity_power: Negative items are sampled in proportion to popularity^power; 0 is uniform, as in the paper,
            0.75 is a common alternative.
        summaries: File written by `face summarize`, whose texts replace the reader's.
        held_out_texts: Share of users, and of items, whose texts are held out from training to evaluate their words by
            retrieval (`words/heldout_items@10`); selected by a hash of their ids and `seed`.

    Raises:
        ConfigurationError: If a size is not positive, except for `entities_per_step`, or `held_out_texts` is not in
            0..1.
    """

    def __init__(
        self,
        reader: Reader,
        batch_size: int = 2048,
        entities_per_step: int = 256,
        eval_batch_size: int = 1024,
        mask_seen: Literal["train", "train+val"] = "train",
        seed: int = 0,
        popularity_power: float = 0.0,
        summaries: str | Path | None = None,
        held_out_texts: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"batch_size": (batch_size, 1), "eval_batch_size": (eval_batch_size, 1)}
        for name, (size, least) in {**sizes, "entities_per_step": (entities_per_step, 0)}.items():
            if size < least:
                raise ConfigurationError(f"{name}: expected at least {least}, got {size}; omit it for the default")
        self.reader = reader
        self.batch_size = batch_size
        if popularity_power < 0:
            raise ConfigurationError(
                f"popularity_power: expected at least 0, got {popularity_power}; 0 samples negatives uniformly"
            )
        check_range("held_out_texts", held_out_texts, least=0, most=1, usual="0, or 0.2 to evaluate words,")
        self.entities_per_step = entities_per_step
        self.popularity_power = popularity_power
        self.eval_batch_size = eval_batch_size
        self.mask_seen = mask_seen
        self.seed = seed
        self.summaries = None if summaries is None else Path(summaries)
        self.held_out_texts = held_out_texts
        self.allow_other_data = False  # whether a checkpoint of other data may be used

    @cached_property
    def dataset(self) -> Dataset:
        """Data set of the reader, validated."""
        dataset = self.reader.read()
        if self.summaries is not None:
            dataset = with_summaries(dataset, self.summaries)
        if dataset.profiles is not None:
            dataset.profiles.check(dataset.interactions)
        return dataset

    def identity(self) -> dict[str, Any]:
        """Identity of the data as plain values: name, fingerprint and counts."""
        summary = self.interactions.summary()
        return {key: summary[key] for key in ("name", "fingerprint", "num_users", "num_items")}

    def text_fingerprint(self) -> str | None:
        """SHA-256 (64 hexadecimal digits) of all texts; None if there are none."""
        profiles = self.dataset.profiles
        if profiles is None:
            return None
        texts = [*profiles.user_texts, *profiles.item_texts]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    def check_identity(self, trained_on: Mapping[str, Any] | None) -> None:
        """Reject a checkpoint of other data, unless `allow_other_data` is set.

        Args:
            trained_on: Result of `identity` stored in the checkpoint; None if it has none, which is accepted.

        Raises:
            DataError: If the checkpoint belongs to other data, or to other numbers of users or items.
        """
        if trained_on is None:
            return
        own = self.identity()
        if trained_on["fingerprint"] == own["fingerprint"]:
            return
        shapes = [(side["num_users"], side["num_items"]) for side in (trained_on, own)]
        if not self.allow_other_data or shapes[0] != shapes[1]:
            theirs, ours = (
                f"{side['name']} (fingerprint {side['fingerprint']}, {users} users, {items} items)"
                for side, (users, items) in zip((trained_on, own), shapes, strict=True)
            )
            cure = "configure the data of that run"
            if shapes[0] == shapes[1]:
                cure += ", or add --allow-other-data if another split of the same users and items is meant"
            raise DataError(f"ckpt_path: trained on {theirs}, but the data configured here are {ours}; {cure}")

    @property
    def interactions(self) -> Interactions:
        """Splits and original ids."""
        return self.dataset.interactions

    @property
    def profiles(self) -> Profiles:
        """Texts of users and items for training, without held-out texts.

        Raises:
            DataError: If the reader provides none.
        """
        return self._profiles[0]

    @property
    def held_out_profiles(self) -> Profiles | None:
        """Texts of the held-out users and items only; None if no texts are held out."""
        return self._profiles[1]

    @cached_property
    def _profiles(self) -> tuple[Profiles, Profiles | None]:
        if self.dataset.profiles is None:
            raise DataError(
                f"data.reader: expected texts of users and items, which mapping and alignment need, got none from "
                f"{type(self.reader).__name__}; use a reader with texts, or run stage 1 only"
            )
        if not self.held_out_texts:
            return self.dataset.profiles, None
        return hold_out_texts(self.interactions, self.dataset.profiles, self.held_out_texts, self.seed)

    @property
    def num_users(self) -> int:
        """Number of users, U."""
        return self.interactions.num_users

    @property
    def num_items(self) -> int:
        """Number of items, I."""
        return self.interactions.num_items

    def catalogue_words(self) -> list[str]:
        """Frequent words of the texts, whether or not they are on a word list; empty without texts.

        Raises:
            MissingDependencyError: If the `words` extra is not installed.
        """
        if self.dataset.profiles is None:
            return []
        texts = [*self.profiles.user_texts, *self.profiles.item_texts]
        return frequent_words(texts, min_count=max(10, len(texts) // 500))

    @cached_property
    def graph(self) -> InteractionGraph:
        """Graph of the training interactions, on the CPU."""
        return build_graph(self.interactions.train)

    def train_dataloader(self) -> TrainingLoader | EntityLoader | RowLoader:
        """Batches of interactions, negatives and entities, or of entities or whole rows if the stage trains on them."""
        trainer = self.trainer
        if getattr(trainer and trainer.lightning_module, "trains_on_entities", False):
            return EntityLoader(
                self.num_users + self.num_items,
                entities_per_step=self.entities_per_step,
                seed=self.seed,
                epoch=lambda: trainer.current_epoch if trainer else 0,
                **self._share(),
            )
        if getattr(trainer and trainer.lightning_module, "trains_on_rows", False):
            return RowLoader(self.interactions.train, batch_size=self.batch_size, **self._share())
        return TrainingLoader(
            self.interactions.train,
            batch_size=self.batch_size,
            entities_per_step=self.entities_per_step,
            popularity_power=self.popularity_power,
            seed=self.seed,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            **self._share(),
        )

    def _share(self) -> dict[str, int]:
        """Rank and world size for splitting rows; with column-parallel tables, each process works on all rows."""
        trainer = self.trainer
        if trainer is None or getattr(trainer.strategy, "shares_columns", False):
            return {"rank": 0, "world_size": 1}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}

    def val_dataloader(self) -> EvaluationLoader:
        """Users with validation items; training items are masked."""
        return self._evaluation_loader(self.interactions.train, self.interactions.valid)

    def test_dataloader(self) -> EvaluationLoader:
        """Users with test items; `mask_seen` selects the masked items."""
        seen = self.interactions.train
        if self.mask_seen == "train+val":
            seen = sp.csr_array(seen + self.interactions.valid)
        return self._evaluation_loader(seen, self.interactions.test)

    def predict_dataloader(self) -> EvaluationLoader:
        """All users with training items, which are masked; there are no relevant items."""
        return self._evaluation_loader(self.interactions.train, self.interactions.train)

    def _evaluation_loader(self, seen: sp.csr_array, relevant: sp.csr_array) -> EvaluationLoader:
        return EvaluationLoader(
            seen,
            relevant,
            batch_size=self.eval_batch_size,
            **self._share(),
        )
