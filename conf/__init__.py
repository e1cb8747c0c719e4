"""The configuration: Hydra groups, one folder each, and the primary config `train.yaml`.

Lies beside `src/` so that it is easy to find and read; installed as the package `myosotis.conf`.
"""
