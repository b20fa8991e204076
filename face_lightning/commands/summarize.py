"""`face summarize`: texts of users and items by templates, a language model here, or a server."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

import face_lightning.data.readers  # noqa: F401 so that configurations can name readers by name alone
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.profiles import Dataset
from face_lightning.data.summarizing import summary_requests, write_summary_file
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.writing.run import Outcome, write_summaries
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, SummaryWriter, TemplateSummaries
from face_lightning.trust import policy_of

Kind = Literal["item", "user"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write summaries of the users and items of a data set.

    Args:
        argv: Arguments after `face summarize`; those of the process where left out. `--allow-code` lets `--data` name
            readers of other packages.

    Returns:
        Exit code: 0; 1 where the writer failed with some entities, which are listed; 130 when interrupted.

    Raises:
        ConfigurationError: If the arguments are wrong, or the server refuses them.
        DataError: If the data cannot be read, or no summary could be written.
    """
    parser = _parser()
    with policy_of(sys.argv[1:] if argv is None else argv) as arguments:
        config = parser.parse_args(arguments)
        dataset = _dataset(parser, config)
    requests = _chosen(summary_requests(dataset, config.kinds), config)
    writer = _writer(config, dataset)
    if config.dry_run:
        return _show_prompts(writer, requests)
    try:
        outcome = write_summaries(writer, requests, Path(config.cache_dir).expanduser(), sys.stderr.isatty())
    except KeyboardInterrupt:
        print("stopped; the summaries so far are kept, run again to go on", file=sys.stderr)
        return 130
    if outcome.num_failed + outcome.num_unknown == len(requests):
        raise DataError(
            f"out: no summary of {len(requests):,} could be written, the first failed with: "
            f"{outcome.summaries[0].error}; mend that and run again"
        )
    write_summary_file(config.out, requests, outcome.summaries)
    _report(config.out, requests, outcome)
    return 1 if outcome.num_failed else 0


def _dataset(parser: ArgumentParser, config: Namespace) -> Dataset:
    """Read the data set, where its summaries can be written."""
    if not config.out.absolute().parent.is_dir():
        raise ConfigurationError(f"out: expected a file in a folder that exists, got {config.out}; make the folder")
    dataset: Dataset = parser.instantiate(config).data.dataset
    return dataset


def _writer(config: Namespace, dataset: Dataset) -> SummaryWriter:
    """Build the writer that the arguments name."""
    domain = config.domain or ("item" if dataset.profiles is None else dataset.profiles.domain)
    if config.writer == "template":
        return TemplateSummaries(domain)
    from face_lightning.text.writing.prompts import Prompts

    prompts = Prompts(domain, config.answer or ("json" if config.writer == "server" else "text"), config.max_words)
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
        api_key=_api_key(config.api_key_env),
        timeout=config.timeout,
        retries=config.retries,
        backoff=config.backoff,
        per_minute=config.per_minute,
    )
    return ServerWriter(
        prompts, client, config.url, config.model, config.concurrency, config.max_tokens or 400, config.json_mode
    )


def _api_key(variable: str | None) -> str | None:
    """Return the key that an environment variable holds: on the command line everybody could read it."""
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            f"api_key_env: expected the variable {variable} to hold a key; set it, or leave it out"
        )
    return key


def _chosen(requests: list[Request], config: Namespace) -> list[Request]:
    """Return the first entities of each kind, where a limit is set."""
    if config.limit is None:
        return requests
    if config.limit < 1:
        raise ConfigurationError(f"limit: expected at least 1, got {config.limit}; leave it out for all")
    kinds = {kind: [request for request in requests if request.kind == kind] for kind in config.kinds}
    return [request for kind in config.kinds for request in kinds[kind][: config.limit]]


