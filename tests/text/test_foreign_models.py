"""Tests of untrusted model folders: their code is not executed, and chat templates have a time limit."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from face_lightning.errors import DataError
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.models import VocabularyFiles
from face_lightning.text.writing import local
from face_lightning.text.writing.local import LocalWriter
from face_lightning.text.writing.prompts import Prompts
from face_lightning.text.writing.writer import Request


@pytest.fixture
def folder(make_language_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose settings refer to code in its folder, for every class that transformers could load."""
    path = shutil.copytree(make_language_model("llama", 2048), tmp_path / "model")
    (path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((path / name).read_text())
        names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
        settings["auto_map"] = dict.fromkeys(names, "code.Any") | {"AutoTokenizer": ["code.Any", "code.Any"]}
        settings |= {"tokenizer_class": "Any"} if name.startswith("token") else {"model_type": "any"}
        (path / name).write_text(json.dumps(settings))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    return path


LOADS: dict[str, Callable[[str], object]] = {
    "tokenizer of an encoder": lambda path: TextEncoder(path).tokenizer,
    "encoder": lambda path: TextEncoder(path).encode(["a"]),
    "vocabulary": lambda path: VocabularyFiles(path).tokenizer,
    "tokenizer of a writer": lambda path: LocalWriter(Prompts("movie"), path)._tokenizer,
    "writer": lambda path: LocalWriter(Prompts("movie"), path)._model,
}


@pytest.mark.parametrize("load", LOADS)
def test_code_in_a_model_folder_is_not_executed(folder: Path, tmp_path: Path, load: str) -> None:
    with pytest.raises(DataError, match="cannot be loaded"):
        LOADS[load](str(folder))
    assert not (tmp_path / "ran").exists()


LOOP = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("template", [LOOP, "{{ 1 / 0 }}"])
def test_failing_and_endless_chat_templates_raise(
    make_language_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr(local, "_TEMPLATE_SECONDS", 0.3)
    writer = LocalWriter(Prompts("movie"), str(make_language_model("llama", 2048)))
    writer._tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"model: the chat template of .* fails \(.*\); use another model"):
        list(writer.write([Request("item", "0", {"title": "Toys"})]))
