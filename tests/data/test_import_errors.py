"""Tests of errors of `face data import`, by the real command: one line each, and no files left."""

import errno
import gzip
import os
import pickle
import resource
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.data.readers import PreparedFolder
from tests.data.importing import HEADER, ROWS, csv_text, refused, run

BAD = {
    "missing column": (csv_text(), ["--user", "viewer"], "user: expected a column 'viewer' in"),
    "wrong delimiter": (csv_text(separator=";"), [], "separated by semicolon, add --separator ';'"),
    "rating": (
        csv_text([*ROWS, ("a", "b", "good", 3)]),
        ["--rating", "rating", "--min_rating", "3"],
        "got 'good' in row 25",
    ),
    "nan rating": (csv_text([("a", "b", "nan", 3)]), ["--rating", "rating", "--min_rating", "3"], "got 'nan' in row 1"),
    "high rating": (csv_text(), ["--rating", "rating", "--min_rating", "9"], "got at most 5; lower --min_rating"),
    "no rating": (csv_text(), ["--min_rating", "3"], "add --rating COLUMN"),
    "nan id": (csv_text([*ROWS, ("NaN", "b", 1, 3)]), [], "got 'NaN' in row 25; add the id, or drop such rows"),
    "no id": (csv_text([*ROWS, ("a", "", 1, 3)]), [], "item: expected an id in every row"),
    "empty": ("", [], "got an empty file"),
    "header only": (HEADER, [], "got no rows"),
    "blank": ("\n\n\n", [], "column names in line 1"),
    "core": (csv_text(), ["--core", "50"], "the largest core that is not empty is --core 2"),
    "no time": (csv_text(), ["--split", "temporal"], "add --time COLUMN, or use --split random"),
    "wrong time": (
        csv_text([("a", "b", 1, "noon")]),
        ["--split", "last", "--time", "timestamp"],
        "got 'noon' in row 1",
    ),
    "blank time": (
        csv_text([*ROWS, ("a", "b", 1, "")]),
        ["--split", "temporal", "--time", "timestamp"],
        "got '' in row 25",
    ),
    "ragged": (csv_text() + "a,b,1,2,3\n", [], "row 25: expected 4 columns as in line 1, got 5"),
    "encodings": (
        csv_text().encode() + "é,".encode() + "é,1,2\n".encode("latin-1"),
        [],
        "row 25: expected text in utf-8",
    ),
    "utf-16": (csv_text().encode("utf-16"), [], "give its encoding, such as --encoding latin-1 or utf-16"),
    "gigantic line": (b"x" * (1 << 21), [], "expected lines of at most 16 MiB"),
    "gigantic row": (HEADER + "a,b,1," + "9" * (40 << 20) + "\n", [], "expected lines of at most 16 MiB"),
    "gigantic id": (HEADER + "a" * 300 + ",b,1,2\n", [], "ids of at most 256 characters"),
    "open quote": (csv_text() + 'a,b,1,"2\n', [], "expected closed quotes"),
    "quote in id": (csv_text() + 'a,"b\nc",1,2\n', [], "expected ids without line breaks"),
    "doubled column": ("user_id,item_id,item_id\na,b,c\n", [], "expected one column 'item_id'"),
    "full users": ("user_id,item_id\na,x\na,y\n", ["--ratios", "1", "0", "0"], "all 2 items in training"),
    "separator": (csv_text(), ["--separator", ""], "separator: expected ASCII characters"),
    "encoding": (csv_text(), ["--encoding", "utf-9"], "encoding: expected a codec"),
    "ratios": (csv_text(), ["--ratios", "0", "1", "1"], "ratios: expected three sizes"),
    "option": (csv_text(), ["--cores", "5"], "unrecognized arguments: --cores 5; see face data import --help"),
    "split": (csv_text(), ["--split", "half"], "invalid choice: 'half'"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_in_one_line(name, tmp_path, capsys):
    content, options, message = BAD[name]
    path = tmp_path / "clicks.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(capsys, tmp_path, path, *options)


def test_damaged_parquet_and_gzip(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = pa.table({"user_id": rng.integers(0, 1 << 40, 5000), "item_id": rng.integers(0, 50, 5000)})
    pq.write_table(table, tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "expected an intact Parquet file" in refused(capsys, tmp_path, tmp_path / "cut.parquet")
    (tmp_path / "bad.parquet").write_bytes(whole[:100] + b"\xff" * 20000 + whole[20100:])
    assert "expected an intact Parquet file" in refused(capsys, tmp_path, tmp_path / "bad.parquet")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(csv_text().encode())[:-20])
    assert "write or copy it again" in refused(capsys, tmp_path, tmp_path / "cut.csv.gz")
    pq.write_table(pa.table({"user_id": [[1]], "item_id": [1]}), tmp_path / "list.parquet")
    assert "expected ids as text or whole numbers" in refused(capsys, tmp_path, tmp_path / "list.parquet")
    pq.write_table(pa.table({"user_id": [1.5], "item_id": [1]}), tmp_path / "half.parquet")
    assert "expected ids as text or whole numbers" in refused(capsys, tmp_path, tmp_path / "half.parquet")


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("name", ["trn_mat.pkl", "usr_prf.pkl", "itm_emb_np.pkl"])
def test_malicious_pickle_is_rejected_and_not_executed(name, rlmrec_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (rlmrec_folder / name).write_bytes(pickle.dumps(_Harm()))
    err = refused(capsys, tmp_path, rlmrec_folder)
    assert "got posix.system, which was not loaded" in err
    assert "which could run code" in refused(capsys, tmp_path, rlmrec_folder / name)
    assert not (tmp_path / "harmed").exists()


def test_full_disk_leaves_no_files(tmp_path):
    """A limit of 4 KiB per file simulates a disk that fills up while the tables are written."""
    rng = np.random.default_rng(0)
    rows = zip(rng.integers(0, 500, 9000), rng.integers(0, 900, 9000), strict=True)
    (tmp_path / "c.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in rows))
    done = subprocess.run(
        [sys.executable, "-m", "face_lightning.cli", "data", "import", "c.csv", "--out", "mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("face: error: out: cannot write mine (")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]


def test_full_disk_keeps_the_existing_folder(clicks, tmp_path, capsys, monkeypatch):
    out = tmp_path / "mine"
    assert run(capsys, clicks, "--out", out)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("face_lightning.data.prepared.pq.write_table", full)
    code, _, err = run(capsys, clicks, "--out", out, "--force", "--seed", 3)
    assert code == 2
    assert "(No space left on device); make room, or give another --out" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "mine"]


def test_damage_to_a_prepared_folder_is_reported(clicks, tmp_path, capsys):
    out = tmp_path / "mine"
    assert run(capsys, clicks, "--out", out)[0] == 0
    pristine = {path.name: path.read_bytes() for path in out.iterdir()}
    for name, content in pristine.items():
        harms = [None, b"", content[: len(content) // 2], pickle.dumps(print)]
        if name == "manifest.json":
            harms += [b"[]", b'{"format": 1}', content.replace(b"fingerprint", b"finger")]
        for harm in harms:
            if harm is None:
                (out / name).unlink()
            else:
                (out / name).write_bytes(harm)
            with pytest.raises(Exception, match=r"; (import|create)") as caught:
                PreparedFolder(out).read()
            assert type(caught.value).__name__ == "DataError"
            (out / name).write_bytes(content)
    PreparedFolder(out).read()
