"""Writing of the summaries of many entities: deduplicated, resumable, with costs and failures."""

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
    """Results of all requests.

    Attributes:
        summaries: One per request, in their order.
        num_written: Summaries requested from the writer in this run.
        num_cached: Summaries of earlier runs.
        num_unknown: Requests about entities without facts.
        num_failed: Other requests without a text.
        prompt_tokens: Tokens of the prompts in this run.
        completion_tokens: Tokens generated in this run.
        seconds: Duration of this run.
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

    Requests with the same prompt are written once. Every summary is saved at once; a run after an interruption
    requests only missing ones.

    Args:
        writer: Writer of the summaries.
        requests: Entities to write about.
        cache_dir: Folder of the journals; there is one per writer and prompt.
        progress: Whether to show progress, the remaining time and the number of tokens.

    Raises:
        DataError: If the journal cannot be written, or the writer stops.
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
            for index, summary in writer.write([requests[wanted[key][0]] for key in keys]):
                prompt_tokens += summary.prompt_tokens
                completion_tokens += summary.completion_tokens
                if summary.text is not None:
                    journal.add(keys[index], summary)
                for position in wanted[keys[index]]:
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
        """Advance the bar by one summary."""


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[_Advance]:
    """Show a progress bar with the remaining time and the number of tokens."""
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
            tokens = f"{prompt_tokens:,} tokens read, {completion_tokens:,} written"
            bar.update(task, advance=1, description=tokens)

        yield advance
