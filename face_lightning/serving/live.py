"""The Recommender behind a server, which is replaced when a new run appears."""

import logging
import threading
from pathlib import Path

from face_lightning.allocator import return_freed_memory
from face_lightning.errors import FaceError
from face_lightning.recommending.index_search import IndexKind
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import EMBEDDINGS

_LOGGER = logging.getLogger(__name__)

Version = tuple[str, int, int]


class LiveRecommender:
    """Holds the Recommender of a run folder, or of the target of a symbolic link, and reloads it when it changes.

    A new Recommender is complete before it becomes `current`; requests finish with the one they started with. If a
    run cannot be loaded, the old one stays and `error` says why.

    Args:
        run_dir: Folder of a finished run, or a symbolic link to one.
        device: Where to rank.
        index: Kind of FAISS index that ranks all items; None ranks exactly.
        recall: Recall@20 that the index is tuned to; `recall` is what it reached.
        shared: Folder in which worker processes keep what they share; None for a single one.

    Raises:
        FaceError: If the run cannot be loaded.
    """

    def __init__(
        self,
        run_dir: Path,
        device: str = "cpu",
        index: IndexKind | None = None,
        recall: float = 0.99,
        shared: Path | None = None,
    ) -> None:
        self._run_dir, self._device = run_dir, device
        self._index, self._least_recall, self._shared = index, recall, shared
        self._lock = threading.Lock()
        self.error: str | None = None
        self.num_reloads = 0
        self.version = self._find()
        self.current, self.recall = self._load()

    def reload(self, force: bool = False) -> bool:
        """Load the run again if it has changed.

        Args:
            force: Load it even if it has not.

        Returns:
            Whether the Recommender was replaced.
        """
        with self._lock:
            version = self._find()
            if version is None or (version == self.version and not force):
                return False
            try:
                recommender, recall = self._load()
            except (FaceError, OSError) as error:
                self.error = str(error)
                return False
            if self._find() != version:  # changed while it was read: left to the next check
                return False
            self.current, self.recall, self.version, self.error = recommender, recall, version, None
            self.num_reloads += 1
            return_freed_memory()  # of the run before, and of what was computed on the way
            return True

    def _load(self) -> tuple[Recommender, float]:
        """The Recommender of the run, ready to answer, and its recall@20."""
        recommender = Recommender.load(self._run_dir.resolve(), self._device)
        if self._shared is not None:
            recommender.share(self._shared)
        recall = 1.0
        if self._index is not None:
            recall = recommender.use_index(self._index, self._least_recall)
            if recall < self._least_recall:
                _LOGGER.warning("recall: expected %g, but %s reached %.4f", self._least_recall, self._index, recall)
        recommender.warm_up()
        return recommender, recall

    def _find(self) -> Version | None:
        """Identity of the file of embeddings, which every finished run writes anew."""
        try:
            path = self._run_dir.resolve() / EMBEDDINGS
            status = path.stat()
        except OSError:
            return None
        return str(path), status.st_ino, status.st_mtime_ns


def watch(live: LiveRecommender, seconds: float, stop: threading.Event) -> None:
    """Check for a new run every `seconds` until `stop` is set."""
    while not stop.wait(seconds):
        live.reload()
