"""`face summarize`: texts of users and items by templates, a local language model, or a server."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

import face_lightning.data.readers  # noqa: F401 so that configurations can name readers by class name
from face_lightning.commands.api_keys import read_api_key
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.profiles import Dataset
from face_lightning.data.summarizing import summary_requests, write_summary_file
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.plain_text import printable
from face_lightning.text.writing.run import Outcome, write_summaries
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, SummaryWriter, TemplateSummaries
from face_lightning.trust import policy_of

if TYPE_CHECKING:
    from face_lightning.text.writing.prompts import Prompts

Kind = Literal["item", "user"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write summaries of the users and items of a data set.

    Args:
        argv: Arguments after `face summarize`; `sys.argv[1:]` if None. `--allow-code` lets `--data` name
            readers of other packages.

    Returns:
        Exit code: 0; 1 if the writer failed for some entities, which are listed; 130 if interrupted.

    Raises:
        ConfigurationError: If the arguments are wrong, or the server rejects them.
        DataError: If the data cannot be read, or no summary could be written.
    """
    parser = _parser()
    with policy_of(sys.argv[1:] if argv is None else argv) as arguments:
        config = parser.parse_args(arguments)
        dataset = _dataset(parser, config)
    requests = _limited(summary_requests(dataset, config.kinds), config)
    writer = _writer(config, dataset)
    if config.dry_run:
        return _show_prompts(writer, requests)
    try:
        outcome = write_summaries(writer, requests, Path(config.cache_dir).expanduser(), sys.stderr.isatty())
    except KeyboardInterrupt:
        print("stopped; the summaries so far are kept, run again to continue", file=sys.stderr)
        return 130
    if outcome.num_failed + outcome.num_unknown == len(requests):
        raise DataError(
            f"out: expected summaries of {len(requests):,} entities, got none, the first failed with: "
            f"{outcome.summaries[0].error}; fix that and run again"
        )
    write_summary_file(config.out, requests, outcome.summaries)
    _report(config.out, requests, outcome)
    return 1 if outcome.num_failed else 0


def _dataset(parser: ArgumentParser, config: Namespace) -> Dataset:
    """Read the data set, after checking the output folder."""
    if not config.out.absolute().parent.is_dir():
        raise ConfigurationError(f"out: expected a file in an existing folder, got {config.out}; create the folder")
    dataset: Dataset = parser.instantiate(config).data.dataset
    return dataset


def _writer(config: Namespace, dataset: Dataset) -> SummaryWriter:
    """Build the writer that the arguments select."""
    domain = config.domain or ("item" if dataset.profiles is None else dataset.profiles.domain)
    if config.writer == "template":
        return TemplateSummaries(domain)
    from face_lightning.text.writing.prompts import Prompts

    prompts = Prompts(domain, config.answer or ("json" if config.writer == "server" else "text"), config.max_words)
    return language_model_writer(config, prompts)


def language_model_writer(config: Namespace | argparse.Namespace, prompts: "Prompts") -> SummaryWriter:
    """Build the writer of a language model.

    Args:
        config: Arguments of the command.
        prompts: Prompts for the model.

    Raises:
        ConfigurationError: If the model, or the address of its server, is not given.
    """
    if config.model is None:
        raise ConfigurationError(f"model: expected the name of a model for the writer {config.writer}, got none")
    if config.writer == "local":
        from face_lightning.text.writing.local import LocalWriter

        return LocalWriter(
            prompts,
            config.model,
            batch_size=config.batch_size,
            max_new_tokens=config.max_tokens or 160,
            device=config.device,
            dtype=config.dtype,
        )
    from face_lightning.text.writing.client import ChatClient
    from face_lightning.text.writing.server import ServerWriter

    if config.url is None:
        raise ConfigurationError("url: expected the address of the server, such as http://localhost:8000/v1, got none")
    client = ChatClient(
        config.url,
        api_key=read_api_key(config.api_key_env),
        timeout=config.timeout,
        retries=config.retries,
        backoff=config.backoff,
        per_minute=config.per_minute,
    )
    return ServerWriter(
        prompts, client, config.url, config.model, config.concurrency, config.max_tokens or 400, config.json_mode
    )


def _limited(requests: list[Request], config: Namespace) -> list[Request]:
    """Keep the first entities of each kind if there is a limit."""
    if config.limit is None:
        return requests
    if config.limit < 1:
        raise ConfigurationError(f"limit: expected at least 1, got {config.limit}; omit it for all")
    kinds = {kind: [request for request in requests if request.kind == kind] for kind in config.kinds}
    return [request for kind in config.kinds for request in kinds[kind][: config.limit]]


