"""`face data import` by the real command: what it writes, what it refuses, and that it leaves nothing behind."""

import errno
import gzip
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.cli import main
from face_lightning.data.pairs import Columns, read_pairs
from face_lightning.data.readers import InteractionFile, MovieLens100K, PreparedFolder, RLMRecFolder

HEADER = "user_id,item_id,rating,timestamp\n"
# Six users; user u likes items u, u + 1, u + 2 and u + 3 of eight, the later the higher.
ROWS = [(f"u{u}", f"i{(u + k) % 8}", 2 + k % 4, 1000 * u + k) for u in range(6) for k in range(4)]


def csv_text(rows=ROWS, separator=","):
    return HEADER.replace(",", separator) + "".join(separator.join(map(str, row)) + "\n" for row in rows)


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(csv_text())
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["data", "import", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, tmp_path, *arguments) -> str:
    """The one line that a refused import prints; nothing may be left of it."""
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "mine")
    assert (code, out) == (2, "")
    assert err.startswith("face: error: ")
    assert err.count("\n") == 1
    assert "; " in err  # the cure
    assert sorted(tmp_path.rglob("*")) == before
    return err


def test_prepared_folder_tells_everything(clicks, tmp_path, capsys):
    code, out, _ = run(capsys, clicks, "--out", tmp_path / "mine", "--rating", "rating", "--min_rating", 3, "--core", 2)
    assert code == 0
    assert "18 interactions          6 users          8 items  rating >= 3" in out
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    data = PreparedFolder(tmp_path / "mine").read().interactions
    assert manifest["counts"]["fingerprint"] == data.fingerprint
    assert manifest["counts"]["num_users"] == data.num_users
    assert [step["step"] for step in manifest["steps"]][1:4] == [
        "rating >= 3",
        "one of each pair, the earliest",
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


def test_reader_of_the_file_gives_what_the_folder_holds(clicks, tmp_path, capsys):
    assert run(capsys, clicks, "--out", tmp_path / "mine", "--seed", 3)[0] == 0
    direct = InteractionFile(clicks, seed=3).read()
    assert direct.interactions.fingerprint == PreparedFolder(tmp_path / "mine").read().interactions.fingerprint


def test_order_of_rows_and_repeated_rows_make_no_difference(tmp_path):
    fingerprints = set()
    for seed in range(4):
        rows = [*ROWS, *ROWS[:5]] if seed else ROWS
        path = tmp_path / f"{seed}.csv"
        path.write_text(csv_text([rows[k] for k in np.random.default_rng(seed).permutation(len(rows))]))
        fingerprints.add(InteractionFile(path, core=2).read().interactions.fingerprint)
    assert len(fingerprints) == 1


def test_every_form_of_the_file_gives_the_same(clicks, tmp_path):
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


def test_ids_are_numbers_where_all_are_and_keep_their_text(tmp_path):
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
    assert data.user_ids.tolist() == [f"u{u}" for u in range(5)]  # the sixth has nothing to learn from
    assert data.train.nnz == 20
    data = InteractionFile(clicks, split="global", ratios=(2, 1, 1)).read().interactions
    assert data.train.nnz == 12


def test_dates_are_times(tmp_path):
    for name, shown in {"a": "2024-01-0{} 10:00:00", "b": "2024-01-0{}", "c": "2024-01-0{}T10:00:00.123456Z"}.items():
        path = tmp_path / f"{name}.csv"
        path.write_text("user_id,item_id,when\n" + "".join(f"u,i{k},{shown.format(9 - k)}\n" for k in range(5)))
        data = InteractionFile(path, time="when", split="last").read().interactions
        assert [str(data.item_ids[i]) for i in data.test.indices] == ["i0"], name


def test_given_split_drops_what_came_earlier(tmp_path, capsys):
    for name, pairs in {"train": "ax ay bx", "valid": "ay bz", "test": "az cx bz"}.items():
        (tmp_path / f"{name}.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in pairs.split()))
    files = [tmp_path / "train.csv", "--split", "given", "--valid", tmp_path / "valid.csv"]
    assert run(capsys, *files, "--test", tmp_path / "test.csv", "--out", tmp_path / "mine")[0] == 0
    data = PreparedFolder(tmp_path / "mine").read().interactions
    assert (data.train.nnz, data.valid.nnz, data.test.nnz) == (3, 1, 1)  # ay and bz once, and c is never trained
    err = refused(capsys, tmp_path / "other", *files)
    assert "split: expected --valid FILE and --test FILE with split given" in err


BAD = {
    "missing column": (csv_text(), ["--user", "viewer"], "user: expected a column 'viewer' in"),
    "wrong delimiter": (csv_text(separator=";"), [], "separated by semicolon: add --separator ';'"),
    "rating": (
        csv_text([*ROWS, ("a", "b", "good", 3)]),
        ["--rating", "rating", "--min_rating", "3"],
        "row 25 has 'good'",
    ),
    "nan rating": (csv_text([("a", "b", "nan", 3)]), ["--rating", "rating", "--min_rating", "3"], "row 1 has 'nan'"),
    "high rating": (csv_text(), ["--rating", "rating", "--min_rating", "9"], "the highest is 5; lower --min_rating"),
    "no rating": (csv_text(), ["--min_rating", "3"], "add --rating COLUMN"),
    "nan id": (csv_text([*ROWS, ("NaN", "b", 1, 3)]), [], "row 25 has 'NaN'; give it one, or leave such rows out"),
    "no id": (csv_text([*ROWS, ("a", "", 1, 3)]), [], "item: expected an id in every row"),
    "empty": ("", [], "the file is empty"),
    "header only": (HEADER, [], "it has no rows"),
    "blank": ("\n\n\n", [], "names of the columns in line 1"),
    "core": (csv_text(), ["--core", "50"], "the largest core that leaves something is --core 2"),
    "no time": (csv_text(), ["--split", "temporal"], "add --time COLUMN, or take --split random"),
    "wrong time": (csv_text([("a", "b", 1, "noon")]), ["--split", "last", "--time", "timestamp"], "row 1 has 'noon'"),
    "blank time": (
        csv_text([*ROWS, ("a", "b", 1, "")]),
        ["--split", "temporal", "--time", "timestamp"],
        "row 25 has ''",
    ),
    "ragged": (csv_text() + "a,b,1,2,3\n", [], "row 25: expected 4 columns as in line 1, but came 5"),
    "encodings": (
        csv_text().encode() + "é,".encode() + "é,1,2\n".encode("latin-1"),
        [],
        "row 25: expected text in utf-8",
    ),
    "utf-16": (csv_text().encode("utf-16"), [], "name its encoding, such as --encoding latin-1 or utf-16"),
    "gigantic line": (b"x" * (1 << 21), [], "expected lines of at most 16 MiB"),
    "gigantic row": (HEADER + "a,b,1," + "9" * (40 << 20) + "\n", [], "expected lines of at most 16 MiB"),
    "gigantic id": (HEADER + "a" * 300 + ",b,1,2\n", [], "ids of at most 256 characters"),
    "open quote": (csv_text() + 'a,b,1,"2\n', [], "expected an end to every quote"),
    "quote in id": (csv_text() + 'a,"b\nc",1,2\n', [], "expected ids without line breaks"),
    "doubled column": ("user_id,item_id,item_id\na,b,c\n", [], "expected one column 'item_id'"),
    "full users": ("user_id,item_id\na,x\na,y\n", ["--ratios", "1", "0", "0"], "all 2 items in training"),
    "separator": (csv_text(), ["--separator", "::"], "separator: expected one ASCII character"),
    "encoding": (csv_text(), ["--encoding", "utf-9"], "encoding: expected a codec"),
    "ratios": (csv_text(), ["--ratios", "0", "1", "1"], "ratios: expected three sizes"),
    "option": (csv_text(), ["--cores", "5"], "unrecognized arguments: --cores 5; see face data import --help"),
    "split": (csv_text(), ["--split", "half"], "invalid choice: 'half'"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_in_one_line(name, tmp_path, capsys):
    content, options, told = BAD[name]
    path = tmp_path / "clicks.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert told in refused(capsys, tmp_path, path, *options)


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


def test_rows_without_ids_are_left_out_on_demand(tmp_path, capsys):
    (tmp_path / "c.csv").write_text(csv_text([*ROWS, ("", "b", 1, 3), ("a", "nan", 1, 3)]))
    code, out, _ = run(capsys, tmp_path / "c.csv", "--out", tmp_path / "mine", "--drop_missing")
    assert code == 0
    assert "24 interactions          6 users          8 items  read, without 2 rows that lack an id" in out


def test_a_user_with_every_item_is_named(tmp_path, capsys):
    rows = [*ROWS, *(("robot", f"i{k}", 5, 0) for k in range(8))]
    (tmp_path / "c.csv").write_text(csv_text(rows))
    code, _, err = run(capsys, tmp_path / "c.csv", "--out", tmp_path / "mine", "--ratios", 1, 0, 0)
    assert code == 0
    assert "1 users have every item in training, the first is 'robot'" in err


def test_a_folder_is_replaced_only_on_demand(clicks, tmp_path, capsys):
    out = tmp_path / "mine"
    assert run(capsys, clicks, "--out", out)[0] == 0
    before = (out / "manifest.json").read_bytes()
    code, _, err = run(capsys, clicks, "--out", out, "--seed", 1)
    assert code == 2
    assert "replace it with --force" in err
    assert (out / "manifest.json").read_bytes() == before
    assert run(capsys, clicks, "--out", out, "--seed", 1, "--force")[0] == 0
    assert (out / "manifest.json").read_bytes() != before
    assert "holds other things" in run(capsys, clicks, "--out", tmp_path, "--force")[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "mine"]


def test_folder_of_rlmrec_is_taken_as_it_is(rlmrec_folder, tmp_path, capsys):
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
    assert "leave --core out" in run(capsys, rlmrec_folder, "--out", tmp_path / "other", "--core", 3)[2]


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("name", ["trn_mat.pkl", "usr_prf.pkl", "itm_emb_np.pkl"])
def test_malicious_pickle_is_refused_and_not_run(name, rlmrec_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (rlmrec_folder / name).write_bytes(pickle.dumps(_Harm()))
    err = refused(capsys, tmp_path, rlmrec_folder)
    assert "asks for posix.system, which was not loaded" in err
    assert "a pickle is a program" in refused(capsys, tmp_path, rlmrec_folder / name)
    assert not (tmp_path / "harmed").exists()


def test_full_disk_leaves_nothing(tmp_path):
    """The process may write 4 KiB a file, as a disk that fills up while the tables are written."""
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


def test_full_disk_keeps_what_was_there(clicks, tmp_path, capsys, monkeypatch):
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


def test_many_blocks_are_one_file_and_progress_is_told(tmp_path, monkeypatch):
    """Ids are numbered across blocks that are parsed one after the other."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 400, 30_000), rng.integers(0, 300, 30_000)
    path = tmp_path / "c.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in zip(users, items, strict=True)))
    whole = read_pairs([path], Columns())
    monkeypatch.setattr("face_lightning.data.tables._LONGEST_LINE", 1 << 14)
    shares = []
    parts = read_pairs([path], Columns(), progress=shares.append)
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for pairs in (whole, parts):
        assert (pairs.user_ids.astype(int)[pairs.users] == users).all()
        assert (pairs.item_ids.astype(int)[pairs.items] == items).all()


def test_damage_to_a_prepared_folder_is_told(clicks, tmp_path, capsys):
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
            with pytest.raises(Exception, match=r"; (import|make)") as caught:
                PreparedFolder(out).read()
            assert type(caught.value).__name__ == "DataError"
            (out / name).write_bytes(content)
    PreparedFolder(out).read()
