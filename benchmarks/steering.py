"""Effect of steering by words: python -m benchmarks.steering ROOT RUN_DIR [RUN_DIR ...].

ROOT is a folder of `python -m benchmarks.withheld_topics`; RUN_DIR is a finished run of any stage on it, one per seed,
or of stage 1 on the same interactions with a backbone that reads no texts. For each topic, withheld from all texts or
not, the rankings of users are steered towards it and away from it at several strengths. Measured are NDCG@20 of the
topic's items, the mean absolute change of NDCG@20 of the other topics, and Recall@20 of the users' test items. Users
are drawn with the seed of the run. Ways of steering:

- words: `WordSteering` as in `Recommender.steer`, with the name of the topic as the only word
- text similarity: similarity of the item's text to the name, added to scores
- text similarity, same shape: exponential of the standardised similarity, as in words, without learning from examples
- ridge from text: inner product with the embedding that ridge regression predicts for the name
- tag filter: whether the item has the tag, which no text contains if the topic is withheld
- controls: a random word, the nearest other word of the vocabulary, the word nearest to the user's own history

All but the filter are standardised over items, so that equal strengths change scores equally. Ways are compared at
equal Recall@20, by interpolation. 95 % intervals are of a bootstrap over users and topics together, for each run and
for the mean over all runs. With `--split valid`, nothing is recorded and no test pair is read: it uses validation pairs
and every other topic, which the test leaves out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.records import append
from benchmarks.steering_curves import STRENGTHS, Curves, bootstrap, interpolate, ndcg, standardized
from benchmarks.steering_sessions import MISTAKES, simulate
from face_lightning.data.interactions import Interactions
from face_lightning.data.readers import RLMRecFolder
from face_lightning.recommending.recommender import Recommender
from face_lightning.recommending.steering import WordSteering
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, word_vectors
from face_lightning.words.centering import center

SHARES = (90, 75, 50)  # of Recall@20, in percent
WAYS = (
    *("words", "text similarity", "ridge from text", "text similarity, same shape", "tag filter"),
    *("random word", "synonym", "own word"),
)
KINDS = ("withheld", "seen")
COMPARED = ("text similarity", "ridge from text", "text similarity, same shape")


class Study:
    """Users, items, texts and topics of a data set, and the rankings of a run.

    Args:
        root: Folder of the data.
        run_dir: Folder of the run.
        num_users: Number of users, drawn among those with pairs in the split.
        split: "test", or "valid" for choosing settings.
        seed: Seed of the draw.
        domain: Kind of items, as named in their texts.
    """

    def __init__(
        self, root: Path, run_dir: Path, num_users: int, split: str = "test", seed: int = 0, domain: str = "movie"
    ) -> None:
        dataset = RLMRecFolder(root, domain=domain).read()
        assert dataset.profiles is not None
        self.interactions: Interactions = dataset.interactions
        self.recommender = Recommender.load(run_dir)
        users, self.items = self.recommender.embeddings()
        self.topics = json.loads((root / "topics.json").read_text())
        self.marked = torch.zeros(len(self.topics["items"]), len(self.items), dtype=torch.bool)
        for row, members in enumerate(self.topics["items"].values()):
            self.marked[row, members] = True
        self.rows = {topic: row for row, topic in enumerate(self.topics["items"])}
        encoder = TextEncoder()
        self.codebook, _ = build_codebook(encoder)
        of_words = word_vectors(encoder, self.codebook)
        self.words = center(of_words)
        names = list(self.topics["items"])
        named = F.normalize(encoder.encode(names) - of_words.mean(0), dim=1)
        self.names = dict(zip(names, named, strict=True))
        self.meanings = center(encoder.encode(dataset.profiles.item_texts)).nan_to_num()
        self.steering = WordSteering(self.items, self.meanings)
        train, valid, test = (self.interactions.matrix(split) for split in ("train", "valid", "test"))
        seen, relevant = (train, valid) if split == "valid" else (train + valid, test)
        users_of_split = np.flatnonzero(np.diff(relevant.indptr))
        self.users = np.sort(np.random.default_rng(seed).permutation(users_of_split)[:num_users])
        self.seen = torch.from_numpy(seen[self.users].toarray() > 0)
        self.relevant = torch.from_numpy(relevant[self.users].toarray() > 0)
        self.scores = standardized(users[self.users] @ self.items.T)
        self.open_scores = self.scores.masked_fill(self.seen, -torch.inf)
        points, weights = self.meanings, self.items - self.items.mean(0)
        gram = points.T @ points
        self.ridge = torch.linalg.solve(gram + gram.diagonal().mean() * torch.eye(len(gram)), points.T @ weights)
        history = torch.from_numpy(train[self.users].toarray()).float() @ self.meanings
        unique, places = (F.normalize(history, dim=1) @ self.words.T).argmax(1).unique(return_inverse=True)
        self.by_own_words = torch.stack([self._by_words(self.words[word]) for word in unique])[places]

    def recall(self, top: Tensor) -> Tensor:
        """Recall `(B,)` of each user's relevant items in the top `(B, 20)`."""
        return self.relevant.gather(1, top).sum(1) / self.relevant.sum(1)

    def ranked(self, relevance: Tensor | float = 0.0, strength: float = 0.0) -> Tensor:
        """Best unseen items `(B, 20)` after an edit of a strength below 1."""
        return ((1 - strength) * self.open_scores + strength * relevance).topk(20, dim=1).indices

    def relevance(self, way: str, topic: str) -> Tensor:
        """Term that a way of steering adds to scores: `(I,)`, or `(B, I)` if it differs between users."""
        name = self.names[topic]
        if way == "words":
            return self._by_words(name)
        if way == "text similarity":
            return torch.mv(self.meanings, name)
        if way == "text similarity, same shape":
            return torch.exp(standardized(torch.mv(self.meanings, name)))
        if way == "ridge from text":
            return torch.mv(self.items, name @ self.ridge)
        if way == "tag filter":
            return self.of_topic(topic).float()
        if way == "random word":
            return self._by_words(self.words[len(topic) * 997 % len(self.words)])
        if way == "synonym":
            return self._by_words(self.words[int((self.words @ name).argmax())])
        return self.by_own_words

    def of_topic(self, topic: str) -> Tensor:
        """Mask of the items of a topic, `(I,)`."""
        return self.marked[self.rows[topic]]

    def _by_words(self, meaning: Tensor) -> Tensor:
        return self.steering.relevance([self.steering.topic(meaning)], [])


