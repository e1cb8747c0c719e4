"""Runs as a study: which are the same setting with another seed, and what tells settings apart.

What belongs here: reading the configurations of many records. What the settings came to is in
`selection.py`, how they are shown in `sweep_page.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from myosotis.records.schema import WITHOUT_EFFECT, RunRecord

SEED, RATE, CONTROL = "seed", "optimizer.lr", "control"
FIRST = ("update.r", RATE)
"""Keys that name a setting before any other."""

BELOW = tuple(f"{key}." for key in WITHOUT_EFFECT)
"""How keys begin that cannot change a result, for they are of such a group."""

Values = dict[str, Any]


@dataclass
class ConfigGroup:
    """One configuration, with the runs that differ in their seed alone.

    `runs` ended and were measured, one a seed, the newest; `others` failed, never ended, or were
    run again since. `row` is the label without the value of the study's axis, `x`.
    """

    number: int
    label: str
    row: str
    method: str
    x: float | None
    values: Values
    runs: list[RunRecord] = field(default_factory=list)
    others: list[RunRecord] = field(default_factory=list)
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was computed of the runs, by what it is (`selection.group_stats`)."""

    @property
    def all(self) -> list[RunRecord]:
        return [*self.runs, *self.others]


@dataclass
class Study:
    """Settings in the order of their first run. `axis` is the key that is swept, "" if none is."""

    groups: list[ConfigGroup]
    axis: str

    @property
    def rows(self) -> list[str]:
        """The settings' labels without the axis, in order."""
        return list(dict.fromkeys(s.row for s in self.groups))

    @property
    def measured(self) -> list[ConfigGroup]:
        return [s for s in self.groups if s.runs]


def holes(groups: Sequence[ConfigGroup]) -> list[tuple[str, float]] | None:
    """The cells of rows and axis that no setting is of; None where they are no fewer than the
    others: that is another design than a grid, such as a sampler's."""
    have = {(s.row, s.x) for s in groups}
    xs = sorted({s.x for s in groups if s.x is not None})
    rows = dict.fromkeys(s.row for s in groups)
    absent = [(row, x) for row in rows for x in xs if (row, x) not in have]
    return absent if len(absent) < len(have) else None


def study(records: Sequence[RunRecord]) -> Study:
    """Group `records` by everything that can change a result, but for the seed."""
    alike: dict[str, list[RunRecord]] = {}
    for record in records:
        alike.setdefault(_identity(record), []).append(record)
    leaves = [leaves_of(runs[0]) for runs in alike.values()]
    families = [
        _family(runs[0], values) for runs, values in zip(alike.values(), leaves, strict=True)
    ]
    told = _telling(leaves, families)
    axis = _axis(leaves, families, told)
    groups = []
    for number, (runs, values, family) in enumerate(
        zip(alike.values(), leaves, families, strict=True), 1
    ):
        keys = [key for key in told[family] if key in values]
        x = values.get(axis) if axis in keys else None
        name = _name(runs[0], family, families)
        groups.append(
            ConfigGroup(
                number,
                _label(name, keys, values) if told[family] else _own_name(runs[0], name),
                _label(name, [key for key in keys if key != axis], values),
                family[0],
                float(x) if x is not None else None,
                {key: values[key] for key in keys},
                *_sorted(runs),
            )
        )
    _tell_apart(groups)
    groups = sorted(groups, key=lambda s: _order(s, groups))
    for number, group in enumerate(groups, 1):
        group.number = number
    return Study(groups, axis)


def measured(record: RunRecord) -> bool:
    """Whether a run ended and says something of the task or the benchmarks."""
    known = (record.task is not None and record.task.delta is not None) or (
        record.suite_verdict is not None and record.suite_verdict.delta is not None
    )
    return record.status == "FINISHED" and known


def leaves_of(record: RunRecord) -> Values:
    """The configuration as dotted keys, without what cannot change a result and the seed. `control`
    is the names of the controls, `none` in records of before there were any."""
    config = dict(record.config)
    controls = config.pop("control", None) or {}
    values = {
        key: value
        for key, value in [*_leaves(config), *_leaves(controls, f"{CONTROL}.")]
        if key != SEED and key not in WITHOUT_EFFECT and not key.startswith(BELOW)
    }
    if values:  # else of another tool, which says nothing of controls
        values = {k: v for k, v in values.items() if not _names_a_class(k)}
        values[CONTROL] = "+".join(controls) or "none"
    return values


def _names_a_class(key: str) -> bool:
    return key.startswith(f"{CONTROL}.") and key.endswith("._target_")


def seed_of(record: RunRecord) -> Any:
    """The seed, None where it is not recorded."""
    return record.config.get(SEED)


