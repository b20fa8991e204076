"""Interactions, readers, splits, sampling and the data module."""
