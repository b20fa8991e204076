"""Settings for all tests: two threads, no hub, and property tests that try the same examples every time."""

import os

import torch
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
# Runs in processes of their own are compared bit for bit with runs in this one: both use as many threads.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "2")))
settings.register_profile("face", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("face")
