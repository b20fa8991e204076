"""A world in miniature that the three stages run through by the real command, without a network.

40 users and 30 items in three clusters lie in a folder as RLMRec has them; the sentence encoder is a BERT
of random weights. Paths are written into configurations, so that commands may run in any folder.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import yaml
from scipy.sparse import coo_matrix

from face_lightning.cli import main

ROOT = Path(__file__).resolve().parents[2]
NUM_USERS, NUM_ITEMS, NUM_CLUSTERS = 40, 30, 3
GENRES = (("war", "crime"), ("love", "music"), ("robot", "ocean"))
WORDS = [
    *("war", "crime", "love", "music", "robot", "ocean", "dragon", "toy", "ship", "magic", "storm", "river"),
    *("guitar", "planet", "knight", "castle", "island", "pirate", "garden", "winter", "summer", "horse"),
    *("engine", "doctor", "ghost", "city", "forest", "mirror", "family", "school", "dream", "silver"),
]
SENTENCE = ["movie", "item", "user", "viewer", "who", "likes", "loves", "movies", "such", "as", "and", ":", ".", "a"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


@dataclass(frozen=True)
class World:
    """Folder with `data`, `encoder`, `parts` and one YAML file for each run."""

    root: Path

    def config(self, name: str) -> str:
        return str(self.root / f"{name}.yaml")

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.root / f"{name}.yaml").read_text())
        return content

    def write(self, name: str, content: Any) -> str:
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)


def face(*arguments: str | Path) -> int:
    """The command in this process."""
    return main([str(argument) for argument in arguments])


def fit(config: str, *arguments: str | Path) -> int:
    return face("fit", "--config", config, *QUIET, *arguments)


def process(*arguments: str | Path, threads: int | None = None) -> subprocess.Popen[str]:
    """The command as a process of its own, with as many threads as this one by default."""
    command = [sys.executable, "-m", "face_lightning.cli", *map(str, arguments)]
    variables = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=variables)


class Killer(L.Callback):
    """Kills its own process in the middle of an epoch, as a crash would."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch = epoch
        self.batch = batch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGKILL)


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def assert_same_weights(one: Path, other: Path, name: str = "last") -> None:
    first, second = checkpoint(one, name)["state_dict"], checkpoint(other, name)["state_dict"]
    assert first.keys() == second.keys()
    different = [key for key, value in first.items() if not torch.equal(value, second[key])]
    assert not different


def write_data(folder: Path) -> None:
    """Matrices and texts: user u likes items of cluster `u mod 3`, and seldom others."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    own = np.arange(NUM_USERS)[:, None] % NUM_CLUSTERS == np.arange(NUM_ITEMS) % NUM_CLUSTERS
    liked = draws.random((NUM_USERS, NUM_ITEMS)) < np.where(own, 0.9, 0.05)
    split = draws.choice(3, size=liked.shape, p=(0.6, 0.2, 0.2))
    for number, name in enumerate(("trn", "val", "tst")):
        matrix = coo_matrix(liked & (split == number), dtype=np.float32)
        (folder / f"{name}_mat.pkl").write_bytes(pickle.dumps(matrix))
    lines = [
        {"item_id": item, "title": f"Film {item}", "genres": [*GENRES[item % NUM_CLUSTERS], WORDS[6 + item % 20]]}
        for item in range(NUM_ITEMS)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "item_ids.txt").write_text("".join(f"i{item}\n" for item in range(NUM_ITEMS)))
    (folder / "user_ids.txt").write_text("".join(f"u{user}\n" for user in range(NUM_USERS)))


def write_encoder(folder: Path, seed: int = 0) -> None:
    """A BERT of random weights as a folder of sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SENTENCE, *WORDS, "##s"]
    tokenizer = BertTokenizerFast(vocab={token: row for row, token in enumerate(vocabulary)}, model_max_length=48)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=48)
    model = SentenceTransformer(modules=[transformer, Pooling(16, "mean")], device="cpu")
    model.save(str(folder / "model"), create_model_card=False)


def write_world(root: Path) -> World:
    write_data(root / "data")
    write_encoder(root / "encoder")
    (root / "words.txt").write_text("\n".join(WORDS) + "\n")
    world = World(root)
    (root / "parts").mkdir()
    encoder = {
        "model": str(root / "encoder" / "model"),
        "precision": "float32",
        "cache_dir": str(root / "cache"),
    }
    words = {
        "encoder": {"class_path": "face_lightning.text.encoders.TextEncoder", "init_args": encoder},
        "word_list": str(root / "words.txt"),
        "num_targets": 8,
        "anchoring_negatives": None,
    }
    world.write("parts/backbone", {"class_path": "GMF", "init_args": {"embedding_dim": 16}})
    mapper = {"num_descriptors": 4, "concept_dim": 8, "hidden_dim": 32, "feedforward_dim": 16}
    mapper |= {"search": "torch", "precision": "float32"}
    world.write("parts/mapper", {"class_path": "TokenMapper", "init_args": mapper})
    world.write("parts/words", {"class_path": "WordSettings", "init_args": words})
    reader = {"class_path": "RLMRecFolder", "init_args": {"root": str(root / "data"), "domain": "movie"}}
    world.write("parts/data", {"reader": reader, "batch_size": 64, "entities_per_step": 24, "eval_batch_size": 16})
    write_runs(world)
    return world


def write_runs(world: World) -> None:
    """One YAML file for each run, each starting from the run before."""
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}}
    described = {"mapper": "parts/mapper.yaml", "words": "parts/words.yaml", "warmup_steps": 3}
    grounded = {**described, "grounding": {"class_path": "ContrastiveText"}, "mapper_lr_factor": 0.5}
    resting = {"monitor": "train/loss", "mode": "min"}
    runs: dict[str, tuple[str, str | None, int, dict[str, Any], dict[str, Any]]] = {
        "stage1": ("PretrainingStage", None, 4, {}, {}),
        "control": ("PretrainingStage", "stage1", 2, {"backbone_lr_factor": 0.1}, {}),
        "stage2": ("MappingStage", "stage1", 3, described, {"checkpoint": resting}),
        "stage3": ("AlignmentStage", "stage2", 3, {**grounded, "backbone_lr_factor": 0.1}, {}),
    }
    for name, (stage, before, epochs, arguments, more) in runs.items():
        model = {"backbone": "parts/backbone.yaml", "optimizer": adam, **arguments}
        content = {
            "run_dir": str(world.run(name)),
            **({} if before is None else {"init_from": str(world.run(before))}),
            "data": "parts/data.yaml",
            "trainer": {"max_epochs": epochs},
            "model": {"class_path": stage, "init_args": model},
            **more,
        }
        world.write(name, content)
