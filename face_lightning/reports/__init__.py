"""Reports of finished runs: one HTML file that needs neither a network nor a program, and its numbers as CSV."""
