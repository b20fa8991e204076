"""Subcommands of `face` that are not training."""
