"""What an edit by words does: python -m benchmarks.steering ROOT RUN_DIR.

ROOT is a folder of `python -m benchmarks.withheld_topics`, RUN_DIR a finished run of any stage on it. For every topic,
withheld from all texts or not, the users' rankings are steered towards it, and away from it, at several strengths:
NDCG@20 of the topic's items, mean absolute change of NDCG@20 of other topics, and Recall@20 of the users' test items.

- words: `WordSteering`, as `Recommender.steer` does it, with the topic's name as the only word
- text similarity: similarity of the item's text with the name, added to scores
- ridge from text: inner product with the embedding that ridge regression predicts for the name
- tag filter: whether the item has the tag, which no text tells where the topic is withheld
- controls: a random word, the nearest other word of the vocabulary, the word nearest to the user's own history

All but the filter are standardised over items, so that the same strength moves scores alike. A session asks for the
word that best tells a test item from the current ten best, until the item is among the ten, five times at most.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.records import append
from face_lightning.data.interactions import Interactions
from face_lightning.data.readers import RLMRecFolder
from face_lightning.recommending.recommender import Recommender
from face_lightning.recommending.steering import WordSteering
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, word_vectors
from face_lightning.words.centering import center

STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
CONTROLS = ("random word", "synonym", "own word")
_DISCOUNTS = 1 / torch.log2(torch.arange(20) + 2.0)


class Study:
    """Users, items, texts and topics of a data set, and the rankings of a run.

    Args:
        root: Folder of the data.
        run_dir: Folder of the run.
        num_users: How many users take part, drawn with seed 0 among those with test items.
    """

    def __init__(self, root: Path, run_dir: Path, num_users: int) -> None:
        dataset = RLMRecFolder(root, domain="game" if "steam" in root.name else "movie").read()
        assert dataset.profiles is not None
        self.interactions: Interactions = dataset.interactions
        users, self.items = Recommender.load(run_dir).embeddings()
        self.topics = json.loads((root / "topics.json").read_text())
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
        tested = np.flatnonzero(np.diff(test.indptr))
        self.users = np.sort(np.random.default_rng(0).permutation(tested)[:num_users])
        self.seen = torch.from_numpy((train + valid)[self.users].toarray() > 0)
        self.relevant = torch.from_numpy(test[self.users].toarray() > 0)
        self.scores = _standardized(users[self.users] @ self.items.T)
        points, weights = self.meanings, self.items - self.items.mean(0)
        gram = points.T @ points
        self.ridge = torch.linalg.solve(gram + gram.diagonal().mean() * torch.eye(len(gram)), points.T @ weights)
        history = torch.from_numpy(train[self.users].toarray()).float() @ self.meanings
        self.own_words = (F.normalize(history, dim=1) @ self.words.T).argmax(1)

    def recall(self, top: Tensor) -> float:
        """Mean share of users' test items among the top `(B, 20)`."""
        hits = self.relevant.gather(1, top).sum(1)
        return float((hits / self.relevant.sum(1)).mean())

    def ranked(self, scores: Tensor) -> Tensor:
        """Best unseen items `(B, 20)`."""
        return scores.masked_fill(self.seen, -torch.inf).topk(20, dim=1).indices

    def relevance(self, way: str, topic: str) -> Tensor:
        """What a way of steering adds to scores for a topic: `(I,)`, or `(B, I)` where it differs between users."""
        name = self.names[topic]
        if way == "words":
            return self._by_words(name)
        if way == "text similarity":
            return torch.mv(self.meanings, name)
        if way == "ridge from text":
            return torch.mv(self.items, name @ self.ridge)
        if way == "tag filter":
            return 1e3 * self.of_topic(topic).float()
        if way == "random word":
            return self._by_words(self.words[len(topic) * 997 % len(self.words)])
        if way == "synonym":
            return self._by_words(self.words[int((self.words @ name).argmax())])
        unique, places = self.own_words.unique(return_inverse=True)
        return torch.stack([self._by_words(self.words[word]) for word in unique])[places]

    def of_topic(self, topic: str) -> Tensor:
        """Which items have a topic `(I,)`."""
        marked = torch.zeros(len(self.items), dtype=torch.bool)
        marked[self.topics["items"][topic]] = True
        return marked

    def _by_words(self, meaning: Tensor) -> Tensor:
        return self.steering.catalogue.table @ self.steering.direction(meaning)


