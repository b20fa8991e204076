"""Collaborative filtering that a language model, and a person, can read."""

__version__ = "0.1.0"
