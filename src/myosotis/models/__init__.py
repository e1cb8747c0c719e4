"""Weights: which model, from where, in which type; written and asked for text."""