def ndcg(top: Tensor, marked: Tensor) -> float:
    """Mean NDCG@20 of marked items `(I,)` in rankings `(B, 20)`."""
    ideal = _DISCOUNTS[: min(20, int(marked.sum()))].sum()
    return float((marked[top].float() @ _DISCOUNTS).mean() / ideal)


def control(study: Study, way: str, topics: list[str], sign: int) -> list[dict[str, float]]:
    """NDCG@20 of topics, of others, and Recall@20 for every strength, means over topics."""
    others = [study.of_topic(topic) for topic in topics]
    plain = study.ranked(study.scores)
    before = [ndcg(plain, marked) for marked in others]
    rows = []
    relevances = [
        _standardized(study.relevance(way, topic)) if way != "tag filter" else study.relevance(way, topic)
        for topic in topics
    ]
    for strength in STRENGTHS:
        found = []
        for place, relevance in enumerate(relevances):
            top = study.ranked((1 - strength) * study.scores + sign * strength * relevance)
            elsewhere = (
                [
                    abs(ndcg(top, other) - old)
                    for number, (other, old) in enumerate(zip(others, before, strict=True))
                    if number != place
                ]
                if way == "words"
                else [0.0]
            )
            found.append((ndcg(top, others[place]), study.recall(top), float(np.mean(elsewhere))))
        of_topic, recall, of_others = np.mean(found, axis=0)
        rows.append(
            {"strength": strength, "topic_ndcg@20": of_topic, "test/recall@20": recall, "others_change": of_others}
        )
    return [
        {
            "strength": 0.0,
            "topic_ndcg@20": float(np.mean(before)),
            "test/recall@20": study.recall(plain),
            "others_change": 0.0,
        },
        *rows,
    ]


def by_topic(study: Study, topics: list[str]) -> dict[str, dict[str, float]]:
    """How far each topic can be controlled, and why: NDCG@20 before and after an edit of strength 0.5.

    `precision` is the share of the topic's items among the 20 items whose texts lie nearest to its name, which the
    direction is learnt from; `auc` the probability that the run's embeddings rank an item of the topic before another
    one along a direction that is fitted to the tag itself: a bound for any direction.
    """
    found = {}
    plain = study.ranked(study.scores)
    for topic in topics:
        marked = study.of_topic(topic)
        steered = study.ranked(study.scores + _standardized(study.relevance("words", topic)))
        nearest = (study.meanings @ study.names[topic]).topk(20).indices
        points = study.items - study.items.mean(0)
        gram = points.T @ points
        gram.diagonal().add_(gram.diagonal().mean())
        along = points @ torch.linalg.solve(gram, points[marked].sum(0))
        ranks = along.argsort().argsort()[marked].double()
        count, rest = int(marked.sum()), int((~marked).sum())
        found[topic] = {
            "items": count,
            "before": ndcg(plain, marked),
            "after": ndcg(steered, marked),
            "precision": float(marked[nearest].float().mean()),
            "auc": float((ranks.sum() - count * (count - 1) / 2) / (count * rest)),
        }
    return found


def at_recall(rows: list[dict[str, float]], share: float) -> float:
    """NDCG@20 of the topic where Recall@20 has fallen to a share of the plain ranking's, by interpolation."""
    recalls = [row["test/recall@20"] / rows[0]["test/recall@20"] for row in rows]
    values = [row["topic_ndcg@20"] for row in rows]
    for place in range(len(rows) - 1):
        high, low = recalls[place], recalls[place + 1]
        if low <= share <= high:
            return values[place] + (values[place + 1] - values[place]) * (high - share) / max(high - low, 1e-9)
    return float("nan")


