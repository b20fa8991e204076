"""Reports of finished runs: a self-contained HTML file, and its numbers as CSV."""
