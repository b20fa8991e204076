"""Tables of benchmarks/README.md on steering by words, cold start and language models that read words."""

import math
from collections.abc import Sequence

from benchmarks.records import read
from benchmarks.table_format import Column, Record, Table, Where, count, mean, newest, percent

_WAYS = {
    "**words**": "words",
    "text similarity added to scores": "text similarity",
    "exponential of text similarity added to scores": "text similarity, same shape",
    "ridge regression from text": "ridge from text",
    "tag filter (knows the tags)": "tag filter",
    "control: a random word": "random word",
    "control: the nearest other word": "synonym",
    "control: the user's own word": "own word",
}


def _steering(dataset: str, part: str, num_topics: int, options: str = "") -> Table:
    source = {"benchmark": "steering", "dataset": dataset, "part": part, "num_users": 200, "num_topics": num_topics}
    return Table(
        sources=[source],
        labels=[f"{dataset}, topics {'in no text' if part == 'withheld' else 'of the texts'}"],
        rows={label: {"variant": variant} for label, variant in _WAYS.items()},
        columns=[
            Column("without an edit", mean("topic_ndcg", ".3f")),
            Column("more, at 90 % of Recall@20", mean("topic_ndcg_at_90", ".3f")),
            Column("more, at 75 %", mean("topic_ndcg_at_75", ".3f")),
            Column("more, at 50 %", mean("topic_ndcg_at_50", ".3f")),
            Column("change of other topics at 75 %", mean("others_at_75", ".3f")),
            Column("less, at strength 0.5", mean("less_ndcg", ".3f")),
            Column("less: Recall@20", mean("less_recall")),
            Column("topics", lambda records, _: str(records[0]["num_topics"])),
            Column("seeds", count),
        ],
        command=f"python -m benchmarks.steering ROOT RUN_DIR ... {options}".strip(),
    )


def _differences() -> list[Record]:
    """A record per seed, share of Recall@20 and way that words are compared with."""
    lines = newest([{"benchmark": "steering", "num_users": 200}], {})
    lines = [line for line in lines if "less_curve" in line]  # records of earlier versions are of another form of edits
    measured = {tuple(line[key] for key in ("dataset", "part", "seed", "variant")): line for line in lines}
    found = []
    for (dataset, part, seed, _), line in sorted(measured.items()):
        for name in dict.fromkeys(key.split(": ")[0] for key in line.get("metrics", {}) if ": low_at_" in key):
            other = measured[dataset, part, seed, name]["metrics"]
            for share in (90, 75, 50):
                key, own = f"topic_ndcg_at_{share}", line["metrics"]
                low, high = own[f"{name}: low_at_{share}"], own[f"{name}: high_at_{share}"]
                metrics = {"difference": own[key] - other[key], "low": low, "high": high}
                found.append({**line, "against": name, "share": f"{share} %", "metrics": metrics})
    return sorted(found, key=lambda line: (line["dataset"], line["part"], line["against"]))


def _intervals(records: Sequence[Record], _: object) -> str:
    """Intervals by seed."""
    metrics = [record["metrics"] for record in records]
    known = [one for one in metrics if not math.isnan(one["difference"])]
    return ", ".join(f"{one['low']:+.3f} to {one['high']:+.3f}" for one in known)


def _pooled() -> list[Record]:
    """A record per share of Recall@20 and way that words are compared with, over all runs of a command."""
    found = []
    for line in newest([{"benchmark": "steering"}], {}):
        if line["part"].startswith("all runs"):
            for share in (90, 75, 50):
                names = ("difference", f"at_{share}"), ("low", f"low_at_{share}"), ("high", f"high_at_{share}")
                metrics = {name: line["metrics"][key] for name, key in names}
                topics = line["part"].removeprefix("all runs, ")
                found.append({**line, "topics": topics, "share": f"{share} %", "metrics": metrics})
    return sorted(found, key=lambda line: (line["dataset"], line["topics"] == "seen", line["variant"]))


