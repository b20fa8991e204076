"""How often a training step makes the host wait for its device: a number of each stage that must not grow unseen."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.synchronisations import counting
from face_lightning.stages.base import Stage
from tests.chain.tiny import World
from tests.device.conftest import DEVICE, Fit


def test_every_kind_is_counted() -> None:
    values, counts = torch.arange(5.0), Counter[str]()
    with counting(counts):
        values.sum().item()
        bool(values[0] > 0)
        values.cpu()
        values.tolist()
        values.nonzero()
        values[values > 2]
        values.unique()
        values.long().repeat_interleave(values.long())
        values + values  # nothing to wait for
        values[torch.tensor([0, 1])]
    assert counts["item"] == 2
    assert {kind: counts[kind] for kind in counts if kind != "item"} == {
        **dict.fromkeys(("cpu", "tolist", "nonzero", "index by mask", "unique", "repeat_interleave"), 1),
    }


# Most that one step of a stage may wait for, in the world in miniature:
# - the token search asks which entities' slots clash, and goes on for those that do, once a round of the greedy choice
#   (nonzero, item), and at last which of them need more tokens because words share lemmas (nonzero); where K > 1, which
#   ties cross the cut (nonzero);
# - grounding takes each user and item of a batch once (unique), where it has words (index by mask), and asks how many
#   of them have the same text (unique, item);
# - alignment takes entities that have a text (nonzero), and the encoder's library asks for one value (item).
MOST = {
    "stage1": {},
    "stage2": {"nonzero": 4, "item": 2},
    "stage3": {"nonzero": 6, "item": 5, "unique": 4, "index by mask": 2},
}


@pytest.mark.skipif(DEVICE.type != "cpu", reason="rounding on a GPU may change which words clash")
@pytest.mark.parametrize("stage", MOST)
def test_waits_of_a_training_step(
    device_chain: World, fit: Fit, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Counter[str]] = []
    forward, backward = Stage.training_step, Stage.backward

    def counted_step(self: Stage, batch: object, batch_idx: int) -> Tensor:
        steps.append(Counter())
        with counting(steps[-1]):
            return forward(self, batch, batch_idx)  # type: ignore[arg-type]

    def counted_backward(self: Stage, loss: Tensor) -> None:
        with counting(steps[-1]):
            backward(self, loss)

    monkeypatch.setattr(Stage, "training_step", counted_step)
    monkeypatch.setattr(Stage, "backward", counted_backward)
    assert fit(device_chain.config(stage), "--run_dir", tmp_path, "--trainer.max_epochs", "1") == 0
    assert steps
    assert {kind: max(step[kind] for step in steps) for kind in sum(steps, Counter())} == MOST[stage]
