"""Examples of CONTRIBUTING.md: files of a user's own package, trained by the real command from outside this one."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from face_lightning.cli import main
from tests.chain.tiny import QUIET, World, write_world
from tests.processes import alone

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# `mylab/file.py` (`--option mylab.file.Class` ...): and the block that follows.
EXAMPLES = {
    file: (option, name, code)
    for file, option, name, code in re.findall(
        r"^`(mylab/\w+\.py)` \(`--([\w.]+) ([\w.]+)`[^\n]*\):\n\n```python\n(.*?)^```",
        TEXT,
        flags=re.MULTILINE | re.DOTALL,
    )
}
STAGES = {
    "backbone": "stage1",
    "ranking_loss": "stage1",
    "text": "stage1",
    "alignment_loss": "stage3",
    "quantizer": "stage2",
    "reader": "stage1",
    "encoder": "stage2",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny data set with runs of stages 1 and 2, and the examples in a package of the user."""
    world = write_world(tmp_path_factory.mktemp("world"))
    (world.root / "mylab").mkdir()
    for file, (_, _, code) in EXAMPLES.items():
        (world.root / file).write_text(code)
    sessions = [{"user": f"u{user}", "films": [f"Film {(user + 3 * n) % 12}" for n in range(5)]} for user in range(9)]
    (world.root / "sessions.jsonl").write_text("".join(json.dumps(session) + "\n" for session in sessions))
    commands = {stage: fit(world, stage, world.run(stage)) for stage in ("stage1", "stage2")}
    for file, (option, name, _) in EXAMPLES.items():
        stage, run = stage_of(option), world.root / file.replace("/", "_")
        options = ["--allow-code", f"--{option}", name, *more_options(world, option)]
        commands[file] = fit(world, stage, run / stage, *options)
        if option.endswith(".encoder"):  # the next stage starts from it
            start = ["--init_from", str(run / stage)]
            commands["the stage after"] = fit(world, "stage3", run / "stage3", *start, *options)
    failed = alone(run_commands, world.root, commands)
    assert not failed
    return world


def run_commands(folder: Path, commands: dict[str, list[str]]) -> str:
    """Run commands in a folder with packages of the user; returns the output of the first that fails."""
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    for name, command in commands.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            code = main(command)
        if code != 0:
            return f"{name}: {code}, {errors.getvalue()[-3000:]}"
    return ""


def fit(world: World, stage: str, run: Path, *options: str) -> list[str]:
    command = ["fit", "--config", world.config(stage), "--run_dir", str(run)]
    return [*command, *QUIET, "--trainer.max_epochs", "1", *options]


def stage_of(option: str) -> str:
    return STAGES[option.rpartition(".")[2]]


def test_every_python_block_is_an_example() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^```python$", TEXT, flags=re.MULTILINE)) == len(STAGES)


def more_options(world: World, option: str) -> list[str]:
    """Command-line arguments that the class of an example needs."""
    init_args, model = f"--{option}.init_args", str(world.root / "encoder" / "model")
    if option.endswith(".text"):
        return ["--model.init_args.encoder.init_args.model", model]
    if option.endswith(".reader"):
        return [f"{init_args}.path", str(world.root / "sessions.jsonl")]
    if option.endswith(".encoder"):
        return [f"{init_args}.model", model, f"{init_args}.cache_dir", str(world.root / "cache")]
    return []


@pytest.mark.parametrize("file", EXAMPLES)
def test_the_command_trains_a_class_of_the_users_own(world: World, file: str) -> None:
    option, name, _ = EXAMPLES[file]
    run = world.root / file.replace("/", "_")
    assert name in (run / stage_of(option) / "config.yaml").read_text()
    assert (run / stage_of(option) / "result.json").is_file()
    if option.endswith(".encoder"):
        assert (run / "stage3" / "descriptors.parquet").is_file()


def test_the_encoder_keeps_the_contract(world: World, tmp_path: Path) -> None:
    """Descriptors given as embeddings are encoded like the sentence of the same words."""
    space: dict[str, Any] = {}
    exec(EXAMPLES["mylab/bag_of_tokens.py"][2], space)
    encoder = space["BagOfTokens"](str(world.root / "encoder" / "model"), str(tmp_path))
    prompts = [encoder.prompt(template) for template in ("user who likes: {words}.", "movie: {words}")]
    words = encoder.token_embeddings(
        encoder.tokenizer("war toy", add_special_tokens=False, return_tensors="pt").input_ids[0]
    )
    words = words.expand(2, -1, -1).clone().requires_grad_()
    vectors = encoder.encode_descriptors(words, prompts, torch.tensor([1, 0]))
    sentences = encoder.encode(["movie: war toy", "user who likes: war toy.", None])
    assert torch.allclose(vectors, sentences[:2], atol=1e-6)
    assert sentences[2].isnan().all()
    vectors.sum().backward()
    assert words.grad is not None
    assert (words.grad != 0).any()


IN_THE_PACKAGE = """
import sys
import pytest
from face_lightning.cli import main
assert main(sys.argv[1:]) == 0
contract = ["tests/backbones/test_contract.py", "-k", "Decorrelated or every_backbone_file"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *contract]))
"""


def test_a_reader_and_a_backbone_in_the_package_are_known_by_their_names_alone(world: World, tmp_path: Path) -> None:
    """The command accepts the reader, and the contract tests include the backbone."""
    shutil.copytree(ROOT / "face_lightning", tmp_path / "face_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "backbones", tmp_path / "tests" / "backbones")
    (tmp_path / "face_lightning" / "data" / "readers" / "sessions.py").write_text(EXAMPLES["mylab/sessions.py"][2])
    (tmp_path / "face_lightning" / "backbones" / "decorrelated.py").write_text(EXAMPLES["mylab/decorrelated.py"][2])
    reader = ["--data.reader", "Sessions", "--data.reader.init_args.path", str(world.root / "sessions.jsonl")]
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_PACKAGE, "summarize", *reader, "--out", str(tmp_path / "texts.jsonl")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len((tmp_path / "texts.jsonl").read_text().splitlines()) == 9 + 12
    assert "8 passed" in done.stdout
