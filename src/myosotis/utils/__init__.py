"""Nothing of the domain: errors, the console, cached folders, ranks, memory."""
