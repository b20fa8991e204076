"""Collaborative filtering that a language model, and a person, can read."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from face_lightning.recommending.recommender import Recommender

__all__ = ["Recommender", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import `Recommender` on first access, so that importing the package does not import torch."""
    if name == "Recommender":
        from face_lightning.recommending.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
