"""Tests of corrupted pickles by the real command: imported or rejected in one line, without excessive memory."""

import pickle
import resource
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from face_lightning.data.pickles import read_pickle
from face_lightning.errors import DataError
from tests.data.importing import imported


def pickled_folder() -> dict[str, bytes]:
    """Files of a small folder in RLMRec's layout."""
    split = np.random.default_rng(0).choice(4, p=[0.3, 0.4, 0.15, 0.15], size=(5, 6))
    names = enumerate(("trn_mat.pkl", "val_mat.pkl", "tst_mat.pkl"), start=1)
    files = {name: pickle.dumps(sparse.coo_array(split == part), 1 + part) for part, name in names}
    files["usr_prf.pkl"] = pickle.dumps({k: {"profile": f"likes {k}"} for k in range(5)})
    files["usr_emb_np.pkl"] = pickle.dumps(np.ones((5, 3)))
    return files


PICKLES = pickled_folder()
places = st.tuples(st.integers(0, 2000), st.sampled_from([0, 1, 1, 2, 40]), st.binary(max_size=3))


@pytest.mark.parametrize("num_cases", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_corrupted_pickles(num_cases):
    taken = []

    @settings(max_examples=num_cases, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(sorted(PICKLES)), st.lists(places, min_size=1, max_size=3))
    def spoil(name: str, edits: list[tuple[int, int, bytes]]) -> None:
        content = PICKLES[name]
        for place, length, piece in edits:
            start = place % len(content)
            content = content[:start] + piece + content[start + length :]
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "spoilt"
            folder.mkdir()
            for other, whole in {**PICKLES, name: content}.items():
                (folder / other).write_bytes(whole)
            taken.append(imported(Path(parent), folder))

    spoil()
    assert len(taken) >= num_cases
    assert 0 < sum(taken) < len(taken)


FORGED = {
    "place": b"\x80\x02K\x01r" + struct.pack("<I", 2**32 - 1) + b".",
    "written place": b"K\x01p" + b"9" * 15 + b"\n.",
    "bytes": b"\x80\x05\x8e" + struct.pack("<Q", 2**40) + b"a.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_sizes_take_no_memory(name, tmp_path, capsys):
    (tmp_path / "x.pkl").write_bytes(FORGED[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="expected an intact pickle"):
        read_pickle(tmp_path / "x.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert capsys.readouterr().err == ""
