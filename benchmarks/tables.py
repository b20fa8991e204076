"""Tables of benchmarks/README.md and README.md on the quality of recommendations and words.

To add a table for a new benchmark, add an entry here and a pair of markers in benchmarks/README.md; `make results`
fills it.
"""

from collections.abc import Mapping, Sequence

from benchmarks.baseline_tables import BASELINES, DATASETS, QUALITY
from benchmarks.records import read
from benchmarks.speed_tables import SPEED
from benchmarks.steering_tables import STEERING
from benchmarks.table_format import (
    COMMON,
    MOVIELENS,
    NDCG,
    RECALL,
    Column,
    Record,
    Table,
    Where,
    against,
    count,
    mean,
    percent,
    value,
)
from benchmarks.word_tables import CODEBOOK, PICKED, WORDS

CHAIN: dict[str, Where] = {
    "stage 1": {"run": "stage1"},
    "control: fine-tuning only": {"run": "control"},
    "RLMRec-Con: the texts themselves": {"run": "con"},
    "**stage 3: FACE**": {"run": "stage3"},
}
FACE: Where = {"run": "stage3"}
FUSION: Where = {"run": "stage3", "variant": "both"}


def comparison(dataset: str, backbone: str, configs: str, seeds: str) -> Table:
    """FACE compared with stage 1, the control and RLMRec-Con on one data set with one backbone."""
    option = "given_split" if dataset == "ml-100k" else "root"
    return Table(
        sources=[{**COMMON, "dataset": dataset, "backbone": backbone, "run": ("stage1", "control", "con", "stage3")}],
        prefer={"set": "comparison"},
        labels=[f"{dataset}, {backbone} 256-d"],
        rows=CHAIN,
        columns=[
            *QUALITY,
            Column("gain of FACE: Recall@20", against(RECALL, FACE)),
            Column("gain of FACE: NDCG@20", against(NDCG, FACE)),
            Column("seeds", count),
        ],
        command=f"face ablate --set configs/{configs}/comparison.yaml --seeds {seeds} -- "
        f"--data.reader.init_args.{option} FOLDER",
    )


def fusion(dataset: str) -> Table:
    """FACE on least squares compared with its references."""
    return Table(
        sources=[{"benchmark": "ablations", "set": f"{dataset}-ials"}],
        labels=[f"{dataset}, least squares 256-d"],
        rows={
            "stage 1": {"run": "stage1"},
            "control: as many further epochs": {"run": "control"},
            "RLMRec-Con: the texts themselves": {"run": "con"},
            "AlphaRec: the texts through an MLP and the graph": {"run": "alpharec"},
            "stage 3, texts alone": {"run": "stage3", "variant": "texts"},
            "stage 3, words alone": {"run": "stage3", "variant": "words"},
            "**stage 3: FACE, words and texts**": FUSION,
        },
        columns=[
            *QUALITY,
            Column("gain of FACE: Recall@20", against(RECALL, FUSION)),
            Column("gain of FACE: NDCG@20", against(NDCG, FUSION)),
            Column("seeds", count),
        ],
        command=f"face fit --config configs/{dataset}/ials/RUN.yaml --seed_everything SEED",
    )


def ablations(dataset: str, configs: str, seeds: str, runs: Sequence[str], variants: Mapping[str, str]) -> Table:
    """The recipe without each of its parts."""
    option = "given_split" if dataset == "ml-100k" else "root"
    rows: dict[str, Where] = {"full recipe": {"run": "stage3", "variant": "common"}}
    if "control" in runs:
        rows["control: fine-tuning only"] = {"run": "control"}
    rows |= {label: {"run": "stage3", "variant": name} for name, label in variants.items()}
    return Table(
        sources=[{"benchmark": "ablations", "set": "ablations", "dataset": dataset, "run": tuple(runs)}],
        labels=[f"{dataset}, GMF 256-d"],
        rows=rows,
        columns=[*QUALITY, *PICKED, *CODEBOOK],
        command=f"face ablate --set configs/{configs}/ablations.yaml --seeds {seeds} -- "
        f"--data.reader.init_args.{option} FOLDER",
    )


def by_writer() -> list[Record]:
    """Records of the study of summaries, one per writer."""
    return [
        {**record, **record["stage3"][writer], "writer": name}
        for writer, name in (("template", "the template"), ("smollm2", "SmolLM2-135M"))
        for record in read("summary_study")
    ]


