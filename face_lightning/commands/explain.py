"""`face explain`: explain why an item suits a user, from the words of both."""

from collections.abc import Sequence
from pathlib import Path

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.commands.summarize import language_model_writer
from face_lightning.errors import DataError
from face_lightning.plain_text import printable
from face_lightning.recommending.explanations import Explanation, explanation_text
from face_lightning.recommending.recommender import Recommender
from face_lightning.text.writing.word_prompts import WordPrompts
from face_lightning.text.writing.writer import Request

# Options of `face summarize` that a single request does not need.
_FIXED = {"batch_size": 1, "concurrency": 1, "per_minute": None, "retries": 2, "backoff": 1.0, "json_mode": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the words of a user and an item, the closest pairs, and an explanation.

    Args:
        argv: Arguments after `face explain`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        DataError: If ids are unknown, or the language model gives no usable answer.
        CheckpointError: If the run has no words.
        ConfigurationError: If the language model cannot be reached or loaded.
    """
    parser = CommandParser(prog="face explain", description="Explain why an item suits a user, from their words.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished mapping or alignment run")
    parser.add_argument("--user", required=True, metavar="ID", help="original id of the user")
    parser.add_argument("--item", required=True, metavar="ID", help="original id of the item")
    parser.add_argument(
        "--writer",
        choices=["template", "local", "server"],
        default="template",
        help="a template (default), a local chat model, or an OpenAI-compatible server",
    )
    parser.add_argument("--domain", default="item", help="kind of items, for the prompt (default item)")
    parser.add_argument("--model", help="folder or hub id of the chat model, or its name on the server")
    parser.add_argument("--url", help="address of the server, such as http://localhost:8000/v1")
    parser.add_argument("--api_key_env", help="variable with the server's key")
    parser.add_argument("--max_tokens", type=int, default=120, help="maximum number of tokens of an answer")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for the server")
    parser.add_argument("--device", default="cpu", help="device of the local model (default cpu)")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.set_defaults(**_FIXED)
    arguments = parser.parse_args(argv)
    recommender = Recommender.load(arguments.run)
    explanation = recommender.explain(arguments.user, arguments.item)
    title = recommender.label_of("items", arguments.item)
    text = explanation_text(explanation, arguments.user, title)
    if arguments.writer != "template":
        with Steps(2) as steps:
            steps("loading the language model")
            writer = language_model_writer(arguments, WordPrompts("explanation", arguments.domain))
            steps("waiting for its explanation")
            ((_, summary),) = writer.write([explanation_request(explanation, title, arguments.domain)])
        if summary.text is None:
            raise DataError(
                f"writer: expected an explanation, got none ({summary.error}); check --model, or use another"
            )
        text = summary.text
    links = ", ".join(f"{link.user_word} ~ {link.item_word} ({link.similarity:.2f})" for link in explanation.links)
    for label, shown in (
        ("user", " ".join(explanation.user_words)),
        ("item", f"{title}: {' '.join(explanation.item_words)}"),
        ("closest", links),
        ("why", text),
    ):
        print(f"{label:<8} {printable(shown)}")
    return 0


def explanation_request(explanation: Explanation, title: str, domain: str) -> Request:
    """Request for a language model to explain an item to a user."""
    fields = {
        "title": title,
        "domain": domain,
        "item_words": explanation.item_words,
        "user_words": explanation.user_words,
    }
    return Request("item", title, fields)
