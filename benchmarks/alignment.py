"""Profile of an alignment step: python -m benchmarks.alignment RUN_DIR.

Continues training from the weights of a finished run of stage 3 and times every part of a step, excluding parts nested
inside it; parts of the backward pass are separated by the moments at which gradients arrive. Steps alternate between
the shipped implementation and variants in which one design choice is reversed.

The contrast must be enabled, by the run's configuration or by `--set model.init_args.alignment_weight 0.02`; recipes
leave it out. Writes results/alignment.jsonl.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.loading import load_run
from benchmarks.records import append, read
from benchmarks.token_search import clock
from face_lightning.allocator import keep_freed_memory
from face_lightning.inner_product import rank_items
from face_lightning.losses import alignment_loss
from face_lightning.mapping import anchoring
from face_lightning.mapping import losses as mapping_losses
from face_lightning.mapping import residual_quantizer as mapping_quantizer
from face_lightning.mapping.search import SearchBackend, TokenSearch, build_search, num_sufficient, pick_greedily
from face_lightning.stages import alignment, describing
from face_lightning.structures import Embeddings

CPU = torch.device("cpu")


class Parts:
    """Seconds by part; the time of a nested part is not counted in the outer one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = self.now()

    @staticmethod
    def now() -> float:
        return time.process_time() if clock(CPU) == "work" else time.perf_counter()

    def _count(self) -> None:
        now = self.now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block as a part."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def become(self, name: str) -> None:
        """Rename the innermost part from now on."""
        self._count()
        self._open[-1] = name

    def wrapped(self, owner: Any, attribute: str, name: str, then: Callable[[Tensor], None] | None = None) -> Any:  # noqa: ANN401
        """Patch that times calls of `owner.attribute` as a part, and passes their results to `then`."""
        inner = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with self.part(name):
                result = inner(*args, **kwargs)
                if then is not None:
                    then(result)
                return result

        return mock.patch.object(owner, attribute, timed)

    def watch(self, name: str) -> Callable[[Tensor], None]:
        """Function that makes the arrival of a tensor's gradient the start of a part."""

        def watched(tensor: Tensor) -> None:
            if tensor.requires_grad:
                tensor.register_hook(lambda _: self.become(name))

        return watched


@contextlib.contextmanager
def observed(stage: Any, parts: Parts) -> Iterator[None]:  # noqa: ANN401
    """Time the parts of `stage.losses` and of the backward pass behind it."""
    quantizer = stage.mapper.quantizer
    patches = [
        parts.wrapped(stage, "recommendation_losses", "backbone and its losses"),
        parts.wrapped(Embeddings, "gather", "entities' embeddings", parts.watch("backward: backbone")),
        parts.wrapped(stage.mapper, "encode", "mapper: projection, transformer"),
        parts.wrapped(quantizer, "codes", "mapper: codes"),
        parts.wrapped(quantizer, "nearest", "words' gradient"),
        parts.wrapped(quantizer, "forward", "mapper: quantizer's losses"),
        parts.wrapped(stage.mapper, "decode", "mapper: decoder"),
        parts.wrapped(describing, "mapping_losses", "mapping losses"),
        parts.wrapped(alignment, "tokens_with_gradient", "words' gradient", parts.watch("backward: mapper, anchoring")),
        parts.wrapped(stage.space.descriptors, "encode_tokens", "encoder", parts.watch("backward: encoder")),
        parts.wrapped(alignment_loss, "info_nce", "contrast"),
        parts.wrapped(mapping_losses, "lexical_anchoring", "anchoring"),
    ]
    search = quantizer._search
    for attribute, name in (("refresh", "search: new codes"), ("search", "search")):
        patches.append(parts.wrapped(search, attribute, name))
    if stage.grounding is not None:
        patches.append(parts.wrapped(stage.grounding, "loss", "grounding"))
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


