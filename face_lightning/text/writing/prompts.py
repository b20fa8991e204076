"""Prompts for language models, and validation of their answers."""

import json
import re
from collections.abc import Mapping
from typing import Literal

from face_lightning.text.cache import content_key
from face_lightning.text.summaries import clean_fields, clip, template_environment
from face_lightning.text.writing.writer import Kind, Request

Answer = Literal["json", "text"]
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_MIN_WORDS = 3
_NGRAM = 3  # words of a repeated phrase
_KINDS: tuple[Kind, ...] = ("user", "item")


class AnswerError(ValueError):
    """An answer without a usable summary; the message is the reason."""


class Prompts:
    """Builds prompts for summaries of a domain, and parses the answers.

    Templates are in `text/templates/prompts`: `{kind}.facts.j2` renders the metadata and `{kind}.question.j2` the
    instruction, which comes last because small models follow it best there.

    Args:
        domain: Kind of items, as in "a {domain}".
        answer: "json" asks for an object with "reasoning" and "summarization", which is validated; "text" for the
            summary alone, which is easier for small models.
        max_words: Maximum number of words of a summary.
    """

    def __init__(self, domain: str, answer: Answer = "json", max_words: int = 60) -> None:
        self.answer: Answer = answer
        self.max_words = max_words
        environment = template_environment()
        settings = {"domain": domain, "answer": answer, "max_words": max_words}
        self._system = environment.get_template("prompts/system.j2").render(settings).strip()
        self._questions = {
            kind: environment.get_template(f"prompts/{kind}.question.j2").render(settings).strip() for kind in _KINDS
        }
        self._facts = {kind: environment.get_template(f"prompts/{kind}.facts.j2") for kind in _KINDS}
        self.identity = content_key(["prompts", answer, str(max_words), self._system, *self._questions.values()])

    def facts(self, request: Request) -> str:
        """Return the metadata of an entity, one fact per line; "" if there is none."""
        return self._facts[request.kind].render(clean_fields(request.fields)).strip()

    def messages(self, request: Request) -> list[dict[str, str]] | None:
        """Return the messages of a chat; None if there are no facts about the entity."""
        facts = self.facts(request)
        if not facts:
            return None
        question = f"{facts}\n\n{self._questions[request.kind]}"
        return [{"role": "system", "content": self._system}, {"role": "user", "content": question}]

    def key(self, request: Request) -> str | None:
        """Key of the messages; None if there are no facts about the entity."""
        messages = self.messages(request)
        return None if messages is None else content_key(message["content"] for message in messages)

    def read(self, answer: object, request: Request) -> str:
        """Return the summary in an answer, in one line.

        Args:
            answer: Answer of the model.
            request: The request that it answers.

        Raises:
            AnswerError: If the answer is not text, has no summary, or repeats itself or the facts.
        """
        if not isinstance(answer, str):
            raise AnswerError(f"the answer is not text but {type(answer).__name__}")
        text = _THOUGHT.sub("", answer)
        if self.answer == "json":
            text = _summarization(text)
        text = " ".join(text.split()).strip("\"'“”*` ")
        text = clip(text, self.max_words + self.max_words // 2)  # somewhat more than requested is accepted
        words = re.findall(r"[^\W_]+", text.lower())
        if len([word for word in words if word.isalpha() and len(word) > 1]) < _MIN_WORDS:
            raise AnswerError(f"fewer than {_MIN_WORDS} words: {text[:40]!r}")
        runs = [tuple(words[start : start + _NGRAM]) for start in range(len(words) - _NGRAM + 1)]
        if len(set(runs)) < len(runs) / 2:
            raise AnswerError(f"it repeats itself: {text[:40]!r}")
        facts = re.findall(r"[^\W_]+", self.facts(request).lower())
        known = {tuple(facts[start : start + _NGRAM]) for start in range(len(facts) - _NGRAM + 1)}
        if sum(run in known for run in runs) > len(runs) / 2:
            raise AnswerError(f"it repeats the facts: {text[:40]!r}")
        return _whole_sentences(text)


def _whole_sentences(text: str) -> str:
    """Return the text up to its last complete sentence, if one ends in the second half."""
    if text.endswith((".", "!", "?", "…", '"', "”", ")")):
        return text
    end = max(text.rfind(mark) for mark in (". ", "! ", "? "))
    return text[: end + 1] if end >= len(text) // 2 else text


def _summarization(text: str) -> str:
    """Return the field "summarization" of the first JSON object in a text."""
    start = text.find("{")
    if start < 0:
        raise AnswerError(f"no JSON object: {text.strip()[:40]!r}")
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"damaged JSON ({error!s:.60})") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("summarization"), str):
        raise AnswerError('the JSON object has no text in "summarization"')
    return str(value["summarization"])
