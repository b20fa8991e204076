import copy
from pathlib import Path

import pytest

from face_lightning.commands import starting
from face_lightning.commands.starting import already_finished, check_one_source, run_fingerprint
from face_lightning.errors import ConfigurationError

CONFIG = {
    "run_dir": "runs/a",
    "if_exists": "fail",
    "seed_everything": 0,
    "trainer": {"max_epochs": 3, "default_root_dir": "runs/a"},
    "checkpoint": {"monitor": "val/recall@20", "dirpath": "runs/a/checkpoints"},
    "model": {"init_args": {"words": {"init_args": {"codebook": "data/words"}}}},
}


def changed(path: str, value: object) -> dict:
    config = copy.deepcopy(CONFIG)
    *folders, name = path.split("/")
    section = config
    for folder in folders:
        section = section[folder]
    section[name] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        ("run_dir", "runs/b", True),
        ("if_exists", "resume", True),
        ("trainer/default_root_dir", "runs/b", True),
        ("checkpoint/dirpath", "runs/b/checkpoints", True),
        ("seed_everything", 1, False),
        ("trainer/max_epochs", 4, False),
        ("checkpoint/monitor", "val/ndcg@20", False),
        ("model/init_args/words/init_args/codebook", "data/other", False),
    ],
)
def test_the_fingerprint_depends_on_what_decides_the_result(path: str, value: object, same: bool) -> None:
    assert (run_fingerprint(changed(path, value), None, False) == run_fingerprint(CONFIG, None, False)) == same


def test_an_inherited_vocabulary_does_not_change_the_fingerprint() -> None:
    before, other = copy.deepcopy(CONFIG), changed("model/init_args/words/init_args/codebook", "data/other")
    assert run_fingerprint(other, None, True) == run_fingerprint(CONFIG, None, True)
    assert before == CONFIG


def test_the_checkpoint_that_a_run_starts_from_decides_its_fingerprint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    prints = [run_fingerprint(CONFIG, str(checkpoint), False)]
    for content in (b"one", b"two"):
        checkpoint.write_bytes(content)
        prints.append(run_fingerprint(CONFIG, str(checkpoint), False))
    assert len({*prints, run_fingerprint(CONFIG, None, False)}) == 4


def test_init_from_with_ckpt_path_is_rejected_unless_a_resume_is_requested() -> None:
    both = {"init_from": "runs/a", "ckpt_path": "last"}
    check_one_source(both, ["fit", "--config", "a.yaml", "--ckpt_path", "last"])
    check_one_source({"init_from": "runs/a", "ckpt_path": None}, ["--init_from=runs/a"])
    for given in (["--init_from=runs/a", "--ckpt_path=last"], []):
        with pytest.raises(ConfigurationError, match="expected one of them, got both"):
            check_one_source(both, given)


def test_a_run_in_the_folder_is_skipped_replaced_or_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fingerprint() -> str:
        asked.append(1)
        return "f"

    assert not already_finished(tmp_path, "fail", fingerprint)
    monkeypatch.setattr(starting, "holds_run", lambda path: True)
    monkeypatch.setattr(starting, "finished", lambda path, given: given == "f")
    assert already_finished(tmp_path, "skip", fingerprint)
    assert not already_finished(tmp_path, "overwrite", fingerprint)
    assert len(asked) == 1
    with pytest.raises(ConfigurationError, match="holds a run; resume it with --ckpt_path last"):
        already_finished(tmp_path, "fail", fingerprint)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is a file"):
        already_finished(tmp_path / "file", "skip", fingerprint)