Form = Callable[[Any], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def as_it_is(stage: Any) -> Iterator[None]:  # noqa: ANN401
    """The shipped implementation."""
    del stage
    yield


def searched_by(backend: SearchBackend) -> Form:
    """Use another backend of the token search."""
    return lambda stage: _with(stage.mapper.quantizer, _search=build_search(backend))


def encoder_in(precision: str) -> Form:
    """Use another number format for the encoder."""
    loaded: dict[str, Any] = {"model": None}

    @contextlib.contextmanager
    def form(stage: Any) -> Iterator[None]:  # noqa: ANN401
        encoder = stage.words.encoder
        with _with(encoder, precision=precision, _loaded=loaded["model"]):
            loaded["model"] = encoder._sentence_transformer()
            yield

    return form


@contextlib.contextmanager
def _with(owner: Any, **values: Any) -> Iterator[None]:  # noqa: ANN401
    with mock.patch.multiple(owner, **values):
        yield


def search_whole_entities(search: TokenSearch, queries: Tensor, lemmas: Tensor | None = None) -> Tensor:
    """Search all slots of an entity again if two of them collide."""
    num_rows, num_slots, dim = queries.shape
    tokens = search.search(queries.reshape(-1, dim), 1).view(num_rows, num_slots)
    ordered = (tokens if lemmas is None else lemmas[tokens]).sort(dim=1).values
    clashing = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero().squeeze(1)
    count = num_slots if lemmas is None else num_sufficient(lemmas, num_slots)
    candidates = search.search(queries[clashing].reshape(-1, dim), count)
    tokens[clashing] = pick_greedily(candidates.view(len(clashing), num_slots, count), lemmas)
    return tokens


def near_by_sorting(stage: Any) -> contextlib.AbstractContextManager[None]:  # noqa: ANN401
    """Find the nearest words of a concept among the scores of all words."""
    quantizer = stage.mapper.quantizer

    def nearest(inputs: Tensor, top_k: int) -> Tensor:
        with torch.no_grad():
            return rank_items(inputs.flatten(0, 1) @ quantizer.codes().T, top_k).view(*inputs.shape[:2], -1)

    return _with(quantizer, nearest=nearest)


# The choice that each variant reverses, and the parts of a step that it affects.
FORMS: dict[str, tuple[Form, tuple[str, ...]]] = {
    "as it is": (as_it_is, ()),
    "search by FAISS": (searched_by("faiss"), ("search", "search: new codes")),
    "search by torch tiles": (searched_by("torch"), ("search", "search: new codes")),
    "search of all slots where two clash": (
        lambda _: _with(mapping_quantizer, search_distinct=search_whole_entities),
        ("search",),
    ),
    "near words by sorting": (near_by_sorting, ("search", "words' gradient")),
    "anchoring in float32": (lambda _: _with(anchoring, fast_format=lambda vectors: vectors.dtype), ("anchoring",)),
    "anchoring over all words": (lambda stage: _with(stage.words, anchoring_negatives=None), ("anchoring",)),
    "encoder in float32": (encoder_in("float32"), ("encoder", "backward: encoder")),
    "all entities through the encoder": (
        lambda stage: _with(stage, aligned_per_step=None, reconstructed_per_step=None),
        ("encoder", "backward: encoder"),
    ),
    "all entities quantized": (
        lambda stage: _with(stage, reconstructed_per_step=None),
        ("search", "mapper: decoder", "mapper: quantizer's losses"),
    ),
    "all in bfloat16 (--trainer.precision bf16-mixed)": (
        lambda _: torch.autocast("cpu", torch.bfloat16),
        ("mapper: projection, transformer", "mapper: decoder", "backward: mapper, anchoring"),
    ),
}


def take_step(stage: Any, form: Form, batch: Iterator[Any], optimizer: Optimizer, number: int) -> dict[str, float]:  # noqa: ANN401
    """Run a training step; milliseconds of each part."""
    parts = Parts()
    torch.manual_seed(number)
    with form(stage), observed(stage, parts), parts.part("rest"):
        with parts.part("draw of pairs and entities"):
            drawn = next(batch)
        loss = stage.training_step(drawn, number)
        with parts.part("optimizer"):
            optimizer.zero_grad()
        with parts.part("backward: contrast"):
            loss.backward()
        with parts.part("optimizer"):
            optimizer.step()
    return {name: 1e3 * seconds for name, seconds in parts.seconds.items()}


def measure(run_dir: Path, num_steps: int, extra: list[str]) -> dict[str, dict[str, float]]:
    """Median milliseconds of each part and of the whole step, by variant."""
    stage, datamodule = load_run(run_dir, extra)
    stage.train()
    stage.on_train_start()
    (optimizer,), _ = stage.configure_optimizers()
    batches = itertools.chain.from_iterable(itertools.repeat(datamodule.train_dataloader()))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMS}
    for number in range(num_steps + 1):  # the first step allocates buffers and prepares kernels
        for name, (form, _) in FORMS.items():
            taken = take_step(stage, form, batches, optimizer, number)
            found[name] += [taken] if number else []
    result = {}
    for name, steps in found.items():
        parts = {part: statistics.median(step.get(part, 0.0) for step in steps) for part in steps[0]}
        result[name] = {**parts, "step": statistics.median(sum(step.values()) for step in steps)}
    return result


