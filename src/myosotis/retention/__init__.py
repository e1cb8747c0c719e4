"""What must not be lost: benchmarks, paired statistics, the budget.

Import the module you need; this one is empty on purpose, since `stats` must stay free of torch.
"""
