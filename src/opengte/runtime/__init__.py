"""An exported model folder, an endpoint or nothing at all -> embeddings. Free of torch."""
