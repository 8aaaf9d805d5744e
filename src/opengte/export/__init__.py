"""A trained encoder -> files that other tools open, each with a parity check."""
