"""Run folders: the files that a run writes, and how it is resumed and read."""