def _show_prompts(writer: SummaryWriter, requests: Sequence[Request]) -> int:
    """Print what would be asked of the first entity of each kind, and ask nothing."""
    prompts = getattr(writer, "prompts", None)
    for kind in dict.fromkeys(request.kind for request in requests):
        first = next((one for one in requests if one.kind == kind and writer.key(one) is not None), None)
        print(f"--- {kind} {first.id if first else '(nothing known of any)'}")
        if first is not None:
            messages = prompts.messages(first) if prompts is not None else None
            print("\n".join(message["content"] for message in messages) if messages else writer.key(first))
    keys = [writer.key(request) for request in requests]
    print(f"--- {len(set(keys) - {None}):,} prompts for {len(requests):,} entities, {keys.count(None):,} without facts")
    return 0


def _report(out: Path, requests: Sequence[Request], outcome: Outcome) -> None:
    """Say what was written, what it cost, and who is left without a summary."""
    done = len(requests) - outcome.num_failed - outcome.num_unknown
    print(
        f"{out}: {done:,} summaries of {len(requests):,} entities in {outcome.seconds:.0f} s, {outcome.num_cached:,} "
        f"from the cache; {outcome.prompt_tokens:,} tokens read, {outcome.completion_tokens:,} written"
    )
    without = [(one, told) for one, told in zip(requests, outcome.summaries, strict=True) if told.text is None]
    for request, summary in sorted(without, key=lambda pair: pair[1].error == NOTHING_KNOWN)[:10]:
        print(f"no summary of {request.kind} {request.id}: {summary.error}", file=sys.stderr)
    if without:
        print(
            f"without a summary: {outcome.num_failed:,} where the writer failed (run again to try these again), "
            f"{outcome.num_unknown:,} of which nothing is known; their lines of {out} hold the reason",
            file=sys.stderr,
        )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="face summarize", exit_on_error=False, description="Write texts of the users and items of a data set."
    )
    parser.add_class_arguments(InteractionDataModule, "data", sub_configs=True)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file: one object an entity.")
    parser.add_argument(
        "--writer",
        type=Literal["template", "local", "server"],
        default="template",
        help="Templates; a chat model on this machine; or a server that speaks OpenAI's protocol.",
    )
    parser.add_argument("--kinds", type=list[Kind], default=["item", "user"], help="What to write about.")
    parser.add_argument("--limit", type=int | None, default=None, help="Only the first N of each kind.")
    parser.add_argument("--domain", type=str | None, default=None, help="What the items are; the reader says it.")
    parser.add_argument("--model", type=str | None, default=None, help="Folder or hub id; the name at the server.")
    parser.add_argument(
        "--answer",
        type=Literal["json", "text"] | None,
        default=None,
        help="A checked JSON object (default of server), or the summary alone (default of local).",
    )
    parser.add_argument("--max_words", type=int, default=60, help="Most words that are asked for.")
    parser.add_argument("--max_tokens", type=int | None, default=None, help="Most tokens of an answer.")
    parser.add_argument("--batch_size", type=int, default=8, help="Local: entities at once.")
    parser.add_argument("--device", type=str, default="cpu", help="Local: where the model computes.")
    parser.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="Local: number format of the weights.",
    )
    parser.add_argument(
        "--url", type=str | None, default=None, help="Server: address, such as http://localhost:8000/v1."
    )
    parser.add_argument("--api_key_env", type=str | None, default=None, help="Server: variable that holds the key.")
    parser.add_argument("--concurrency", type=int, default=8, help="Server: requests under way at once.")
    parser.add_argument("--per_minute", type=float | None, default=None, help="Server: most requests a minute.")
    parser.add_argument("--retries", type=int, default=5, help="Server: further tries after a failed one.")
    parser.add_argument("--backoff", type=float, default=1.0, help="Server: seconds before the second try.")
    parser.add_argument("--timeout", type=float, default=120.0, help="Server: seconds to wait for a reply.")
    parser.add_argument("--json_mode", type=bool, default=True, help="Server: ask it to allow JSON only.")
    parser.add_argument("--dry_run", action="store_true", help="Show what would be asked, and ask nothing.")
    parser.add_argument("--cache_dir", type=str, default="~/.cache/face_lightning", help="Folder of the caches.")
    return parser
