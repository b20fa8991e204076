"""Tests of metadata joined by original id, by the real command: texts, counts and errors."""

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.cli import main
from face_lightning.data.readers import InteractionFile, PreparedFolder
from face_lightning.data.summarizing import summary_requests
from face_lightning.text.writing.prompts import Prompts

CLICKS = "user_id,item_id\n" + "".join(f"u{u},{i}\n" for u in range(4) for i in (u, u + 1, u + 2, 9))
ITEMS = [
    {"item_id": 0, "title": "Alien", "genres": ["Horror", "Sci-Fi"]},
    {"item_id": 1, "title": "Heat", "genres": ["Crime"]},
    {"item_id": 2, "title": "Up", "genres": []},
    {"item_id": 77, "title": "Nobody saw this"},
]


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(CLICKS)
    return path


def jsonl(path: Path, records=ITEMS) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_texts_labels_and_missing_metadata(clicks, tmp_path, capsys):
    items = jsonl(tmp_path / "items.jsonl")
    out = tmp_path / "mine"
    arguments = ["data", "import", str(clicks), "--out", str(out), "--item_metadata", str(items), "--domain", "movie"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "without text: 2 users, 4 items" in printed.out
    assert "4 of 7 items have no metadata" in printed.err
    assert "1 of 4 rows of item_metadata belong to no remaining item" in printed.err
    dataset = PreparedFolder(out).read()
    labels = dict(zip(dataset.interactions.item_ids.tolist(), dataset.profiles.item_labels, strict=True))
    assert (labels["0"], labels["9"]) == ("Alien", "9")
    texts = dict(zip(dataset.interactions.item_ids.tolist(), dataset.profiles.item_texts, strict=True))
    assert "horror" in texts["0"].lower()
    assert texts["9"] is None
    direct = InteractionFile(clicks, item_metadata=items, domain="movie").read()
    assert direct.profiles.item_texts == dataset.profiles.item_texts
    assert direct.profiles.user_texts == dataset.profiles.user_texts


def test_all_metadata_formats_give_the_same_texts(clicks, tmp_path):
    expected = InteractionFile(clicks, item_metadata=jsonl(tmp_path / "a.jsonl")).read().profiles.item_texts
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "c.csv").write_text("item_id,title,genres\n0,Alien,Horror|Sci-Fi\n1,Heat,['Crime']\n2,Up,\n77,x,\n")
    table = pa.table({name: [record.get(name) for record in ITEMS] for name in ("item_id", "title", "genres")})
    pq.write_table(table, tmp_path / "d.parquet")
    renamed = [{"id": str(r["item_id"]), "name ": r["title"], "class": r.get("genres")} for r in ITEMS]
    jsonl(tmp_path / "e.jsonl", renamed)
    options = {"e.jsonl": {"item_key": "id", "item_fields": {"title": "name ", "tags": "class"}}}
    for name in ("b.jsonl.gz", "c.csv", "d.parquet", "e.jsonl"):
        reader = InteractionFile(clicks, item_metadata=tmp_path / name, **options.get(name, {}))
        assert reader.read().profiles.item_texts == expected, name


