from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from face_lightning.cli import main
from face_lightning.recommending.explanations import Explanation, Link, explanation_text, link_words
from face_lightning.recommending.recommender import Recommender
from face_lightning.text.cache import save_tensors
from face_lightning.text.writing.word_prompts import WordPrompts
from face_lightning.text.writing.writer import Request
from tests.conftest import Behaviour, FakeServer
from tests.recommending.test_recommender import write_run


def test_links_are_the_closest_pairs_and_no_word_occurs_twice() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.85, 0.3, 0.2]])
    links = link_words(["toy", "war"], ["doll", "game", "love"], similarity)
    assert [(one.user_word, one.item_word) for one in links] == [("toy", "doll"), ("war", "game")]
    assert links[0].similarity == pytest.approx(0.9)


def test_the_sentence_names_shared_and_close_words() -> None:
    links = [Link("toy", "toy", 1.0), Link("war", "army", 0.6)]
    text = explanation_text(Explanation(["toy", "war"], ["toy", "army"], links, 0.5, 3), "ann", "Dune")
    assert text == (
        "Dune is number 3 for user ann: both are described by toy; words of the user and of the item are close: war "
        "and army."
    )


def test_prompts_omit_unknown_fields() -> None:
    prompts = WordPrompts("explanation", "game")
    request = Request("item", "1", {"title": "Dune", "domain": "game", "item_words": ["sand", "worm"]})
    messages = prompts.messages(request)
    assert messages is not None
    assert messages[1]["content"].startswith("Title: Dune\nWords about the game: sand and worm\n\n")
    assert "why is this game recommended to this user?" in messages[1]["content"]
    assert WordPrompts("generation", "game").identity != prompts.identity


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run")
    names = " ".join(["wann", "wbob", "w7", "w10", "w20", "w30", "w40", "w50"])
    vectors = torch.eye(8)
    vectors[4] = vectors[0] + 0.1 * vectors[4]  # item 20 is close to ann
    save_tensors(folder / "meanings.safetensors", {"words": vectors, "items": torch.eye(5)}, {"words": names})
    return folder


def test_face_explain_prints_both_word_lists_and_the_reason(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explanation = Recommender.load(run).explain("ann", 20)
    assert (explanation.user_words, explanation.item_words) == (["wann"], ["w20"])
    assert (explanation.score, explanation.rank) == (3.0, 2)
    assert explanation.links[0].similarity > 0.9
    assert main(["explain", "--run", str(run), "--user", "ann", "--item", "20"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["user", "wann"]
    assert shown[1].split() == ["item", "Blade:", "w20"]
    assert shown[3].startswith("why      Blade is number 2 for user ann: ")


def test_face_explain_asks_a_server(
    run: Path, serve: Callable[[Behaviour], FakeServer], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = b'{"choices": [{"message": {"content": "Both are fond of vampires and of the night."}}]}'
    server = serve(lambda number, body: (200, answer, {}))
    options = ["--writer", "server", "--url", server.url, "--model", "m", "--domain", "movie"]
    assert main(["explain", "--run", str(run), "--user", "ann", "--item", "20", *options]) == 0
    assert "why      Both are fond of vampires and of the night." in capsys.readouterr().out
    asked = server.bodies[0]["messages"][1]["content"]
    assert "Words about the movie: w20\nWords about the user's taste: wann" in asked
    assert main(["explain", "--run", str(run), "--user", "eve", "--item", "20"]) == 2
    assert "users: eve not among" in capsys.readouterr().err
