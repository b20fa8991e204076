"""Words of a few items with seen and with hidden texts: python -m benchmarks.word_samples RUN_DIR.

For a run of stage 2 or 3 that was trained with `--data.held_out_texts SHARE`. To avoid cherry-picking, items are evenly
spaced by popularity, among those with a seen text and among those with a hidden one.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.loading import load_run
from benchmarks.records import append
from face_lightning.recommending.recommender import Recommender


def sample(clicks: np.ndarray, members: np.ndarray, count: int) -> list[int]:
    """Members evenly spaced by popularity `(I,)`, starting with the most popular one."""
    ordered = members[np.argsort(-clicks[members], kind="stable")]
    return [int(ordered[place * len(ordered) // count]) for place in range(count)]


def main() -> None:
    """Print and record the words of the sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="finished run with held-out texts")
    parser.add_argument("--count", type=int, default=6, help="number of items with a seen text, and with a hidden one")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("OPTION", "VALUE"))
    arguments = parser.parse_args()
    datamodule = load_run(arguments.run, [text for option, value in arguments.set for text in (f"--{option}", value)])[
        1
    ]
    hidden = datamodule.held_out_profiles
    if hidden is None:
        raise SystemExit(
            f"{arguments.run}: expected a run with held-out texts; train it with --data.held_out_texts 0.2"
        )
    interactions = datamodule.interactions
    clicks = np.asarray(interactions.matrix("train").sum(axis=0)).ravel()
    is_hidden = np.array([text is not None for text in hidden.item_texts])
    recommender, run = Recommender.load(arguments.run), json.loads((arguments.run / "result.json").read_text())
    table = Table("text", "item", "words", title=f"{run['dataset']}, {run['backbone']}, {run['stage']}")
    for text, members in (("seen", np.flatnonzero(~is_hidden)), ("hidden", np.flatnonzero(is_hidden))):
        ids = interactions.item_ids[sample(clicks, members, arguments.count)].tolist()
        for one in recommender.describe(items=ids):
            origin = {key: run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
            shown = {"case": one.id, "text": text, "label": one.label, "words": " ".join(one.words)}
            append("word_samples", {**origin, **shown, "metrics": {}})
            table.add_row(text, one.label, shown["words"])
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
