"""Many runs in one process: neither memory nor open files grow."""

from pathlib import Path

import psutil
import pytest

from tests.chain.tiny import QUIET, World, face, fit

CYCLES, WARM_UP = 120, 20
MAX_GROWTH_MIB = 48  # over all cycles; allocators keep some


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_cycles_of_fit_and_validate_leave_nothing_behind(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    me = psutil.Process()
    figures: list[tuple[int, float, int, int]] = []
    for cycle in range(CYCLES):
        stage = ("stage1", "stage2", "stage3")[cycle % 3]
        run = ["--run_dir", tmp_path / stage]
        assert fit(chain.config(stage), *run, "--trainer.max_epochs", "1", "--if_exists", "overwrite") == 0
        assert face("validate", "--config", chain.config(stage), *run, *QUIET) == 0
        if cycle % WARM_UP == WARM_UP - 1:
            figures.append((cycle + 1, me.memory_info().rss / 2**20, me.num_fds(), me.num_threads()))
    with capsys.disabled():
        print("\ncycles  MiB  files  threads")
        for count, mib, files, threads in figures:
            print(f"{count:>6} {mib:>5.0f} {files:>5} {threads:>7}")
    first, last = figures[0], figures[-1]
    assert last[1] - first[1] < MAX_GROWTH_MIB
    assert last[2] <= first[2]
    assert last[3] <= first[3]
