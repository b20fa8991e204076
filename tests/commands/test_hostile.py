"""Hostile and broken inputs, given to the real command: a one-line error, exit code 2, and nothing written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chain.tiny import World
from tests.commands.hostile import TOUCHED

UNTRUSTED = (
    r"expected a class that a configuration may name \(Trust in docker/README.md\), got {}, whose code would run; add"
)
LATER = r"trainer: expected at least one epoch with its validation, got \d+ steps and none; raise trainer.max_epochs"
MAPPER = "model.init_args.mapper.init_args"

# Ten lists, each of nine times the one before.
ALIASES = b"a: &a [x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(98, 108)
)

# Arguments after a valid configuration, and the expected error.
VALUES: list[tuple[str, str, str]] = [
    ("stage1", "checkpoint.filename=other", r"checkpoint.filename: expected 'best', got 'other'; other commands find"),
    ("stage1", "checkpoint.save_top_k=3", r"checkpoint.save_top_k: expected 1, got 3; other commands find"),
    ("stage1", "checkpoint.save_last=true", r"checkpoint.save_last: expected None, got True; other commands find"),
    ("stage1", "checkpoint.save_weights_only=true", r"checkpoint.save_weights_only: expected False, got True; other"),
    ("stage1", "checkpoint.mode=up", r"`mode` can be min, max but got up; correct that"),
    ("stage1", "early_stopping.mode=up", r"`mode` can be min, max, got up; correct that"),
    ("stage1", "early_stopping.patience=-1", r"early_stopping.patience: expected at least 0, got -1; a large number"),
    ("stage1", "model.init_args.l2_weight=-1", r"l2_weight: expected at least 0, got -1.0; between 0 and 1 is usual"),
    ("stage1", "model.init_args.l2_weight=.nan", r"l2_weight: expected at least 0, got nan; between 0 and 1 is usual"),
    ("stage1", "model.init_args.backbone_lr_factor=-1", r"backbone_lr_factor: expected at least 0, got -1.0; 1, or"),
    ("stage1", "model.init_args.top_k=[]", r"top_k: expected one or more numbers from 1 on, got \[\]; \[5, 10, 20\]"),
    ("stage1", "model.init_args.top_k=[0,5]", r"top_k: expected one or more numbers from 1 on, got \[0, 5\]; "),
    ("stage1", "model.init_args.top_k=[-5]", r"top_k: expected one or more numbers from 1 on, got \[-5\]; "),
    ("stage1", "trainer.accelerator=nosuch", r"trainer: You selected an invalid accelerator name.*; correct the value"),
    ("stage1", "trainer.devices=0", r"`Trainer\(devices='?0'?\)` value is not a valid input.*; correct that"),
    ("stage1", "trainer.devices=many", r"trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
    ("stage1", "trainer.num_nodes=0", r"trainer: `num_nodes` must be a positive integer, but got 0.; correct"),
    ("stage1", "trainer.precision=7", r"trainer.precision: expected .*, got 7; correct the value"),
    ("stage1", "trainer.max_epochs=-5", r"`max_epochs` must be a non-negative integer or -1. You passed in -5"),
    ("stage1", "trainer.max_steps=0", LATER),
    ("stage1", "trainer.max_steps=-3", r"`max_steps` must be a non-negative integer or -1 .*You passed in -3"),
    ("stage1", "trainer.limit_train_batches=0", LATER),
    ("stage1", "trainer.limit_val_batches=0", r"early_stopping.monitor: .*`val/recall@20` which is not available"),
    ("stage1", "trainer.accumulate_grad_batches=0", r"trainer.accumulate_grad_batches: expected at least 1, got 0; 1"),
    ("stage1", "trainer.check_val_every_n_epoch=0", r"trainer.check_val_every_n_epoch: expected at least 1, got 0; 1"),
    ("stage1", "trainer.gradient_clip_val=-1", r"trainer.gradient_clip_val: expected at least 0, got -1(\.0)?; 1"),
    ("stage1", "trainer.profiler=nosuch", r".*`profiler` parameter of `Trainer`.*; correct that"),
    ("stage1", "trainer.benchmark=perhaps", r"trainer.benchmark: expected bool or null, got perhaps; correct"),
    ("stage1", "trainer.max_time=nonsense", r"`Timer\(duration='nonsense'\)` is not a valid duration.*; correct that"),
    ("stage1", "trainer.enable_checkpointing=false", r"Trainer was configured with `enable_checkpointing=False` but"),
    ("stage1", "trainer.barebones=true", r"trainer: `Trainer\(barebones=True, logger=.*; correct the value"),
    ("stage1", "every_n_minutes=-1", r"every_n_minutes: expected at least 0, got -1.0; 30 is usual"),
    ("stage1", "every_n_minutes=soon", r"every_n_minutes: expected float or null, got soon; correct the value"),
    (
        "stage1",
        "seed_everything=-4",
        r"seed_everything: expected at least 0 and at most 4294967295, got -4; 0 is usual",
    ),
    ("stage1", "seed_everything=99999999999", r"seed_everything: expected at least 0 and at most 4294967295, got 9999"),
    ("stage1", "data.mask_seen=all", r"data.mask_seen: expected Literal\['train', 'train\+val'\], got all; correct"),
    ("stage1", "data.reader.init_args.root=nosuch", r".*nosuch.*"),
    ("stage1", "data.reader.init_args.root=", r".*; .*"),
    ("stage2", "data.entities_per_step=0", r"data.entities_per_step: expected at least 1, got 0; 256 is usual"),
    ("stage2", f"{MAPPER}.num_layers=-1", r"num_layers: expected at least 0 and at most 64, got -1; 1 is"),
    ("stage2", f"{MAPPER}.num_levels=0", r"num_levels: expected at least 1 and at most 64, got 0; 1 is"),
    ("stage2", f"{MAPPER}.dropout=2", r"dropout: expected at least 0 and at most 1, got 2.0; 0 is usual"),
    ("stage2", f"{MAPPER}.concept_dim=0", r"concept_dim: expected at least 1, got 0; 128 to 256 is usual"),
    ("stage2", f"{MAPPER}.concept_dim=999", r"concept_dim: expected at most 16 .*, got 999; lower it, or set"),
    ("stage2", f"{MAPPER}.num_heads=3", r"num_heads: expected a divisor of 8 \(concept_dim\), got 3; 1 always fits"),
    ("stage2", f"{MAPPER}.num_heads=0", r"num_heads: expected a divisor of 8 \(concept_dim\), got 0; 1 always fits"),
    ("stage2", "model.init_args.anchoring_weight=-1", r"anchoring_weight: expected at least 0, got -1.0; between"),
    ("stage2", "model.init_args.words.init_args.word_list=nosuch.txt", r".*nosuch.txt.*"),
    (
        "stage2",
        "model.init_args.words.init_args.item_prompt=nothing",
        r"template: expected the gap \{words\} exactly on",
    ),
    ("stage3", "data.entities_per_step=0", r"data.entities_per_step: expected at least 1, got 0; 256 is usual"),
    ("stage3", "model.init_args.alignment_weight=-1", r"alignment_weight: expected at least 0, got -1.0; between 0"),
    (
        "stage3",
        "model.init_args.alignment_loss.init_args.temperature=0",
        r"temperature: expected more than 0, got 0.0;.*",
    ),
    (
        "stage3",
        "model.init_args.token_gradient=hard",
        r"model.token_gradient: expected .*, got hard; correct the value",
    ),
    # Sizes and numbers of processes that no machine has.
    (
        "stage1",
        "model.init_args.backbone.init_args.embedding_dim=1000000000",
        r"embedding_dim: expected at most \d+ GiB, the memory .*, got \(40 users \+ 30 items\) x .* = 1,043 GiB; l",
    ),
    ("stage1", "model.init_args.top_k=[1000000000]", r"top_k: expected at most .* = 7,629 GiB; lower it; there"),
    ("stage2", f"{MAPPER}.num_layers=1000000000", r"num_layers: expected at least 0 and at most 64, got 1000000000; 1"),
    ("stage2", f"{MAPPER}.num_levels=1000000000", r"num_levels: expected at least 1 and at most 64, got 1000000000; 1"),
    (
        "stage2",
        "data.summaries=/dev/zero",
        r"summaries: expected a file, got /dev/zero; give the file that face summar",
    ),
    (
        "stage2",
        "model.init_args.words.init_args.blocklist=/dev/zero",
        r"block: expected a file, got /dev/zero; correct",
    ),
    (
        "stage2",
        "model.init_args.words.init_args.word_list=/proc/self/mem",
        r"config: expected .* Input/output",
    ),
    (
        "stage1",
        "trainer.callbacks+={class_path: Timer, dict_kwargs: {nosuch: 1}}",
        r"config: expected arguments that the named classes take, got: .*'nosuch'; correct them",
    ),
    ("stage1", "trainer.devices=1000", r"trainer.devices: expected at most \d+ processes on \d+ processors, got 1000;"),
    ("stage1", "trainer.logger=CSVLogger", r"trainer.logger.save_dir: expected, but not given; add it"),
    # Folders outside the run folder.
    (
        "stage2",
        "model.init_args.words.init_args.encoder.init_args.cache_dir=/sys",
        r"cache_dir: expected a new folder, or one that holds codebooks, summaries, vectors alone, got /sys with .*; n",
    ),
    (
        "stage1",
        "trainer.logger+={class_path: CSVLogger, init_args: {save_dir: ..}}",
        r"trainer.logger.save_dir: expected a folder within run_dir \(.*\), got ..; leave it out, or add --allow-code",
    ),
    (
        "stage1",
        "trainer.callbacks+={class_path: ModelCheckpoint, init_args: {dirpath: /etc}}",
        r"trainer.callbacks.dirpath: expected a folder within run_dir \(.*\), got /etc; leave it out, or",
    ),
    (
        "stage1",
        "trainer.profiler={class_path: SimpleProfiler, init_args: {dirpath: s3://evil}}",
        r"trainer.profiler.dirpath: expected a folder within run_dir \(.*\), got s3:/+evil; leave it",
    ),
    (
        "stage1",
        "trainer.logger={class_path: CSVLogger, init_args: {save_dir: ., name: n}}",
        r"trainer.logger.save_dir: expected a folder within run_dir \(.*\), got .; leave it out, or add --allow-code",
    ),
    *(
        (
            "stage1",
            f"trainer.{section}{{class_path: {name}, init_args: {{{folder}{key}: {value}}}}}",
            rf"trainer.{section.rstrip('+=')}.{key}: expected a name within run_dir \(.*\), got {value}; leave",
        )
        for section, name, folder, key, value in (
            ("logger=", "TensorBoardLogger", "save_dir: RUN, ", "name", "/etc"),
            ("logger=", "TensorBoardLogger", "save_dir: RUN, ", "sub_dir", "../x"),
            ("logger=", "CSVLogger", "save_dir: RUN, ", "version", "../x"),
            ("callbacks+=", "ModelCheckpoint", "", "filename", "../../x"),
            ("profiler=", "PyTorchProfiler", "", "filename", "../x"),
        )
    ),
    # Features of Lightning that do not work here.
    *(
        ("stage1", f"trainer.callbacks+={name}", rf"trainer.callbacks: expected no {name}, which .*; {cure}")
        for name, cure in (
            ("LearningRateFinder", "use face tune"),
            ("BatchSizeFinder", "set data.batch_size"),
            ("BackboneFinetuning", "use model.init_args.backbone_lr_factor"),
        )
    ),
    (
        "stage1",
        "trainer.callbacks+={class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.1}}",
        r"trainer.callbacks: expected no StochasticWeightAveraging, which .* lacks the average; use EMAWeight",
    ),
    (
        "stage1",
        "trainer.num_nodes=1000",
        r"trainer.num_nodes: expected 1 outside of a cluster, got 1000, and this proc",
    ),
    # Code that an untrusted configuration could run.
    ("stage1", "trainer.callbacks+=tests.chain.tiny.Killer", "trainer.callbacks: " + UNTRUSTED.format("tests.*Killer")),
    ("stage1", "trainer.callbacks+=os.system", "trainer.callbacks: " + UNTRUSTED.format("os.system")),
    ("stage1", "trainer.logger=subprocess.Popen", "trainer.logger: " + UNTRUSTED.format("subprocess.Popen")),
    ("stage1", "model.init_args.backbone=os.getcwd", "model.backbone: " + UNTRUSTED.format("os.getcwd")),
    ("stage1", "model.class_path=tests.chain.tiny.World", "model: " + UNTRUSTED.format("tests.chain.tiny.World")),
    (  # reports to a server
        "stage1",
        "trainer.logger=lightning.pytorch.loggers.CometLogger",
        "trainer.logger: " + UNTRUSTED.format("lightning.*CometLogger"),
    ),
    (
        "stage1",
        "trainer.logger=face_lightning.trust._common.set_parsing_settings",
        "trainer.logger: " + UNTRUSTED.format("face_lightning.trust.*"),
    ),
    (
        "stage1",
        "model.init_args.backbone=face_lightning.text.cache.os.getcwd",
        "model.backbone: " + UNTRUSTED.format("posix.getcwd"),
    ),
    ("stage1", "data.reader=builtins.exec", "data.reader: " + UNTRUSTED.format("builtins.exec")),
]


@pytest.mark.parametrize(("stage", "option", "message"), VALUES, ids=[f"{case[0]} {case[1]}" for case in VALUES])
def test_values(
    world: World, tmp_path: Path, line_of: Callable[..., str], stage: str, option: str, message: str
) -> None:
    option = option.replace("RUN", str(tmp_path / "run"))
    assert re.match(message, line_of(world.config(stage), f"--{option}"))


def touching(name: str) -> Any:
    return {"class_path": name, "init_args": {"args": ["touch", str(TOUCHED)]}}


FILES: list[tuple[str, bytes | Callable[[dict[str, Any]], Any], str]] = [
    ("empty", b"", r"config: expected options by name, got text of another kind; correct the file"),
    ("private key", b"hunter2-----BEGIN KEY-----\nhunter2\n", r"config: expected .*; correct the file"),
    (
        "private file",
        b"hunter2: [hunter2\n  }hunter2\n",
        r"config: expected YAML, but it breaks at line 2, column 3; c",
    ),
    ("host", b"//hunter2:hunter2@host\n", r"config: expected .*; correct the file"),
    (
        "part from a server",
        lambda config: config.update(data="http://127.0.0.1:9/part.yaml"),
        r"data.data: expected a file, but there is no http://127.0.0.1:9/part.yaml; correct the path",
    ),
    (
        "backbone that is a private file",
        lambda config: config["model"]["init_args"].update(backbone="/etc/passwd"),
        r"(?!.*root:).*; .*",
    ),
    (
        "password of another name",
        lambda config: config.update(
            trainer={"callbacks": [{"class_path": "Timer", "dict_kwargs": {"HF-Token": 123456}}]}
        ),
        r"(?!.*123456).*; .*",
    ),
    (
        "password in a header",
        lambda config: config.update(
            trainer={"callbacks": [{"class_path": "Timer", "dict_kwargs": {"headers": [["X-Api-Key", "hunter2"]]}}]}
        ),
        r"trainer.callbacks.dict_kwargs.headers: expected no secret in a configuration, .*; leave it out",
    ),
    (
        "address with a password",
        lambda config: config["trainer"].update(
            logger={"class_path": "CSVLogger", "init_args": {"save_dir": "ftp://me:hunter2@host/x"}}
        ),
        r".*; .*",
    ),
    ("aliases", ALIASES, r"config: expected at most 100,000 values, but aliases expand to \S+ or more; write the"),
    ("nested", b"a: " + b"[" * 3000 + b"]" * 3000, r"config: expected .*; correct the file"),
    ("list", b"- 1\n- 2\n", r".*; .*"),
    ("text", b"just words", r".*; .*"),
    ("binary", bytes(range(256)), r"config: expected text in UTF-8, but .*; save the file as UTF-8"),
    (
        "latin-1",
        "run_dir: r\xe9sum\xe9\n".encode("latin-1"),
        r"config: expected text in UTF-8, but .*; save the file as UTF-8",
    ),
    ("tag", f"run_dir: !!python/object/apply:os.system ['touch {TOUCHED}']\n".encode(), r"config: expected YAML, but"),
    (
        "optimizer that runs a program",
        lambda config: config["model"]["init_args"].update(optimizer=touching("subprocess.Popen")),
        "model.optimizer: " + UNTRUSTED.format("subprocess.Popen"),
    ),
    (
        "callback that runs a program",
        lambda config: config["trainer"].update(callbacks=[touching("subprocess.Popen")]),
        "trainer.callbacks: " + UNTRUSTED.format("subprocess.Popen"),
    ),
    (
        "module that is imported",
        lambda config: config["trainer"].update(plugins=[{"class_path": "antigravity.Plugin"}]),
        "trainer.plugins: " + UNTRUSTED.format("antigravity.Plugin"),
    ),
    (
        "password",
        lambda config: config["trainer"].update(
            logger={
                "class_path": "TensorBoardLogger",
                "init_args": {"save_dir": "."},
                "dict_kwargs": {"api_key": "hunter2"},
            }
        ),
        r"trainer.logger.dict_kwargs.api_key: expected no secret in a configuration, .*; leave it out and set the env",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[case[0] for case in FILES])
def test_configuration_files(
    world: World, tmp_path: Path, line_of: Callable[..., str], name: str, content: Any, message: str
) -> None:
    path = tmp_path / "config.yaml"
    if callable(content):
        config = world.read("stage1")
        for key, part in (("data", config["data"]), ("backbone", config["model"]["init_args"]["backbone"])):
            (config if key == "data" else config["model"]["init_args"])[key] = str(world.root / part)
        content(config)
        content = yaml.safe_dump(config).encode()
    path.write_bytes(content)
    line = line_of(path)
    assert re.match(message, line)
    assert "hunter2" not in line


def test_configuration_that_is_a_folder(tmp_path: Path, line_of: Callable[..., str]) -> None:
    assert re.match(r"config: expected a file, but .* is a folder; correct the path", line_of(tmp_path))


def test_a_run_that_diverges_ends_with_an_error(world: World, line_of: Callable[..., str]) -> None:
    line = line_of(world.config("stage1"), "--model.init_args.optimizer.init_args.lr", "1e25")
    assert re.match(
        r"training: expected finite weights and losses, got NaN or .* in epoch 0 \(train/loss .*\); lower", line
    )


def test_run_folders_that_cannot_be(world: World, line_of: Callable[..., str], tmp_path: Path) -> None:
    for run, message in (
        (Path("/dev/null/run"), r".*Not a directory.*"),
        (tmp_path / ("x" * 300), r".*File name too long.*"),
        (Path("/proc/nosuch/run"), r".*No such file or directory.*"),
    ):
        assert re.match(message, line_of(world.config("stage1"), run_dir=run)), run
