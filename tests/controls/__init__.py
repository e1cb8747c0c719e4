"""What protects the base: every control against numbers worked out by hand."""
