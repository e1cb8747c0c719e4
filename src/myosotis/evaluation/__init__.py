"""Measuring a model in full: task quality, retention, KL, samples."""
