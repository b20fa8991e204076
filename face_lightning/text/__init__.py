"""Word lists, text encoders and written summaries."""
