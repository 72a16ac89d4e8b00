"""How everything in this project is timed: what is compared takes turns, and the median counts."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Timing", "take_turns"]

# A sample is made of as many calls as take this long, so that the clock and one interruption
# weigh little.
_SECONDS_PER_SAMPLE = 2e-3


@dataclass(frozen=True)
class Timing:
    """Seconds per call in each round, and how many calls made a sample."""

    seconds: tuple[float, ...]
    calls_per_sample: int

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def iqr_percent(self) -> float:
        """Interquartile range in percent of the median; above 10 the machine was not quiet."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return 100 * (high - low) / self.median

    def less(self, other: Timing) -> Timing:
        """Return what each round took longer than the other's; noise can make it negative."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Timing(tuple(own - its for own, its in pairs), self.calls_per_sample)


def take_turns(
    runs: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    seconds_per_sample: float = _SECONDS_PER_SAMPLE,
    on_sample: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time all runs in turns, so that a change of the machine's speed meets all of them.

    Parameters
    ----------
    runs : mapping of str to callable
        What is compared, by name. Each is called once before it is timed.
    rounds : int
        Samples of each run. The order within a round is rotated from round to round: nobody
        always runs after the same neighbour.
    seconds_per_sample : float, default 2e-3
        Shorter runs are called several times per sample.
    on_sample : callable, optional
        Called after every sample, between the clocks; for a progress bar.

    Returns
    -------
    dict of str to Timing

    Raises
    ------
    ValueError
        If there are no rounds.

    Examples
    --------
    >>> timings = take_turns({"sum": lambda: sum(range(100))}, rounds=3)
    >>> len(timings["sum"].seconds)
    3
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, got {rounds}")
    calls = {name: _calls_per_sample(run, seconds_per_sample) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    collects = gc.isenabled()
    gc.disable()
    try:
        for index in range(rounds):
            shift = index % max(1, len(names))
            for name in names[shift:] + names[:shift]:
                samples[name].append(_sample(runs[name], calls[name]))
                if on_sample is not None:
                    on_sample()
    finally:
        if collects:
            gc.enable()
    return {name: Timing(tuple(samples[name]), calls[name]) for name in names}


def _calls_per_sample(run: Callable[[], Any], seconds: float) -> int:
    """Warm up; a run that is short is called again, because its first call tells nothing."""
    first = _sample(run, 1)
    again = first if first > seconds else _sample(run, 1)
    return max(1, math.ceil(seconds / max(again, 1e-9)))


def _sample(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls
