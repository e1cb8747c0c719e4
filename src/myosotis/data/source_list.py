"""Several sources of one data set: `data.sources=[{path: a.jsonl, weight: 2}, …]`.

    path, or hub       where it lies (places.py); hub: {name, config, split, revision}
    name               what it is called in the record; by default its file or data set
    weight             its share of the examples of an epoch, beside the others'; none: by its size
    items              at most so many training examples, a seeded subset
    fields             the names of its fields where they are not those of `data.fields`

The parts that are held out are those of all sources together: what is learned from one is not
tested by another. A source of weight 0 is as good as left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from myosotis.data.mixture import Mixture, Order
from myosotis.data.places import HubData, Place, place_of, short
from myosotis.data.sft import Example
from myosotis.data.splits import take
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

KEYS = ("path", "hub", "name", "weight", "items", "fields")
HUB_KEYS = ("name", "config", "split", "revision")


@dataclass(frozen=True)
class Source:
    """One of several; `weight` None is by its size, `items` None all."""

    name: str
    place: Place
    weight: float | None = None
    items: int | None = None
    fields: Mapping[str, Any] | None = None


def source_list(
    sources: Sequence[Mapping[str, Any]], path: Place | None, hub: Mapping[str, Any]
) -> list[Source]:
    """The sources that `data.sources` lists; none where it is empty. Raises `ConfigError`."""
    if not sources:
        return []
    if path is not None or hub.get("name") is not None:
        other = "data.path" if path is not None else "data.hub.name"
        raise ConfigError(f"both data.sources and {other} are set", "give one of them")
    listed = [_source(one, f"data.sources[{i}]") for i, one in enumerate(sources)]
    names = [one.name for one in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"two of data.sources are called {twice[0]!r}", "give each a name of its own"
        )
    weights = [one.weight for one in listed]
    if None in weights and any(weight is not None for weight in weights):
        bare = names[weights.index(None)]
        raise ConfigError(f"the source {bare!r} has no weight", "give all of them one, or none")
    if not any(weight is None or weight > 0 for weight in weights):
        raise ConfigError("every one of data.sources has weight 0", "give one of them a share")
    return listed


def _source(given: Any, where: str) -> Source:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {given!r}", "each is as in {path: mine.jsonl, weight: 1}")
    _known(given, KEYS, where)
    given = {key: value for key, value in given.items() if value is not None}
    if ("path" in given) == ("hub" in given):
        raise ConfigError(f"{where} needs a path or a hub, one of them", "{path: mine.jsonl}")
    place = _place(given, where)
    weight, items = given.get("weight"), given.get("items")
    if weight is not None and not (_number(weight) and 0 <= weight < float("inf")):
        raise ConfigError(f"{where}.weight={weight}", "a number, 0 or more")
    if items is not None and (not isinstance(items, int) or isinstance(items, bool) or items < 1):
        raise ConfigError(f"{where}.items={items}", "a number of examples, 1 or more")
    name = str(given.get("name", short(place)))
    return Source(name, place, weight, items, given.get("fields"))


def _place(given: Mapping[str, Any], where: str) -> Place:
    if "path" in given:
        return place_of(str(given["path"]))
    hub = given["hub"]
    if not isinstance(hub, Mapping) or not hub.get("name"):
        raise ConfigError(f"{where}.hub={hub}", "as in hub: {name: OWNER/NAME, split: train}")
    _known(hub, HUB_KEYS, f"{where}.hub")
    return HubData.splits({"split": "train", **hub})["train"]


def _known(given: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in given:
        if key not in keys:
            known = f"There is {', '.join(keys)}."
            raise ConfigError(f"{where} has no key {key!r}", did_you_mean(str(key), keys, known))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mixture_of(listed: Sequence[Source], settings: Mapping[str, Any]) -> Mixture | None:
    """How the sources are mixed; None without any. Raises `ConfigError` for settings that then
    mean nothing."""
    weights = {one.name: one.weight for one in listed if one.weight != 0}
    given = {key: value for key, value in settings.items() if value is not None}
    if not listed:
        if given:
            raise ConfigError(
                f"data.mixture.{next(iter(given))} is set, data.sources is not",
                "data.sources=[{path: a.jsonl}, {path: b.jsonl}]",
            )
        return None
    return Mixture(weights, **given)


def of_each_source(examples: list[Example], listed: Sequence[Source], seed: int) -> list[Example]:
    """The training examples, of each source as many as its `items` says."""
    if not listed:
        return examples
    return [
        example
        for one in listed
        for example in take([e for e in examples if e.source == one.name], one.items, seed)
    ]


def in_turn(examples: list[Example]) -> list[Example]:
    """Held-out examples in an order of which every start holds each source by its share: what is
    measured on the first so many is measured on all sources."""
    sources = [example.source for example in examples]
    if len(set(sources)) < 2:
        return examples
    return [examples[i] for i in Order(sources, 0, Mixture()).spread()]
