"""Texts before they are numbers: prompts, tokens, cuts, chunks and token budgets. No torch."""
