"""Logs of evaluations that exist: read from files of any origin, and brought item to item."""
