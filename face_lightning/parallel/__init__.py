"""Distribution of the backbone's tables over processes: replicated, or sharded by columns."""