def by_topic(study: Study, topics: list[str]) -> dict[str, dict[str, float]]:
    """Steerability of each topic: NDCG@20 before and after an edit of strength 0.5, and its possible causes.

    `precision` is the share of the topic's items among the 20 items nearest to its name by text, from which the
    direction is learnt. `auc` is the probability that an item of the topic ranks before another item along a direction
    in the embedding space that is fitted to the tag itself, an upper bound for any direction.
    """
    found = {}
    plain = study.ranked()
    for topic in topics:
        marked = study.of_topic(topic)
        steered = study.ranked(standardized(study.relevance("words", topic)), 0.5)
        nearest = (study.meanings @ study.names[topic]).topk(20).indices
        points = study.items - study.items.mean(0)
        gram = points.T @ points
        gram.diagonal().add_(gram.diagonal().mean())
        along = points @ torch.linalg.solve(gram, points[marked].sum(0))
        ranks = along.argsort().argsort()[marked].double()
        count, rest = int(marked.sum()), int((~marked).sum())
        found[topic] = {
            "items": count,
            "before": float(ndcg(plain, marked[None]).mean()),
            "after": float(ndcg(steered, marked[None]).mean()),
            "precision": float(marked[nearest].float().mean()),
            "auc": float((ranks.sum() - count * (count - 1) / 2) / (count * rest)),
        }
    return found


def measure_control(study: Study, curves: dict[str, Curves], topics: list[str]) -> dict[str, dict[str, Any]]:
    """Metrics of each way of steering, for more of the topics and for less."""
    found: dict[str, dict[str, Any]] = {}
    for way, more in curves.items():
        less = Curves(study, way, topics, -1, STRENGTHS if way == "words" else (0.0, 0.5))
        half = less.strengths.index(0.5)
        recalls, values, others = more.recall.mean((1, 2)), more.ndcg.mean((1, 2)), more.others.mean(1)
        metrics = {
            "topic_ndcg": float(values[0]),
            "plain_recall": float(recalls[0]),
            "less_ndcg": float(less.ndcg[half].mean()),
            "less_recall": float(less.recall[half].mean()),
            "more_ndcg": float(values[STRENGTHS.index(0.5)]),
            "more_recall": float(recalls[STRENGTHS.index(0.5)]),
        }
        for share in SHARES:
            metrics[f"topic_ndcg_at_{share}"] = more.at(share / 100)
            metrics[f"others_at_{share}"] = interpolate(recalls.tolist(), others.tolist(), share / 100)
            if way == "words":
                for name in (way for way in COMPARED if way in curves):
                    low, high = bootstrap([(more, curves[name])], share / 100)
                    metrics |= {f"{name}: low_at_{share}": low, f"{name}: high_at_{share}": high}
        found[way] = {"metrics": metrics, "curve": more.rows(), "less_curve": less.rows()}
    return found


