"""Checkpoints of a run: each file whole or not there, and good in whatever folder the run is moved to."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file and renames; Lightning's own copies from the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint.

        Args:
            checkpoint: What to write.
            path: File on this machine.
            storage_options: None; there is nothing to choose.
        """
        assert storage_options is None, "local files have no storage options"
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        torch.save(checkpoint, temporary)
        temporary.replace(path)


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint whose state names files relative to its folder, so that a run can be moved and resumed."""

    def state_dict(self) -> dict[str, Any]:
        """Scores, and files relative to the folder."""
        state = super().state_dict()
        assert self.dirpath is not None
        relative = {path: os.path.relpath(path, self.dirpath) if path else "" for path in self._files(state)}
        return _rename(state, relative) | {"dirpath": "."}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the scores of files that are in the folder; what another folder holds does not count here."""
        assert self.dirpath is not None
        folder = Path(self.dirpath)
        files = {path: str(folder / path) if path else "" for path in self._files(state_dict)}
        if all(Path(path).is_file() for path in files.values() if path):
            super().load_state_dict(_rename(state_dict, files) | {"dirpath": self.dirpath})

    @staticmethod
    def _files(state: dict[str, Any]) -> list[str]:
        return [*(state[key] for key in _PATHS), *state["best_k_models"]]


def _rename(state: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """`state` of a ModelCheckpoint with its files called otherwise."""
    models = {names[path]: score for path, score in state["best_k_models"].items()}
    return state | {key: names[state[key]] for key in _PATHS} | {"best_k_models": models}
