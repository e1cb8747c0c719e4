"""lm-eval's tasks and their data. The only lm_eval."""
