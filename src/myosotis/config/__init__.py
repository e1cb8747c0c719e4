"""What a run is told: the schema of its keys, their defaults, and the check before it starts.

schema.py    the keys
compose.py   overrides to a composed config, outside `hydra.main`
check.py     what cannot work, refused before any weights load
targets.py   `_target_` resolved, trusted and held against its signature
rates.py     the default learning rate of an update and objective
identity.py  the hash of what can change a result
"""

from __future__ import annotations

from myosotis.config.schema import Config, register

__all__ = ["Config", "register"]
