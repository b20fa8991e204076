import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.data.readers.records import write_profiles
from face_lightning.data.summarizing import (
    read_summary_file,
    summary_requests,
    with_summaries,
    write_summary_file,
)
from face_lightning.errors import DataError
from face_lightning.text.writing.prompts import Prompts
from face_lightning.text.writing.writer import Request, Summary, TemplateSummaries

NUM_USERS, NUM_ITEMS = 4, 12
RECORDS = [
    {"title": f"Title{item}x", "tags": [f"tag{item % 3}"], "description": f"Words{item}x.", "author": f"Author{item}x"}
    for item in range(NUM_ITEMS)
]


def dataset(splits):
    """Data set from the split of each pair of user and item: 0 train, 1 valid, 2 test, 3 none."""
    grid = np.array(splits).reshape(NUM_USERS, NUM_ITEMS)
    pairs = [np.nonzero(grid == number) for number in range(3)]
    ids = [f"u{user}" for user in range(NUM_USERS)], [f"i{item}" for item in range(NUM_ITEMS)]
    interactions = Interactions.from_coordinates(*pairs, name="x", user_ids=ids[0], item_ids=ids[1])
    return Dataset(interactions, write_profiles(interactions, RECORDS, "book"))


SPLITS = st.lists(st.integers(0, 3), min_size=NUM_USERS * NUM_ITEMS, max_size=NUM_USERS * NUM_ITEMS).filter(
    lambda splits: 0 in splits
)


@given(SPLITS, st.booleans())
def test_user_prompts_depend_only_on_training_items(splits, with_facts):
    """Prompts of users name no validation or test items, and do not change without these splits."""
    data = dataset(splits)
    if not with_facts:
        data = replace(data, profiles=replace(data.profiles, facts=None))
    train = data.interactions.train
    for user, request in enumerate(summary_requests(data, ["user"])):
        facts = Prompts("book").facts(request) + str(TemplateSummaries("book").key(request)) + str(request.fields)
        chosen = set(train.indices[train.indptr[user] : train.indptr[user + 1]].tolist())
        for item in set(range(NUM_ITEMS)) - chosen:
            assert not any(f"{word}{item}x" in facts for word in ("Title", "Words", "Author"))
    blind = dataset([0 if split == 0 else 3 for split in splits])
    if not with_facts:
        blind = replace(blind, profiles=replace(blind.profiles, facts=None))
    assert [one.fields for one in summary_requests(blind)] == [one.fields for one in summary_requests(data)]


def test_requests_are_items_then_users_by_original_id():
    data = dataset([0] * 6 + [3] * 6 + [1, 2] * 18)
    requests = summary_requests(data)
    assert [(one.kind, one.id) for one in requests[:2]] == [("item", "i0"), ("item", "i1")]
    assert [(one.kind, one.id) for one in requests[NUM_ITEMS:]] == [("user", f"u{user}") for user in range(4)]
    assert len(requests[NUM_ITEMS].fields["items"]) == 6
    assert requests[NUM_ITEMS + 1].fields["items"] == []
    assert [one.kind for one in summary_requests(data, ["user"])] == ["user"] * 4


def test_template_writer_equals_the_readers_texts():
    data = dataset([0] * 6 + [3] * 6 + [1, 2] * 6 + [0] * 24)
    texts = [summary.text for _, summary in TemplateSummaries("book").write(summary_requests(data))]
    assert texts == [*data.profiles.item_texts, *data.profiles.user_texts]


def test_items_without_facts_are_described_by_the_readers_texts():
    data = dataset([0] * 48)
    plain = Profiles((None,) * 4, ("A tale.",) * 12, ("u",) * 4, ("Tale", *(f"i{item}" for item in range(1, 12))))
    first, second, *_ = summary_requests(replace(data, profiles=plain))
    assert first.fields == {"title": "Tale", "profile": "A tale."}
    assert second.fields == {"profile": "A tale."}
    with pytest.raises(DataError, match="expected titles, tags or descriptions"):
        summary_requests(Dataset(data.interactions))


def test_summaries_replace_texts(tmp_path):
    data = dataset([0] * 48)
    vectors = np.ones((12, 3), dtype=np.float32)
    data = replace(data, profiles=replace(data.profiles, item_vectors=vectors))
    requests = [
        Request("item", "i1", {}),
        Request("item", "i2", {}),
        Request("user", "u3", {}),
        Request("user", "?", {}),
    ]
    summaries = [Summary("Né à\u2028Paris."), Summary(None, "refused"), Summary("Likes tales."), Summary("Unknown.")]
    path = tmp_path / "s.jsonl"
    write_summary_file(path, requests, summaries)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert lines[1] == {"kind": "item", "id": "i2", "text": None, "error": "refused"}
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
    new = with_summaries(data, path).profiles
    assert new.item_texts[1] == "Né à Paris."
    assert new.item_texts[2] == data.profiles.item_texts[2]
    assert new.user_texts[3] == "Likes tales."
    assert new.user_texts[0] == data.profiles.user_texts[0]
    assert new.item_vectors is None
    bare = with_summaries(Dataset(data.interactions), path).profiles
    assert (bare.item_texts[1], bare.item_texts[2]) == ("Né à Paris.", None)


def test_summaries_of_another_data_set_are_reported(tmp_path):
    path = tmp_path / "s.jsonl"
    write_summary_file(path, [Request("item", "other", {})], [Summary("A text.")])
    with pytest.raises(DataError, match=r"expected original ids of x in .*, got none of 1"):
        with_summaries(dataset([0] * 48), path)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        "[" * 100_000,
        '{"kind": "item", "id": "1"}',
        '{"kind": "x", "id": "1", "text": "a"}',
        '{"kind": "item", "id": 1, "text": "a"}',
        '{"kind": "item", "id": "1", "text": 1}',
    ],
)
def test_a_bad_line_is_reported_by_its_number(tmp_path, line):
    path = tmp_path / "s.jsonl"
    path.write_text(f'{{"kind": "item", "id": "1", "text": "a"}}\n\n{line}\n')
    with pytest.raises(DataError, match=r"expected kind \(user or item\), id and text in .*, line 3, got"):
        read_summary_file(path)


def test_invalid_summary_files_raise(tmp_path):
    with pytest.raises(DataError, match=r"summaries: cannot read .*FileNotFoundError"):
        read_summary_file(tmp_path / "none.jsonl")
    (tmp_path / "s.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UnicodeDecodeError"):
        read_summary_file(tmp_path / "s.jsonl")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    write_summary_file(path, [Request("item", "1", {})], [Summary("Old.")])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("face_lightning.data.summarizing.json.dumps", full)
    with pytest.raises(DataError, match=r"out: cannot write .* \(No space left on device\)"):
        write_summary_file(path, [Request("item", "1", {})], [Summary("New.")])
    assert "Old." in path.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
