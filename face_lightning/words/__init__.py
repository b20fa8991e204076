"""Words of entities: their texts, target words, retrieval, and the health of what a mapper learns."""
