"""Raw files come in -> training pairs, and held-out searches nobody trained on."""