def _curves() -> list[Record]:
    """A record of words per seed and strength."""
    lines = newest([{"benchmark": "steering", "num_users": 200, "variant": "words"}], {})
    found = []
    for line in (line for line in lines if "less_curve" in line):
        plain = line["curve"][0]["topic_ndcg@20"]
        for more, less in zip(line["curve"], line["less_curve"], strict=True):
            metrics = {
                **{f"more {key}": value for key, value in more.items()},
                **{f"less {key}": value for key, value in less.items()},
                "change": more["topic_ndcg@20"] - plain,
            }
            found.append({**line, "strength": f"{more['strength']:g}", "metrics": metrics})
    return sorted(found, key=lambda line: (line["dataset"], line["part"], float(line["strength"])))


def _by_precision() -> list[Record]:
    """A record per topic of the newest runs, with the range of its precision."""
    lines = read("steering")
    known = {(line["dataset"], f"topics, {line['part']}") for line in lines if "less_curve" in line}
    last = {(line["dataset"], line["part"]): line for line in lines if (line["dataset"], line["part"]) in known}
    found = []
    for line in last.values():
        for topic in line["topics"].values():
            bound = next(bound for bound in (0.1, 0.3, 0.6, 1.1) if topic["precision"] < bound)
            ranges = {0.1: "below 10 %", 0.3: "10 to 30 %", 0.6: "30 to 60 %", 1.1: "60 % and more"}
            metrics = {"gain": topic["after"] - topic["before"], "auc": topic["auc"], "items": topic["items"]}
            found.append({**line, "range": ranges[bound], "bound": bound, "metrics": metrics})
    return sorted(found, key=lambda line: (line["dataset"], line["part"], line["bound"]))


