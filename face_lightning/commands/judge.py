"""`face judge`: evaluate the words of a run by independent judges, models that took no part in training."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.api_keys import read_api_key
from face_lightning.commands.describe import read_words
from face_lightning.commands.steps import Steps
from face_lightning.errors import ConfigurationError, DataError, check_range
from face_lightning.files import atomic_path
from face_lightning.reports.judgements import JUDGEMENTS
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import load_codebook
from face_lightning.text.writing.client import ChatClient
from face_lightning.words.coherence import TextStatistics
from face_lightning.words.judges import EncoderJudge, Judge, LanguageModelJudge, ServerJudge
from face_lightning.words.questions import Question, ask_detection, ask_intrusion, ask_retrieval

TASKS = ("retrieval", "intrusion", "detection")


@dataclass(frozen=True)
class Described:
    """Entities of one kind that have a text.

    Attributes:
        kind: "item" or "user".
        texts: Texts of the entities.
        variants: Words of each entity by variant: the learnt words, and words to compare them with.
        statistics: Occurrences of words in the texts of all entities of the kind.
    """

    kind: str
    texts: list[str]
    variants: dict[str, list[list[str]]]
    statistics: TextStatistics


def main(argv: Sequence[str] | None = None) -> int:
    """Let judges answer questions about the words of a run, and print and save their accuracy.

    Args:
        argv: Arguments after `face judge`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If there is no judge, or an argument is out of range.
        DataError: If the run has no words or texts, or a model cannot be loaded.
    """
    arguments = _parser().parse_args(argv)
    check_range("limit", arguments.limit, least=2, usual="200")
    check_range("orders", arguments.orders, least=1, usual="4")
    for count in arguments.candidates:
        check_range("candidates", count, least=2, usual="10 20 60")
    out = arguments.out or current_run(arguments.run) / JUDGEMENTS
    if not out.absolute().parent.is_dir():
        raise ConfigurationError(f"out: expected a file in a folder that exists, got {out}; make the folder")
    judges = _judges(arguments)
    described = [describe_kind(arguments.run, kind, arguments.limit, arguments.seed) for kind in ("item", "user")]
    pairs = [(judge, entities) for judge in judges for entities in described if len(set(entities.texts)) > 1]
    with Steps(sum(len(entities.variants) for _, entities in pairs)) as steps:
        records = [
            {"judge": judge.name, **record, "seed": arguments.seed}
            for judge, entities in pairs
            for record in judge_entities(
                judge, entities, arguments.candidates, arguments.seed, steps, tasks=arguments.tasks
            )
        ]
    if not records:
        raise DataError(f"run: expected texts of items or users in {arguments.run}, got none; train with texts")
    with atomic_path(out) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))
    Console().print(judgement_table(records))
    print(f"{out}: {len(records)} lines")
    return 0


def judge_entities(
    judge: Judge,
    entities: Described,
    candidates: Sequence[int],
    seed: int,
    begin: Callable[[str], None] = lambda _: None,
    *,
    tasks: Collection[str] = TASKS,
) -> Iterator[dict[str, Any]]:
    """Compute a judge's accuracy in each task, and the coherence of the words; yields one record per variant.

    Args:
        judge: Judge that answers the questions.
        entities: Entities to ask about.
        candidates: Numbers of texts in retrieval; those above the number of distinct texts are left out.
        seed: Seed of the questions.
        begin: Called with a description of each variant before it is judged.
        tasks: Tasks to judge; coherence needs no judge and is always computed.
    """
    possible = [count for count in candidates if count <= len(set(entities.texts))] if "retrieval" in tasks else []
    for variant, words in entities.variants.items():
        begin(f"{judge.name}: {variant} words of {entities.kind}s")
        questions = {f"retrieval@{count}": ask_retrieval(entities.texts, words, count, seed) for count in possible}
        if "intrusion" in tasks:
            questions["intrusion"] = ask_intrusion(words, seed)
        if "detection" in tasks:
            questions["detection"] = ask_detection(entities.texts, words, seed)
        coherence = [value for own in words if (value := entities.statistics.coherence(own)) is not None]
        yield {
            "kind": entities.kind,
            "words": variant,
            "entities": len(entities.texts),
            **{task: _accuracy(judge, asked) for task, asked in questions.items() if asked},
            **({"coherence": float(np.mean(coherence))} if coherence else {}),
        }


def judgement_table(records: Sequence[dict[str, Any]]) -> Table:
    """Table of accuracies in percent, and coherence, for display."""
    named = ("judge", "kind", "words", "entities")
    tasks = list(dict.fromkeys(key for record in records for key in record if key not in (*named, "seed")))
    table = Table(*named, *tasks)
    for record in records:
        cells = ("" if task not in record else _cell(task, record[task]) for task in tasks)
        table.add_row(*(str(record[name]) for name in named), *cells)
    return table


def _cell(task: str, value: float) -> str:
    return f"{value:.2f}" if task == "coherence" else f"{value:.1%}"


def _accuracy(judge: Judge, questions: Sequence[Question]) -> float:
    answers = judge.choose(questions)
    return float(np.mean([answer == question.answer for answer, question in zip(answers, questions, strict=True)]))


def describe_kind(run_dir: Path, kind: str, limit: int, seed: int) -> Described:
    """Read the entities of a kind that have a text, at most `limit` evenly spaced ones, with all variants of words."""
    rows = [row for row in read_words(run_dir).to_pylist() if row["kind"] == kind and row["text"]]
    step = max(1, -(-len(rows) // limit))
    selected = range(0, len(rows), step)
    learnt = [rows[index]["words"] for index in selected]
    vocabulary = _vocabulary(run_dir, [row["words"] for row in rows])
    statistics = TextStatistics([row["text"] for row in rows], vocabulary)
    num_words, draws = len(learnt[0]) if learnt else 0, np.random.default_rng(seed)
    return Described(
        kind,
        [rows[index]["text"] for index in selected],
        {
            "learnt": learnt,
            "TF-IDF of the text": [statistics.tf_idf_words(index, num_words) for index in selected],
            "random": [draws.choice(vocabulary, num_words, replace=False).tolist() for _ in selected],
            "another's": [*learnt[1:], *learnt[:1]],
        },
        statistics,
    )


def _vocabulary(run_dir: Path, words: Sequence[Sequence[str]]) -> list[str]:
    """The vocabulary saved with the run; the words in use if there is none."""
    path = current_run(run_dir) / CODEBOOK
    return list(load_codebook(path)[0].words) if path.is_file() else sorted({word for own in words for word in own})


def _judges(arguments: argparse.Namespace) -> list[Judge]:
    """Build the judges that the arguments name.

    Raises:
        ConfigurationError: If no judge is named, or an encoder is the one that the words were trained with.
    """
    judges: list[Judge] = []
    for model in arguments.encoder:
        encoder = TextEncoder(model, precision="float32", cache_dir=arguments.cache_dir)
        trained = _trained_encoder(arguments.run)
        if trained is not None and encoder.identity == trained.identity:
            raise ConfigurationError(
                f"encoder: expected another model than the one that the words were trained with, got {model}; give one "
                "that is independent"
            )
        judges.append(EncoderJudge(Path(model).name, encoder.encode))
    judges += [LanguageModelJudge(model, arguments.orders, device=arguments.device) for model in arguments.lm]
    if arguments.url is not None:
        if arguments.model is None:
            raise ConfigurationError("model: expected the name of a model on the server beside --url, got none")
        client = ChatClient(arguments.url, read_api_key(arguments.api_key_env))
        judges.append(ServerJudge(client, arguments.model, arguments.concurrency))
    if not judges:
        raise ConfigurationError("judges: expected --encoder, --lm or --url, got none of them")
    return judges


def _trained_encoder(run_dir: Path) -> TextEncoder | None:
    """The text encoder that a run's configuration names; None if it is not a `TextEncoder`."""
    config = yaml.safe_load((current_run(run_dir) / "config.yaml").read_text())
    words = config["model"]["init_args"].get("words") or {}
    section = (words.get("init_args") or {}).get("encoder") or {}
    if not section.get("class_path", "TextEncoder").endswith("TextEncoder"):
        return None
    settings = section.get("init_args") or {}
    return TextEncoder(**{key: settings[key] for key in ("model", "pooling") if key in settings}, precision="float32")


