"""In which order an epoch goes through its examples, of one source or of several.

The order is a pure function of (seed, epoch): nothing about it needs saving, and workers and ranks
have no part in it. Of several sources each has a share of every stretch of an epoch (stride
scheduling: the j-th example of a source of share w stands at (j + ½) / w), so that every step holds
the mixture, to within one example a source; within a source the order is drawn anew each epoch.
A source whose share is everything has the order it would have alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from myosotis.utils.errors import ConfigError, DataError

Stop = Literal["first", "last"]
SLACK = 1e-9  # 29 / 0.29 is no whole number of floats


@dataclass(frozen=True)
class Mixture:
    """The shares of the sources of a data set.

    `weights` are by name, in the order of the sources; where they are None (or there are no names),
    each source has a share by its size, to the power of 1/`temperature`. An epoch ends when the
    `first` source is used up, or the `last`; until then the others begin again.
    """

    weights: Mapping[str, float | None] = field(default_factory=dict)
    temperature: float = 1.0
    stop: Stop = "first"

    def __post_init__(self) -> None:
        if self.stop not in ("first", "last"):
            raise ConfigError(f"data.mixture.stop={self.stop}", "it is first or last")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(
                f"data.mixture.temperature={self.temperature}",
                "1 takes sources by their size, more evens them out",
            )
        if self.temperature != 1 and any(weight is not None for weight in self.weights.values()):
            raise ConfigError(
                "data.mixture.temperature is set, and the sources have weights",
                "weights say it all; leave one of them out",
            )

    def shares(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """By source, its share of an epoch; they add up to 1."""
        raw = {
            name: sizes.get(name, 0) ** (1 / self.temperature) if weight is None else weight
            for name, weight in (self.weights or dict.fromkeys(sizes)).items()
        }
        total = sum(raw.values())
        return {name: weight / total for name, weight in raw.items()}

    def counts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """By source, the examples of an epoch. Raises `DataError` for a source without any."""
        if bare := [name for name in self.weights if not sizes.get(name)]:
            raise DataError(
                f"the source {bare[0]!r} has no training example left",
                "a larger data.max_length, or more data",
            )
        shares = self.shares(sizes)
        lengths = [sizes[name] / share for name, share in shares.items()]
        if self.stop == "first":
            length = int(min(lengths) + SLACK)
        else:
            length = int(np.ceil(max(lengths) - SLACK))
        return _rounded(shares, max(1, length), sizes if self.stop == "first" else None)


def _rounded(
    shares: Mapping[str, float], length: int, most: Mapping[str, int] | None
) -> dict[str, int]:
    """Whole numbers nearest to the shares of `length` that add up to it, none above `most`."""
    exact = {name: share * length for name, share in shares.items()}
    counts = {name: int(amount + SLACK) for name, amount in exact.items()}
    by_rest = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_rest[: length - sum(counts.values())]:
        if most is None or counts[name] < most[name]:
            counts[name] += 1
    return counts


class Order:
    """The examples of each epoch, by their places in a list.

    `sources[i]` is where example i comes from; without a mixture all are one.
    """

    def __init__(self, sources: Sequence[str], seed: int, mixture: Mixture | None = None) -> None:
        self.seed = seed
        self.counts: dict[str, int] = {}  # of a mixture: by source, the examples of an epoch
        everything = np.arange(len(sources))
        if mixture is None:
            self._places = [everything]
            self._counts = [len(sources)]
            return
        names = np.array(sources)
        sizes = {name: int((names == name).sum()) for name in dict.fromkeys(sources)}
        self.counts = mixture.counts(sizes)
        shares = mixture.shares(sizes)
        self._shares = [shares[name] for name in self.counts]
        self._places = [everything[names == name] for name in self.counts]
        self._counts = list(self.counts.values())

    def __len__(self) -> int:
        """Examples an epoch."""
        return sum(self._counts)

    def of(self, epoch: int) -> list[int]:
        """The order of an epoch: a place in the list for each of its examples."""
        return self._merged([self._drawn(k, epoch) for k in range(len(self._places))])

    def spread(self) -> list[int]:
        """The same mixture with the examples of each source in the order they are given in."""
        return self._merged(self._places)

    def _merged(self, drawn: list[NDArray[Any]]) -> list[int]:
        if len(drawn) == 1:
            return drawn[0].tolist()
        when = [
            (np.arange(len(one)) + 0.5) / share
            for one, share in zip(drawn, self._shares, strict=True)
        ]
        order = np.argsort(np.concatenate(when), kind="stable")
        return np.concatenate(drawn)[order].tolist()

    def _drawn(self, k: int, epoch: int) -> NDArray[Any]:
        """The examples of source k in an epoch, in passes of which each is shuffled anew."""
        places, count = self._places[k], self._counts[k]
        passes = -(-count // len(places)) if len(places) else 0
        shuffled = [self._shuffled(k, epoch, number, places) for number in range(passes)]
        return np.concatenate(shuffled)[:count] if shuffled else places[:0]

    def _shuffled(self, k: int, epoch: int, number: int, places: NDArray[Any]) -> NDArray[Any]:
        # NumPy fills a short seed up with noughts, so source 0 is shuffled as one alone.
        rng = np.random.default_rng([self.seed, epoch, k, number])
        return places[rng.permutation(len(places))]
