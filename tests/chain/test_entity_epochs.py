"""Stage 2 goes over entities as long as the backbone is frozen."""

import json

import pytest

from face_lightning.data.sampling import EntityLoader, TrainingLoader
from tests.chain.tiny import NUM_ITEMS, NUM_USERS, QUIET, World, face, rows


@pytest.mark.parametrize(("frozen", "kind"), [(True, EntityLoader), (False, TrainingLoader)])
def test_batches_hold_interactions_only_where_the_backbone_moves(
    chain: World, tmp_path: object, frozen: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[type] = []
    for loader in (EntityLoader, TrainingLoader):
        iterate = loader.__iter__
        monkeypatch.setattr(loader, "__iter__", lambda self, iterate=iterate: seen.append(type(self)) or iterate(self))
    options = ["--model.init_args.freeze_backbone", json.dumps(frozen), "--run_dir", tmp_path]
    assert face("fit", "--config", chain.config("stage2"), *QUIET, *options, "--trainer.max_epochs", "1") == 0
    assert set(seen) == {kind}
    if frozen:
        (row,) = rows(tmp_path)  # type: ignore[arg-type]
        assert row["step"] == -(-(NUM_USERS + NUM_ITEMS) // 24)
