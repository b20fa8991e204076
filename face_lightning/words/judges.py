"""Judges that answer questions about words: a sentence encoder, a local language model, a chat server."""

import re
import string
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.loading import load_causal_model, translate_loading_errors
from face_lightning.text.models import ModelFiles, resolve_model
from face_lightning.text.writing.client import ChatClient, GiveUpError, Reply, RetryError
from face_lightning.words.centering import center
from face_lightning.words.questions import Question, Task

LABELS = string.ascii_uppercase + string.ascii_lowercase + string.digits  # labels of the options in a prompt
_MAX_CHARACTERS = 6000  # limit of all options of a prompt together
_MAX_OPTION = 300  # limit of one option in characters
_INSTRUCTIONS: dict[Task, str] = {
    "retrieval": "Which description fits these words best?\nWords: {context}\n",
    "intrusion": "Which word does not belong with the others?\n",
    "detection": "Which word fits this description better?\nDescription: {context}\n",
}


class Judge(Protocol):
    """Answers questions about words.

    Attributes:
        name: Name in tables.
    """

    name: str

    def choose(self, questions: Sequence[Question]) -> list[int]:
        """Return the index of the chosen option for each question; -1 without an answer."""


class EncoderJudge:
    """Chooses the option nearest to the context by a sentence encoder.

    Contexts and options are each centered by their own mean. In intrusion questions, it chooses the word least similar
    to the mean of the others.

    Args:
        name: Name in tables.
        encode: Encodes N texts as unit vectors `(N, E)`.
    """

    def __init__(self, name: str, encode: Callable[[Sequence[str]], Tensor]) -> None:
        self.name, self._encode = name, encode

    def choose(self, questions: Sequence[Question]) -> list[int]:
        """See `Judge`."""
        contexts = self._vectors([question.context for question in questions if question.context])
        options = self._vectors([option for question in questions for option in question.options])
        return [int(self._scores(question, contexts, options).argmax()) for question in questions]

    def _vectors(self, texts: Sequence[str]) -> dict[str, Tensor]:
        unique = sorted(set(texts))
        return dict(zip(unique, center(self._encode(unique)), strict=True)) if unique else {}

    @staticmethod
    def _scores(question: Question, contexts: dict[str, Tensor], options: dict[str, Tensor]) -> Tensor:
        rows = torch.stack([options[option] for option in question.options])
        if question.task == "intrusion":
            return -F.cosine_similarity(rows, rows.sum(0) - rows, dim=1)
        return rows @ contexts[question.context]


