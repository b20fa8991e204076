"""Writes the summaries of many entities: each text once, resumable, with what it cost and what failed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from face_lightning.text.writing.journal import Journal
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, Summary, SummaryWriter


@dataclass(frozen=True)
class Outcome:
    """What came of all requests.

    Attributes:
        summaries: One per request, in their order.
        num_written: Summaries that the writer was asked for now.
        num_cached: Summaries that an earlier run had written.
        num_unknown: Requests about entities of which nothing is known.
        num_failed: Other requests without a text.
        prompt_tokens: Tokens that the model read in this run.
        completion_tokens: Tokens that it wrote in this run.
        seconds: Time of this run.
    """

    summaries: tuple[Summary, ...]
    num_written: int
    num_cached: int
    num_unknown: int
    num_failed: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


def write_summaries(
    writer: SummaryWriter, requests: Sequence[Request], cache_dir: Path, progress: bool = False
) -> Outcome:
    """Write a summary for every request.

    Requests that come to the same prompt are written once. Every summary is on disk as soon as it is there:
    run again after an interruption, only what is missing is asked for.

    Args:
        writer: Who writes.
        requests: What is wanted.
        cache_dir: Folder of the caches; there is one per writer and prompt.
        progress: Whether to show progress, the time left and the tokens used.

    Raises:
        DataError: If the journal cannot be written, or the writer gives up.
    """
    started = time.perf_counter()
    results: list[Summary | None] = [None] * len(requests)
    wanted: dict[str, list[int]] = {}
    num_cached = 0
    with Journal(cache_dir / "summaries" / f"{writer.identity.replace(':', '-')}.jsonl") as journal:
        for position, request in enumerate(requests):
            key = writer.key(request)
            known = None if key is None else journal.get(key)
            if key is None:
                results[position] = Summary(None, NOTHING_KNOWN)
            elif known is not None:
                results[position] = known
                num_cached += 1
            else:
                wanted.setdefault(key, []).append(position)
        prompt_tokens = completion_tokens = 0
        keys = list(wanted)
        with _bar(len(keys), progress) as advance:
            for place, summary in writer.write([requests[wanted[key][0]] for key in keys]):
                prompt_tokens += summary.prompt_tokens
                completion_tokens += summary.completion_tokens
                if summary.text is not None:
                    journal.add(keys[place], summary)
                for position in wanted[keys[place]]:
                    results[position] = summary
                advance(prompt_tokens, completion_tokens)
    summaries = tuple(Summary(None, "the writer gave no answer") if one is None else one for one in results)
    return Outcome(
        summaries=summaries,
        num_written=len(keys),
        num_cached=num_cached,
        num_unknown=sum(summary.error == NOTHING_KNOWN for summary in summaries),
        num_failed=sum(summary.text is None and summary.error != NOTHING_KNOWN for summary in summaries),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=time.perf_counter() - started,
    )


class _Advance(Protocol):
    def __call__(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Show that one more summary is there."""


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[_Advance]:
    """Show a progress bar with the time left and the tokens used."""
    columns = (
        TextColumn("summaries"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown or not total) as bar:
        task = bar.add_task("", total=total)

        def advance(prompt_tokens: int, completion_tokens: int) -> None:
            told = f"{prompt_tokens:,} tokens read, {completion_tokens:,} written"
            bar.update(task, advance=1, description=told)

        yield advance
