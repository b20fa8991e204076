import errno
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.errors import DataError
from face_lightning.text.writing.journal import Journal
from face_lightning.text.writing.run import write_summaries
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, Summary


class Recorded:
    """Writer that records its requests, and fails for certain titles."""

    identity = "recorded"

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.stop_after = stop_after

    def key(self, request: Request) -> str | None:
        return str(request.fields["title"]) if request.fields else None

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        for position, request in reversed(list(enumerate(requests))):
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            title = str(request.fields["title"])
            self.asked.append(title)
            failed = title.startswith("bad")
            yield position, Summary(None if failed else f"about {title}", "refused" if failed else None, 5, 2)


def films(*titles: str | None) -> list[Request]:
    return [Request("item", str(i), {} if title is None else {"title": title}) for i, title in enumerate(titles)]


def test_every_request_has_a_summary_or_a_reason(tmp_path: Path) -> None:
    writer = Recorded()
    outcome = write_summaries(writer, films("a", "bad", None, "a", "b"), tmp_path)
    assert [summary.text for summary in outcome.summaries] == ["about a", None, None, "about a", "about b"]
    assert [summary.error for summary in outcome.summaries] == [None, "refused", NOTHING_KNOWN, None, None]
    assert (outcome.num_written, outcome.num_cached, outcome.num_unknown, outcome.num_failed) == (3, 0, 1, 1)
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (15, 6)
    assert writer.asked == ["b", "bad", "a"]  # equal prompts are requested once


def test_second_run_repeats_only_failures(tmp_path: Path) -> None:
    requests = films("a", "bad", "b")
    first = write_summaries(Recorded(), requests, tmp_path)
    again = Recorded()
    second = write_summaries(again, requests, tmp_path)
    assert again.asked == ["bad"]
    assert [summary.text for summary in second.summaries] == [summary.text for summary in first.summaries]
    assert (second.num_cached, second.prompt_tokens) == (2, 5)


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_interrupted_run_continues(tmp_path: Path, stop_after: int) -> None:
    requests = films("a", "b", "c", "d")
    stopped, resumed = Recorded(stop_after), Recorded()
    with pytest.raises(KeyboardInterrupt):
        write_summaries(stopped, requests, tmp_path)
    outcome = write_summaries(resumed, requests, tmp_path)
    assert stopped.asked + resumed.asked == ["d", "c", "b", "a"]
    assert [summary.text for summary in outcome.summaries] == ["about a", "about b", "about c", "about d"]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_truncated_line_is_written_again(tmp_path: Path, cut: int) -> None:
    requests = films("a", "b")
    write_summaries(Recorded(), requests, tmp_path)
    (path,) = (tmp_path / "summaries").iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    resumed = Recorded()
    outcome = write_summaries(resumed, requests, tmp_path)
    assert [summary.text for summary in outcome.summaries] == ["about a", "about b"]
    assert resumed.asked == ([] if cut == 1 else ["a"])  # a line without its newline is complete
    assert write_summaries(Recorded(), requests, tmp_path).num_cached == 2


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_malformed_lines_of_the_journal_are_skipped(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    with Journal(path) as journal:
        assert journal.get("k") is None
        journal.add("k", Summary("a text", None, 1, 2))
    assert Journal(path).get("k") == Summary("a text", None, 1, 2)


def test_writers_do_not_share_a_journal(tmp_path: Path) -> None:
    first, other = Recorded(), Recorded()
    other.identity = "other"  # type: ignore[misc]
    write_summaries(first, films("a"), tmp_path)
    write_summaries(other, films("a"), tmp_path)
    assert first.asked == other.asked == ["a"]


def test_full_disk_raises_and_keeps_earlier_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        journal.add("one", Summary("a text"))
        assert journal._file is not None
        journal._file.close()
        monkeypatch.setattr(journal, "_file", Full())
        with pytest.raises(DataError, match=r"cannot write .* \(No space left on device\); make room and run again"):
            journal.add("two", Summary("a text"))
    assert Journal(path).get("one") is not None
    assert Journal(path).get("two") is None


def test_lines_of_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def run(name: str) -> None:
        with Journal(path) as journal:
            for number in range(200):
                journal.add(f"{name}{number}", Summary(name * 50))

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 400
    assert {line["text"] for line in lines} == {"a" * 50, "b" * 50}
