"""Popularity by hand."""

import numpy as np
import scipy.sparse as sp

from face_lightning.backbones import Popularity
from face_lightning.graph import build_graph


def test_scores_are_training_counts_for_everybody() -> None:
    cells = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=np.float32)
    users, items = Popularity(3, 4)(build_graph(sp.csr_array(cells)))
    assert (users @ items.T).tolist() == [[3.0, 1.0, 1.0, 0.0]] * 3