def short(key: str) -> str:
    """A key as labels show it: `lr`, `r`, `target_modules`."""
    return key.rpartition(".")[2]


def written(value: Any, key: str = "") -> str:
    """A value of `key` as labels show it: `16`, `all-linear`; learning rates as `5e-4`."""
    if isinstance(value, float):
        return _power(value) if key == RATE and 0 < abs(value) < 0.1 else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += _leaves(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _identity(record: RunRecord) -> str:
    values = leaves_of(record)
    if not values:  # of another tool: nothing says that two runs are repeats
        return record.config_hash or record.run_id
    known = [values, record.model.id, record.data.name, record.update.name]
    return json.dumps(known, sort_keys=True, default=str)


Family = tuple[str, str]


def _family(record: RunRecord, values: Values) -> Family:
    """Update and objective: keys are compared among runs that have the same."""
    update = record.update.name or str(values.get("update.name", ""))
    return update, str(values.get("objective.name", ""))


def _telling(leaves: Sequence[Values], families: Sequence[Family]) -> dict[Family, list[str]]:
    """For each family the keys that tell its settings apart, the most telling first.

    A key that follows from another of its group (`lora_alpha` from `r`) says nothing new.
    """
    told: dict[Family, list[str]] = {}
    for family in dict.fromkeys(families):
        members = [v for v, f in zip(leaves, families, strict=True) if f == family]
        keys = sorted({key for values in members for key in values})
        varying = [k for k in keys if len({_text(values.get(k)) for values in members}) > 1]
        kept: list[str] = []
        for key in sorted(varying, key=_rank):
            group = key.partition(".")[0]
            if not any(
                other.partition(".")[0] == group and _follows(key, other, members) for other in kept
            ):
                kept.append(key)
        told[family] = kept
    return told


def _rank(key: str) -> tuple[int, int, str]:
    return FIRST.index(key) if key in FIRST else len(FIRST), key.count("."), key


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _follows(key: str, other: str, members: Sequence[Values]) -> bool:
    """Whether the value of `other` fixes that of `key`."""
    pairs = {(_text(values.get(other)), _text(values.get(key))) for values in members}
    return len(pairs) == len({first for first, _ in pairs})


def _axis(
    leaves: Sequence[Values], families: Sequence[Family], told: Mapping[Family, Sequence[str]]
) -> str:
    """The key to draw along: the learning rate where it was swept, else the first number swept."""
    keys = [key for family in dict.fromkeys(families) for key in told[family]]
    for key in sorted(dict.fromkeys(keys), key=lambda k: k != RATE):
        values = [
            v[key] for v, f in zip(leaves, families, strict=True) if key in told[f] and key in v
        ]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(values) and len(set(numbers)) > 1:
            return key
    return ""


def _name(record: RunRecord, family: Family, families: Sequence[Family]) -> str:
    """What the family is called, where there are several: `lora`, `dpo with lora`."""
    update, objective = family
    if len({o for _, o in families}) > 1 and objective:
        return f"{objective} with {update}" if update else objective
    return update or _own_name(record, "")


def _own_name(record: RunRecord, name: str) -> str:
    return name or record.run_name or record.run_id[:12]


def _label(name: str, keys: Sequence[str], values: Values) -> str:
    return " ".join([name, *(f"{short(key)}={written(values[key], key)[:40]}" for key in keys)])


def _tell_apart(groups: Sequence[ConfigGroup]) -> None:
    """Labels that are the same after all get the name of a run."""
    labels = [s.label for s in groups]
    for group in groups:
        if labels.count(group.label) > 1:
            own = group.all[0]
            group.label = own.run_name or f"{group.label} {own.run_id[:8]}"
            group.row = group.label


def _order(group: ConfigGroup, groups: Sequence[ConfigGroup]) -> tuple[Any, ...]:
    """Families and rows as first met, numbers inside a family by size."""
    first = next(i for i, s in enumerate(groups) if s.method == group.method)
    size = [
        (0, float(v), "") if isinstance(v, int | float) else (1, 0.0, written(v))
        for v in group.values.values()
    ]
    return (first, size, group.number)


def _sorted(group: Sequence[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
    """The newest measured run of each seed, by seed; and the rest."""
    newest: dict[str, RunRecord] = {}
    for record in sorted(group, key=lambda r: (r.started, r.run_id)):
        if measured(record):
            newest[_text(seed_of(record))] = record
    kept = list(newest.values())
    kept.sort(
        key=lambda r: (str(type(seed_of(r))), seed_of(r)) if seed_of(r) is not None else ("",)
    )
    return kept, [r for r in group if not any(r is k for k in kept)]