def main() -> None:
    """Measure the given runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--domain", choices=["movie", "game", "item"], default="movie", help="kind of items")
    parser.add_argument("--split", choices=["valid", "test"], default="test")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument(
        "--topics", type=int, default=40, help="number of topics of each kind, evenly spaced by frequency"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of topics")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="ways of steering besides words")
    parser.add_argument("--sessions", type=int, default=200, help="number of sessions of each simulated user")
    arguments = parser.parse_args()
    found = [measure(arguments, run) for run in arguments.runs]
    for kind in found[0] if len(found) > 1 else ():
        compare([curves[kind] for curves in found], kind, arguments)


def compare(runs: list[dict[str, Curves]], kind: str, arguments: argparse.Namespace) -> None:
    """Differences between words and other ways, means over runs, with intervals over topics and users."""
    for name in (way for way in COMPARED if way in runs[0]):
        metrics: dict[str, float] = {}
        for share in SHARES:
            pairs = [(curves["words"], curves[name]) for curves in runs]
            differences = [one.at(share / 100) - other.at(share / 100) for one, other in pairs]
            low, high = bootstrap(pairs, share / 100)
            metrics |= {f"at_{share}": float(np.mean(differences)), f"low_at_{share}": low, f"high_at_{share}": high}
        print(kind, "words against", name, {key: round(value, 4) for key, value in metrics.items()}, flush=True)
        if arguments.split == "test":
            about = {"dataset": arguments.root.name, "part": f"all runs, {kind}", "variant": name, "runs": len(runs)}
            append("steering", {**about, "num_topics": runs[0]["words"].ndcg.shape[1], "metrics": metrics})


def measure(arguments: argparse.Namespace, run: Path) -> dict[str, dict[str, Curves]]:
    """Measure a run and record it unless it is for choosing settings; curves of each way, by kind of topics."""
    of_run = json.loads((run / "result.json").read_text())
    origin = {key: of_run[key] for key in ("backbone", "stage", "seed", "fingerprint")}
    origin["dataset"] = arguments.root.name
    study = Study(arguments.root, run, arguments.users, arguments.split, of_run["seed"], arguments.domain)
    tested, result = arguments.split == "test", {}
    for kind in arguments.kinds:
        topics = study.topics[kind][0 if tested else 1 :: 2]
        topics = topics[:: max(1, -(-len(topics) // arguments.topics))]
        if not topics:
            continue
        ways = dict.fromkeys(("words", *arguments.ways))
        result[kind] = {way: Curves(study, way, topics, 1) for way in ways}
        found = measure_control(study, result[kind], topics)
        show(f"{run}: {kind}", found)
        if tested:
            for way, measured in found.items():
                about = {**origin, "part": kind, "variant": way, "num_topics": len(topics), **measured}
                append("steering", {**about, "num_users": len(study.users)})
            about = {**origin, "part": f"topics, {kind}", "variant": "words"}
            append("steering", {**about, "topics": by_topic(study, study.topics[kind])})
    for user, mistakes in MISTAKES.items() if arguments.sessions else ():
        metrics = simulate(study, user, mistakes, arguments.sessions)
        print(user, metrics, flush=True)
        if tested:
            append("steering", {**origin, "part": "sessions", "variant": user, "metrics": metrics})
    return result


def show(title: str, found: dict[str, dict[str, Any]]) -> None:
    """Print the main metrics of each way."""
    keys = [f"topic_ndcg_at_{share}" for share in SHARES] + ["others_at_75", "less_ndcg", "less_recall"]
    table = Table("", *keys, title=title)
    for way, measured in found.items():
        table.add_row(way, *(f"{measured['metrics'][key]:.3f}" for key in keys))
    Console(width=140).print(table)
    print({key: round(value, 4) for key, value in found["words"]["metrics"].items() if ":" in key}, flush=True)


if __name__ == "__main__":
    main()
