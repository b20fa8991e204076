"""Writers of summaries: templates, a language model on this machine, or a server."""