def test_recbole_metadata_files_are_found(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n" + CLICKS.partition("\n")[2].replace(",", "\t"))
    (tmp_path / "x.item").write_text(
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\n0\tThe "Alien"\tHorror Sci-Fi\n1\tHeat\tCrime\n'
    )
    (tmp_path / "x.user").write_text("user_id:token\tjob:token\nu0\tnurse\n")
    reader = InteractionFile(
        tmp_path / "x.inter",
        item_fields={"title": "movie_title", "genres": "class"},
        user_fields={"occupation": "job"},
        domain="movie",
    )
    profiles = reader.read().profiles
    assert profiles.item_labels[0] == 'The "Alien"'
    assert "nurse" in profiles.user_texts[0]
    assert "nurse" not in (profiles.user_texts[1] or "")


def test_recbole_files_of_a_given_split(tmp_path):
    for split, pairs in {"train": "ax ay bx", "valid": "bz", "test": "az by"}.items():
        lines = "".join(f"{user}\t{item}\n" for user, item in pairs.split())
        (tmp_path / f"d.{split}.inter").write_text(f"user_id:token\titem_id:token\n{lines}")
    (tmp_path / "d.item").write_text("item_id:token\ttitle:token_seq\nz\tBig Fish\n")
    valid, test = tmp_path / "d.valid.inter", tmp_path / "d.test.inter"
    dataset = InteractionFile(tmp_path / "d.train.inter", split="given", valid=valid, test=test).read()
    assert [dataset.interactions.matrix(split).nnz for split in ("train", "valid", "test")] == [3, 1, 2]
    assert dataset.profiles.item_labels == ("x", "y", "Big Fish")
    assert dataset.interactions.name == "d"


def test_readers_in_configurations(clicks, tmp_path):
    """`face summarize` builds its data from the same YAML as the stages."""
    items = jsonl(tmp_path / "items.jsonl", [{"id": 9, "label": "Alien", "kinds": "Horror|Space"}])
    assert main(["data", "import", str(clicks), "--out", str(tmp_path / "mine"), "--quiet"]) == 0
    file = {
        "class_path": "InteractionFile",
        "init_args": {
            "source": str(clicks),
            "split": "global",
            "ratios": [4, 1, 1],
            "item_metadata": str(items),
            "item_key": "id",
            "item_fields": {"title": "label", "genres": "kinds"},
            "domain": "movie",
        },
    }
    summaries = tmp_path / "summaries.jsonl"
    for reader, code in (
        (file, 0),
        ({"class_path": "PreparedFolder", "init_args": {"root": str(tmp_path / "mine")}}, 2),
    ):
        arguments = ["summarize", "--out", str(summaries), "--cache_dir", str(tmp_path / "cache")]
        assert main([*arguments, "--data.reader", json.dumps(reader)]) == code  # 2: no entity has a text
    texts = {(row["kind"], row["id"]): row["text"] for row in map(json.loads, summaries.read_text().splitlines())}
    assert "Alien" in texts["item", "9"]
    assert texts["item", "0"] is None


def test_given_texts_replace_template_texts(clicks, tmp_path):
    users = jsonl(tmp_path / "users.jsonl", [{"user_id": "u1", "text": "Loves  quiet films.", "titles": "spoilt"}])
    items = jsonl(tmp_path / "items.jsonl", [*ITEMS[:2], {"item_id": 2, "title": "Up", "text": "Balloons."}])
    reader = InteractionFile(clicks, item_metadata=items, user_metadata=users)
    profiles = reader.read().profiles
    assert profiles.user_texts[1] == "Loves quiet films."
    assert profiles.item_texts[2] == "Balloons."
    assert "spoilt" not in " ".join(map(str, profiles.user_texts))


def test_users_are_described_by_training_items_alone(clicks, tmp_path):
    """Metadata of an item change only the texts of users with this training item."""
    everything = [{"item_id": i, "title": f"film {i}", "tags": [f"tag {i}"]} for i in (*range(6), 9)]
    plain = InteractionFile(clicks, item_metadata=jsonl(tmp_path / "a.jsonl", everything)).read()
    train = plain.interactions.train
    all_affected = set()
    for item, original in enumerate(plain.interactions.item_ids.tolist()):
        marked = [dict(r, tags=["marked"], title="marked") if str(r["item_id"]) == original else r for r in everything]
        texts = InteractionFile(clicks, item_metadata=jsonl(tmp_path / "b.jsonl", marked)).read().profiles.user_texts
        affected = {user for user, text in enumerate(texts) if "marked" in str(text)}
        all_affected |= affected
        assert affected <= set(train.tocsc()[:, [item]].nonzero()[0].tolist()), original
    assert all_affected == set(range(4))


def test_user_metadata_reveal_no_items_outside_training(clicks, tmp_path):
    """Fields of user metadata that could name test items affect neither texts nor prompts."""
    films = [{"item_id": i, "title": f"film{i}", "tags": ["x"]} for i in (*range(6), 9)]
    items, named = jsonl(tmp_path / "items.jsonl", films), [film["title"] for film in films]
    fields = ("titles", "favourites", "items", "authors", "tags", "profile", "history", "clicked", "item_ids")
    users = [{"user_id": f"u{u}", "occupation": "nurse", **dict.fromkeys(fields, named)} for u in range(4)]
    out, texts = tmp_path / "mine", tmp_path / "texts.jsonl"
    metadata = ["--item_metadata", str(items), "--user_metadata", str(jsonl(tmp_path / "users.jsonl", users))]
    assert main(["data", "import", str(clicks), "--out", str(out), "--domain", "movie", "--quiet", *metadata]) == 0
    reader = ["--data.reader", "PreparedFolder", "--data.reader.init_args.root", str(out)]
    assert main(["summarize", *reader, "--out", str(texts), "--cache_dir", str(tmp_path / "cache")]) == 0
    written = {(row["kind"], row["id"]): row["text"] for row in map(json.loads, texts.read_text().splitlines())}
    dataset = PreparedFolder(out).read()
    train = dataset.interactions.train
    prompts = Prompts("movie")
    for user, request in enumerate(summary_requests(dataset, ["user"])):
        names = dataset.interactions.item_ids[train.indices[train.indptr[user] : train.indptr[user + 1]]].tolist()
        trained = {f"film{name}" for name in names}
        for text in (written["user", request.id], dataset.profiles.user_texts[user]):
            assert "nurse" in text
            assert set(re.findall(r"film\d", text)) == trained, text
        assert set(re.findall(r"film\d", prompts.facts(request))) == trained


BAD = {
    "duplicate": ("m.jsonl", [*ITEMS, {"item_id": "1"}], [], "'1' is in rows 2 and 5; remove one"),
    "absent": ("m.jsonl", [{"item_id": "x"}], [], "got 'x'; choose another field with --item_key"),
    "no key": ("m.jsonl", [{"id": 1, "title": "a"}], [], "expected a field 'item_id'"),
    "null id": ("m.jsonl", [*ITEMS, {"item_id": None}], [], "line 5, got 'None'"),
    "nan id": ("m.jsonl", [*ITEMS, {"item_id": float("nan")}], [], "line 5, got 'nan'"),
    "no field": ("m.jsonl", ITEMS, ["--item_fields", "title=name"], "expected a field 'name'"),
    "odd field": ("m.jsonl", ITEMS, ["--item_fields", "title"], "expected NAME=FIELD, such as title=movie_title"),
    "array": ("m.json", b'[{"item_id": 1}]', [], "line 1 is not an object"),
    "cut": ("m.jsonl", b'{"item_id": 1}\n{"item_id"', [], "line 2: "),
    "encoding": (
        "m.jsonl",
        b'{"item_id": 1, "title": "\xe9"}\n',
        [],
        "expected one JSON object per line",
    ),
    "deep": ("m.jsonl", b"[" * 100000, [], "expected one JSON object per line"),
    "gigantic line": ("m.jsonl", b'{"item_id": "' + b"x" * (17 << 20) + b'"}', [], "longer than 16 MiB"),
    "empty": ("m.jsonl", b"", [], "got no rows"),
    "empty table": ("m.csv", b"", [], "item_metadata: expected a table in"),
    "csv key": ("m.csv", b"id,title\n1,a\n", [], "expected a field 'item_id'"),
    "csv nan": ("m.csv", b"item_id,title\n1,a\nnan,b\n", [], "got 'nan' in row 2"),
    "csv twice": ("m.csv", b"item_id,title\n1,a\n 1,b\n", [], "'1' is in rows 1 and 2"),
    "parquet": ("m.parquet", b"PAR1junk", [], "expected an intact Parquet file"),
    "gzip": ("m.jsonl.gz", gzip.compress(b'{"item_id": 1}')[:-9], [], "expected one JSON object per line"),
    "none": (
        None,
        None,
        ["--item_metadata", "nowhere.jsonl"],
        "item_metadata: expected a file, got nowhere.jsonl",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_in_one_line(case, clicks, tmp_path, capsys):
    name, content, options, message = BAD[case]
    arguments = ["data", "import", str(clicks), "--out", str(tmp_path / "mine"), *options]
    if name is not None:
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else jsonl(path, content)
        arguments += ["--item_metadata", str(path)]
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert message in printed.err
    assert sorted(tmp_path.iterdir()) == before


def test_lone_surrogates_and_unusual_values_are_read(clicks, tmp_path):
    odd = [
        {"item_id": 0, "title": "\ud800x", "genres": [1, None, "a", {"b": 2}], "year": float("inf"), "n": {"\ud800": 1}}
    ]
    out = tmp_path / "mine"
    arguments = ["data", "import", str(clicks), "--out", str(out), "--quiet"]
    assert main([*arguments, "--item_metadata", str(jsonl(tmp_path / "i.jsonl", odd))]) == 0
    profiles = PreparedFolder(out).read().profiles
    assert profiles.item_labels[0] == "?x"


def test_items_without_interactions_are_kept_apart_and_change_no_split(clicks, tmp_path, capsys):
    file = jsonl(
        tmp_path / "items.jsonl", [*ITEMS, {"item_id": 78, "year": 1999}, {"item_id": 79, "text": "<b>Ab</b>out."}]
    )
    command = ["data", "import", str(clicks), "--item_metadata", str(file)]
    assert main([*command, "--out", str(tmp_path / "without")]) == 0
    assert "--keep_new_items keeps them" in capsys.readouterr().err
    assert main([*command, "--keep_new_items", "--out", str(tmp_path / "with")]) == 0
    shown = capsys.readouterr()
    assert "without interactions: 2 further items" in shown.out  # a year gives no text
    assert "belong to no remaining item" not in shown.err
    plain, data = (PreparedFolder(tmp_path / name).read() for name in ("without", "with"))
    assert plain.new_items is None
    assert data.new_items.texts == {"77": "Nobody saw this.", "79": "About."}
    assert data.new_items.labels == {"77": "Nobody saw this", "79": "79"}
    assert data.interactions.fingerprint == plain.interactions.fingerprint
    assert data.profiles.item_texts == plain.profiles.item_texts
    assert InteractionFile(clicks, item_metadata=file, keep_new_items=True).read().new_items == data.new_items
    assert main(["data", "show", str(tmp_path / "with")]) == 0
    assert "new items" in capsys.readouterr().out
    assert main([*command[:3], "--keep_new_items", "--out", str(tmp_path / "none")]) == 2
    assert "keep_new_items: expected metadata of items" in capsys.readouterr().err
