"""From embeddings to descriptors: projection, token search, quantizer, mapper."""
