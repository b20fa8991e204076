"""Losses: of ranking, of contrasts, and of texts. One file each."""
