"""Frozen sentence encoder of texts and, differentiably, of descriptors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.hardware import has_bfloat16
from face_lightning.text.cache import content_key, load_tensors, save_tensors
from face_lightning.text.loading import Pooling, load_sentence_transformer, translate_loading_errors
from face_lightning.text.models import ModelFiles, resolve_model
from face_lightning.text.sentence_encoder import Prompt, SentenceEncoder
from face_lightning.text.token_tables import TokenTable
from face_lightning.text.vectors import SHARD, encode_in_shards

__all__ = ["Prompt", "TextEncoder", "resolve_model"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class TextEncoder(SentenceEncoder):
    """A frozen language model as sentence encoder, loaded when it is first needed.

    Models of sentence-transformers specify their pooling in modules.json. The hidden states of all other models are
    mean-pooled. This includes decoder-only models, whose last hidden state attends to the whole sentence but mostly
    represents the next token.

    Args:
        model: Folder, name of a bundled model, or hub id; see `resolve_model`.
        precision: Number format of the model's weights. "auto" is bfloat16 if the hardware supports
            it (CUDA with bfloat16, CPU with AVX512-BF16 or AMX), else float32.
        cache_dir: Folder of cached vectors.
        pooling: How the tokens' hidden states are pooled; "auto" is the model's own pooling, see above.
    """

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        precision: Precision = "auto",
        cache_dir: str | Path = "~/.cache/face_lightning",
        pooling: Pooling = "auto",
    ) -> None:
        for name, value, kind in (("precision", precision, Precision), ("pooling", pooling, Pooling)):
            if value not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise ConfigurationError(f"{name}: expected one of {known}, got {value!r}; choose one of these")
        self.model = model
        self.pooling: Pooling = pooling
        self.precision: Precision = precision
        self.cache_dir = Path(cache_dir).expanduser()
        self.device = torch.device("cpu")
        self._files = ModelFiles(resolve_model(model))
        self._loaded: Any = None
        self._tokenizer: Any = None

    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on; a model that is not loaded yet is loaded there later."""
        before = self._number_format()
        self.device = torch.device(device)
        if self._loaded is not None:
            if self._number_format() == before:
                self._loaded.to(self.device)
            else:  # rounded weights cannot be converted back: load them again
                self._loaded = None
        return self

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        """The model's tokenizer; does not load the weights."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            with translate_loading_errors(self.model):
                self._tokenizer = AutoTokenizer.from_pretrained(self._files.loadable, trust_remote_code=False)
        return self._tokenizer

    @property
    def identity(self) -> str:
        """Key of everything that the vectors depend on: weights, settings and tokenizer."""
        if self._files.identity is None:
            self._sentence_transformer()  # fetches the files
        identity = self._files.identity or f"hub:{self._files.source}"
        if self.pooling == "auto" and self._files.settings("modules.json") is not None:
            return identity
        return content_key([identity, "mean" if self.pooling == "auto" else self.pooling])

    @property
    def width(self) -> int:
        """Dimension E of the sentence vectors."""
        known = self._files.sentence_width() if self.pooling == "auto" else None
        width = known or self._sentence_transformer().get_embedding_dimension()
        if not isinstance(width, int):
            raise DataError(
                f"model: {self.model!r} does not specify the dimension of its sentence vectors; use another model"
            )
        return width

    @property
    def token_dim(self) -> int:
        """Dimension T of the raw token embeddings."""
        table = self._table()
        return table.shape[1] if table is not None else int(self._embedding_weight().shape[1])

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Return the model's raw input embeddings of `token_ids` `(N,)` as `(N, T)` in float32."""
        table = self._table()
        return table.rows(token_ids) if table is not None else self._embedding_weight()[token_ids.cpu()].float()

    def encode(self, texts: Sequence[str | None], batch_size: int = 64, progress: bool = False) -> Tensor:
        """Encode texts as unit vectors.

        Vectors are cached in `cache_dir` under a key of the model and the texts; for a cached list of texts the model
        is not even loaded. Duplicate texts are encoded once. Large numbers of texts are encoded in shards, see
        `encode_in_shards`: an interrupted run continues, and processes share the work.

        Args:
            texts: N texts; None stands for a missing text.
            batch_size: Number of texts per forward pass.
            progress: Whether to show a progress bar.

        Returns:
            `(N, E)` in float32 on the CPU; rows of missing texts are NaN.
        """
        number_format = str(self._number_format()[0])
        known = (part for text in texts for part in (("1", text) if text is not None else ("0",)))
        key = content_key(["vectors", self.identity, number_format, *known])
        path = self.cache_dir / "vectors" / f"{key}.safetensors"
        rows = {text: row for row, text in enumerate(dict.fromkeys(t for t in texts if t is not None))}
        if len(rows) > SHARD:

            def encode(part: list[str]) -> Tensor:
                return self._encode(part, batch_size, progress)

            return encode_in_shards(texts, encode, path.with_suffix(".npy"))
        cached = load_tensors(path)
        if cached is not None:
            return cached[0]["vectors"]
        if not rows:
            return torch.full((len(texts), self.width), torch.nan)
        unique = self._encode(list(rows), batch_size, progress)
        table = torch.cat([unique, torch.full((1, unique.shape[1]), torch.nan)])
        vectors = table[[len(rows) if text is None else rows[text] for text in texts]]
        save_tensors(path, {"vectors": vectors}, {"model": self.model})
        return vectors

    @torch.no_grad()
    def _encode(self, texts: list[str], batch_size: int, progress: bool) -> Tensor:
        """Encode texts without cache; sentence-transformers sorts them by length."""
        vectors: Tensor = self._sentence_transformer().encode(
            texts, batch_size=batch_size, show_progress_bar=progress, convert_to_tensor=True
        )
        return F.normalize(vectors.float().cpu(), dim=1)

    def encode_descriptors(self, words: Tensor, prompts: Sequence[Prompt], prompt_ids: Tensor) -> Tensor:
        """See `SentenceEncoder`."""
        model = self._sentence_transformer()
        dtype = self._number_format()[0]
        num_words = words.shape[1]
        lengths = [len(prompt.prefix) + num_words + len(prompt.suffix) for prompt in prompts]
        limit = model.max_seq_length
        if limit is not None and max(lengths) > limit:
            raise ConfigurationError(
                f"template: expected at most {limit} tokens, the model's maximum, got {max(lengths)} with {num_words} "
                "descriptors; shorten the template or use fewer descriptors"
            )
        choice = prompt_ids.to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            frames = self._frames(prompts, num_words, max(lengths), dtype)
            starts = torch.tensor([len(prompt.prefix) for prompt in prompts], device=self.device)
            positions = starts[choice, None] + torch.arange(num_words, device=self.device)
            words = words.to(self.device, dtype)
            inputs = frames[choice].scatter(1, positions[..., None].expand_as(words), words)
            scale = getattr(model[0].auto_model.get_input_embeddings(), "embed_scale", None)
            if scale is not None:  # some models multiply input embeddings by a constant
                inputs = inputs * torch.as_tensor(scale, dtype=dtype, device=self.device)
            features: dict[str, Any] = {}
            if len(set(lengths)) > 1:
                ends = torch.tensor(lengths, device=self.device)[choice, None]
                features["attention_mask"] = (torch.arange(max(lengths), device=self.device) < ends).long()
            hidden = model[0].auto_model(inputs_embeds=inputs, **features).last_hidden_state
            features["token_embeddings"] = hidden.float()
            for module in list(model)[1:]:  # the pooling and any layers after it
                features = module(features)
            return F.normalize(features["sentence_embedding"], dim=1)

    def _frames(self, prompts: Sequence[Prompt], num_words: int, length: int, dtype: torch.dtype) -> Tensor:
        """Build the embeddings of the prompts, `(prompts, length, T)`, with zeros for descriptors and padding."""
        gap = prompts[0].prefix.new_zeros(num_words, prompts[0].prefix.shape[1])
        rows = [torch.cat([prompt.prefix, gap, prompt.suffix]) for prompt in prompts]
        frames = torch.stack([F.pad(row, (0, 0, 0, length - len(row))) for row in rows])
        return frames.to(self.device, dtype)

    def _number_format(self) -> tuple[torch.dtype, str]:
        """Return the number format of the weights and the attention kernel that is fastest with it on the device."""
        bfloat16 = self.precision == "bfloat16" or (self.precision == "auto" and has_bfloat16(self.device))
        # On the CPU the backward pass of sdpa in bfloat16 is slower than the plain products.
        attention = "eager" if bfloat16 and self.device.type == "cpu" else "sdpa"
        wide = torch.float16 if self.precision == "float16" else torch.float32
        return (torch.bfloat16 if bfloat16 else wide), attention

    def _table(self) -> TokenTable | None:
        """Return the table of raw input embeddings in the file of the weights, if it can be read directly."""
        return self._files.token_table()

    def _embedding_weight(self) -> Tensor:
        """Return the raw input embeddings of all tokens of the loaded model."""
        weight: Tensor = self._sentence_transformer()[0].auto_model.get_input_embeddings().weight
        return weight.detach().cpu()

    def _sentence_transformer(self) -> Any:  # noqa: ANN401 -- a SentenceTransformer, not imported here
        """Return the model, loaded, in evaluation mode and frozen."""
        if self._loaded is None:
            with translate_loading_errors(self.model):
                self._loaded = load_sentence_transformer(
                    self._files.loadable, self.device, *self._number_format(), pooling=self.pooling
                )
        return self._loaded