class LanguageModelJudge:
    """Chooses the option whose label a causal language model predicts as the most probable next token.

    To reduce position bias, each question is asked with its options in several rotations, and log-probabilities are
    averaged.

    Reference:
        Zheng et al., "Large Language Models Are Not Robust Multiple Choice Selectors", ICLR 2024.

    Args:
        model: Folder of the model, or its hub id.
        num_orders: Number of rotations of the options, at most the number of options.
        batch_size: Number of prompts per forward pass.
        device: Device of the model.
    """

    def __init__(self, model: str, num_orders: int = 4, batch_size: int = 8, device: str = "cpu") -> None:
        self.name = model.rstrip("/").rsplit("/", 1)[-1]
        self._model_name, self._num_orders, self._batch_size, self._device = model, num_orders, batch_size, device
        self._files = ModelFiles(resolve_model(model))

    @torch.inference_mode()
    def choose(self, questions: Sequence[Question]) -> list[int]:
        """See `Judge`.

        Raises:
            DataError: If the model cannot be loaded, or its prompts are longer than it allows.
        """
        scores = [torch.zeros(len(question.options)) for question in questions]
        variants = [
            (number, shift)
            for number, question in enumerate(questions)
            for shift in shifts(len(question.options), self._num_orders)
        ]
        prompts = [self._tokens(prompt(rotate(questions[number], shift))) for number, shift in variants]
        order = sorted(range(len(variants)), key=lambda index: -len(prompts[index]))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            for index, values in zip(batch, self._log_probabilities([prompts[index] for index in batch]), strict=True):
                number, shift = variants[index]
                count = len(scores[number])
                scores[number] += values[self._labels[:count]].roll(shift).cpu()
        return [int(values.argmax()) for values in scores]

    def _log_probabilities(self, prompts: Sequence[list[int]]) -> Tensor:
        """Log-probabilities of the next token, `(B, vocabulary)`."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self._device
        )
        position_ids = (mask.cumsum(1) - 1).clamp_min(0)
        output = self._model(input_ids=ids, attention_mask=mask, position_ids=position_ids, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1]
        return logits.float().log_softmax(-1)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and len(ids) > limit:
            raise DataError(
                f"model: expected room for a prompt of {len(ids)} tokens, but {self._model_name!r} allows {limit}; ask "
                "for fewer --candidates"
            )
        return ids

    @cached_property
    def _labels(self) -> Tensor:
        """Token of each label after a space."""
        tokens = [self._tokenizer(f" {label}", add_special_tokens=False)["input_ids"][-1] for label in LABELS]
        if len(set(tokens)) < len(tokens):
            raise DataError(
                f"model: expected different tokens for all letters and digits, but some are equal in "
                f"{self._model_name!r}; use another model"
            )
        return torch.tensor(tokens, device=self._device)

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        from transformers import AutoTokenizer

        with translate_loading_errors(self._model_name):
            return AutoTokenizer.from_pretrained(self._files.loadable, trust_remote_code=False)

    @cached_property
    def _model(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        return load_causal_model(self._files.loadable, self._model_name, torch.float32).to(self._device).eval()


class ServerJudge:
    """Asks a chat model on an OpenAI-compatible server for the label of an option.

    Args:
        client: Client of the server.
        model: Name of the model on the server.
        concurrency: Number of concurrent requests.
    """

    def __init__(self, client: ChatClient, model: str, concurrency: int = 8) -> None:
        self.name, self._client, self._concurrency = model, client, concurrency

    def choose(self, questions: Sequence[Question]) -> list[int]:
        """See `Judge`.

        Raises:
            ConfigurationError: If the server would reject every request: wrong key, model or address.
            DataError: If it answers no question.
        """
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="judges") as pool:
            found = list(pool.map(self._ask, questions))
        if questions and all(answer < 0 for answer in found):
            raise DataError(f"url: expected answers of {self.name!r}, got none to {len(questions)} questions")
        return found

    def _ask(self, question: Question) -> int:
        labels = LABELS[: len(question.options)]
        content = prompt(question).removesuffix("Answer:") + "Answer with its letter or digit alone."
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 8,
            "temperature": 0,
        }

        def read(reply: Reply) -> int:
            label = _find_label(str(reply.content))
            if label is None or label not in labels:
                raise RetryError(f"expected one of {labels}, got {str(reply.content)[:40]!r}")
            return labels.index(label)

        try:
            return self._client.ask(body, read)
        except GiveUpError:
            return -1


def _find_label(reply: str) -> str | None:
    """Find the label in a reply: at the start with punctuation after it, or else the last one that stands alone.

    The words "I" and "A" of a sentence look like labels: the last one is B in "I think B" and in "A fitting word is B".
    """
    leading = re.match(r"[\W_]*([A-Za-z0-9])(?:[.:;,)*\]\n]| \(|$)", reply.strip())
    if leading is not None:
        return leading[1]
    alone: list[str] = re.findall(r"(?<![^\W_])[A-Za-z0-9](?![^\W_])", reply)
    return alone[-1] if alone else None


def prompt(question: Question) -> str:
    """Format a question as a prompt whose continuation is the label of an option; long options are truncated.

    Raises:
        ConfigurationError: If there are more options than labels.
    """
    if len(question.options) > len(LABELS):
        raise ConfigurationError(
            f"candidates: expected at most {len(LABELS)} with a language model as judge, got {len(question.options)}; "
            "lower --candidates"
        )
    length = min(_MAX_OPTION, _MAX_CHARACTERS // len(question.options))
    options = (f"{label}. {_cut(option, length)}\n" for label, option in zip(LABELS, question.options, strict=False))
    return _INSTRUCTIONS[question.task].format(context=_cut(question.context, 600)) + "".join(options) + "Answer:"


def rotate(question: Question, shift: int) -> Question:
    """Rotate the options of a question, so that the one at index `shift` comes first."""
    options = (*question.options[shift:], *question.options[:shift])
    return Question(question.task, question.context, options, (question.answer - shift) % len(options))


def shifts(num_options: int, num_orders: int) -> list[int]:
    """Return up to `num_orders` evenly spaced rotations, at most one per option."""
    count = min(num_options, num_orders)
    return [index * num_options // count for index in range(count)]


def _cut(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rsplit(" ", 1)[0] + "…"
