"""Language models that read words: python -m benchmarks.language_model_tasks RUN_DIR --model FOLDER.

- generation: the model describes an item from its words. Measured are the cosine between the sentence vectors of that
  description and the item's text, and how often it is nearer than the texts of nine other items. Control: a prompt
  without words.
- ranking: the model ranks four items for a user, one of them a test item, by the log-likelihood of the item's words
  after the user's words, minus that after a prompt without them. Control: the log-likelihood after the latter alone.

`--url` sends the generation to an OpenAI-compatible server, where `--model` is the model's name; ranking needs the
likelihoods of a local model. RUN_DIR is a finished run of stage 2 or 3.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from rich import print as show
from torch import Tensor

from benchmarks.records import append
from face_lightning.errors import DataError
from face_lightning.recommending.recommender import Recommender
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.writing.client import ChatClient
from face_lightning.text.writing.local import LocalWriter
from face_lightning.text.writing.server import ServerWriter
from face_lightning.text.writing.word_prompts import WordPrompts
from face_lightning.text.writing.writer import Request, SummaryWriter

_CANDIDATES, _MAX_TOKENS = 10, 60


def generation(run_dir: Path, writer: SummaryWriter, domain: str, num_items: int, with_words: bool) -> dict[str, float]:
    """Similarity of generated texts to the items' own texts, and share whose own text is the nearest of ten."""
    table = pq.read_table(run_dir / "descriptors.parquet", columns=["kind", "id", "words", "text"]).to_pylist()
    items = [row for row in table if row["kind"] == "item" and row["text"]]
    draws = np.random.default_rng(0)
    chosen = [items[row] for row in draws.permutation(len(items))[:num_items]]
    requests = [
        Request("item", row["id"], {"domain": domain, "item_words": row["words"] if with_words else None})
        for row in chosen
    ]
    written = dict(writer.write(requests))
    texts = [written[place].text for place in range(len(chosen))]
    if not any(texts):
        raise DataError(f"model: expected descriptions, got none, the first error is: {written[0].error}; try another")
    encoder = TextEncoder()
    generated, own = encoder.encode(texts), encoder.encode([row["text"] for row in items])
    mean = own.mean(0)
    truth = encoder.encode([row["text"] for row in chosen])
    answered = ~generated.isnan().any(1)
    matched, others, picked = [], [], []
    for place in torch.nonzero(answered).flatten().tolist():
        wrong = torch.from_numpy(draws.choice(len(items), _CANDIDATES - 1, replace=False))
        vector = torch.nn.functional.normalize(generated[place] - mean, dim=0)
        against = torch.nn.functional.normalize(torch.cat([truth[place, None], own[wrong]]) - mean, dim=1) @ vector
        matched.append(float(against[0]))
        others.append(float(against[1:].mean()))
        picked.append(bool(against[0] > against[1:].max()))
    return {
        "similarity": float(np.mean(matched)),
        "mismatched": float(np.mean(others)),
        "picked_of_10": float(np.mean(picked)),
        "answered": float(answered.float().mean()),
    }


class Likelihoods:
    """Log-likelihoods of continuations under a local causal language model.

    Args:
        folder: Folder of the model.
    """

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        self.model: Any = model.eval()

    @torch.inference_mode()
    def of(self, prompt: str, continuation: str) -> float:
        """Mean log-likelihood of the tokens of a continuation after a prompt."""
        start = self.tokenizer(prompt)["input_ids"]
        rest = self.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        logits: Tensor = self.model(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1]
        return float(logits.log_softmax(-1).gather(1, torch.tensor(rest)[:, None]).mean())


def ranking(run_dir: Path, model: Likelihoods, domain: str, num_users: int) -> dict[str, dict[str, float]]:
    """Share of users whose test item comes first of four, with and without the user's words."""
    recommender = Recommender.load(run_dir)
    matrix = recommender.seen.matrix(2, len(recommender.entities.item_ids))
    draws = np.random.default_rng(0)
    users = draws.permutation(np.flatnonzero(np.diff(matrix.indptr)))[:num_users]
    words = {side: recommender.words_of(side).to_pylist() for side in ("users", "items")}
    plain = f"Somebody would enjoy a {domain} about"
    first: dict[str, list[bool]] = {"words": [], "no words": []}
    for user in users.tolist():
        target = int(draws.choice(matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]))
        known = recommender.seen.of(np.array([user]), "all")[1]
        others = draws.choice(np.setdiff1d(np.arange(matrix.shape[1]), known), 3, replace=False)
        prompt = f"Somebody who likes {', '.join(words['users'][user])} would enjoy a {domain} about"
        listed = [" " + ", ".join(words["items"][item]) for item in (target, *others.tolist())]
        alone = np.array([model.of(plain, text) for text in listed])
        after = np.array([model.of(prompt, text) for text in listed])
        first["words"].append(int((after - alone).argmax()) == 0)
        first["no words"].append(int(alone.argmax()) == 0)
    return {name: {"first_of_4": float(np.mean(values))} for name, values in first.items()}


def main() -> None:
    """Measure the given run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--model", required=True, help="folder of a local chat model, or its name on the server")
    parser.add_argument("--url", help="address of an OpenAI-compatible server, for the generation")
    parser.add_argument("--domain", default="movie")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--users", type=int, default=40)
    arguments = parser.parse_args()
    of_run = json.loads((arguments.run / "result.json").read_text())
    origin = {key: of_run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
    origin["model"] = Path(arguments.model).name + ("" if arguments.url is None else ", by a server")
    prompts = WordPrompts("generation", arguments.domain)
    writer: SummaryWriter
    if arguments.url is None:
        writer = LocalWriter(prompts, arguments.model, max_new_tokens=_MAX_TOKENS)
    else:  # on the same processors, concurrent requests are no faster
        client = ChatClient(arguments.url, timeout=600)
        writer = ServerWriter(prompts, client, arguments.url, arguments.model, concurrency=1, max_tokens=_MAX_TOKENS)
    if arguments.url is None:
        found = ranking(arguments.run, Likelihoods(arguments.model), arguments.domain, arguments.users)
        for variant, metrics in found.items():
            append("language_model_tasks", {**origin, "part": "ranking", "variant": variant, "metrics": metrics})
            show("ranking", variant, metrics)
    for variant, with_words in (("words", True), ("no words", False)):
        metrics = generation(arguments.run, writer, arguments.domain, arguments.items, with_words)
        append("language_model_tasks", {**origin, "part": "generation", "variant": variant, "metrics": metrics})
        show("generation", variant, metrics)


if __name__ == "__main__":
    main()
