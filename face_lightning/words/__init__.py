"""Words of entities: texts, target words, retrieval, and monitoring of codebook usage."""
