"""Tests of judges with fake encoders, models and servers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.writing.client import ChatClient
from face_lightning.words.judges import (
    LABELS,
    EncoderJudge,
    LanguageModelJudge,
    ServerJudge,
    _find_label,
    prompt,
    rotate,
    shifts,
)
from face_lightning.words.questions import Question

PLANE = {"sea": 0.0, "ship": 10.0, "sailors at sea": 5.0, "love": 90.0, "kiss": 100.0, "a wedding": 95.0, "tax": 200.0}


def encode(texts: Sequence[str]) -> Tensor:
    angles = torch.tensor([PLANE[text] for text in texts]).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_encoder_judge_chooses_the_nearest_text_and_the_odd_word() -> None:
    judge = EncoderJudge("plane", encode)
    questions = [
        Question("retrieval", "sea", ("a wedding", "sailors at sea"), 1),
        Question("retrieval", "love", ("a wedding", "sailors at sea"), 0),
        Question("intrusion", "", ("sea", "love", "ship", "sailors at sea"), 1),
    ]
    assert judge.choose(questions) == [1, 0, 1]
    detections = [
        Question("detection", "a wedding", ("ship", "kiss"), 1),
        Question("detection", "sailors at sea", ("sea", "love"), 0),
    ]
    assert judge.choose(detections) == [1, 0]


class Fake:
    """Character tokenizer, and a model that prefers the label of an option with a star, and the first label."""

    config = SimpleNamespace(max_position_embeddings=2000)

    def __call__(self, text: str | None = None, **arguments: Any) -> Any:
        if text is not None:
            return {"input_ids": [ord(letter) for letter in text]}
        assert (arguments["position_ids"].max(1).values + 1 == arguments["attention_mask"].sum(1)).all()
        logits = torch.zeros(len(arguments["input_ids"]), 1, 128)
        for row, ids in enumerate(arguments["input_ids"].tolist()):
            text = "".join(map(chr, filter(None, ids)))
            logits[row, 0, ord("A")] = 3.0
            for line in text.splitlines():
                if line.endswith("*"):
                    logits[row, 0, ord(line[0])] += 2.0
        return SimpleNamespace(logits=logits)


def fake_judge(tmp_path: Path, num_orders: int) -> LanguageModelJudge:
    (tmp_path / "config.json").write_text("{}")
    judge = LanguageModelJudge(str(tmp_path), num_orders, batch_size=2)
    judge._tokenizer = judge._model = Fake()
    return judge


def test_rotations_cancel_position_bias(tmp_path: Path) -> None:
    questions = [
        Question("retrieval", "words", ("a", "b", "right*", "d"), 2),
        Question("intrusion", "", ("right*", "b", "c"), 0),
        Question("detection", "text", ("a", "right*"), 1),
    ]
    assert fake_judge(tmp_path, 1).choose(questions) == [0, 0, 0], "with one order, position bias decides"
    assert fake_judge(tmp_path, 4).choose(questions) == [2, 0, 1]


def test_too_long_a_prompt_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected room for a prompt of .* allows 2000; ask for fewer --candidates"):
        fake_judge(tmp_path, 1).choose([Question("retrieval", "words", ("x" * 300,) * 10, 0)])


def test_prompts_list_the_options_and_end_before_the_label() -> None:
    question = Question("detection", "A  film\nabout ships.", ("sea", "tax"), 0)
    expected = "Which word fits this description better?\nDescription: A film about ships.\nA. sea\nB. tax\nAnswer:"
    assert prompt(question) == expected
    assert rotate(question, 1) == Question("detection", question.context, ("tax", "sea"), 1)
    many = prompt(Question("retrieval", "w", ("word " * 100,) * 62, 0)).splitlines()
    assert len(many[2]) <= len("A. ") + 6000 // 62
    assert many[2].endswith("word…")
    assert many[-2].startswith("9. ")
    with pytest.raises(ConfigurationError, match="candidates: expected at most 62"):
        prompt(Question("retrieval", "w", ("x",) * 63, 0))


@pytest.mark.parametrize(
    ("num_options", "num_orders", "expected"), [(10, 4, [0, 2, 5, 7]), (2, 4, [0, 1]), (3, 1, [0])]
)
def test_orders_are_spread_evenly(num_options: int, num_orders: int, expected: list[int]) -> None:
    assert shifts(num_options, num_orders) == expected


def completion(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def test_server_judge_requests_a_label(serve: Callable[..., Any]) -> None:
    answers = {"sea": "B", "sky": "**A**.", "hat": "It is (C), I think", "cup": "?"}

    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        content = body["messages"][0]["content"]
        return (
            200,
            completion(next(answer for word, answer in answers.items() if f"Words: {word}" in content)),
            {},
        )

    server = serve(reply)
    judge = ServerJudge(ChatClient(server.url, retries=0), "chat", 2)
    questions = [Question("retrieval", word, ("x", "y"), 0) for word in ("sea", "sky", "hat", "cup")]
    assert judge.choose(questions) == [1, 0, -1, -1], "C is not an option, and ? is not an answer"
    with pytest.raises(DataError, match="url: expected answers of 'chat', got none to 1 questions"):
        judge.choose(questions[3:])
    assert server.bodies[0]["model"] == "chat"


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("B", "B"),
        (" **B**.", "B"),
        ("B) A comedy", "B"),
        ("B (A comedy)", "B"),
        ("I think B", "B"),
        ("A fitting word is B.", "B"),
        ("Answer: 7", "7"),
        ("_b_", "b"),
        ("neither", None),
    ],
)
def test_the_label_is_found_in_a_sentence(reply: str, label: str | None) -> None:
    assert _find_label(reply) == label


def test_every_label_is_different() -> None:
    assert len(set(LABELS)) == len(LABELS) == 62
