"""Web page to explore a finished run: search, words, neighbors, recommendations steered by words, a map."""
