"""From texts to vectors on disk: batches, models, and the store of embeddings."""
