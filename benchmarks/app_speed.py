"""Speed of `face app` with many items: python -m benchmarks.app_speed [--num_items 100000] [--write].

Serves a generated run and opens its page in the system's Chromium. Measures first paint (the browser's
first-contentful-paint), the time until the list is on the page, and edits (from the click on a word to the new list).
Nothing is recorded without --write.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.sparse import csr_array

from benchmarks.browser import launched, open_page, served
from benchmarks.records import append
from face_lightning.runs.inference import write_data, write_embeddings
from face_lightning.structures import Embeddings
from face_lightning.text.cache import save_tensors

NUM_WORDS, NUM_DESCRIPTORS, EMBEDDING_DIM, TEXT_DIM = 9000, 16, 64, 384
PORT = 8199
_EDIT = """() => new Promise(resolve => {
  const begin = performance.now(), list = document.querySelector('section.list');
  new MutationObserver((_, observer) => { observer.disconnect(); resolve(performance.now() - begin); })
    .observe(list, {childList: true, subtree: true});
  document.querySelector('.q-chip__icon--remove').click();
})"""


def write_run(folder: Path, num_items: int) -> None:
    """Write a run of random embeddings, words and meanings, with as many users as items."""
    draws = np.random.default_rng(0)
    users, items = np.repeat(np.arange(num_items), 20), draws.integers(0, num_items, 20 * num_items)
    splits: list[Any] = [csr_array((num_items, num_items), dtype=np.float32) for _ in range(3)]
    splits[0] = csr_array((np.ones(len(users), np.float32), (users, items)), shape=(num_items, num_items))
    ids = np.arange(num_items).astype(str)
    labels = [f"Item {number}" for number in range(num_items)]
    write_data(folder, splits, (ids, ids), (labels, labels), "f" * 64)
    tables = torch.randn(2, num_items, EMBEDDING_DIM, generator=torch.Generator().manual_seed(0))
    write_embeddings(folder, Embeddings(tables[0], tables[1]), "f" * 64)
    words = np.array([f"word{number}" for number in range(NUM_WORDS)])
    chosen = pa.array(words).take(pa.array(draws.integers(0, NUM_WORDS, 2 * num_items * NUM_DESCRIPTORS)))
    starts = np.arange(0, 2 * num_items * NUM_DESCRIPTORS + 1, NUM_DESCRIPTORS)
    columns = {
        "kind": ["user"] * num_items + ["item"] * num_items,
        "id": [*ids, *ids],
        "label": [*labels, *labels],
        "words": pa.ListArray.from_arrays(pa.array(starts, pa.int32()), chosen),
        "text": ["A text."] * (2 * num_items),
    }
    pq.write_table(pa.table(columns), folder / "descriptors.parquet")
    meanings = {
        name: torch.randn(size, TEXT_DIM, generator=torch.Generator().manual_seed(size)).half()
        for name, size in (("words", NUM_WORDS), ("items", num_items))
    }
    save_tensors(folder / "meanings.safetensors", meanings, {"words": " ".join(words)})
    (folder / "result.json").write_text(json.dumps({"dataset": "generated", "metrics": {}}))


def measure(browser: Any, address: str, num_items: int) -> dict[str, list[float]]:  # noqa: ANN401
    """Seconds until first paint and until the list over several page loads, and seconds of edits."""
    found: dict[str, list[float]] = {"first_paint": [], "list": [], "edit": []}
    for load in range(5):
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()  # an empty cache
        page.goto(f"{address}/?user={load * num_items // 5}")
        page.wait_for_selector("[data-testid=recommended]")
        found["list"].append(page.evaluate("performance.now()") / 1000)
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found["first_paint"].append(page.evaluate(script) / 1000)
        for _ in range(5):
            page.wait_for_timeout(300)
            found["edit"].append(page.evaluate(_EDIT) / 1000)
        page.close()
    return found


def main() -> None:
    """Generate and serve the run, and print medians and maxima."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_items", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="append the result to benchmarks/results/app_speed.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        write_run(Path(folder), arguments.num_items)
        with served(Path(folder), PORT) as address:
            open_page(browser, address)  # warm-up: the first visitor is not measured
            found = measure(browser, address, arguments.num_items)
    record = {
        "num_items": arguments.num_items,
        "metrics": {
            f"{name}_{kind}_s": round(function(values), 3)
            for name, values in found.items()
            for kind, function in (("median", statistics.median), ("max", max))
        },
    }
    print(json.dumps(record, indent=2))
    if arguments.write:
        append("app_speed", record)


if __name__ == "__main__":
    main()
