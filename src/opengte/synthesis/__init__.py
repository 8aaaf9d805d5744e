"""A language model and documents -> new training pairs, each with its prompt and its model."""
