from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.writing.local import LocalWriter
from face_lightning.text.writing.prompts import Prompts
from face_lightning.text.writing.run import write_summaries
from face_lightning.text.writing.writer import Request

SMOLLM2 = Path("~/.cache/face_lightning/models/SmolLM2-135M-Instruct").expanduser()
FILMS = [Request("item", str(n), {"title": "toy " * (n + 1), "tags": ["war"] * (n + 1)}) for n in range(5)]


class AnyAnswer(Prompts):
    """Accepts any answer of a model with random weights."""

    def read(self, answer: object, request: Request) -> str:
        return repr(answer)


@pytest.fixture
def model(make_language_model: Callable[..., Path]) -> str:
    return str(make_language_model("llama", 2048))


def answers(writer: LocalWriter, requests: list[Request] = FILMS) -> list[Any]:
    found = dict(writer.write(requests))
    return [found[position] for position in range(len(requests))]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_answers_do_not_depend_on_the_batch(model: str, batch_size: int) -> None:
    prompts = AnyAnswer("movie", "text")
    alone = answers(LocalWriter(prompts, model, batch_size=1, max_new_tokens=12))
    together = answers(LocalWriter(prompts, model, batch_size=batch_size, max_new_tokens=12))
    assert alone == together
    assert len({summary.text for summary in alone}) > 1
    assert all(1 <= summary.completion_tokens <= 12 for summary in alone)


def test_tokens_are_those_of_the_chat(model: str) -> None:
    from transformers import AutoTokenizer

    prompts = AnyAnswer("movie", "text")
    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = [len(tokenizer.apply_chat_template(prompts.messages(film))["input_ids"]) for film in FILMS]
    assert [one.prompt_tokens for one in answers(LocalWriter(prompts, model, max_new_tokens=2))] == expected


def test_garbage_is_an_error_with_its_reason(model: str) -> None:
    (summary,) = answers(LocalWriter(Prompts("movie", "json"), model, max_new_tokens=4), FILMS[:1])
    assert summary.text is None
    assert "no JSON object" in summary.error
    assert (summary.prompt_tokens > 0, summary.completion_tokens) == (True, 4)


def test_a_prompt_longer_than_the_model_reads_is_reported(model: str) -> None:
    long = Request("item", "9", {"title": "toy", "profile": "war and love " * 2000, "tags": ["z" * 4000]})
    short, refused = answers(LocalWriter(AnyAnswer("movie", "text"), model, max_new_tokens=4), [FILMS[0], long])
    assert short.text is not None
    assert refused.text is None
    assert "exceed the model's maximum of 2048" in refused.error


def test_settings_and_models_change_the_key(model: str, make_language_model: Callable[..., Path]) -> None:
    prompts = Prompts("movie", "text")
    writers = [
        LocalWriter(prompts, model),
        LocalWriter(prompts, model, max_new_tokens=9),
        LocalWriter(prompts, model, repetition_penalty=1.0),
        LocalWriter(prompts, str(make_language_model("gpt2"))),
        LocalWriter(Prompts("game", "text"), model),
    ]
    assert len({writer.identity for writer in writers}) == 5
    assert LocalWriter(prompts, model, batch_size=2).identity == writers[0].identity


def test_models_without_chat_template_raise(make_language_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a chat model, but .* has no chat template"):
        answers(LocalWriter(Prompts("movie"), str(make_language_model("gpt2"))))
    with pytest.raises(DataError, match=r"model: .* cannot be loaded"):
        answers(LocalWriter(Prompts("movie"), str(tmp_path)))


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: python -m benchmarks.smollm2")
def test_smollm2_writes_and_resumes(tmp_path: Path) -> None:
    films = [
        Request("item", "1", {"title": "Toy Story", "tags": ["Animation", "Comedy"], "profile": "A cowboy doll."}),
        Request("item", "2", {"title": "Jaws", "tags": ["Thriller"], "profile": "A shark near a seaside town."}),
    ]
    writer = LocalWriter(Prompts("movie", "text"), str(SMOLLM2), max_new_tokens=60)
    outcome = write_summaries(writer, films, tmp_path)
    assert outcome.num_failed == 0
    assert all(len(str(summary.text).split()) >= 5 for summary in outcome.summaries)
    assert outcome.completion_tokens > 20
    again = write_summaries(writer, films, tmp_path)
    assert (again.summaries, again.num_cached, again.prompt_tokens) == (outcome.summaries, 2, 0)
