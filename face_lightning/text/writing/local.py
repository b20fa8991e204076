"""Summaries by a local language model, through transformers."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.cache import content_key
from face_lightning.text.loading import load_causal_model, translate_loading_errors
from face_lightning.text.models import ModelFiles, resolve_model
from face_lightning.text.writing.prompts import AnswerError, Prompts
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, Summary

_TEMPLATE_SECONDS = 20.0


class LocalWriter:
    """Generates summaries in batches with a chat model; greedy decoding, so that runs are reproducible.

    Args:
        prompts: Builds the messages, and validates the answers.
        model: Folder of the model, or its hub id.
        batch_size: Number of entities per batch.
        max_new_tokens: Maximum number of tokens of an answer.
        repetition_penalty: Divisor of the scores of tokens that have occurred; with 1, small models repeat themselves.
        device: Device of the model.
        dtype: Number format of its weights; "auto" is the format in which they are stored.
    """

    def __init__(
        self,
        prompts: Prompts,
        model: str,
        batch_size: int = 8,
        max_new_tokens: int = 160,
        repetition_penalty: float = 1.15,
        device: str = "cpu",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        self.prompts = prompts
        self.model = model
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.repetition_penalty = repetition_penalty
        self.device = device
        self.dtype = dtype
        self._files = ModelFiles(resolve_model(model))

    @cached_property
    def identity(self) -> str:
        """Key of the model's files, the settings and the prompts."""
        files = self._files.identity or f"hub:{self._files.source}"
        settings = [self.dtype, str(self.max_new_tokens), str(self.repetition_penalty)]
        return content_key(["local", files, *settings, self.prompts.identity])

    def key(self, request: Request) -> str | None:
        """Key of the messages; None if there are no facts."""
        return self.prompts.key(request)

    @torch.inference_mode()
    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield summaries batch by batch, sorted by prompt length.

        Raises:
            ConfigurationError: If the model has no chat template.
            DataError: If it cannot be loaded.
        """
        prompts: dict[int, list[int]] = {}
        for position, request in enumerate(requests):
            messages = self.prompts.messages(request)
            if messages is None:
                yield position, Summary(None, NOTHING_KNOWN)
                continue
            prompts[position] = self._prompt(messages)
        limit = getattr(self._model.config, "max_position_embeddings", None) if prompts else None
        for position, ids in list(prompts.items()):
            if limit is not None and len(ids) + self.max_new_tokens > limit:
                reason = f"the prompt of {len(ids)} tokens and the answer exceed the model's maximum of {limit}"
                yield position, Summary(None, reason)
                del prompts[position]
        order = sorted(prompts, key=lambda position: -len(prompts[position]))  # out-of-memory errors come first
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            asked = [requests[position] for position in batch]
            yield from zip(batch, self._answer(asked, [prompts[position] for position in batch]), strict=True)

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the token ids of a chat; the model's chat template is a program that may not terminate.

        Raises:
            DataError: If it fails, or takes more than `_TEMPLATE_SECONDS`.
        """
        tokenizer, found = self._tokenizer, list[Any]()

        def render() -> None:
            try:
                ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
                found.append(list(ids["input_ids"]))
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=render, daemon=True)  # daemon threads do not prevent the process from exiting
        thread.start()
        thread.join(_TEMPLATE_SECONDS)
        result = found[0] if found else f"no end after {_TEMPLATE_SECONDS:g} s"
        if not isinstance(result, list):
            raise DataError(
                f"model: the chat template of {self.model!r} fails ({result!s:.99}); use another model, or get its "
                "files again"
            )
        return result

    def _answer(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Summary]:
        """Generate the answers to prompts."""
        longest = max(map(len, prompts))
        tokens = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        padding = next(token for token in tokens if token is not None)  # masked, so any token will do
        ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        found = self._model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            repetition_penalty=self.repetition_penalty,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=padding,
        )[:, longest:].cpu()
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        summaries = []
        for request, prompt, answer in zip(requests, prompts, found.tolist(), strict=True):
            length = next((index + 1 for index, token in enumerate(answer) if token in ends), len(answer))
            text = self._tokenizer.decode(answer[:length], skip_special_tokens=True)
            try:
                summary, error = self.prompts.read(text, request), None
            except AnswerError as reason:
                summary, error = None, str(reason)
            summaries.append(Summary(summary, error, len(prompt), length))
        return summaries

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        from transformers import AutoTokenizer

        with translate_loading_errors(self.model):
            tokenizer = AutoTokenizer.from_pretrained(self._files.loadable, trust_remote_code=False)
        if tokenizer.chat_template is None:
            raise ConfigurationError(
                f"model: expected a chat model, but {self.model!r} has no chat template; use its "
                "instruction-tuned variant"
            )
        return tokenizer

    @cached_property
    def _model(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        dtype = self.dtype if self.dtype == "auto" else getattr(torch, self.dtype)
        return load_causal_model(self._files.loadable, self.model, dtype).to(self.device).eval()
