"""The Recommender of a server, reloaded when its run changes."""

import gc
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
    """Recommender of a run folder, or of the target of a symbolic link, that can be reloaded while it serves.

    A new Recommender is loaded and warmed up before it becomes `current`; requests finish with the one they started
    with. If the new run cannot be loaded, the old one stays in use and `error` gives the reason.

    Args:
        run_dir: Folder of a finished run, or a symbolic link to one.
        device: Device to rank on.
        index: Kind of FAISS index that ranks all items; None to rank exactly.
        recall: Target recall@20 of the index; the attribute `recall` is the one reached.
        shared: Folder of the cache that worker processes share; None for a single process.

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
        self._index, self._target_recall, self._shared = index, recall, shared
        self._lock = threading.Lock()
        self.error: str | None = None
        self.num_reloads = 0
        self.version = self._find_version()
        self.current, self.recall = self._load()

    def reload(self, force: bool = False) -> bool:
        """Reload the run if it has changed.

        Args:
            force: Whether to reload it even if it has not changed.

        Returns:
            Whether the Recommender was replaced.
        """
        with self._lock:
            version = self._find_version()
            if version is None or (version == self.version and not force):
                return False
            try:
                recommender, recall = self._load()
            except (FaceError, OSError) as error:
                self.error = str(error)
                return False
            if self._find_version() != version:  # changed while it was read; the next check will load it
                return False
            self.current, self.recall, self.version, self.error = recommender, recall, version, None
            self.num_reloads += 1
            freeze_objects()
            return_freed_memory()  # of the previous run, and of intermediate results
            return True

    def _load(self) -> tuple[Recommender, float]:
        """Load the run and warm it up; returns the Recommender and its recall@20."""
        recommender = Recommender.load(self._run_dir.resolve(), self._device)
        if self._shared is not None:
            recommender.share(self._shared)
        recall = 1.0
        if self._index is not None:
            recall = recommender.use_index(self._index, self._target_recall)
            if recall < self._target_recall:
                _LOGGER.warning("recall: expected %g, but %s reached %.4f", self._target_recall, self._index, recall)
        recommender.warm_up()
        return recommender, recall

    def _find_version(self) -> Version | None:
        """Path, inode and modification time of the embeddings file, which every finished run rewrites."""
        try:
            path = self._run_dir.resolve() / EMBEDDINGS
            status = path.stat()
        except OSError:
            return None
        return str(path), status.st_ino, status.st_mtime_ns


def freeze_objects() -> None:
    """Collect garbage, and exclude the remaining objects from further collections.

    Otherwise full collections, which visit the objects of all imported modules, interrupt all requests.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def watch(live: LiveRecommender, seconds: float, stop: threading.Event) -> None:
    """Check for a new run every `seconds` until `stop` is set."""
    while not stop.wait(seconds):
        live.reload()
