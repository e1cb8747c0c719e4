"""Token trees, packed into forests, scored to log-probs."""
