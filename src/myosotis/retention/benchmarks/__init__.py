"""Benchmarks as items: built, asked, scored, cached."""