_RANKINGS = {
    "kernel ridge from text (`Recommender` fits it on 4,096 items at most, here on all)": "text",
    "kernel ridge from 16 words": "words",
    "kernel ridge from TF-IDF of tags": "tags",
    "kernel ridge from both kernels": "text + tags",
    "profile of the history, without embeddings": "profile",
    "**embedding + profile**": "embedding + profile",
}
_COLD: dict[str, Where] = {
    f"{backbone} ({dim}-d): {label}": {"variant": variant, "backbone": backbone}
    for backbone, dim in (("least squares", 256), ("LightGCN", 64))
    for label, variant in _RANKINGS.items()
}
_COLD |= {
    f"AlphaRec (256-d): its own text model, temperature {value}": {
        "variant": "own text model",
        "backbone": "AlphaRec",
        "case": f"temperature {value}",
    }
    for value in ("0.15", "0.1")
}
STEERING: dict[str, Table] = {
    "steering-ml-100k": _steering("ml", "withheld", 9),
    "steering-steam-withheld": _steering(
        "steam", "withheld", 49, "--domain game --topics 49 --kinds withheld --sessions 0"
    ),
    "steering-steam-seen": _steering("steam", "seen", 24, "--domain game --topics 25 --kinds seen"),
    "steering-citeulike": _steering(
        "citeulike-a",
        "withheld",
        95,
        "--domain item --topics 95 --kinds withheld --sessions 0 "
        "--ways 'text similarity' 'text similarity, same shape' 'ridge from text'",
    ),
    "steering-differences": Table(
        load=_differences,
        labels=["data", "topics", "words compared with", "share of Recall@20"],
        by=["dataset", "part", "against", "share"],
        columns=[
            Column("difference of NDCG@20", mean("difference", ".3f")),
            Column("95 % interval, by seed", _intervals),
        ],
        command="python -m benchmarks.steering ROOT RUN_DIR ...",
    ),
    "steering-pooled": Table(
        load=_pooled,
        labels=["data", "topics", "words compared with", "share of Recall@20"],
        by=["dataset", "topics", "variant", "share"],
        columns=[
            Column("difference of NDCG@20", mean("difference", "+.3f")),
            Column("95 % interval", _intervals),
            Column("topics", lambda records, _: str(records[0]["num_topics"])),
            Column("seeds", lambda records, _: str(records[0]["runs"])),
        ],
        command="python -m benchmarks.steering ROOT RUN_DIR ...",
    ),
    "steering-curve": Table(
        load=_curves,
        labels=["data", "topics", "strength"],
        by=["dataset", "part", "strength"],
        columns=[
            Column("more: NDCG@20", mean("more topic_ndcg@20", ".3f")),
            Column("more: change of NDCG@20", mean("change", ".3f")),
            Column("more: change of other topics", mean("more others_change", ".3f")),
            Column("more: Recall@20", mean("more test/recall@20")),
            Column("less: NDCG@20", mean("less topic_ndcg@20", ".3f")),
            Column("less: change of other topics", mean("less others_change", ".3f")),
            Column("less: Recall@20", mean("less test/recall@20")),
            Column("seeds", count),
        ],
        command="python -m benchmarks.steering ROOT RUN_DIR ...",
    ),
    "steering-speed": Table(
        sources=[{"benchmark": "steering", "part": "speed"}],
        labels=["data", "edit"],
        by=["dataset", "variant"],
        columns=[
            Column("median, ms", mean("p50_ms", ".2f")),
            Column("95th percentile, ms", mean("p95_ms", ".2f")),
            Column("processor time: median, ms", mean("p50_cpu_ms", ".2f")),
        ],
        command="python -m benchmarks.steering_speed RUN_DIR ...",
    ),
    "controllable": Table(
        load=_by_precision,
        labels=["data", "topics", "the topic's share of the 20 items nearest by text"],
        by=["dataset", "part", "range"],
        columns=[
            Column("change of NDCG@20", mean("gain", ".3f")),
            Column("AUC of the tag from embeddings, in sample", mean("auc", ".3f")),
            Column("items of a topic", mean("items", ".0f")),
            Column("topics", lambda records, _: str(len(records))),
        ],
        command="python -m benchmarks.steering ROOT RUN_DIR ...",
    ),
    "word-bottleneck": Table(
        sources=[{"benchmark": "word_bottleneck"}],
        labels=["data", "stage", "users represented by"],
        by=["dataset", "stage", "variant"],
        columns=[
            Column("Recall@20", mean("test/recall@20")),
            Column("NDCG@20", mean("test/ndcg@20")),
            Column("share of the embedding's Recall@20, %", percent("kept")),
            Column("seeds", count),
        ],
        command="python -m benchmarks.word_bottleneck RUN_DIR ...",
    ),
    "sessions": Table(
        sources=[{"benchmark": "steering", "part": "sessions", "sessions": 200}],
        labels=["data", "the user goes by the item's"],
        by=["dataset", "variant"],
        columns=[
            Column("in the top 10 at the start, %", percent("at_start")),
            Column("in the top 10 within five words, %", percent("within_5")),
            Column("words asked for", mean("mean_turns", ".1f")),
            Column("seeds", count),
        ],
        command="python -m benchmarks.steering ROOT RUN_DIR ...",
    ),
    "cold-start": Table(
        sources=[{"benchmark": "cold_start"}],
        labels=["cold items of citeulike-a"],
        rows=_COLD,
        columns=[
            Column("Recall@20", mean("cold/recall@20")),
            Column("NDCG@20", mean("cold/ndcg@20")),
            Column("warm Recall@20", mean("warm/recall@20|test/recall@20")),
            Column("warm Recall@20, cold items ranked as well", mean("warm_among_all/recall@20")),
            Column("seeds", count),
        ],
    ),
    "language-model-tasks": Table(
        sources=[{"benchmark": "language_model_tasks"}],
        labels=["task", "model", "prompt"],
        by=["part", "model", "variant"],
        columns=[
            Column("similarity to the item's own text", mean("similarity", ".3f")),
            Column("to texts of other items", mean("mismatched", ".3f")),
            Column("own text nearest of 10, %", percent("picked_of_10")),
            Column("test item first of 4, %", percent("first_of_4")),
        ],
        command="python -m benchmarks.language_model_tasks RUN_DIR --model FOLDER",
    ),
}
