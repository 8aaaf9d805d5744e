"""Embeddings and texts -> ranked hits: exact, BM25, fusion, and the folder that keeps them."""