def _parser() -> CommandParser:
    parser = CommandParser(prog="face judge", description="Ask independent judges about the words of a run.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished mapping or alignment run")
    parser.add_argument(
        "--encoder", nargs="+", default=[], metavar="MODEL", help="sentence encoders: folders or hub ids"
    )
    parser.add_argument("--lm", nargs="+", default=[], metavar="MODEL", help="causal language models on this machine")
    parser.add_argument("--url", help="address of an OpenAI-compatible server, such as http://localhost:8000/v1")
    parser.add_argument("--model", help="name of the model on the server")
    parser.add_argument("--api_key_env", metavar="NAME", help="environment variable with the server's key")
    parser.add_argument("--concurrency", type=int, default=8, help="concurrent requests to the server")
    parser.add_argument("--limit", type=int, default=200, help="maximum number of users, and of items (default 200)")
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=[10, 20, 60], help="numbers of texts to choose from in retrieval"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=f"tasks to judge: {', '.join(TASKS)} (default: all)",
    )
    parser.add_argument("--orders", type=int, default=4, help="orders of the options shown to a language model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the questions")
    parser.add_argument("--device", default="cpu", help="device of language models")
    parser.add_argument("--cache_dir", default="~/.cache/face_lightning", help="folder of vectors of encoders")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines; judgements.jsonl in the run by default")
    return parser
