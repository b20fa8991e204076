from pathlib import Path

import pytest

from face_lightning.errors import DataError
from face_lightning.text.text_files import read_texts


def test_objects_and_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "A toy."}\n\n{"text": null}\n{"text": "é\\u2028x"}', "utf-8")
    assert read_texts(tmp_path / "a.jsonl") == ["A toy.", None, "é\u2028x"]
    (tmp_path / "a.txt").write_text("\ufeffA toy.\n\n war \n", "utf-8")
    assert read_texts(tmp_path / "a.txt") == ["A toy.", "war"]


@pytest.mark.parametrize("line", ["{", "[]", "1", "{}", '{"text": 1}', "[" * 100_000])
def test_a_bad_line_is_reported_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "x"}}\n{line}\n')
    with pytest.raises(DataError, match=r'the field "text" in .*, line 2, got'):
        read_texts(path)


def test_invalid_text_files_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*FileNotFoundError"):
        read_texts(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="UnicodeDecodeError"):
        read_texts(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"expected a \.jsonl or \.txt file"):
        read_texts(tmp_path / "a.csv")