def newest_profile() -> dict[str, Any]:
    """The newest record."""
    return read("alignment")[-1]


def newest_parts() -> list[dict[str, Any]]:
    """A record per part of the newest profile, longest first, and one for the whole step."""
    record = newest_profile()
    profile = record["metrics"]["as it is"]
    parts = sorted(profile, key=lambda part: (part == "step", -profile[part]))
    return [{**record, "part": part, "ms": profile[part], "share": profile[part] / profile["step"]} for part in parts]


def newest_choices() -> list[dict[str, Any]]:
    """A record per choice that the newest profile reversed."""
    record = newest_profile()
    forms, shipped = record["metrics"], record["metrics"]["as it is"]
    return [
        {
            **record,
            "form": name,
            "its_ms": sum(forms[name].get(part, 0.0) for part in concerned),
            "shipped_ms": sum(shipped.get(part, 0.0) for part in concerned),
            "step_ms": forms[name]["step"],
            "shipped_step_ms": shipped["step"],
        }
        for name, (_, concerned) in FORMS.items()
        if concerned and name in forms
    ]


def main() -> None:
    """Profile the given run and record the result."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of a finished run of stage 3")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("OPTION", "VALUE"))
    arguments = parser.parse_args()
    extra = [text for option, value in arguments.set for text in (f"--{option}", value)]
    run_result = json.loads((arguments.run / "result.json").read_text())
    config = yaml.safe_load((arguments.run / "config.yaml").read_text())
    forms = measure(arguments.run, arguments.steps, extra)
    append(
        "alignment",
        {
            **{key: run_result[key] for key in ("dataset", "backbone", "seed")},
            "threads": torch.get_num_threads(),
            "clock": {"work": "the processor's work", "wall": "wall"}[clock(CPU)],
            "steps": arguments.steps,
            "sizes": {
                "pairs a step": config["data"]["batch_size"],
                "entities mapped a step": config["data"]["entities_per_step"],
                "of them quantized": config["model"]["init_args"]["reconstructed_per_step"],
                "of them through the encoder": config["model"]["init_args"]["aligned_per_step"],
                "descriptors": config["model"]["init_args"]["mapper"]["init_args"]["num_descriptors"],
            },
            "metrics": forms,
        },
    )
    table = Table("part", *forms)
    for part in (*(part for part in forms["as it is"] if part != "step"), "step"):
        table.add_row(part, *(f"{parts.get(part, 0.0):.1f}" for parts in forms.values()))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
