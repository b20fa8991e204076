"""Reader of MovieLens-100K, which `face data ml-100k` downloads."""

from pathlib import Path

import numpy as np

from face_lightning.data.interactions import Interactions
from face_lightning.data.movielens import MovieLensTables, read_tables
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.records import Record, write_profiles
from face_lightning.data.readers.rlmrec_folder import read_split
from face_lightning.data.splits import k_core, random_split_per_user, renumber
from face_lightning.errors import ConfigurationError, DataError


class MovieLens100K(Reader):
    """Reads the tables that `face data ml-100k` wrote, and writes texts from titles and genres.

    Ratings of at least `min_rating` are interactions; the k-core with k = `core` is split 3:1:1 per user at random.

    Args:
        root: Folder that `face data ml-100k --root` wrote.
        min_rating: Minimum rating of an interaction, 1 to 5 stars.
        core: Minimum number of interactions of every user and item.
        seed: Seed of the random split.
        given_split: Folder with `trn_mat.pkl`, `val_mat.pkl`, `tst_mat.pkl`, `user_ids.txt` and
            `item_ids.txt` to use instead of filtering and splitting; the ids are those of MovieLens.
        viewer_facts: Whether texts mention age and occupation. Off by default, because these words leak into the
            words of films.

    Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 2015.
    """

    def __init__(
        self,
        root: str | Path = "data/ml-100k",
        min_rating: float = 4.0,
        core: int = 5,
        seed: int = 0,
        given_split: str | Path | None = None,
        viewer_facts: bool = False,
    ) -> None:
        if core < 1:
            raise ConfigurationError(f"core: expected at least 1, got {core}; 1 keeps everything")
        self.root = Path(root)
        self.min_rating = min_rating
        self.core = core
        self.seed = seed
        self.given_split = None if given_split is None else Path(given_split)
        self.viewer_facts = viewer_facts

    def read(self) -> Dataset:
        """Read, filter and split the data, and write texts.

        Raises:
            DataError: If the tables are missing or damaged, or ids of the given split are unknown.
        """
        tables = read_tables(self.root)
        interactions = self._split(tables) if self.given_split is None else self._read_split(self.given_split)
        films = {str(film.film_id): film for film in tables.films}
        viewers = {str(viewer.viewer_id): viewer for viewer in tables.viewers}
        try:
            records: list[Record] = [
                {"title": film.title, "year": film.year, "genres": film.genres}
                for film in map(films.__getitem__, interactions.item_ids.tolist())
            ]
            facts: list[Record] = [
                {"age": _age_group(viewer.age), "occupation": viewer.occupation} if self.viewer_facts else {}
                for viewer in map(viewers.__getitem__, interactions.user_ids.tolist())
            ]
        except KeyError as error:
            raise DataError(
                f"{self.given_split}: expected ids of MovieLens-100K in user_ids.txt and item_ids.txt, got "
                f"{error}; give a split of this data set"
            ) from error
        profiles = write_profiles(interactions, records, "movie", facts)
        profiles.check(interactions, source=str(self.root))
        return Dataset(interactions, profiles)

    def _split(self, tables: MovieLensTables) -> Interactions:
        """Filter and split the ratings; users and items are sorted by id."""
        liked = tables.ratings[tables.ratings[:, 2] >= self.min_rating]
        _, users = renumber(liked[:, 0])
        _, items = renumber(liked[:, 1])
        liked = liked[k_core(users, items, self.core)]
        if not len(liked):
            raise DataError(
                f"min_rating, core: expected ratings, got none with {self.min_rating} and {self.core}; lower them"
            )
        user_ids, users = renumber(liked[:, 0])
        item_ids, items = renumber(liked[:, 1])
        splits = random_split_per_user(users, items, seed=self.seed)
        pairs = [(users[splits == number], items[splits == number]) for number in range(3)]
        return Interactions.from_coordinates(
            *pairs, name="ml-100k", user_ids=user_ids.astype(np.str_), item_ids=item_ids.astype(np.str_)
        )

    def _read_split(self, folder: Path) -> Interactions:
        """Read the split of a folder, which must contain original ids."""
        missing = [name for name in ("user_ids.txt", "item_ids.txt") if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"given_split: expected {' and '.join(missing)} in {folder}, to join it with MovieLens-100K, "
                "got no such file; write the original ids, one per line"
            )
        return read_split(folder, "ml-100k")


def _age_group(age: int) -> str:
    """Return an age group in words."""
    bounds = ((18, "teenager"), (30, "young adult"), (50, "adult"))
    return next((name for bound, name in bounds if age < bound), "older adult")
