"""Words of new users by their history, and the exported mapper, of a run that a chain left."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from face_lightning.errors import CheckpointError
from face_lightning.recommender import Recommender
from tests.chain.tiny import World, face


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_new_users_get_words_through_the_mapper(chain: World, stage: str) -> None:
    recommender = Recommender.load(chain.run(stage))
    found = recommender.describe_history({"eve": ["i0", "i3"], "max": ["i1"]})
    assert [(one.kind, one.id) for one in found] == [("user", "eve"), ("user", "max")]
    assert all(len(set(one.words)) == 4 for one in found)


def test_the_kept_mapper_gives_the_words_that_the_run_wrote(chain: World) -> None:
    recommender = Recommender.load(chain.run("stage2"))
    mapper, codebook = recommender._mapper
    descriptors = mapper.describe([torch.cat(list(recommender.embeddings()))])
    written = pq.read_table(chain.run("stage2") / "descriptors.parquet")["words"].to_pylist()
    assert [{codebook.words[token] for token in row} for row in descriptors.tolist()] == [set(row) for row in written]


def test_a_run_without_mapper_says_so(chain: World) -> None:
    with pytest.raises(CheckpointError, match=r"run: expected a run with words, but .* is of stage 'pretraining'"):
        Recommender.load(chain.run("stage1")).describe_history([["i0"]])


def test_the_exported_mapper_gives_the_same_words_without_this_package(chain: World, tmp_path: Path) -> None:
    out = tmp_path / "export"
    assert face("export", "--run", chain.run("stage3"), "--out", out, "--index", "none") == 0
    code = (
        "import json, sys, torch; from safetensors.torch import load_file; assert 'face_lightning' not in sys.modules;"
        "program = torch.export.load('mapper.pt2').module(); tables = load_file('embeddings.safetensors');"
        "words = open('words.txt').read().split();"
        "print(json.dumps([[[words[token] for token in row] for row in program(tables[name]).tolist()]"
        " + [program(tables[name][:1]).tolist()] for name in ('users', 'items')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [row for side in json.loads(done.stdout) for row in side[:-1]]
    written = pq.read_table(chain.run("stage3") / "descriptors.parquet")["words"].to_pylist()
    assert [set(row) for row in found] == [set(row) for row in written]
