"""Tests of the output of `face data import`, by the real command."""

import gzip
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.cli import main
from face_lightning.data.pairs import Columns, read_pairs
from face_lightning.data.readers import InteractionFile, MovieLens100K, PreparedFolder, RLMRecFolder
from tests.data.importing import ROWS, csv_text, refused, run


def test_prepared_folder_and_printed_summary(clicks, tmp_path, capsys):
    code, out, _ = run(capsys, clicks, "--out", tmp_path / "mine", "--rating", "rating", "--min_rating", 3, "--core", 2)
    assert code == 0
    assert "18 interactions          6 users          8 items  rating >= 3" in out
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    data = PreparedFolder(tmp_path / "mine").read().interactions
    assert manifest["counts"]["fingerprint"] == data.fingerprint
    assert manifest["counts"]["num_users"] == data.num_users
    assert [step["step"] for step in manifest["steps"]][1:4] == [
        "rating >= 3",
        "duplicate pairs removed, earliest kept",
        "2-core",
    ]
    assert manifest["sources"][0]["file"] == "clicks.csv"
    assert set(data.user_ids) <= {f"u{u}" for u in range(6)}
    degrees = sum(data.matrix(split).sum(axis=1) for split in ("train", "valid", "test"))
    assert degrees.min() >= 2


def test_same_splits_as_the_movielens_reader(recbole_wheel, tmp_path, capsys):
    root = tmp_path / "ml"
    assert main(["data", "ml-100k", "--root", str(root), "--archive", str(recbole_wheel), "--quiet"]) == 0
    tsv = root / "interactions.tsv"
    options = ("--rating", "rating", "--min_rating", 3, "--seed", 4)
    assert run(capsys, tsv, "--out", tmp_path / "mine", *options)[0] == 0
    expected = MovieLens100K(root, min_rating=3, core=1, seed=4).read().interactions
    assert PreparedFolder(tmp_path / "mine").read().interactions.fingerprint == expected.fingerprint


def test_interaction_file_equals_the_prepared_folder(clicks, tmp_path, capsys):
    assert run(capsys, clicks, "--out", tmp_path / "mine", "--seed", 3)[0] == 0
    direct = InteractionFile(clicks, seed=3).read()
    assert direct.interactions.fingerprint == PreparedFolder(tmp_path / "mine").read().interactions.fingerprint


def test_row_order_and_duplicates_make_no_difference(tmp_path):
    fingerprints = set()
    for seed in range(4):
        rows = [*ROWS, *ROWS[:5]] if seed else ROWS
        path = tmp_path / f"{seed}.csv"
        path.write_text(csv_text([rows[k] for k in np.random.default_rng(seed).permutation(len(rows))]))
        fingerprints.add(InteractionFile(path, core=2).read().interactions.fingerprint)
    assert len(fingerprints) == 1


def test_all_file_formats_give_the_same(clicks, tmp_path):
    expected = InteractionFile(clicks).read().interactions.fingerprint
    (tmp_path / "a.tsv").write_text(csv_text(separator="\t"))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + csv_text().replace("\n", "\r\n").encode())
    (tmp_path / "d.txt").write_text(csv_text(separator=";"))
    (tmp_path / "e.csv").write_bytes(csv_text().encode("utf-16"))
    types = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "f.inter").write_text(types + csv_text(separator="\t").partition("\n")[2])
    users, items, ratings, times = zip(*ROWS, strict=True)
    table = pa.table({"user_id": pa.array(users).dictionary_encode(), "item_id": items, "r": ratings, "t": times})
    pq.write_table(table, tmp_path / "g.parquet", row_group_size=5)
    (tmp_path / "h.csv").write_text(csv_text().partition("\n")[2])
    forms = {"d.txt": {"separator": ";"}, "e.csv": {"encoding": "utf-16"}}
    forms["h.csv"] = {"header": False, "user": "1", "item": "2"}
    for path in sorted(tmp_path.glob("?.*")):
        assert InteractionFile(path, **forms.get(path.name, {})).read().interactions.fingerprint == expected, path.name