def sessions(study: Study, num_sessions: int, strength: float = 0.65) -> dict[str, float]:
    """Share of test items that reach the ten best after at most five words, and the milliseconds of an edit."""
    draws = np.random.default_rng(1)
    turns, seconds = [], []
    for place in draws.permutation(len(study.users))[:num_sessions]:
        target = int(draws.choice(torch.nonzero(study.relevant[place]).flatten().numpy()))
        scores, asked, directions = study.scores[place], list[int](), list[Tensor]()
        hidden = study.seen[place]
        for turn in range(6):
            best = scores.masked_fill(hidden, -torch.inf).topk(10).indices
            if target in best.tolist():
                turns.append(turn)
                break
            if turn == 5:
                turns.append(6)
                break
            contrast = study.words @ (study.meanings[target] - study.meanings[best].mean(0))
            contrast[asked] = -torch.inf
            asked.append(int(contrast.argmax()))
            begin = time.perf_counter()
            directions.append(study.steering.direction(study.words[asked[-1]]))
            edit = study.steering.catalogue.table @ study.steering.combine(directions, [])
            scores = (1 - strength) * study.scores[place] + strength * _standardized(edit)
            seconds.append(time.perf_counter() - begin)
    reached = np.array(turns)
    return {
        "at_start": float((reached == 0).mean()),
        "within_5": float((reached <= 5).mean()),
        "mean_turns": float(reached[reached <= 5].mean()),
        "edit_ms": 1e3 * float(np.median(seconds)),
    }


def _standardized(values: Tensor) -> Tensor:
    return (values - values.mean(-1, keepdim=True)) / values.std(-1, keepdim=True)


def main() -> None:
    """Measure the run that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--topics", type=int, default=40, help="how many of each kind, evenly spaced by frequency")
    parser.add_argument("--sessions", type=int, default=200)
    arguments = parser.parse_args()
    study = Study(arguments.root, arguments.run, arguments.users)
    of_run = json.loads((arguments.run / "result.json").read_text())
    origin = {key: of_run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
    kinds = [kind for kind in ("withheld", "seen") if study.topics[kind]]
    for kind in kinds:
        topics: list[str] = study.topics[kind]
        record_control(study, kind, topics[:: -(-len(topics) // arguments.topics)], origin)
    for kind in kinds:
        record_topics(study, kind, origin)
    found = sessions(study, arguments.sessions)
    append("steering", {**origin, "part": "sessions", "variant": "words", "metrics": found})
    print(found)


def record_control(study: Study, kind: str, topics: list[str], origin: dict[str, Any]) -> None:
    """How well every way controls topics of a kind, more and less of them."""
    table = Table(kind, "NDCG@20 at 90 %", "75 %", "50 % of Recall@20", "less, 0.5", "others, 0.5")
    for way in ("words", "text similarity", "ridge from text", "tag filter", *CONTROLS):
        more, less = (control(study, way, topics, sign) for sign in (1, -1))
        at_half = more[3]
        metrics = {
            "topic_ndcg": more[0]["topic_ndcg@20"],
            **{f"topic_ndcg_at_{share}": at_recall(more, share / 100) for share in (90, 75, 50)},
            "less_ndcg": less[3]["topic_ndcg@20"],
            "less_recall": less[3]["test/recall@20"],
            "others_change": at_half["others_change"],
            "more_ndcg": at_half["topic_ndcg@20"],
            "more_recall": at_half["test/recall@20"],
            "plain_recall": more[0]["test/recall@20"],
        }
        about = {**origin, "part": kind, "variant": way, "num_topics": len(topics)}
        append("steering", {**about, "metrics": metrics, "curve": more, "curve_less": less})
        shown = ("topic_ndcg_at_90", "topic_ndcg_at_75", "topic_ndcg_at_50", "less_ndcg", "others_change")
        table.add_row(way, *(f"{metrics[name]:.3f}" for name in shown))
    Console(width=120).print(table)


def record_topics(study: Study, kind: str, origin: dict[str, Any]) -> None:
    """What words change of every topic of a kind; prints the least and the best controlled ones."""
    per_topic = by_topic(study, study.topics[kind])
    append("steering", {**origin, "part": f"topics, {kind}", "variant": "words", "topics": per_topic})
    least = sorted(per_topic, key=lambda topic: per_topic[topic]["after"] - per_topic[topic]["before"])
    for topic in (*least[:12], "...", *least[-6:]):
        print(topic, {name: round(value, 3) for name, value in per_topic.get(topic, {}).items()})


if __name__ == "__main__":
    main()
