"""Paired comparisons: differences, intervals, several tasks, calibration, sequences."""