def _show_prompts(writer: SummaryWriter, requests: Sequence[Request]) -> int:
    """Print the prompts of the first entity of each kind without sending them."""
    prompts = getattr(writer, "prompts", None)
    for kind in dict.fromkeys(request.kind for request in requests):
        first = next((one for one in requests if one.kind == kind and writer.key(one) is not None), None)
        print(f"--- {kind} {printable(first.id) if first else '(none with facts)'}")
        if first is not None:
            messages = prompts.messages(first) if prompts is not None else None
            shown = "\n".join(message["content"] for message in messages) if messages else str(writer.key(first))
            print("\n".join(map(printable, shown.split("\n"))))
    keys = [writer.key(request) for request in requests]
    print(f"--- {len(set(keys) - {None}):,} prompts for {len(requests):,} entities, {keys.count(None):,} without facts")
    return 0


def _report(out: Path, requests: Sequence[Request], outcome: Outcome) -> None:
    """Print the number of summaries, their cost, and entities without a summary."""
    done = len(requests) - outcome.num_failed - outcome.num_unknown
    print(
        f"{out}: {done:,} summaries of {len(requests):,} entities in {outcome.seconds:.0f} s, {outcome.num_cached:,} "
        f"from the cache; {outcome.prompt_tokens:,} tokens read, {outcome.completion_tokens:,} written"
    )
    pairs = zip(requests, outcome.summaries, strict=True)
    without = [(request, summary) for request, summary in pairs if summary.text is None]
    for request, summary in sorted(without, key=lambda pair: pair[1].error == NOTHING_KNOWN)[:10]:
        print(f"no summary of {request.kind} {printable(f'{request.id}: {summary.error}')}", file=sys.stderr)
    if without:
        print(
            f"without a summary: {outcome.num_failed:,} for which the writer failed (run again to retry), "
            f"{outcome.num_unknown:,} without facts; their lines in {out} contain the reason",
            file=sys.stderr,
        )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="face summarize", exit_on_error=False, description="Write texts of the users and items of a data set."
    )
    parser.add_class_arguments(InteractionDataModule, "data", sub_configs=True)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file: one object per entity.")
    parser.add_argument(
        "--writer",
        type=Literal["template", "local", "server"],
        default="template",
        help="Templates, a local chat model, or an OpenAI-compatible server.",
    )
    parser.add_argument("--kinds", type=list[Kind], default=["item", "user"], help="Kinds of entities.")
    parser.add_argument("--limit", type=int | None, default=None, help="Only the first N of each kind.")
    parser.add_argument("--domain", type=str | None, default=None, help="Kind of items; that of the reader by default.")
    parser.add_argument("--model", type=str | None, default=None, help="Folder or hub id; name on the server.")
    parser.add_argument(
        "--answer",
        type=Literal["json", "text"] | None,
        default=None,
        help="A checked JSON object (default of server), or the summary alone (default of local).",
    )
    parser.add_argument("--max_words", type=int, default=60, help="Maximum number of words in the instruction.")
    parser.add_argument("--max_tokens", type=int | None, default=None, help="Maximum number of tokens of an answer.")
    parser.add_argument("--batch_size", type=int, default=8, help="Local: entities per batch.")
    parser.add_argument("--device", type=str, default="cpu", help="Local: device of the model.")
    parser.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="Local: number format of the weights.",
    )
    parser.add_argument(
        "--url", type=str | None, default=None, help="Server: address, such as http://localhost:8000/v1."
    )
    parser.add_argument("--api_key_env", type=str | None, default=None, help="Server: variable with the key.")
    parser.add_argument("--concurrency", type=int, default=8, help="Server: number of concurrent requests.")
    parser.add_argument("--per_minute", type=float | None, default=None, help="Server: maximum requests per minute.")
    parser.add_argument("--retries", type=int, default=5, help="Server: number of retries of a failed request.")
    parser.add_argument("--backoff", type=float, default=1.0, help="Server: seconds before the first retry.")
    parser.add_argument("--timeout", type=float, default=120.0, help="Server: seconds to wait for a reply.")
    parser.add_argument("--json_mode", type=bool, default=True, help="Server: restrict answers to JSON.")
    parser.add_argument("--dry_run", action="store_true", help="Show prompts without sending them.")
    parser.add_argument("--cache_dir", type=str, default="~/.cache/face_lightning", help="Folder of the caches.")
    return parser
