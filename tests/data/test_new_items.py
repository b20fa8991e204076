from pathlib import Path

import pytest

from face_lightning.data.new_items import read_new_items
from face_lightning.errors import DataError


def test_texts_are_given_or_rendered_from_fields(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text(
        '{"item_id": 7, "title": "Dune", "genres": ["Sci-Fi"], "tags": ["Desert", "Sci-Fi"]}\n\n'
        '{"item_id": "b", "text": "A film about worms."}\n'
    )
    texts, labels = read_new_items(path, "movie")
    assert texts == {"7": "Dune, desert and sci-fi movie.", "b": "A film about worms."}
    assert labels == {"7": "Dune", "b": "b"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"title": "Dune"}', "line 1 of"),
        ('{"item_id": 1, "title": "Dune"}\n{"item_id": 1, "title": "Dune"}', "item 1 is repeated"),
        ('{"item_id": 1}', "item 1 has no text"),
        ("[1]", "expected a JSON object"),
        ("{", "expected a JSON object"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=reason):
        read_new_items(path)
    with pytest.raises(DataError, match="new_items: expected a JSONL file"):
        read_new_items(tmp_path / "other.jsonl")
