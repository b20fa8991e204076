"""The Recommender behind a server, which is replaced when a new run appears."""

import threading
from pathlib import Path

from face_lightning.errors import FaceError
from face_lightning.recommender import Recommender
from face_lightning.runs.inference import EMBEDDINGS

Version = tuple[str, int, int]


class LiveRecommender:
    """Holds the Recommender of a run folder, or of the target of a symbolic link, and reloads it when it changes.

    A new Recommender is complete before it becomes `current`; requests finish with the one they started with. If a
    run cannot be loaded, the old one stays and `error` says why.

    Args:
        run_dir: Folder of a finished run, or a symbolic link to one.
        device: Where to rank.

    Raises:
        FaceError: If the run cannot be loaded.
    """

    def __init__(self, run_dir: Path, device: str = "cpu") -> None:
        self._run_dir, self._device = run_dir, device
        self._lock = threading.Lock()
        self.error: str | None = None
        self.num_reloads = 0
        self.version = self._find()
        self.current = self._load()

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
                recommender = self._load()
            except (FaceError, OSError) as error:
                self.error = str(error)
                return False
            if self._find() != version:  # changed while it was read: left to the next check
                return False
            self.current, self.version, self.error = recommender, version, None
            self.num_reloads += 1
            return True

    def _load(self) -> Recommender:
        recommender = Recommender.load(self._run_dir.resolve(), self._device)
        recommender.warm_up()
        return recommender

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
