"""Inference with a finished run: recommendations, similar entities, words and steering, by original ids."""
