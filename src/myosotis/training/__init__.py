"""Lightning: the module, its callbacks, checkpoints, when to measure, what it cost."""
