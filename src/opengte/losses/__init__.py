"""Tensors -> one scalar: every training objective of the family, as pure functions."""
