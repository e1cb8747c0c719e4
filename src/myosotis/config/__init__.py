"""What a run is told: the schema of its keys, their defaults, and the check before it starts.

schema.py    the keys
compose.py  overrides to a composed config, outside `hydra.main`
validate.py    what cannot work, refused before any weights load
targets.py   `_target_` resolved, trusted and held against its signature
instantiate.py     config nodes to the plain arguments the rooms take
default_lr.py     the default learning rate of an update and objective
hashing.py  the hash of what can change a result
utils/did_you_mean.py   near matches for unknown names
"""

from __future__ import annotations

from myosotis.config.compose import compose, model_named
from myosotis.config.default_lr import LearningRate, learning_rate
from myosotis.config.hashing import config_hash, register_resolvers
from myosotis.config.schema import Config, register
from myosotis.config.validate import check

__all__ = [
    "Config",
    "LearningRate",
    "check",
    "compose",
    "config_hash",
    "learning_rate",
    "model_named",
    "register",
    "register_resolvers",
]