TABLES: dict[str, Table] = {
    "summary": Table(
        sources=[
            {**COMMON, "run": ("stage1", "control", "con", "stage3"), "dataset": ("steam-vt", "yelp", "ml-100k")},
            {"benchmark": "baselines", "dataset": ("steam-vt", "yelp", *MOVIELENS), "embedding_dim": (None, 256)},
            {"benchmark": "ablations", "set": ("steam-vt-ials", "yelp-ials"), "run": "stage3"},
        ],
        prefer={"set": "comparison"},
        labels=["test Recall@20"],
        rows={
            "**least squares**": {"model": "least squares"},
            "least squares + **FACE**": {"stage": "fusion", "variant": "both"},
            "least squares + FACE, words alone": {"stage": "fusion", "variant": "words"},
            "least squares + texts alone": {"stage": "fusion", "variant": "texts"},
        }
        | {
            f"{name}{label}": {"backbone": name, "run": run, "variant": "common"}
            for name in ("GMF", "LightGCN")
            for run, label in (
                ("stage1", ""),
                ("control", " + fine-tuning (control)"),
                ("con", " + texts (RLMRec-Con)"),
                ("stage3", " + **FACE**"),
            )
        },
        by=["model|backbone"],
        columns=[
            *(Column(name, mean(RECALL), {"dataset": DATASETS[name]}) for name in ("steam-vt", "yelp", "ml-100k")),
            Column("words pick the item out of 10 (steam-vt), %", PICKED[0].cell, {"dataset": "steam-vt"}),
        ],
        command="face ablate --set configs/DATA/BACKBONE/comparison.yaml",
    ),
    "steam-lightgcn": comparison("steam-vt", "LightGCN", "steam-vt/lightgcn", "0 1 2"),
    "steam-gmf": comparison("steam-vt", "GMF", "steam-vt/gmf", "0 1 2"),
    "steam-ials": fusion("steam-vt"),
    "yelp-ials": fusion("yelp"),
    "amazon-ials": fusion("amazon-book"),
    "yelp-lightgcn": comparison("yelp", "LightGCN", "yelp/lightgcn", "0"),
    "yelp-gmf": comparison("yelp", "GMF", "yelp/gmf", "0"),
    "ml-100k": comparison("ml-100k", "GMF", "ml-100k/gmf", "0 1 2"),
    "paper-preset": Table(
        sources=[{"benchmark": "paper_preset"}],
        labels=["ml-100k, GMF 256-d"],
        rows={
            "stage 1": {"case": "stage1"},
            "stage 2, the paper's form": {"case": "stage2"},
            "stage 3, the paper's form": {"case": "stage3"},
        },
        columns=[
            Column("Recall@20", mean("test/recall@20")),
            Column("NDCG@20", mean("test/ndcg@20")),
            Column("items picked out of 10, %", mean("words/retrieval_items@10", ".1f", 100.0)),
            Column("users, %", mean("words/retrieval_users@10", ".1f", 100.0)),
            Column("words in use", mean("codebook/active", ",.0f")),
            Column("seconds", mean("seconds", ",.0f")),
        ],
    ),
    "ablations-ml-100k": ablations(
        "ml-100k",
        "ml-100k/gmf",
        "0 1 2",
        ["control", "stage3"],
        {
            "without-alignment": "without alignment",
            "without-anchoring": "without anchoring",
            "without-grounding": "without grounding",
            "whole-gradient-of-the-mapper-to-the-backbone": "whole gradient of the mapper to the backbone",
            "input-not-whitened": "input not whitened",
            "without-reconstruction": "without reconstruction",
            "without-transformer": "without transformer",
            "one-shared-projection": "one shared projection",
            "two-levels": "two residual levels",
            "three-levels": "three residual levels",
            "random-codebook": "random codebook",
            "learned-codebook": "learned codebook",
            "search-by-distance": "search by distance",
            "projected-tokens": "encoder reads projected tokens",
        },
    ),
    "ablations-steam": ablations(
        "steam-vt",
        "steam-vt/gmf",
        "0",
        ["stage3"],
        {
            "without-alignment": "without alignment",
            "without-anchoring": "without anchoring",
            "without-reconstruction": "without reconstruction",
        },
    ),
    "language-models": Table(
        sources=[{"benchmark": "raw_chain", "dataset": "ml-100k"}],
        labels=["vocabulary and encoder"],
        rows={"all-MiniLM-L6-v2": {"model": "minilm"}, "SmolLM2-135M": {"model": "smollm2"}},
        columns=[
            Column("Recall@20, stage 1", mean(f"stages.stage1.{RECALL}")),
            Column("Recall@20, stage 3", mean(f"stages.stage3.{RECALL}")),
            Column("items picked out of 10, %", percent("stages.stage3.words/retrieval_items@10")),
            Column("users, %", percent("stages.stage3.words/retrieval_users@10")),
            Column("words in use", mean("stages.stage3.codebook/active", ",.0f")),
            Column("perplexity", mean("stages.stage3.codebook/perplexity", ",.0f")),
            Column("processor seconds per step, stage 2", mean("stages.stage2.processor_seconds_per_step", ".2f")),
            Column("processor seconds per step, stage 3", mean("stages.stage3.processor_seconds_per_step", ".2f")),
        ],
    ),
    "raw-chain": Table(
        sources=[{"benchmark": "raw_chain", "dataset": ("steam-vt", "yelp"), "settings.epochs": ([60, 30, 12],)}],
        labels=["raw files of"],
        by=["dataset"],
        columns=[
            Column("core", lambda records, _: str(value(records[0], "settings.core"))),
            Column("Recall@20, stage 1", mean(f"stages.stage1.{RECALL}")),
            Column("Recall@20, stage 3", mean(f"stages.stage3.{RECALL}")),
            Column("items picked out of 10, %", percent("stages.stage3.words/retrieval_items@10")),
            Column("users, %", percent("stages.stage3.words/retrieval_users@10")),
            Column("words in use", mean("stages.stage3.codebook/active", ",.0f")),
            *(Column(f"seconds, stage {n}", mean(f"stages.stage{n}.wall_seconds", ".0f")) for n in (1, 2, 3)),
        ],
    ),
    "summaries": Table(
        load=by_writer,
        labels=["games described by"],
        by=["writer"],
        columns=[
            Column("Recall@20", mean(RECALL)),
            Column("games picked out of 10 by their own text, %", percent("words/retrieval_items@10")),
            Column("by the other writer's, %", percent("picked by the other text")),
            Column("players picked, %", percent("words/retrieval_users@10")),
        ],
    ),
    "chain": Table(
        sources=[{"benchmark": "stages", "seed": (0, 1, 2)}],
        labels=["data", "run"],
        by=["dataset", "variant"],
        columns=[*QUALITY, *PICKED, Column("seeds", count)],
        command="make bench",
    ),
} | {**BASELINES, **WORDS, **SPEED, **STEERING}
