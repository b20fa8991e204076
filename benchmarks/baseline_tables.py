"""Tables of benchmarks/README.md on recommenders without texts: baselines, losses, untuned settings."""

import statistics
from collections.abc import Sequence

from benchmarks.backbones import PUBLISHED
from benchmarks.records import read
from benchmarks.table_format import COMMON, MOVIELENS, NDCG, RECALL, Column, Record, Table, Where, count, mean, value

QUALITY = (Column("Recall@20", mean(RECALL)), Column("NDCG@20", mean(NDCG)))

# Sources of the comparison of methods.
BESIDE: tuple[Where, ...] = (
    {"benchmark": "baselines"},
    {"benchmark": "backbones", "embedding_dim": 256, "dataset": ("amazon-book", "yelp")},
    {**COMMON, "run": "stage1", "dataset": ("steam-vt", "ml-100k")},
    {**COMMON, "run": "stage3"},
)
METHODS: dict[str, Where] = {
    **{name: {"backbone": name, "stage": "pretraining"} for name in ("GMF", "LightGCN", "SimGCL", "LightGCL")},
    **{f"**FACE on {name}**": {"backbone": name, "stage": "alignment"} for name in ("GMF", "LightGCN")},
}
DATASETS = {"amazon-book": ("amazon-book",), "yelp": ("yelp",), "steam-vt": ("steam-vt",), "ml-100k": MOVIELENS}


def published(records: Sequence[Record], _: object) -> str:
    """Published Recall@20."""
    key = (records[0]["dataset"], records[0]["backbone"], records[0]["embedding_dim"])
    return f"{PUBLISHED[key]:.4f}" if key in PUBLISHED else ""


def searched(dataset: str) -> float:
    """Test Recall@20 of the settings searched on the data set, a mean over seeds."""
    case = {"dataset": dataset, "variant": "als", "embedding_dim": 256}
    newest = {line["seed"]: float(value(line, RECALL)) for line in read("baselines") if case.items() <= line.items()}
    return statistics.mean(newest.values())


def of_searched(records: Sequence[Record], _: object) -> str:
    """Mean Recall@20 in percent of that of the settings searched on the data set."""
    if not records:
        return ""
    reached = statistics.mean(value(record, RECALL) for record in records)
    return f"{100 * reached / searched(records[0]['dataset']):.1f}"


def searches() -> list[Record]:
    """Final runs of the comparison of losses, each with the best trial of its search."""
    records = read("ranking_losses")
    best = {
        (line["dataset"], line["loss"]): max(line["trials"], key=lambda trial: trial["val/recall@20"] or 0.0)
        for line in records
        if line["part"] == "search"
    }
    tested = [line for line in records if line["part"] == "test"]
    return [{**line, "found": best[line["dataset"], line["loss"]]} for line in tested]


def trials(records: Sequence[Record], _: object) -> str:
    """Number of trials of the search of a loss."""
    case = {"part": "search", "dataset": records[0]["dataset"], "loss": records[0]["loss"]}
    return str(sum(len(line["trials"]) for line in read("ranking_losses") if case.items() <= line.items()))


BASELINES: dict[str, Table] = {
    "baselines": Table(
        sources=BESIDE,
        needs="baselines",
        prefer={"set": "comparison"},
        labels=["method", "dim"],
        rows=METHODS,
        by=["model|backbone", "embedding_dim"],
        columns=[
            Column(f"{name}: {title}", mean(path), {"dataset": datasets})
            for name, datasets in DATASETS.items()
            for title, path in (("Recall@20", RECALL), ("NDCG@20", NDCG))
        ],
        intro="## Baselines\n\n"
        "Test metrics of simple baselines, backbones and FACE. Rows without a dimension are 256-d, apart from EASE,\n"
        "ItemKNN and popularity, which have none. Settings are chosen on validation: at 256-d by a search; at 64-d\n"
        "and 32-d by the default regularisation path (least squares) and from a grid of nine settings (implicit).\n\n",
        command="python -m benchmarks.baselines closed als implicit --dims 32 64 256; python -m benchmarks.backbones; "
        "face ablate --set configs/DATA/BACKBONE/comparison.yaml",
    ),
    "backbones": Table(
        sources=[{"benchmark": "backbones"}],
        labels=["data", "backbone", "dim"],
        rows={},
        by=["dataset", "backbone", "embedding_dim"],
        columns=[*QUALITY[:1], Column("published", published), *QUALITY[1:], Column("seeds", count)],
        command="python -m benchmarks.backbones",
    ),
    "demo": Table(
        sources=[{"benchmark": "demo"}],
        labels=["split of `make demo`"],
        rows={
            "ItemKNN": {"case": "itemknn"},
            "EASE": {"case": "ease"},
            "iALS of implicit": {"case": "implicit"},
            "stage 1: least squares": {"case": "stage1"},
            "control: no words": {"case": "control"},
            "stage 3: FACE": {"case": "stage3"},
        },
        columns=[*QUALITY, Column("seeds", count)],
        command="make demo; python -m benchmarks.demo; python -m benchmarks.demo --implicit data/ml-100k",
    ),
    "transfer": Table(
        sources=[{"benchmark": "transfer"}],
        labels=["data"],
        by=["dataset"],
        columns=[
            Column(f"{label}: {title}", cell, {"variant": variant})
            for variant, label in (("default", "default"), ("tuned", "`face tune`, five minutes"))
            for title, cell in (("Recall@20", mean(RECALL)), ("% of searched", of_searched), ("seeds", count))
        ],
        command="python -m benchmarks.transfer default --seeds 0 1 2; python -m benchmarks.transfer tuned",
    ),
    "ranking-losses": Table(
        load=searches,
        labels=["data", "loss"],
        by=["dataset", "loss"],
        columns=[
            Column("Recall@20 on validation, best trial", mean("found.val/recall@20")),
            *(Column(f"test {column.title}", column.cell) for column in QUALITY),
            Column("seeds", count),
            Column("trials", trials),
        ],
    ),
}
