"""A page to explore a finished run: search, words, neighbours, recommendations that follow edited words, a map."""