def test_ids_are_sorted_numerically_if_all_are_numbers(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("user_id,item_id\n10,007\n9,7\n 10 ,b\n")
    data = InteractionFile(path, ratios=(1, 0, 0)).read().interactions
    assert data.user_ids.tolist() == ["9", "10"]
    assert data.item_ids.tolist() == ["007", "7", "b"]
    table = pa.table({"user_id": [10.0, 9.0, 10.0], "item_id": pa.array([1, 2, 3], pa.uint64())})
    pq.write_table(table, tmp_path / "c.parquet")
    data = InteractionFile(tmp_path / "c.parquet", ratios=(1, 0, 0)).read().interactions
    assert data.user_ids.tolist() == ["9", "10"]


def test_ids_in_another_encoding(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("user_id,item_id\nJosé,Ärger\nZoë,Öl\nZoë,Ärger\n".encode("latin-1"))
    data = InteractionFile(path, encoding="latin-1", ratios=(1, 0, 0)).read().interactions
    assert data.user_ids.tolist() == ["José", "Zoë"]
    assert data.item_ids.tolist() == ["Ärger", "Öl"]


def test_splits_by_time(clicks):
    data = InteractionFile(clicks, time="timestamp", split="last").read().interactions
    last = {str(data.user_ids[u]): str(data.item_ids[i]) for u, i in zip(*data.test.nonzero(), strict=True)}
    assert last == {f"u{u}": f"i{(u + 3) % 8}" for u in range(6)}
    assert (data.train.nnz, data.valid.nnz, data.test.nnz) == (12, 6, 6)
    data = InteractionFile(clicks, time="timestamp", split="temporal", ratios=(5, 1, 0)).read().interactions
    assert data.user_ids.tolist() == [f"u{u}" for u in range(5)]  # the sixth user has no training pair
    assert data.train.nnz == 20
    data = InteractionFile(clicks, split="global", ratios=(2, 1, 1)).read().interactions
    assert data.train.nnz == 12


def test_dates_are_read_as_times(tmp_path):
    for name, shown in {"a": "2024-01-0{} 10:00:00", "b": "2024-01-0{}", "c": "2024-01-0{}T10:00:00.123456Z"}.items():
        path = tmp_path / f"{name}.csv"
        path.write_text("user_id,item_id,when\n" + "".join(f"u,i{k},{shown.format(9 - k)}\n" for k in range(5)))
        data = InteractionFile(path, time="when", split="last").read().interactions
        assert [str(data.item_ids[i]) for i in data.test.indices] == ["i0"], name


def test_given_split_drops_pairs_of_earlier_splits(tmp_path, capsys):
    for name, pairs in {"train": "ax ay bx", "valid": "ay bz", "test": "az cx bz"}.items():
        (tmp_path / f"{name}.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in pairs.split()))
    files = [tmp_path / "train.csv", "--split", "given", "--valid", tmp_path / "valid.csv"]
    assert run(capsys, *files, "--test", tmp_path / "test.csv", "--out", tmp_path / "mine")[0] == 0
    data = PreparedFolder(tmp_path / "mine").read().interactions
    assert (data.train.nnz, data.valid.nnz, data.test.nnz) == (3, 1, 1)  # ay and bz once, c without training pair
    err = refused(capsys, tmp_path / "other", *files)
    assert "split: expected --valid FILE and --test FILE with split given" in err


def test_drop_missing_drops_rows_without_ids(tmp_path, capsys):
    (tmp_path / "c.csv").write_text(csv_text([*ROWS, ("", "b", 1, 3), ("a", "nan", 1, 3)]))
    code, out, _ = run(capsys, tmp_path / "c.csv", "--out", tmp_path / "mine", "--drop_missing")
    assert code == 0
    assert "24 interactions          6 users          8 items  read, without 2 rows that lack an id" in out


def test_users_with_all_items_are_reported(tmp_path, capsys):
    rows = [*ROWS, *(("robot", f"i{k}", 5, 0) for k in range(8))]
    (tmp_path / "c.csv").write_text(csv_text(rows))
    code, _, err = run(capsys, tmp_path / "c.csv", "--out", tmp_path / "mine", "--ratios", 1, 0, 0)
    assert code == 0
    assert "1 users have every item in training, the first is 'robot'" in err


def test_folder_is_replaced_only_with_force(clicks, tmp_path, capsys):
    out = tmp_path / "mine"
    assert run(capsys, clicks, "--out", out)[0] == 0
    before = (out / "manifest.json").read_bytes()
    code, _, err = run(capsys, clicks, "--out", out, "--seed", 1)
    assert code == 2
    assert "replace it with --force" in err
    assert (out / "manifest.json").read_bytes() == before
    assert run(capsys, clicks, "--out", out, "--seed", 1, "--force")[0] == 0
    assert (out / "manifest.json").read_bytes() != before
    assert "with other contents" in run(capsys, clicks, "--out", tmp_path, "--force")[2]
    (out / "thesis.txt").write_text("mine")
    assert "with other contents, such as thesis.txt; give" in run(capsys, clicks, "--out", out, "--force")[2]
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "an extension of a browser"}')
    assert "with other contents; give" in run(capsys, clicks, "--out", tmp_path / "web", "--force")[2]
    assert (out / "thesis.txt").exists()
    (tmp_path / "web" / "manifest.json").unlink()
    (tmp_path / "web").rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "mine"]


@pytest.mark.parametrize("kind", ["named by the manifest", "folder", "link"])
def test_folders_with_other_files_are_not_replaced(clicks, tmp_path, capsys, kind):
    out = tmp_path / "mine"
    assert run(capsys, clicks, "--out", out)[0] == 0
    own = out / ("thesis.txt" if kind == "named by the manifest" else "items.parquet")
    if kind == "named by the manifest":
        manifest = json.loads((out / "manifest.json").read_text())
        manifest["files"] |= {"thesis.txt": "", "../clicks.csv": ""}
        (out / "manifest.json").write_text(json.dumps(manifest))
        own.write_text("mine")
    else:
        own.rename(tmp_path / "kept")
        own.symlink_to(tmp_path / "kept") if kind == "link" else own.mkdir()
    code, _, err = run(capsys, clicks, "--out", out, "--force")
    assert (code, f"with other contents, such as {own.name}; give" in err) == (2, True)
    assert own.exists()
    (tmp_path / "link").symlink_to(out)
    assert "got the link" in run(capsys, clicks, "--out", tmp_path / "link", "--force")[2]
    assert (tmp_path / "link").is_symlink()


def test_rlmrec_folder_is_imported_unchanged(rlmrec_folder, tmp_path, capsys):
    (rlmrec_folder / "items.jsonl").write_text('{"item_id": 1, "title": "Alien", "tags": ["horror"]}\n')
    (rlmrec_folder / "usr_prf.pkl").write_bytes(pickle.dumps({2: {"profile": "Likes quiet films."}}))
    (rlmrec_folder / "user_ids.txt").write_text("ann\nbob\ncid\n")
    code, out, _ = run(capsys, rlmrec_folder, "--out", tmp_path / "mine", "--domain", "movie")
    assert code == 0
    assert "10 interactions          3 users          4 items  read, split as given" in out
    there, here = RLMRecFolder(rlmrec_folder, "movie").read(), PreparedFolder(tmp_path / "mine").read()
    assert here.interactions.fingerprint == there.interactions.fingerprint
    assert here.profiles.item_texts == there.profiles.item_texts
    assert here.profiles.user_texts == there.profiles.user_texts
    assert here.profiles.user_texts[2] == "Likes quiet films."
    assert here.profiles.item_labels == there.profiles.item_labels
    assert "omit --core" in run(capsys, rlmrec_folder, "--out", tmp_path / "other", "--core", 3)[2]


def test_many_blocks_are_one_file_and_progress_is_reported(tmp_path, monkeypatch):
    """Ids are numbered consistently across blocks of a file."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 400, 30_000), rng.integers(0, 300, 30_000)
    path = tmp_path / "c.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in zip(users, items, strict=True)))
    whole = read_pairs([path], Columns())
    monkeypatch.setattr("face_lightning.data.tables._MAX_LINE", 1 << 14)
    shares = []
    parts = read_pairs([path], Columns(), progress=shares.append)
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for pairs in (whole, parts):
        assert (pairs.user_ids.astype(int)[pairs.users] == users).all()
        assert (pairs.item_ids.astype(int)[pairs.items] == items).all()
