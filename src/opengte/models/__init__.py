"""Token ids -> hidden states -> embeddings, in torch."""
