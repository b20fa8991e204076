"""Words of new users by their history, and the exported mapper, of a run that a chain left."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from face_lightning.errors import CheckpointError, DataError
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.recommending.recommender import Recommender
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import load_codebook
from face_lightning.words.centering import center, is_anisotropic
from face_lightning.words.targets import pursue
from tests.chain.tiny import NUM_USERS, World, face


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_new_users_get_words(chain: World, stage: str) -> None:
    recommender = Recommender.load(chain.run(stage))
    found = recommender.describe_history({"eve": ["i0", "i3"], "max": ["i1"]})
    assert [(one.kind, one.id) for one in found] == [("user", "eve"), ("user", "max")]
    assert all(len(set(one.words)) == 4 for one in found)


def test_words_of_new_users_are_those_of_the_text_that_a_regression_predicts(chain: World) -> None:
    """By its formula, from what the run keeps and the encoder of its texts."""
    recommender = Recommender.load(chain.run("stage2"))
    table = pq.read_table(chain.run("stage2") / "descriptors.parquet")
    encoder = TextEncoder(str(chain.root / "encoder" / "model"), precision="float32")
    vectors = encoder.encode(table["text"].to_pylist())
    kinds = [vectors[:NUM_USERS], vectors[NUM_USERS:]]
    if any(map(is_anisotropic, kinds)):  # as the stage's texts are then
        kinds = [center(kind) for kind in kinds]
    users, items = (center(kind) for kind in kinds)
    codebook = load_codebook(chain.run("stage2") / "codebook.safetensors")[0]
    words = center(encoder.encode(codebook.words))
    starts, clicked = recommender.seen.training()
    means = torch.stack([items[clicked[start:end]].mean(0) for start, end in itertools.pairwise(starts)])
    histories = [["i0", "i3"], ["i1"]]
    asked = torch.stack([items[recommender.item_rows(one)].mean(0) for one in histories]) - means.mean(0)
    embeddings, embedded = torch.cat(list(recommender.embeddings())), recommender.embed_history(histories)
    known, new = (
        torch.cat([F.normalize(rows, dim=1), F.normalize(texts, dim=1)], dim=1)
        for rows, texts in ((embeddings, torch.cat([means - means.mean(0), items])), (embedded, asked))
    )
    predicted = KernelRidge.fit(known, torch.cat([users, items]), 1.0).predict(new)
    expected = pursue(F.normalize(predicted, dim=1), words, 4, 64, codebook.lemmas)
    found = recommender.describe_history(histories)
    assert [set(one.words) for one in found] == [{codebook.words[word] for word in row} for row in expected.tolist()]


def test_a_run_without_regression_gives_the_words_of_its_mapper(chain: World, tmp_path: Path) -> None:
    folder = shutil.copytree(chain.run("stage2"), tmp_path / "run")
    (folder / "user_texts.safetensors").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=r"user_texts.safetensors is damaged"):
        Recommender.load(folder).describe_history([["i0"]])
    (folder / "user_texts.safetensors").unlink()
    recommender = Recommender.load(folder)
    mapper, codebook = recommender._mapper
    (row,) = mapper.describe([recommender.embed_history([["i0"]])]).tolist()
    assert set(recommender.describe_history([["i0"]])[0].words) == {codebook.words[token] for token in row}


def test_the_kept_mapper_gives_the_words_that_the_run_wrote(chain: World) -> None:
    recommender = Recommender.load(chain.run("stage2"))
    mapper, codebook = recommender._mapper
    descriptors = mapper.describe([torch.cat(list(recommender.embeddings()))])
    written = pq.read_table(chain.run("stage2") / "descriptors.parquet")["words"].to_pylist()
    assert [{codebook.words[token] for token in row} for row in descriptors.tolist()] == [set(row) for row in written]


def test_a_run_without_mapper_says_so(chain: World) -> None:
    with pytest.raises(CheckpointError, match=r"run: expected a run with words, but .* is of stage 'pretraining'"):
        Recommender.load(chain.run("stage1")).describe_history([["i0"]])


@pytest.mark.slow
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
